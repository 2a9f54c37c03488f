"""Random graphs of every node, against an integrator of the whole graph that shares no line with spyx."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import nir_network
from reference.nir_random import KINDS, random_graph
from spyx import nn

pytest.importorskip("nir")
from spyx.nir import from_nir, simulate, to_nir  # noqa: E402

STEPS = 14


def case(seed, depth):
    rng = np.random.default_rng(seed)
    dt = float(rng.choice([1e-3, 1e-4, 0.5]))
    graph, shape, late = random_graph(rng, depth, dt)
    x = (rng.random((STEPS, *shape)) < 0.5).astype(np.float32) * rng.choice([1.0, -0.7, 1.6], shape).astype(np.float32)
    return graph, x, dt, nir_network.run(graph, {"input": x}, dt, late)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(1, 6))
def test_the_reference_computes_the_equations(seed, depth):
    graph, x, dt, expected = case(seed, depth)
    simulated = simulate(graph, x, dt)
    for name, answer in expected.items():
        np.testing.assert_allclose(simulated[name], answer, atol=1e-9 * (1 + np.abs(answer).max()))


@pytest.mark.parametrize("seed", [0, 6, 10, 19, 26, 36, 42])
def test_spyx_computes_the_equations_and_writes_them_again(seed):
    graph, x, dt, expected = case(seed, depth=4)
    model = from_nir(graph, dt)
    maps = any(type(node).__name__ in ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d") for node in graph.nodes.values())
    again = simulate(to_nir(model, dt), x)
    for name, answer in expected.items():
        np.testing.assert_allclose(again[name], answer, atol=1e-4 * (1 + np.abs(answer).max()))
    outs, _ = nn.run(model, (np.moveaxis(x, 1, -1) if maps else x)[None])
    for name, answer in expected.items():
        got = np.asarray(outs[name][0])
        same_axes = got if got.shape == answer.shape else np.moveaxis(got, -1, 1)
        np.testing.assert_allclose(same_axes, answer, atol=1e-4 * (1 + np.abs(answer).max()))


def test_the_seeds_meet_every_node():
    met = {type(node).__name__ for seed in range(60) for node in case(seed, 4)[0].nodes.values()}
    assert met >= {kind for kinds in KINDS.values() for kind in kinds} | {"NIRGraph"}
