"""A VAE of somebody's own PyTorch modules."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.models.modules.network_distributions import (
    as_likelihood,
    as_posterior,
    from_tensors,
    in_support,
    without_independent,
)
from ppl_vae.models.modules.network_outputs import TO_SCALE, Form, read
from ppl_vae.models.modules.networks import Network, called, run
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed

DECODER_OUTPUTS = {
    "bernoulli": ("logits", "probs"),
    "normal": ("loc", *(f"loc, {kind}" for kind in ("scale", "log-scale", "log-variance"))),
    "categorical": ("logits", "probs"),
    "distribution": (),
}
ENCODER_FORMS: list[Form] = [("loc", kind) for kind in TO_SCALE]


class ModulesVAE(Pair):
    """What `pair_from_modules` returns: a VAE of somebody's own modules.

    It cannot be built from a config, so it is not one of `MODELS` and is saved with the modules'
    own ``state_dict``.

    Attributes:
        latent_shape: of one code.
        latent_dim: how many numbers it holds.
        image_shape: of one example, or None.
    """

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        latent_shape: tuple[int, ...],
        likelihood: str,
        encoder_form: Form | None,
        decoder_form: Form | None,
        scale: float,
        image_shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__()
        self._scale: Tensor
        self.latent_shape, self.latent_dim = latent_shape, math.prod(latent_shape)
        self.image_shape, self._likelihood = image_shape, likelihood
        self._encoder_form, self._decoder_form = encoder_form, decoder_form
        outputs = DECODER_OUTPUTS[likelihood]
        self._decoder_forms: list[Form] = [tuple(each.split(", ")) for each in outputs]
        # Methods and functions are not modules; the modules that own them are registered below.
        vars(self)["_encode"], first = called("encoder", encoder)
        vars(self)["_decode"], second = called("decoder", decoder)
        parts = first + second
        owner = next((m for m in parts if {*parts} <= {*m.modules()}), None)
        if owner is not None:
            self.module = owner
        else:
            for name, modules in (("encoder", first), ("decoder", second)):
                if modules:
                    part = modules[0] if len(modules) == 1 else nn.ModuleList(modules)
                    self.add_module(name, part)
        if next(self.parameters(), None) is None:
            raise checks.value_error(
                "at least one parameter in encoder or decoder",
                "none",
                "Pass nn.Modules, methods of them, or functions that refer to them.",
            )
        self.register_buffer("_scale", torch.tensor(scale, dtype=self.dtype), persistent=False)

    def parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the parameters of encoder and decoder, or of the one module's children."""
        groups = super().parameter_groups()
        if "module" not in groups:
            return groups
        children: dict[str, dict[str, nn.Parameter]] = {}
        for name, parameter in groups["module"].items():
            children.setdefault(name.split(".")[1], {})[name] = parameter
        return children

    def posterior(self, x: Tensor) -> Any:  # noqa: ANN401
        """Return q(z | x): batch shape (batch,), event shape `latent_shape`."""
        output = run(vars(self)["_encode"], x.long() if self._likelihood == "categorical" else x)
        shape = (len(x), *self.latent_shape)
        if isinstance(output, Distribution):
            return as_posterior(output, shape)
        tensors = read("encoder", output, ENCODER_FORMS, self._encoder_form, shape)
        fn = from_tensors("encoder", "normal", tensors, x.dtype)
        return fn.to_event(len(self.latent_shape))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return loc and scale of q(z | x), each (batch, *latent_shape).

        Raises:
            NotImplementedError: the encoder returns another distribution than a Normal.
        """
        base = without_independent(self.posterior(x))
        if not isinstance(base, dist.Normal):
            raise checks.not_implemented(
                "an encoder of Normals, for their loc and scale",
                type(base).__name__,
                "Use pair.posterior(x).",
            )
        return base.loc, base.scale

    def likelihood(self, z: Tensor, shape: tuple[int, ...] | None = None) -> Any:  # noqa: ANN401
        """Return p(x | z): batch shape (*batch), event shape `shape`."""
        lead = z.shape[: z.dim() - len(self.latent_shape)]
        flat = z.reshape(-1, *self.latent_shape)
        output = run(vars(self)["_decode"], flat)
        shape = shape or self.image_shape
        if isinstance(output, Distribution) != (self._likelihood == "distribution"):
            raise checks.type_error(
                f"the decoder to return what likelihood={self._likelihood!r} says",
                type(output).__name__,
                "Pass likelihood='distribution' if it returns p(x | z), and only then.",
            )
        if isinstance(output, Distribution):
            return as_likelihood(output, lead, shape)
        if self._likelihood == "categorical" and shape is not None:
            shape = (*shape, *getattr(output, "shape", ())[-1:])
        batch_shape = None if shape is None else (len(flat), *shape)
        tensors = read("decoder", output, self._decoder_forms, self._decoder_form, batch_shape)
        tensors = {kind: value.reshape(*lead, *value.shape[1:]) for kind, value in tensors.items()}
        if "loc" in tensors and len(tensors) == 1:
            tensors["scale"] = self._scale
        fn = from_tensors("decoder", self._likelihood, tensors, z.dtype)
        return fn.to_event(len(fn.batch_shape) - len(lead))

    def model(self, x: Tensor) -> Tensor:
        """Draw codes from the prior and score the data: p(x, z)."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            prior = dist.Normal(x.new_zeros(self.latent_shape), x.new_ones(self.latent_shape))
            z = pyro.sample("z", prior.to_event(len(self.latent_shape)))
            fn = self.likelihood(z, tuple(x.shape[1:]))
            if self._likelihood in ("categorical", "distribution"):
                in_support(fn, x)
            return pyro.sample("x", fn, obs=x)

    def guide(self, x: Tensor) -> Tensor:
        """Draw codes given the data: q(z | x)."""
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.posterior(x))

    def sample(self, n: int, *, seed: Seed = None) -> Tensor:
        """Draw `n` examples from the model, all in the parameters' dtype."""
        return super().sample(n, seed=seed).to(self.dtype)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x | z) at the guide's mean of z, in the shape of `x`."""
        self.check(x)
        return self.likelihood(self.posterior(x).mean, tuple(x.shape[1:])).mean

    def check(self, x: Tensor) -> None:
        """Raise unless `x` is a batch of data of the modules' dtype, 0 or 1 for Bernoulli."""
        super().check(x)
        if x.dim() < 2 or self.image_shape not in (None, tuple(x.shape[1:])):
            shape = ", ".join(map(str, self.image_shape or ("...",)))
            raise checks.value_error(
                f"x of shape (batch, {shape})",
                f"shape {tuple(x.shape)}",
                "Pass data as the encoder takes them.",
            )
        self.check_dtype(x)
        if self._likelihood == "bernoulli":
            checks.binary("x", x)
        is_categorical = self._likelihood == "categorical" and checks.values_are_checked()
        if is_categorical and bool(((x < 0) | (x != x.floor())).any()):
            raise checks.value_error(
                "x of whole numbers from 0", "others", "Pass the classes' numbers."
            )

    def blank(self, n: int) -> Tensor:
        """Return `n` examples of zeros; needs `image_shape`."""
        if self.image_shape is None:
            raise checks.value_error(
                "image_shape, for samples", "None", "Pass it to pair_from_modules."
            )
        return torch.zeros(n, *self.image_shape, dtype=self.dtype, device=self.device)
