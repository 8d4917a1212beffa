"""A formula that an objective may follow, and those with other draws of z."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ppl_vae.diagnostics.check.formulas import NOISES, SCALES, SHARES

# What is added to a log-likelihood of a smaller weight, and what that means.
MIXED = {
    "L=colours inverted": (
        "the targets are mixed with their opposites: label smoothing, or flipped pixels?"
    ),
    "L=the targets are all classes alike": (
        "the targets are mixed with all classes alike: label smoothing?"
    ),
}


@dataclass
class Candidate:
    """One formula: columns that enter with the weight 1, or others.

    Attributes:
        kind: of the finding that it leads to.
        term: likewise.
        message: what the objective then does, in words; empty for the right formula.
        roles: what each column stands for, to the column: ``L``, ``P``, ``H``, ``KL`` or another.
        noise: columns with an expectation of zero.
        free: roles whose weight has no right value.
        cost: the reluctance to believe it, in units of chi squared.
        pieces: whether the roles are pieces of the right terms.
    """

    kind: str
    term: str
    message: str
    roles: dict[str, str]
    noise: list[str]
    free: tuple[str, ...] = ()
    cost: float = 0.0
    pieces: bool = False

    @property
    def far(self) -> str:
        """The column that tells at which draws the pair cannot score what it draws, if any."""
        likelihood = self.roles.get("L", "")
        return likelihood.replace("L@", "far@") if "@" in likelihood else ""

    @property
    def is_drawn(self) -> bool:
        """Whether its columns follow the draws in another way than the right terms do."""
        drawn = ("L@", "L=", "Ps@", "Hs@", "KLs")
        return self.kind == "bound" or any(c.startswith(drawn) for c in self.roles.values())


def wrong_draws(columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas whose draws of z, or whose scales, are others than the guide's."""
    for name, (_, words) in SCALES.items():
        # Without the scale a draw is loc + noise, which has words of its own below.
        draw = {"L": f"L@{name}"} if f"L@{name}" in columns and name != "unit" else {}
        if f"P@{name}" not in columns:
            continue
        formula = {"P": f"P@{name}", "H": f"H@{name}"}
        extra = [*noise, *([f"~P@{name}"] if f"~P@{name}" in columns else [])]
        right = {"L": "L", "P": "P", "H": "H"}
        sampled = {"L": f"L@{name}", "P": f"Ps@{name}", "H": f"Hs@{name}"}
        where = [("kl", "the KL takes", right | formula)]
        if name not in ("unit", "inverse"):  # else a missing term, or one with another sign
            where += [
                ("entropy", "the entropy takes", right | {"H": formula["H"]}),
                ("log_prior", "the log-prior's scale^2 takes", right | {"P": formula["P"]}),
            ]
        if draw:
            where += [
                ("objective", "draws and KL take", right | formula | draw),
                ("log_likelihood", "the draw of z takes", right | draw),
                ("log_likelihood", "the draw of z takes", sampled),
                ("log_likelihood", "draw and log-prior take", right | draw | {"P": f"P@{name}"}),
            ]
        for term, verb, roles in where:
            message = f"{verb} {words} where the guide has its scale."
            yield Candidate("formula", term, message, roles, extra, cost=6.0)
    for name in ("0", *NOISES):
        key = f"noise {name}"
        if f"L@{key}" not in columns:
            continue
        said = f"z is drawn with noise of scale {name} instead of 1."
        if name == "0":
            said = "z is the guide's mean: no noise is added."
        yield from _drawn(key, said, noise)
    others = {
        "rate": "z is drawn with the guide's rate taken for its scale.",
        "uniform": "z is drawn with noise that is uniform on (0, 1), not Normal: rand for randn?",
        "swapped": "z is drawn as scale + loc noise: loc and scale swapped in the draw.",
        "clamped": "z is drawn with noise that is clamped to (-1, 1).",
        "prior": "z is drawn from the prior (or standard noise), not from the guide.",
        "unit": "z is loc + noise: the guide's scale is left out of the draw.",
    }
    others |= {name: said for name, (_, said) in SHARES.items()}
    for name, said in others.items():
        if f"L@{name}" in columns:
            yield from _drawn(name, said, noise)
    if "L@order" in columns:
        said = "what the encoder gives is taken in the other order: (log-variance, loc)."
        for roles in (
            {"L": "L@order", "P": "P@order", "H": "H@order"},
            {"L": "L@order", "P": "Ps@order", "H": "Hs@order"},
        ):
            yield Candidate("formula", "objective", said, roles, noise, cost=6.0)


def _drawn(key: str, said: str, noise: list[str]) -> Iterator[Candidate]:
    for roles in (
        {"L": f"L@{key}", "P": "P", "H": "H"},
        {"L": f"L@{key}", "P": f"Ps@{key}", "H": f"Hs@{key}"},
        {"L": f"L@{key}", "P": f"Ps@{key}", "H": "H"},
        {"L": "L", "P": f"Ps@{key}", "H": f"Hs@{key}"},
    ):
        term = "log_likelihood" if roles["L"] != "L" else "kl"
        yield Candidate("noise", term, said, roles, noise, cost=6.0)


def wrong_likelihoods(columns: set[str], noise: list[str]) -> Iterator[Candidate]:
    """Yield formulas with another reconstruction term."""
    for other, said in MIXED.items():
        if other in columns:
            roles = {"L": "L", "extra": other, "P": "P", "H": "H"}
            free = ("L", "extra")
            yield Candidate("formula", "log_likelihood", said, roles, noise, free, cost=8.0)
    for name in sorted(n for n in columns if n.startswith("L=")):
        said = f"the reconstruction term is not the pair's log-likelihood: {name[2:]}."
        roles = {"L": name, "P": "P", "H": "H"}
        loose = ("L",) if "error" in name else ()
        yield Candidate("formula", "log_likelihood", said, roles, noise, free=loose, cost=6.0)
