"""A sample of the product of cases, or all of it: every mode gives the numbers of a plain loop.

`SPYX_DIFFERENTIAL_SEED=7 pytest tests/differential` draws the sample of a run that failed again. `SPYX_DIFFERENTIAL=48`
is the number of programs, two cases each; `SPYX_DIFFERENTIAL=all` runs everything, as `python -m tests.differential`.
"""

from __future__ import annotations

import datetime
import os
import random

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from differential.cases import groups, programs
from differential.check import failures, legal
from differential.neurons import SUBJECTS
from spyx import nn

SIZE = os.environ.get("SPYX_DIFFERENTIAL", "48")
SEED = int(os.environ.get("SPYX_DIFFERENTIAL_SEED") or datetime.date.today().toordinal())  # another one every day
EVERYTHING = SIZE == "all"
PARTS = len(groups()) if EVERYTHING else 12
PER_GROUP = 4


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
    wrong = [line for program in chosen if legal(program) for line in failures(program)]
    assert not wrong, "\n".join([f"SPYX_DIFFERENTIAL_SEED={SEED}, of {2 * len(chosen)} cases:", *wrong])


@pytest.mark.parametrize("name", ["LIF", "BoolMask", "Recurrent-masked"])
@pytest.mark.parametrize("options", [{"mode": "step"}, {"chunk": 3}, {"remat": True}], ids=str)
def test_a_run_leaves_the_layer_as_it_is(name, options):
    """The layer itself, closed over by a compiled function: nothing traced stays behind in it."""
    layer = SUBJECTS[name].build()
    x = jnp.ones((2, 7, *layer.hidden_shape))
    before = jax.tree.leaves(nnx.state(layer))
    compiled = jax.jit(lambda x: nn.run(layer, x, **options)[0])(x)
    after = jax.tree.leaves(nnx.state(layer))
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert (compiled == nn.run(layer, x)[0]).all()


def test_a_sample_is_drawn_again_from_its_seed():
    assert sample(3) == sample(3)
    assert EVERYTHING or sample(3) != sample(4)
