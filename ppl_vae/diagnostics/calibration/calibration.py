"""Simulation-based calibration: are the latents that made the data where the guide says?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import BatchLike, Data
from ppl_vae.diagnostics.calibration.examples import examples_like, in_turn
from ppl_vae.diagnostics.calibration.ranks import GuideDraws
from ppl_vae.diagnostics.calibration.result import Calibration
from ppl_vae.diagnostics.evidence.subject import prepared
from ppl_vae.diagnostics.simulation import Simulator
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.functions import Functions
from ppl_vae.pair import Pair
from ppl_vae.seeding import Seed, as_int, derive, reseed

_MOST_DRAWS = 2**16  # that are in memory together, of all examples of a block


@checks.own_words()
@torch.no_grad()
def calibration(
    pair: Pair | Functions,
    *,
    num_simulations: int = 1000,
    num_draws: int = 127,
    context: BatchLike | None = None,
    like: BatchLike | None = None,
    seed: Seed = 0,
    device: str | torch.device = "auto",
    plate: str = "data",
) -> Calibration:
    """Check a guide by data that the model made: simulation-based calibration, without a refit.

        z_i ~ p(z),  x_i ~ p(x | z_i),  z_i1, ..., z_iL ~ q(z | x_i)
        rank_i = how many of z_i1, ..., z_iL are below z_i,      number by number

    Where q is the posterior, z_i and its L draws are exchangeable, and the ranks uniform on
    0, ..., L. Ties are broken at random, so that this holds for whole numbers and bits too.
    Otherwise ranks at both ends mean a guide that is too narrow, ranks in the middle one that is
    too wide, and ranks at one end one that is shifted.

    Uniform ranks do not make a posterior: a guide that ignores the data and gives the prior has
    them as well. Correlations of the latents are not tested either. Beside it, see the gap
    between evidence and ELBO (`evaluate`), and `active_units`.

    The pair is copied and put into evaluation mode; it, Pyro's param store and the global random
    state stay as they are. Latents that the guide lacks, as its estimators sum them, are not
    ranked.

    Args:
        pair: a `Pair`, or a Pyro model and its guide as a tuple of two functions. Where every
            latent is in the plate `plate`, an example is a simulation; else all data together
            are one, and the program runs for each.
        num_simulations: at least 2; `ppl_vae.diagnostics.simulations_needed` says how many find
            an error of some size.
        num_draws: of the guide for each, L, at least 1.
        context: what the model takes besides the data, such as labels, library sizes or a mask: a
            mapping from the names of its arguments, or the arguments after the first. Its rows
            are taken in turn.
        like: data of the shape to simulate, whose values do not matter, with all other arguments;
            the examples are taken in turn. By default what ``pair.blank`` gives, and data sets of
            5 numbers for a pair of data sets. A model and a guide need it.
        seed: of everything random.
        device: ``auto`` is the GPU where there is one; for functions, where `like` is.
        plate: name of the plate over the examples.

    Returns:
        Ranks, p-values and distribution functions, one for each latent number.

    Raises:
        TypeError: neither a pair nor two functions, or data or a count of a wrong kind.
        ValueError: a count out of range, no latent, latents that model or guide lacks, more rows
            of `context` than simulations, no `like` where it is needed, or NaN.
        NotImplementedError: a guide that gives points, or is made for certain examples; a model
            that does not observe an argument as it is, has a factor, subsamples, hides latents by
            a mask, or has an argument with the name of a latent.

    Source:
        Talts, Betancourt, Simpson, Vehtari and Gelman, Validating Bayesian inference algorithms
        with simulation-based calibration, 2018. What it cannot see: Modrák and others, 2023.

    Example:
        >>> from ppl_vae import LinearGaussian
        >>> pair = LinearGaussian(data_dim=4, latent_dim=2, seed=0)
        >>> found = calibration(pair, num_simulations=200, device="cpu")
        >>> found.ranks.shape, bool(found.p_value < 0.05)
        (torch.Size([200, 2]), True)
    """
    checks.count("num_simulations", num_simulations, minimum=2)
    checks.count("num_draws", num_draws)
    number = as_int(seed)
    data = examples_like(pair, like, context, num_simulations)
    with prepared(pair, data, seed=derive(number, "data"), device=device) as subject:
        (x,) = subject.chunks()
        program = subject.pair
        model, guide = (program.model, program.guide) if isinstance(program, Pair) else program
        reseed(derive(number, "look"), subject.device)
        simulator = Simulator.of(model, x)
        draws = GuideDraws.look(model, guide, x, plate)
        is_one = isinstance(pair, Pair) and pair.num_examples(x) == 1
        if not draws.by_example and (context is not None or (like is None and not is_one)):
            raise checks.value_error(
                f"like=, one data set with all arguments, as latents outside of {plate!r} are "
                "shared by all examples",
                "none" if like is None else "a context, whose rows are examples",
                "Pass it, or name the plate over the examples.",
            )
        parts: list[dict[str, Tensor]] = []
        for index, block in enumerate(_blocks(x, draws, num_simulations, num_draws)):
            reseed(derive(number, "simulate", index), subject.device)
            simulated, trace = simulator.draw(block)
            parts.append(draws.ranks(simulated, latent_sites(trace), num_draws))
    ranks = {name: torch.cat([part[name] for part in parts]).cpu() for name in draws.sites}
    return Calibration.of(subject.name, ranks, num_draws)


def _blocks(x: Data, draws: GuideDraws, num_simulations: int, num_draws: int) -> Iterator[Data]:
    """Yield data in whose shape to simulate: some examples at a time, or all for each."""
    if not draws.by_example:
        yield from (x for _ in range(num_simulations))
        return
    size = max(1, _MOST_DRAWS // num_draws)
    examples = in_turn(x, num_simulations)
    for start in range(0, num_simulations, size):
        yield examples[start : start + size]
