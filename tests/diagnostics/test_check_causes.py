"""`check_elbo` names the cause in small programs of many kinds."""

import pytest
from diagnostics.wrong_bounds import BOUNDS, FLOWS
from diagnostics.wrong_counts import COUNTS
from diagnostics.wrong_pixels import PIXELS
from diagnostics.wrong_sequences import SEQUENCES

from ppl_vae import check_elbo

PROGRAMS = [*COUNTS, *SEQUENCES, *BOUNDS, *FLOWS, *PIXELS]
# The suite takes every fourth; all of them are slow.
SOME = PROGRAMS[::4]


def check(program):
    pair, x, objective = program.make()
    result = check_elbo(objective, pair, x, reduction=program.reduction)
    assert result.passed == (not program.says), str(result)
    said = " ".join(f.message for f in result.findings)
    assert all(words in said for words in program.says), said


@pytest.mark.parametrize("program", SOME, ids=lambda p: p.name)
def test_the_cause_is_named(program):
    check(program)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_every_cause_is_named(program):
    check(program)
