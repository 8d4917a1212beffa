"""What can be said of an objective that no known formula explains."""

from __future__ import annotations

from dataclasses import replace

from ppl_vae.diagnostics.check.replicates import Collector
from ppl_vae.diagnostics.check.statistics import Z_LIMIT
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.diagnostics.check.verdict.result import Finding, GroupGradient

# Between this z-score and the limit a gradient is neither right nor wrong.
UNCLEAR = 2.0


def leftover(rms: float, truth: Truth, collector: Collector) -> Finding:
    """Return the finding that no formula explains the objective, with what else was seen of it.

    The nearest weighted sum of the right terms leaves `rms`, in nats per example.
    """
    repeated_calls = collector.repeated_calls
    likelihood = "log_likelihood, " if truth.observed else ""
    message = (
        f"the objective is no weighted sum of {likelihood}log_prior and entropy: the nearest "
        f"leaves {rms:.3g} nats per example (root mean square) unexplained, and none of the known "
        "mistakes fits."
    )
    if collector.seen.drops:
        message += " It draws Bernoulli noise of its own: dropout left on?"
    if collector.seen.others:
        message += " It draws other noise than that of z: is some added to the data, or to z?"
    if repeated_calls.repeats:
        message += (
            " It returns the same value each time: is its noise drawn once, or a seed set inside?"
        )
    elif repeated_calls.changes:
        message += (
            " The same random numbers gave another value in a later call: does it keep a state, "
            "such as a schedule of the KL's weight, or a generator of its own?"
        )
    return Finding("leftover", "objective", "0", f"{rms:.3g}", message)


def localised(
    found: list[Finding], gradient: dict[str, GroupGradient], *, noisier: bool
) -> list[Finding]:
    """Say in which term a leftover lies, by the parameters whose gradient is right.

    Parameters of the decoder enter through the log-likelihood alone. If their gradient is right,
    so are the log-likelihood and the draws of z, and the leftover lies in the KL. This is not
    said where the noise (`noisier`) tells otherwise.
    """
    decoders = [g for g in gradient.values() if set(g.weights) == {"log_likelihood"}]
    is_leftover = bool(found) and found[0].kind == "leftover"
    if not is_leftover or not 0 < len(decoders) < len(gradient):
        return found
    worst = max(group.z_score for group in decoders)
    if UNCLEAR < worst < Z_LIMIT or (noisier and worst <= UNCLEAR):
        return found
    if worst <= UNCLEAR:
        term, where = "kl", "not seen to be wrong: look at the KL (log_prior and entropy)."
    else:
        term = "log_likelihood"
        where = "wrong too: look at the reconstruction term and at the draw of z."
    names = " and ".join(group.group for group in decoders)
    message = f"{found[0].message} The gradient in {names} is {where}"
    return [replace(found[0], term=term, message=message), *found[1:]]
