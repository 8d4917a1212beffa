"""The likelihoods, by name."""

from __future__ import annotations

from ppl_vae import checks
from ppl_vae.likelihoods import links, support
from ppl_vae.likelihoods.entry import Head, Likelihood
from ppl_vae.likelihoods.formulas.classes import other_classes, wrong_categorical
from ppl_vae.likelihoods.formulas.counts import (
    factorial,
    negative_binomial_parts,
    poisson_parts,
    wrong_excess_zeros,
    wrong_negative_binomial,
    wrong_poisson,
)
from ppl_vae.likelihoods.formulas.parameters import wrong_parameters
from ppl_vae.likelihoods.formulas.pixels import (
    bernoulli_parts,
    continuous_bernoulli_parts,
    normal_parts,
    wrong_bernoulli,
    wrong_continuous_bernoulli,
    wrong_normal,
)
from ppl_vae.likelihoods.formulas.real_numbers import (
    laplace_parts,
    student_t_parts,
    wrong_laplace,
    wrong_student_t,
)

LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(
        summary="pixels that are 0 or 1",
        heads=(Head("logits"),),
        link=links.bernoulli,
        support=checks.binary,
        family="Bernoulli",
        parts=bernoulli_parts,
        wrong=(wrong_bernoulli,),
    ),
    "continuous-bernoulli": Likelihood(
        summary="numbers from 0 to 1, such as grey pixels",
        heads=(Head("logits"),),
        link=links.continuous_bernoulli,
        support=support.unit_interval,
        family="ContinuousBernoulli",
        parts=continuous_bernoulli_parts,
        wrong=(wrong_continuous_bernoulli, wrong_parameters),
    ),
    "normal": Likelihood(
        summary="real numbers",
        heads=(Head("loc"), Head("log_scale", is_free=True)),
        link=links.normal,
        support=checks.finite,
        family="Normal",
        parts=normal_parts,
        wrong=(wrong_normal,),
    ),
    "laplace": Likelihood(
        summary="real numbers with exponential tails",
        heads=(Head("loc"), Head("log_scale", is_free=True)),
        link=links.laplace,
        support=checks.finite,
        family="Laplace",
        parts=laplace_parts,
        wrong=(wrong_laplace, wrong_parameters),
    ),
    "student-t": Likelihood(
        summary="real numbers whose tails fall as a power",
        heads=(
            Head("loc"),
            Head("log_scale", is_free=True),
            Head("log_excess_df", is_free=True, start=2.0),
        ),
        link=links.student_t,
        support=checks.finite,
        family="StudentT",
        parts=student_t_parts,
        wrong=(wrong_student_t, wrong_parameters),
    ),
    "poisson": Likelihood(
        summary="counts whose variance is their mean",
        heads=(Head("log_rate"),),
        link=links.poisson,
        support=support.counts,
        seen=links.logarithm_of_counts,
        family="Poisson",
        parts=poisson_parts,
        wrong=(wrong_poisson, wrong_parameters),
    ),
    "negative-binomial": Likelihood(
        summary="counts whose variance is mean + mean^2 / total_count",
        heads=(Head("log_mean"), Head("log_total_count", is_free=True)),
        link=links.negative_binomial,
        support=support.counts,
        seen=links.logarithm_of_counts,
        family="NegativeBinomial",
        parts=negative_binomial_parts,
        wrong=(wrong_negative_binomial, wrong_parameters),
    ),
    "zero-inflated-negative-binomial": Likelihood(
        summary="such counts with more zeros",
        heads=(
            Head("log_mean"),
            Head("log_total_count", is_free=True),
            Head("gate_logits"),
        ),
        link=links.zero_inflated_negative_binomial,
        support=support.counts,
        seen=links.logarithm_of_counts,
        family="ZeroInflatedNegativeBinomial",
        parts=factorial,
        wrong=(wrong_excess_zeros, wrong_parameters),
    ),
    "categorical": Likelihood(
        summary="whole numbers from 0 to num_classes - 1, such as grey levels",
        heads=(Head("logits", size="num_classes"),),
        link=links.categorical,
        support=support.labels,
        seen=links.share_of_labels,
        sizes={"num_classes": 256},
        family="Categorical",
        wrong=(wrong_categorical, other_classes),
    ),
}
