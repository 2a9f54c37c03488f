"""A refractory period against a loop of NumPy, in every mode, inside a recurrence; errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn


def test_silent_and_still_for_some_steps():
    x = np.random.default_rng(0).normal(0.6, 1.0, (2, 40, 3)).astype(np.float32)
    layer = nn.Refractory(nn.CuBaLIF(3, alpha=0.5, beta=0.8, threshold=0.7, dynamics="paper"), steps=3)
    v, i, wait = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    expected = []
    for t in range(40):
        i = 0.5 * i + x[:, t]
        u = 0.8 * v + (1 - 0.8) * i
        z = (u > 0.7) & (wait <= 0)
        v = np.where(wait > 0, v, np.where(z, 0.0, u))
        wait = np.where(z, 3, np.maximum(wait - 1, 0))
        expected.append(z)
    expected = np.stack(expected, 1).astype(np.float32)
    assert 0.03 < expected.mean() <= 0.25
    for mode in ("auto", "layer", "step", "fused"):
        spikes, state = nn.run(layer, x, mode=mode)
        np.testing.assert_array_equal(spikes, expected)
        np.testing.assert_allclose(state.v, v, atol=1e-6)
        np.testing.assert_allclose(state.i, i, atol=1e-6)
        np.testing.assert_array_equal(state.wait, wait)
    slopes = [jax.grad(lambda x, m=mode: nn.run(layer, x, mode=m)[0].sum())(x) for mode in ("step", "layer", "fused")]
    for slope in slopes[1:]:
        np.testing.assert_allclose(slope, slopes[0], rtol=1e-4, atol=1e-6)


def test_inside_a_recurrence():
    layer = nn.Recurrent(nn.Refractory(nn.LIF(3, 0.9), steps=2), rngs=nnx.Rngs(0))
    spikes, state = nn.run(layer, jnp.full((1, 12, 3), 2.0))
    assert {"v", "wait"} <= set(state._fields)
    assert float(spikes.sum()) == 12.0  # every third step, from the second on


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Refractory(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), 2),
            TypeError,
            r"expected a spyx\.nn\.Neuron; got",
        ),
        (lambda: nn.Refractory(nn.RIF(2, rngs=nnx.Rngs(0)), 2), ValueError, r"expected a local neuron; got RIF"),
        (lambda: nn.Refractory(nn.IF(2), 0), ValueError, r"\(steps=\): expected an int of at least 1; got 0"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
