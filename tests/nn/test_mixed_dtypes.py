"""Dtypes that do not match: weights, outputs and products in another precision than the state, in every mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn
from spyx.engine.events import choice

UNITS, BATCH, STEPS = 4, 2, 9
MODES = ("step", "layer", "auto", "fused")
X = np.random.default_rng(0).normal(0.4, 0.8, (BATCH, STEPS, UNITS)).astype(np.float32)
W = np.random.default_rng(1).normal(0, 0.7, (UNITS, UNITS))


def recurrent_by_hand(w, beta=0.75):
    """`z = H(v - 1)`, `v' = beta v + x + z W - z`, in double precision."""
    v, out = np.zeros((BATCH, UNITS)), []
    for t in range(STEPS):
        z = (v > 1).astype(float)
        out.append(z)
        v = beta * v + X[:, t] + z @ np.asarray(w, np.float64) - z
    return np.stack(out, 1), v


@pytest.mark.parametrize(
    ("dtype", "mode"), [("float16", "step"), ("float16", "layer"), ("float16", "fused"), ("float64", "fused")]
)
def test_a_recurrent_weight_of_another_precision(dtype, mode):
    with jax.enable_x64(dtype == "float64"):
        layer = nn.RLIF(
            UNITS, beta=jnp.float32(0.75), recurrent_init=lambda *_: jnp.asarray(W, dtype), rngs=nnx.Rngs(0)
        )
        assert layer.recurrent_w[...].dtype == dtype
        out, v = nn.run(layer, jnp.asarray(X), mode=mode)
        spikes, membrane = recurrent_by_hand(W.astype(dtype))
        assert (out.dtype, v.dtype) == (jnp.float32, jnp.float32)
        np.testing.assert_array_equal(out, spikes)
        np.testing.assert_allclose(v, membrane, rtol=1e-4, atol=1e-5)
        assert spikes[:, 1:].any()


@pytest.mark.parametrize("mode", ["step", "layer", "auto"])
def test_a_recurrent_weight_of_whole_numbers(mode):
    """A fixed pattern of connections, 0, 1 and -1 as integers: it is not read as if it were floats."""
    w = np.array([[0, 1, 0, -1], [1, 0, 1, 0], [0, -1, 0, 1], [1, 0, 0, 0]], np.int32)
    layer = nn.RLIF(UNITS, beta=0.75, rngs=nnx.Rngs(0))
    layer.recurrent_w = nn.Constant(jnp.asarray(w))
    with jax.numpy_dtype_promotion("standard"):
        out, v = nn.run(layer, jnp.asarray(X), mode=mode)
    spikes, membrane = recurrent_by_hand(w)
    np.testing.assert_array_equal(out, spikes)
    np.testing.assert_allclose(v, membrane, rtol=1e-4, atol=1e-5)


class Counted(nn.Neuron):
    """Its output is a whole number: how many thresholds the membrane is above."""

    @staticmethod
    def step(p, x, v):
        v = 0.5 * v + x
        return jnp.floor(jnp.abs(v)).astype(jnp.int32), v


class Rounded(nn.Neuron):
    """Its output is rounded to bfloat16, its state is not."""

    @staticmethod
    def step(p, x, v):
        v = 0.5 * v + x
        return v.astype(jnp.bfloat16), v


@pytest.mark.parametrize("mode", ["step", "layer", "auto"])
@pytest.mark.parametrize(("neuron", "dtype"), [(Counted, jnp.int32), (Rounded, jnp.bfloat16)])
def test_an_output_of_another_dtype_than_the_state(neuron, dtype, mode):
    spikes = (X > 0).astype(np.uint8)
    v, membranes = np.zeros((BATCH, UNITS)), []
    for t in range(STEPS):
        v = 0.5 * v + spikes[:, t]
        membranes.append(v)
    out, end = nn.run(neuron(UNITS), jnp.asarray(spikes), mode=mode)
    exact = np.stack(membranes, 1)
    expected = np.floor(exact) if neuron is Counted else np.asarray(jnp.asarray(exact, jnp.bfloat16), np.float64)
    assert (out.dtype, end.dtype) == (dtype, jnp.float32)
    np.testing.assert_array_equal(np.asarray(out, np.float64), expected)
    np.testing.assert_allclose(end, v, rtol=1e-6)


def test_a_layer_that_computes_in_bfloat16_does_so_inside_a_network(monkeypatch):
    """What Flax is told by `dtype=` holds, also where the input is so sparse that zeros could be skipped."""
    monkeypatch.setattr(choice, "SMALLEST", 1)
    linear = nnx.Linear(40, 30, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    x = (np.random.default_rng(0).random((BATCH, STEPS, 40)) < 0.1).astype(np.float32)
    out, _ = nn.run(nn.Sequential(linear), jnp.asarray(x))
    expected = linear(jnp.asarray(x).reshape(-1, 40)).reshape(out.shape)
    assert out.dtype == expected.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(out, np.float32), np.asarray(expected, np.float32))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="time is cut on CPUs alone")
def test_explain_lists_every_layer_once_where_time_is_cut_with_a_rest():
    net = nn.Sequential(nnx.Linear(16, 512, rngs=nnx.Rngs(0)), nn.LI(512))
    choices = nn.explain(net, jnp.zeros((64, 53, 16)))
    assert choices[0].shape[0] < 53  # no divisor of a prime: the last piece is shorter than the others
    assert [choice.layer for choice in choices] == ["Linear", "LI"]
