"""The toy with an amortised guide: a network reads the data set and gives the rate."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from ppl_vae import checks
from ppl_vae.models.exponential_normal import ExponentialNormalModel
from ppl_vae.nets import DeepSet
from ppl_vae.seeding import weights_from


class AmortizedExponentialNormal(ExponentialNormalModel):
    """The model of `ExponentialNormal` with a guide whose rate is a network of the data set.

        q(z | x) = Exponential(exp(net(x)))

    The network is a `DeepSet`: the order of the n numbers does not matter, and n may differ from
    batch to batch. Its regret against the best rate, data set by data set, is exact:
    ``pair.exact.kl_to_posterior(x)`` minus the same at ``pair.exact.optimal_guide_rate(x)``.

    Args:
        prior_rate: rate of the prior, above 0.
        noise_scale: standard deviation of the observations, above 0.
        hidden: width of the network.
        seed: of the initial weights; None continues torch's global stream, as any ``nn.Module``.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not finite and above 0.

    Example:
        >>> pair = AmortizedExponentialNormal(seed=0)
        >>> x = pair.sample(5, seed=0, num_datasets=100)
        >>> pair.guide_rate(x).shape
        torch.Size([100])
    """

    def __init__(
        self,
        prior_rate: float = 1.0,
        noise_scale: float = 1.0,
        *,
        hidden: int = 32,
        seed: int | None = None,
    ) -> None:
        checks.count("hidden", hidden)
        super().__init__(prior_rate, noise_scale, hidden=hidden)
        with weights_from(seed):
            self.net = DeepSet(hidden)

    @classmethod
    def suited_to(
        cls,
        image_shape: tuple[int, ...] | None,
        *,
        seed: int,
        **options: Any,  # noqa: ANN401
    ) -> Self:
        """Return an instance with default settings and the weights of `seed`."""
        return cls(**{"seed": seed, **options})

    def guide_rate(self, x: Tensor) -> Tensor:
        """Return the guide's rate for each data set of `x`, shape (*batch)."""
        return self.net(x).exp()

    def check(self, x: Tensor) -> None:
        """Raise unless `x` is one or several data sets of the network's dtype."""
        super().check(x)
        self.check_dtype(x)
