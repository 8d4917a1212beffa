"""Log-likelihoods of counts, by hand: Poisson, negative binomial, and with excess zeros."""

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from diagnostics.small_programs import Net, Program, with_score

GENES = 8


def counts():
    generator = torch.Generator().manual_seed(3)
    rate = 1 + 4 * torch.rand(GENES, generator=generator)
    spread = torch.empty(24, GENES).exponential_(generator=generator)
    found = torch.poisson(rate * spread, generator=generator)
    return found * (torch.rand(24, GENES, generator=generator) > 0.2)


def poisson(log_rate, x):
    return dist.Poisson(log_rate.exp()).to_event(1)


def negative_binomial(outputs, x):
    log_mean, log_size = outputs.chunk(2, -1)
    return dist.NegativeBinomial(
        log_size.exp(), logits=log_mean - log_size, validate_args=False
    ).to_event(1)


def with_zeros(outputs, x):
    log_mean, log_size, gate = outputs.chunk(3, -1)
    return dist.ZeroInflatedNegativeBinomial(
        log_size.exp(), logits=log_mean - log_size, gate_logits=gate, validate_args=False
    ).to_event(1)


def log_nb(x, mean, size, *, terms=(1.0,) * 5):
    """The five terms of the log-likelihood as scVI writes them, with weights."""
    total = (mean + size).log()
    parts = (
        size * (size.log() - total),
        x * (mean.log() - total),
        torch.lgamma(x + size),
        -torch.lgamma(size),
        -torch.lgamma(x + 1),
    )
    return sum(w * part for w, part in zip(terms, parts, strict=True))


def nb(change=lambda mean, size: (mean, size), terms=(1.0,) * 5):
    def score(outputs, x):
        log_mean, log_size = outputs.chunk(2, -1)
        return log_nb(x, *change(log_mean.exp(), log_size.exp()), terms=terms).sum(-1)

    return score


def by_distribution(make):
    def score(outputs, x):
        first, second = outputs.chunk(2, -1)
        return make(first, second).log_prob(x).sum(-1)

    return score


def zinb(gate=lambda g: (F.logsigmoid(g), F.logsigmoid(-g))):
    def score(outputs, x):
        log_mean, log_size, logits = outputs.chunk(3, -1)
        inside = log_nb(x, log_mean.exp(), log_size.exp())
        log_gate, log_rest = gate(logits)
        zero = torch.logaddexp(log_gate, log_rest + inside)
        return torch.where(x == 0, zero, log_rest + inside).sum(-1)

    return score


def _of(outputs, likelihood):
    def program(name, score, *says):
        def make():
            net = Net(GENES, outputs * GENES, likelihood)
            return (net.model, net.guide), counts(), with_score(score)(net)

        return Program(name, make, says)

    return program


_poisson, _nb, _zinb = _of(1, poisson), _of(2, negative_binomial), _of(3, with_zeros)
DATA_ONLY = "depends on the data only"

COUNTS = [
    _poisson("Poisson", lambda o, x: dist.Poisson(o.exp()).log_prob(x).sum(-1)),
    _poisson(
        "Poisson without lgamma",
        lambda o, x: (x * o - o.exp()).sum(-1),
        "lgamma(x + 1)",
        DATA_ONLY,
    ),
    _poisson(
        "Poisson, Stirling",
        lambda o, x: -F.poisson_nll_loss(o, x, full=True, reduction="none").sum(-1),
        "Stirling",
    ),
    _poisson(
        "Poisson, another link",
        lambda o, x: dist.Poisson(F.softplus(o)).log_prob(x).sum(-1),
        "rate",
        "softplus for exp",
    ),
    _poisson(
        "Poisson, rate added",
        lambda o, x: (x * o + o.exp() - (x + 1).lgamma()).sum(-1),
        "rate",
        "sign",
    ),
    _nb("NB", nb()),
    _nb("NB, mean and dispersion swapped", nb(lambda m, s: (s, m)), "mean", "swapped"),
    _nb("NB, dispersion inverted", nb(lambda m, s: (m, 1 / s)), "1 / total_count"),
    _nb(
        "NB, probabilities the other way",
        by_distribution(lambda m, s: dist.NegativeBinomial(s.exp(), logits=s - m)),
        "1 - probs",
    ),
    _nb(
        "NB, logits for probabilities",
        by_distribution(
            lambda m, s: dist.NegativeBinomial(s.exp(), probs=(m - s).sigmoid().sigmoid())
        ),
        "sigmoid",
        "twice",
    ),
    _nb(
        "NB, log-mean as logits",
        by_distribution(lambda m, s: dist.NegativeBinomial(s.exp(), logits=m)),
        "logits",
    ),
    _nb(
        "NB, mean as size",
        by_distribution(lambda m, s: dist.NegativeBinomial(m.exp(), logits=m - s)),
        "total_count",
    ),
    _nb("NB without lgamma(x + 1)", nb(terms=(1, 1, 1, 1, 0)), "lgamma(x + 1)", DATA_ONLY),
    _nb("NB without lgamma(size)", nb(terms=(1, 1, 1, 0, 1)), "lgamma(total_count)", "missing"),
    _nb(
        "NB without lgamma(x + size)",
        nb(terms=(1, 1, 0, 1, 1)),
        "lgamma(x + total_count)",
        "missing",
    ),
    _nb(
        "NB without any lgamma",
        nb(terms=(1, 1, 0, 0, 0)),
        "lgamma(x + total_count)",
        "lgamma(total_count)",
    ),
    _nb("NB, sign of lgamma(size)", nb(terms=(1, 1, 1, -1, 1)), "lgamma(total_count)", "sign"),
    _nb("NB, sign of the zeros' term", nb(terms=(-1, 1, 1, 1, 1)), "total_count log", "sign"),
    _nb(
        "NB, Poisson",
        lambda o, x: dist.Poisson(o.chunk(2, -1)[0].exp()).log_prob(x).sum(-1),
        "Poisson",
    ),
    _zinb("ZINB", zinb()),
    _zinb("ZINB, gate not logged", zinb(lambda g: (g.sigmoid(), (-g).sigmoid())), "gate", "log"),
    _zinb("ZINB, gate omitted", lambda o, x: nb()(o[..., : 2 * GENES], x), "gate", "left out"),
    _zinb(
        "ZINB, gate the other way", zinb(lambda g: (F.logsigmoid(-g), F.logsigmoid(g))), "1 - gate"
    ),
    _zinb("ZINB, zeros alone", zinb(lambda g: (F.logsigmoid(g), 0 * g)), "gate"),
]
