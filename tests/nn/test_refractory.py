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


def test_a_reset_in_the_step_after_is_not_lost():
    """The neuron waits as a whole: then its steps are those of the neuron alone, with pauses."""
    x = np.random.default_rng(0).normal(3.0, 3.0, (1, 60, 4)).astype(np.float32)
    for neuron in (
        nn.cAdLIF(4, threshold=0.3, rngs=nnx.Rngs(0)),
        nn.CSiLIF(4, log_dt=0.0, rngs=nnx.Rngs(0)),
        nn.BRF(4, threshold=0.05, rngs=nnx.Rngs(0)),
    ):
        spikes, end = nn.run(nn.Refractory(neuron, 2), x)
        assert 0.05 < spikes.mean() < 0.34
        for unit in range(4):
            rest = np.zeros(60, bool)
            for t in np.flatnonzero(spikes[0, :, unit]):
                rest[t + 1 : t + 3] = True
            alone, state = nn.run(neuron, x[:, ~rest])
            np.testing.assert_array_equal(spikes[0, ~rest, unit], alone[0, :, unit])
            for found, expected in zip(end[:-1], state, strict=True):
                np.testing.assert_allclose(found[0, unit], expected[0, unit], rtol=1e-5, atol=1e-6)


def test_a_graded_spike_below_zero_is_a_spike():
    x = jnp.array([0.5, 0.0, -0.3, 0.2, 0.0, 0.0]).reshape(1, 6, 1)
    spikes, state = nn.run(nn.Refractory(nn.SigmaDelta(1), 1), x)
    np.testing.assert_allclose(spikes.ravel(), [0.5, 0.0, -0.3, 0.0, 0.0, 0.0], atol=1e-6)
    assert state.wait.item() == 0.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Refractory(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), 2),
            TypeError,
            r"expected a spyx\.nn\.Neuron; got",
        ),
        (lambda: nn.Refractory(nn.RIF(2, rngs=nnx.Rngs(0)), 2), ValueError, r"expected a local neuron; got RIF"),
        (lambda: nn.Refractory(nn.LI(2), 2), ValueError, r"expected a neuron that spikes; got LI"),
        (lambda: nn.Refractory(nn.IF(2), 0), ValueError, r"\(steps=\): expected an int of at least 1; got 0"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
