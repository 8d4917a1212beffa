"""What every model/guide pair offers, and how to write one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import checks
from ppl_vae.batch import Batch, BatchLike, Data, as_batch, takes_one, unpacked
from ppl_vae.drawing import drawing
from ppl_vae.pretrained import Pretrained
from ppl_vae.seeding import Seed, as_int, derive, seeded

_serial = itertools.count(1)
Shape = tuple[int, ...] | None


@contextmanager
def leaving_no_params() -> Iterator[None]:
    """Leave Pyro's param store as it was before a block."""
    store = pyro.get_param_store()
    before = dict(store._params), dict(store._constraints), dict(store._param_to_name)
    try:
        yield
    finally:  # not by `del`, which raises where one parameter has two names
        store._params, store._constraints, store._param_to_name = before


class Pair(Pretrained, nn.Module):
    """A Pyro model and its guide, with the networks of both, in one module.

    **How to write one.** Subclass, and

    1. in ``__init__`` call ``super().__init__(**config)`` with the arguments that rebuild this
       instance (JSON's types only; saving relies on it), then make parameters and networks as in
       any ``nn.Module``. Constants that the model needs are buffers, so that they move with it.
    2. write ``model(x)`` and ``guide(x)``: ordinary Pyro functions with the same latent sites,
       ``z`` (or ``z1`` at the bottom, ``z2`` above), the observed site ``x``, and the plate
       ``data`` over the first dimension of ``x``. The first line of both is ``self.begin(x)``.
       Keep batch dimensions to the left free (write ``z.unsqueeze(-1)``, not ``z[:, None]``), so
       that estimators can draw several particles at once.
    3. override ``check(x)`` with what the data must satisfy, and ``blank(n)`` with data of the
       right shape whose values do not matter, for ``sample``. A program of several arguments
       has them in both, ``model(x, y=None)``; ``self.begin(x, y)``; ``self.arguments`` in check.
    4. set ``exact`` to an object with those closed forms that hold: ``log_evidence(x)``,
       ``elbo(x)``, ``posterior(x)``, ... ; leave it None where there is none.
    5. add one line to ``ppl_vae.models.MODELS``, if it is to have a name, and one tiny instance
       to ``tests/cases.py``; the contract tests then run by themselves.

    A subclass whose code is a vector and whose data are images starts from `ppl_vae.VAE`.

    **Parameters** are the module's own, always. Pyro's param store is global, and an entry there
    silently wins over a module that registers the same name; here every instance (also a copy, or
    one that was loaded) registers under a name of its own, and an entry that is not this
    instance's parameter is replaced.

    Args:
        **config: the keyword arguments with which the subclass can be built again.

    Attributes:
        config: those arguments.
        uses_images, uses_counts: whether data sets of images, of counts, are what it models.
        takes_whole_numbers: whether one tensor without floats, such as words, is data.
        data_options: keyword arguments of `ppl_vae.data.load` for data that it models.
        exact: the closed forms that hold for this pair, or None.

    Example:
        >>> from ppl_vae.models import ExponentialNormal
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro.optim import Adam
        >>> pair = ExponentialNormal(prior_rate=1.0, noise_scale=1.0)
        >>> svi = SVI(pair.model, pair.guide, Adam({"lr": 1e-2}), loss=Trace_ELBO())
        >>> loss = svi.step(pair.sample(5, seed=0))
    """

    uses_images: ClassVar[bool] = False
    uses_counts: ClassVar[bool] = False
    takes_whole_numbers: ClassVar[bool] = False
    data_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **config: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.config = config
        self._serial = next(_serial)

    def model(self, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        """Draw the latents from the prior and score the data: p(x, z)."""
        raise NotImplementedError(f"{type(self).__name__} does not define model(x)")

    def guide(self, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        """Draw the latents given the data: q(z | x)."""
        raise NotImplementedError(f"{type(self).__name__} does not define guide(x)")

    def auxiliary_loss(self, *args: Any, **kwargs: Any) -> Tensor | None:  # noqa: ANN401
        """Return what `fit` adds to the loss beside the ELBO, summed over the examples, or None.

        A classifier's cross-entropy, say. It takes what the model does.
        """
        return None

    @property
    def exact(self) -> Any:  # noqa: ANN401
        """The closed forms that hold for this pair, or None."""
        return None

    @classmethod
    def suited_to(cls, image_shape: Shape, *, seed: int, **options: Any) -> Self:  # noqa: ANN401
        """Return an instance for data of `image_shape`; `options` win over what it chooses.

        That is the shape of an image, (features,) of counts, and None for other data. The command
        line makes its pairs with this; override it where a constructor needs more.
        """
        return cls(**options)

    def check(self, x: BatchLike) -> None:
        """Raise unless the pair can score `x`.

        Args:
            x: the data: a tensor, or a tuple or mapping of the model's arguments.

        Raises:
            TypeError: no tensor, no floating dtype, or arguments that the model does not take.
            ValueError: no entries, NaN, an infinity, or on another device than the pair.
        """
        given = self.arguments(x)
        for name, entry in given.items():
            # Labels, indices and masks, beside the data, are whole numbers or booleans.
            alone = len(given) == 1 and not self.takes_whole_numbers
            is_data = alone or entry.is_floating_point() or entry.is_complex()
            checks.nonempty(name, checks.floating(name, entry) if is_data else entry)
            if entry.device != self.device:
                raise checks.value_error(
                    f"{name} on the pair's device {self.device}",
                    f"{entry.device}",
                    f"Move one of them: {name}.to(pair.device).",
                )
            if is_data:
                checks.finite(name, entry)

    def arguments(self, x: BatchLike) -> dict[str, Tensor]:
        """Return the tensors of a batch by the names of the model's arguments.

        Raises:
            TypeError: the model does not take them, or `x` is no batch.
            ValueError: first dimensions that differ; None where the model has no default.
        """
        if isinstance(x, Tensor) and takes_one(type(self).model):
            return {"x": x}
        found = as_batch(x)
        bound = Batch((found,)) if isinstance(found, Tensor) else found
        return {n: e for n, e in bound.bind(self.model).items() if isinstance(e, Tensor)}

    def check_dtype(self, x: Tensor) -> None:
        """Raise TypeError unless `x` has the parameters' dtype, as networks need."""
        if x.dtype != self.dtype:
            raise checks.type_error(
                f"x of the pair's dtype {self.dtype}",
                f"{x.dtype}",
                "Convert one of them: x.to(pair.dtype).",
            )

    def blank(self, n: int) -> BatchLike:
        """Return data for `n` draws whose values do not matter."""
        raise NotImplementedError(f"{type(self).__name__} does not define blank(n)")

    def num_examples(self, x: Data) -> int:
        """Return how many examples, each with latents of its own, `x` holds."""
        return len(x)

    def begin(self, *args: Data | None, **kwargs: Tensor | None) -> None:
        """Check the data and register the parameters: the first line of model and guide.

        Args:
            *args: what the model was given, in its order.
            **kwargs: and by name.
        """
        given = [each for each in (*args, *kwargs.values()) if each is not None]
        self.check(given[0] if len(given) == 1 and not kwargs else Batch(args, kwargs))
        store = pyro.get_param_store()
        for name, parameter in self.named_parameters():
            full_name = f"{self.param_prefix}$$${name}"
            if full_name in store and store[full_name] is not parameter:
                del store[full_name]
            # As pyro.module does, which would warn of every frozen parameter at every step.
            if parameter.requires_grad:
                pyro.param(full_name, parameter)

    @property
    def param_prefix(self) -> str:
        """What precedes ``$$$`` in this instance's names in Pyro's param store."""
        return f"{type(self).__name__}-{self._serial}"

    @property
    def device(self) -> torch.device:
        """Where the parameters are; where torch puts tensors if there are none."""
        return next(self.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating dtype, or torch's default."""
        return next(self.parameters(), torch.empty(0)).dtype

    def parameter_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return the parameters by their outermost name: ``encoder``, ``decoder``, ..."""
        groups: dict[str, dict[str, nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(name.partition(".")[0], {})[name] = parameter
        return groups

    @torch.no_grad()
    def sample(self, n: int, *, seed: Seed = None, **given: Tensor) -> Tensor:
        """Draw `n` examples from the model.

        Args:
            n: how many, at least 1.
            **given: arguments that the model does not draw, such as labels, (n, ...).
            seed: an int, a ``torch.Generator``, or None for a fresh stream. The global random
                state and Pyro's param store stay as they are.

        Returns:
            The data, first dimension `n`, on the pair's device and of its dtype.
        """
        blank = self.blank(checks.count("n", n))
        return self._sample_like({**self.arguments(blank), **given} if given else blank, seed)

    def _sample_like(self, blank: BatchLike, seed: Seed) -> Tensor:
        # A stream of its own: the same seed may have made the weights, or the caller's data.
        stream = derive(as_int(seed), "sample")
        with leaving_no_params(), poutine.block(), seeded(stream, self.device):
            model = unpacked(drawing(self.model))
            trace: Any = poutine.trace(model).get_trace(as_batch(blank))
        return trace.nodes["x"]["value"]

    def __getstate__(self) -> dict[str, Any]:
        # Pyro leaves a weak reference on every parameter that it has seen; none can be pickled.
        for parameter in self.parameters():
            vars(parameter).pop("unconstrained", None)
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._serial = next(_serial)
