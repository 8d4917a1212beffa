"""A formula that an objective may follow."""

from __future__ import annotations

from dataclasses import dataclass

# What each term of the right formula stands for, to its column.
RIGHT = {"L": "L", "P": "P", "H": "H"}


@dataclass
class Candidate:
    """One formula: columns that enter with weight 1, or with another.

    Attributes:
        kind: of the finding that it leads to.
        term: of that finding.
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
        """The column that is not 0 at draws that the pair cannot score, if any."""
        likelihood = self.roles.get("L", "")
        return likelihood.replace("L@", "far@") if "@" in likelihood else ""

    @property
    def is_drawn(self) -> bool:
        """Whether its columns follow the draws in another way than the right terms do."""
        drawn = ("L@", "L=", "Ps@", "Hs@", "KLs")
        return self.kind == "bound" or any(c.startswith(drawn) for c in self.roles.values())
