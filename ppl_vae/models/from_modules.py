"""A PyTorch encoder and decoder as a pair, for those who write no Pyro."""

from __future__ import annotations

from ppl_vae import checks
from ppl_vae.models.modules.network_outputs import TO_SCALE
from ppl_vae.models.modules.networks import Network
from ppl_vae.models.modules_vae import DECODER_OUTPUTS, ModulesVAE


def pair_from_modules(
    encoder: Network,
    decoder: Network,
    *,
    latent_dim: int | tuple[int, ...],
    likelihood: str = "bernoulli",
    encoder_output: str | None = None,
    decoder_output: str | None = None,
    scale: float = 1.0,
    image_shape: tuple[int, ...] | None = None,
) -> ModulesVAE:
    """Return the VAE of a PyTorch encoder and decoder as a pair; no Pyro is needed.

        z ~ Normal(0, I)    x | z ~ likelihood(decoder(z))    q(z | x) = Normal(encoder(x))

    The pair holds the modules themselves, not copies: training one trains the other, and an
    objective that calls the modules is one of the pair's parameters, as `ppl_vae.check_elbo`
    needs.

    Modules that torch.compile has made run uncompiled in the pair. Where an example's output
    depends on its batch (BatchNorm in training mode), so do the pair's densities; see ``eval()``.

    Args:
        encoder: an ``nn.Module``, a method of one such as ``vae.encode``, or a function that
            uses some, whose parameters are then the pair's; of a batch of data, to loc and
            scale, each (batch, *latent): two tensors, one with both side by side, or fields of a
            dict, dataclass or namedtuple (``loc``, ``mu`` or ``mean``; ``scale``, ``std``,
            ``logvar``, ...). Or to q(z | x) itself, a reparameterised distribution.
        decoder: likewise; of codes (batch, *latent), to as many numbers as the data have.
        latent_dim: length of the code, or its shape, such as (channels, height, width).
        likelihood: ``bernoulli`` for data of 0 and 1; ``normal``; ``categorical`` for whole
            numbers from 0, held in the pair's floating dtype, which the encoder receives as int64
            and of which the decoder gives (batch, *shape, classes); or ``distribution`` where the
            decoder returns p(x | z) itself.
        encoder_output: what the encoder's second output is: ``log-variance`` (the default where
            no field's name says it), ``log-scale``, ``scale`` or ``variance``.
        decoder_output: for Bernoulli and categorical data ``logits`` (the default) or ``probs``;
            for Normal data ``loc`` (the default), ``loc, scale``, ``loc, log-scale`` or
            ``loc, log-variance``. Names of fields say it too.
        scale: of a Normal likelihood whose decoder gives ``loc`` alone, above 0.
        image_shape: of one example, for ``pair.sample``; None leaves it to the data.

    Returns:
        A pair whose parameters are those of the modules.

    Raises:
        TypeError: an encoder or decoder that cannot be called, or uses trained tensors of no
            module; `latent_dim` no int, `scale` no number. From the pair's methods: outputs of
            another kind or number.
        ValueError: an unknown likelihood or output, a size below 1, `scale` not above 0, no
            parameters, or lazy ones. From the pair's methods: outputs of other shapes or out of
            range.

    Example:
        >>> from torch import nn
        >>> encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
        >>> pair = pair_from_modules(encoder, decoder, latent_dim=2, image_shape=(6,))
        >>> pair.sample(3, seed=0).shape
        torch.Size([3, 6])
    """
    latent_shape = latent_dim if isinstance(latent_dim, tuple) else (latent_dim,)
    for size in latent_shape:
        checks.count("latent_dim", size)
    checks.name("likelihood", likelihood, DECODER_OUTPUTS)
    if encoder_output is not None:
        checks.name("encoder_output", encoder_output, TO_SCALE)
    if decoder_output is not None:
        checks.name("decoder_output", decoder_output, DECODER_OUTPUTS[likelihood])
    checks.positive_number("scale", scale)
    return ModulesVAE(
        encoder,
        decoder,
        latent_shape,
        likelihood,
        None if encoder_output is None else ("loc", encoder_output),
        None if decoder_output is None else tuple(decoder_output.split(", ")),
        scale,
        None if image_shape is None else tuple(checks.sizes("image_shape", image_shape)),
    )
