"""A PyTorch encoder and decoder as a pair, for those who write no Pyro."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.pair import Pair

ENCODER_OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "log-variance": lambda second: (0.5 * second).exp(),
    "log-scale": torch.exp,
    "scale": lambda second: second,
    "variance": torch.sqrt,
}
DECODER_OUTPUTS = {
    "bernoulli": ("logits", "probs"),
    "normal": ("loc", "loc, scale", "loc, log-scale", "loc, log-variance"),
}
Network = Callable[[Tensor], Any]


def pair_from_modules(
    encoder: Network,
    decoder: Network,
    *,
    latent_dim: int,
    likelihood: str = "bernoulli",
    encoder_output: str = "log-variance",
    decoder_output: str | None = None,
    scale: float = 1.0,
    image_shape: tuple[int, ...] | None = None,
) -> ModulesVAE:
    """Return the VAE of a PyTorch encoder and decoder as a pair; no Pyro is needed.

        z ~ Normal(0, I)    x | z ~ likelihood(decoder(z))    q(z | x) = Normal(encoder(x))

    The pair holds the very modules, not copies: training one trains the other, and an objective
    that calls the modules is one of the pair's parameters, as `ppl_vae.check_elbo` needs.

    Args:
        encoder: an ``nn.Module``, or a method of one such as ``vae.encode``; of a batch of data,
            to two tensors (batch, latent_dim), or to one of (batch, 2 latent_dim) with both side
            by side.
        decoder: likewise; of codes (batch, latent_dim), to as many numbers as the data have.
        latent_dim: length of the code.
        likelihood: ``bernoulli`` for data of 0 and 1, or ``normal``.
        encoder_output: what the encoder's second output is: ``log-variance``, ``log-scale``,
            ``scale`` or ``variance``.
        decoder_output: for Bernoulli data ``logits`` (the default) or ``probs``; for Normal data
            ``loc`` (the default), ``loc, scale``, ``loc, log-scale`` or ``loc, log-variance``,
            the latter three as a tuple.
        scale: of a Normal likelihood whose decoder gives ``loc`` alone, above 0.
        image_shape: of one example, for ``pair.sample``; None leaves it to the data.

    Returns:
        A pair whose parameters are those of the two modules.

    Raises:
        TypeError: an encoder or decoder that cannot be called or has no parameters of a module;
            `latent_dim` no int, `scale` no number.
        ValueError: an unknown likelihood or output, a size below 1, `scale` not above 0.

    Example:
        >>> encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
        >>> pair = pair_from_modules(encoder, decoder, latent_dim=2, image_shape=(6,))
        >>> pair.sample(3, seed=0).shape
        torch.Size([3, 6])
    """
    checks.count("latent_dim", latent_dim)
    checks.name("likelihood", likelihood, DECODER_OUTPUTS)
    checks.name("encoder_output", encoder_output, ENCODER_OUTPUTS)
    outputs = DECODER_OUTPUTS[likelihood]
    decoder_output = checks.name("decoder_output", decoder_output or outputs[0], outputs)
    checks.positive_number("scale", scale)
    for name, network in (("encoder", encoder), ("decoder", decoder)):
        if not callable(network) or _owner(network) is None:
            raise TypeError(
                checks.message(
                    f"{name} as an nn.Module, or a method of one",
                    type(network).__name__,
                    "Pass the module that holds the parameters, or its method.",
                )
            )
    return ModulesVAE(
        encoder,
        decoder,
        latent_dim,
        likelihood,
        encoder_output,
        decoder_output,
        scale,
        None if image_shape is None else tuple(image_shape),
    )


class ModulesVAE(Pair):
    """What `pair_from_modules` returns: a VAE of somebody's own modules.

    It cannot be built from a config, so it is not one of `MODELS` and is saved with the modules'
    own ``state_dict``.

    Attributes:
        latent_dim: length of the code.
        image_shape: of one example, or None.
    """

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        latent_dim: int,
        likelihood: str,
        encoder_output: str,
        decoder_output: str,
        scale: float,
        image_shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__()
        self._scale: Tensor
        self.latent_dim, self.image_shape = latent_dim, image_shape
        self._likelihood, self._decoder_output = likelihood, decoder_output
        self._to_scale = ENCODER_OUTPUTS[encoder_output]
        # Not as modules under these names where they are methods; their owners are.
        vars(self)["_encode"], vars(self)["_decode"] = encoder, decoder
        first, second = _owner(encoder), _owner(decoder)
        whole = next((m for m in (first, second) if _holds(m, first) and _holds(m, second)), None)
        if whole is not None:
            self.module = whole
        else:
            self.encoder, self.decoder = first, second
        self.register_buffer("_scale", torch.tensor(scale, dtype=self.dtype), persistent=False)

    def parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the parameters of encoder and decoder, or of the one module's children."""
        groups = super().parameter_groups()
        if "module" not in groups:
            return groups
        found: dict[str, dict[str, nn.Parameter]] = {}
        for name, parameter in groups["module"].items():
            found.setdefault(name.split(".")[1], {})[name] = parameter
        return found

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, latent_dim)."""
        output = vars(self)["_encode"](x)
        if isinstance(output, Tensor):
            output = output.chunk(2, dim=-1)
        loc, second = output[:2]
        wanted = (len(x), self.latent_dim)
        if loc.shape != wanted or second.shape != wanted:
            raise ValueError(
                checks.message(
                    f"two outputs of the encoder of shape {wanted}, or one of twice the width",
                    f"{tuple(loc.shape)} and {tuple(second.shape)}",
                    "Check latent_dim, and the order (loc, log-variance).",
                )
            )
        return loc, self._to_scale(second)

    def decode(self, z: Tensor) -> Any:  # noqa: ANN401
        """Return what the decoder gives, from codes (*batch, latent_dim), (*batch, ...) each."""
        lead = z.shape[:-1]
        output = vars(self)["_decode"](z.reshape(-1, self.latent_dim))
        if isinstance(output, Tensor):
            return output.reshape(*lead, *output.shape[1:])
        return tuple(each.reshape(*lead, *each.shape[1:]) for each in output)

    def likelihood(self, z: Tensor, shape: tuple[int, ...] | None = None) -> Any:  # noqa: ANN401
        """Return p(x | z): batch shape (*batch), event shape `shape`."""
        output = self.decode(z)
        first, second = (output, None) if isinstance(output, Tensor) else output[:2]
        lead = z.shape[:-1]
        shape = tuple(shape or self.image_shape or first.shape[z.dim() - 1 :])
        first = first.reshape(*lead, *shape)
        if self._likelihood == "bernoulli":
            fn = dist.Bernoulli(**{self._decoder_output: first})
        elif second is None:
            fn = dist.Normal(first, self._scale)
        else:
            to_scale = ENCODER_OUTPUTS[self._decoder_output.partition(", ")[2]]
            fn = dist.Normal(first, to_scale(second.reshape(second.shape[: z.dim() - 1] + shape)))
        return fn.to_event(len(shape))

    def model(self, x: Tensor) -> Tensor:
        """Draw codes from the prior and score the data: p(x, z)."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            prior = dist.Normal(x.new_zeros(self.latent_dim), x.new_ones(self.latent_dim))
            z = pyro.sample("z", prior.to_event(1))
            return pyro.sample("x", self.likelihood(z, tuple(x.shape[1:])), obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """Draw codes given the data: q(z | x)."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = self.encode(x)
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x | z) at the guide's mean of z, in the shape of `x`."""
        self.check(x)
        return self.likelihood(self.encode(x)[0], tuple(x.shape[1:])).mean

    def check(self, x: Tensor) -> None:
        """Raise unless `x` is a batch of data of the modules' dtype, 0 or 1 for Bernoulli."""
        super().check(x)
        if x.dim() < 2 or self.image_shape not in (None, tuple(x.shape[1:])):
            shape = ", ".join(map(str, self.image_shape or ("...",)))
            raise ValueError(
                checks.message(
                    f"x of shape (batch, {shape})",
                    f"shape {tuple(x.shape)}",
                    "Pass data as the encoder takes them.",
                )
            )
        self.check_dtype(x)
        if self._likelihood == "bernoulli":
            checks.binary("x", x)

    def blank(self, n: int) -> Tensor:
        """Return `n` examples of zeros; needs `image_shape`."""
        if self.image_shape is None:
            raise ValueError(
                checks.message("image_shape, for samples", "None", "Pass it to pair_from_modules.")
            )
        return torch.zeros(n, *self.image_shape, dtype=self.dtype, device=self.device)


def _owner(network: Any) -> nn.Module | None:  # noqa: ANN401
    if isinstance(network, nn.Module):
        return network
    owner = getattr(network, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _holds(module: nn.Module | None, part: nn.Module | None) -> bool:
    return module is not None and any(each is part for each in module.modules())
