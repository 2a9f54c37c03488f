"""A sample of the product of cases, or all of it: every mode gives the numbers of a plain loop.

`SPYX_DIFFERENTIAL_SEED=7 pytest tests/differential` draws the sample of a run that failed again. `SPYX_DIFFERENTIAL=60`
is the number of programs, two cases each; `SPYX_DIFFERENTIAL=all` runs everything, as `python -m tests.differential`.
"""

from __future__ import annotations

import os
import random

import pytest

from differential.cases import DTYPES, groups, programs
from differential.check import failures, legal
from differential.neurons import SUBJECTS

SIZE = os.environ.get("SPYX_DIFFERENTIAL", "60")
SEED = int(os.environ.get("SPYX_DIFFERENTIAL_SEED") or random.SystemRandom().randrange(10**6))
EVERYTHING = SIZE == "all"
PARTS = len(DTYPES) * len(SUBJECTS) if EVERYTHING else 12
PER_GROUP = 5


def sample(part: int) -> list:
    """Programs of one part: a few groups, and a few of the programs of each, which share the oracle's numbers."""
    if EVERYTHING:
        return list(programs(groups()[part]))
    draw = random.Random(1000 * SEED + part)
    chosen = []
    while len(chosen) < int(SIZE) // PARTS:
        group = draw.choice(groups())
        found = list(programs(group))
        chosen += draw.sample(found, min(PER_GROUP, len(found)))
    return chosen[: int(SIZE) // PARTS]


@pytest.mark.parametrize("part", range(PARTS))
def test_modes_agree_with_a_loop_of_python(part):
    print(f"SPYX_DIFFERENTIAL_SEED={SEED}")
    chosen = sample(part)
    wrong = [line for program in chosen if legal(program.group, program.mode) for line in failures(program)]
    assert not wrong, "\n".join([f"SPYX_DIFFERENTIAL_SEED={SEED}, of {2 * len(chosen)} cases:", *wrong])


def test_a_sample_is_drawn_again_from_its_seed():
    assert sample(3) == sample(3)
    assert EVERYTHING or sample(3) != sample(4)
