"""A VAE of several stochastic layers, with a bottom-up or a top-down guide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.image_pair import ImagePair
from ppl_vae.likelihoods import Spec
from ppl_vae.nets import MLP, GaussianMLP, ImageDecoder
from ppl_vae.seeding import weights_from

GUIDES = ("bottom-up", "top-down")
Gaussian = tuple[Tensor, Tensor]


class HierarchicalVAE(ImagePair):
    """A VAE with L stochastic layers and Bernoulli pixels.

        p: z_L ~ Normal(0, I)    z_i ~ Normal(prior_i(z_{i+1}))    x ~ Bernoulli(decoder(z_1))
        bottom-up guide: z_1 ~ Normal(encoder_1(x))    z_i ~ Normal(encoder_i(z_{i-1}))
        top-down guide:  z_L ~ Normal(head_L(h_L))
                         z_i ~ Normal(head_i(h_i)) combined with Normal(prior_i(z_{i+1}))

    In the top-down guide h_1 = up_1(x), h_i = up_i(h_{i-1}) are deterministic, and the image's
    Normal and the prior's are combined as two measurements are: precisions add, and loc is the
    precision-weighted mean. It shares the prior's networks. Every network has two tanh layers.

    With the bottom-up guide an ELBO with one analytic KL per site (``trace-mean-field``) is biased
    (see `GaussianChain`); ``analytic-kl`` samples what has no closed form there.

    Args:
        image_shape: (channels, height, width).
        latent_dims: length of z_1, ..., z_L, from the bottom up; at least two layers.
        guide: ``bottom-up`` or ``top-down``.
        hidden: width of the tanh layers beside each stochastic layer; None is twice its length.
        likelihood: a name in `ppl_vae.likelihoods.LIKELIHOODS`, or a mapping of ``name`` and
            options.
        sees_mask: whether the encoder gets the mask of missing pixels beside the images.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Attributes:
        sites: the latents' names, ``z1`` (bottom) to ``zL``.
        latent_dim: length of the layer that the guide draws first.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, fewer than two layers, an unknown guide or likelihood,
            or not one hidden size per layer.

    Source:
        Bottom-up: Burda, Grosse and Salakhutdinov 2015, section 2. Top-down: Sønderby and others,
        Ladder variational autoencoders, 2016, equations 11 to 15.

    Example:
        >>> pair = HierarchicalVAE((1, 8, 8), latent_dims=(8, 4), seed=0)
        >>> [loc.shape[-1] for loc, scale in pair.posterior_means(pair.sample(3, seed=0))]
        [8, 4]
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        latent_dims: Sequence[int] = (100, 50),
        guide: str = "bottom-up",
        *,
        hidden: Sequence[int] | None = None,
        likelihood: Spec = "bernoulli",
        sees_mask: bool = False,
        seed: int | None = None,
    ) -> None:
        dims = checks.sizes("latent_dims", latent_dims)
        if len(dims) < 2:
            raise checks.value_error(
                "latent_dims of at least two layers",
                f"{tuple(dims)}",
                "Use BernoulliVAE for one layer.",
            )
        checks.name("guide", guide, GUIDES)
        sizes = [2 * size for size in dims] if hidden is None else hidden
        widths = checks.sizes("hidden", sizes)
        if len(widths) != len(dims):
            raise checks.value_error(
                f"{len(dims)} entries of hidden, one per layer",
                f"{len(widths)}",
                "Leave hidden out for twice the latent sizes.",
            )
        config = {"guide": guide, "hidden": widths, "likelihood": likelihood}
        super().__init__(image_shape, latent_dims=dims, sees_mask=sees_mask, **config)
        self.latent_dims, self.guide_kind = tuple(dims), guide
        self.sites = tuple(f"z{i}" for i in range(1, len(dims) + 1))
        self.latent_dim = dims[0] if guide == "bottom-up" else dims[-1]
        with weights_from(seed):
            self._build(widths)

    def _build(self, widths: list[int]) -> None:
        dims = self.latent_dims
        # prior[i] is p(z_{i+1} | z_{i+2}) in the formula's count from 1.
        self.prior = nn.ModuleList(
            GaussianMLP(above, [width, width], below, nn.Tanh)
            for (below, above), width in zip(pairwise(dims), widths[1:], strict=True)
        )
        shape = self.output_shape
        self.decoder = ImageDecoder(dims[0], widths[:1] * 2, shape, nn.Tanh)
        pixels = self.encoder_channels * self.num_pixels
        if self.guide_kind == "bottom-up":
            inputs = (pixels, *dims)
            self.encoder = nn.ModuleList(
                GaussianMLP(size, [width, width], dim, nn.Tanh)
                for size, width, dim in zip(inputs, widths, dims, strict=False)
            )
        else:
            inputs = (pixels, *widths)
            self.up = nn.ModuleList(
                nn.Sequential(MLP([size, width, width], nn.Tanh), nn.Tanh())
                for size, width in zip(inputs, widths, strict=False)
            )
            self.encoder = nn.ModuleList(
                GaussianMLP(width, [], dim) for width, dim in zip(widths, dims, strict=True)
            )

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Gaussian:
        """Return loc and scale of the layer that the guide draws first, (batch, latent_dim) each.

        That is z1 in the bottom-up guide and the topmost layer in the top-down guide.
        """
        flat = self.encoder_input(x, mask)
        return self.encoder[0](flat) if self.guide_kind == "bottom-up" else self._heads(flat)[-1]

    def decode(self, z: Tensor) -> Tensor:
        """Return the pixels' logits, (*batch, *image_shape), from the layer that `encode` gives.

        Another likelihood has as many times the channels as it takes numbers per pixel.

        From the topmost layer the layers below are at their prior means.
        """
        if self.guide_kind == "top-down":
            for prior in reversed(self.prior):
                z = prior(z)[0]
        return self.decoder(z)

    def likelihood(self, z1: Tensor) -> dist.TorchDistribution:
        """Return p(x | z_1) given the bottom layer: event shape `image_shape`."""
        assert self.observation is not None
        return self.observation(self.decoder(z1))

    def posterior_means(self, x: Tensor, mask: Tensor | None = None) -> list[Gaussian]:
        """Return loc and scale of every layer of the guide, the layers before it at their means.

        Args:
            x: images, (batch, *image_shape) or (batch, pixels).
            mask: of the same shape, True where a pixel was observed; None if all were.

        Returns:
            From the bottom up, (batch, latent_dims[i]) each.
        """
        layers: dict[str, Gaussian] = {}

        def draw_mean(site: str, loc: Tensor, scale: Tensor) -> Tensor:
            layers[site] = loc, scale
            return loc

        self._walk(x, mask, draw_mean)
        return [layers[site] for site in self.sites]

    @torch.no_grad()
    def reconstruct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of p(x | z) with every layer at the guide's mean."""
        self.check(x if mask is None else (x, mask))
        return self.likelihood(self.posterior_means(x, mask)[0][0]).mean

    def model(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw the layers from the top down and score the images: p(x, z)."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = x.new_zeros(self.latent_dims[-1]), x.new_ones(self.latent_dims[-1])
            z = _draw(self.sites[-1], loc, scale)
            for site, prior in zip(self.sites[-2::-1], reversed(self.prior), strict=True):
                z = _draw(site, *prior(z))
            return self.score(self.likelihood(z), x, mask)

    def guide(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Draw the layers given the images, in the order of the guide: q(z | x)."""
        self.begin(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            self._walk(x, mask, _draw)

    def _walk(
        self, x: Tensor, mask: Tensor | None, draw: Callable[[str, Tensor, Tensor], Tensor]
    ) -> None:
        """Pass through the guide; `draw` makes a value from (site, loc, scale)."""
        flat = self.encoder_input(x, mask)
        if self.guide_kind == "bottom-up":
            z = flat
            for site, encoder in zip(self.sites, self.encoder, strict=True):
                z = draw(site, *encoder(z))
            return
        *heads, top = self._heads(flat)
        z = draw(self.sites[-1], *top)
        for i in reversed(range(len(heads))):
            z = draw(self.sites[i], *_combine(heads[i], self.prior[i](z)))

    def _heads(self, flat: Tensor) -> list[Gaussian]:
        heads, h = [], flat
        for up, head in zip(self.up, self.encoder, strict=True):
            h = up(h)
            heads.append(head(h))
        return heads


def _draw(site: str, loc: Tensor, scale: Tensor) -> Tensor:
    return pyro.sample(site, dist.Normal(loc, scale).to_event(1))


def _combine(first: Gaussian, second: Gaussian) -> Gaussian:
    """Return the Normal whose density is proportional to the product of two."""
    (loc_1, scale_1), (loc_2, scale_2) = first, second
    weight = scale_2**2 / (scale_1**2 + scale_2**2)
    return loc_2 + weight * (loc_1 - loc_2), scale_1 * weight.sqrt()
