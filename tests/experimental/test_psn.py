"""The PSN family against its definitions, and what each of them may look at."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn
from spyx.experimental import PSN, ChannelPSN, MaskedPSN, SlidingPSN

B, T, N = 2, 6, 3
X = jax.random.normal(jax.random.key(0), (B, T, N)) * 2
RNGS = nnx.Rngs(0)


def oracle(weights, threshold, x):
    """`z_t = H(sum_s W_ts x_s - threshold_t)`, written out."""
    weights, x = np.asarray(weights, np.float64), np.asarray(x, np.float64)
    h = np.stack([sum(weights[t, s] * x[:, s] for s in range(x.shape[1])) for t in range(x.shape[1])], axis=1)
    return (h > np.asarray(threshold).reshape(-1, *(1,) * (x.ndim - 2))).astype(np.float32)


def test_psn_is_a_matrix_over_time():
    layer = PSN(N, T, rngs=RNGS)
    layer.threshold[...] = jnp.linspace(-0.5, 0.5, T)
    spikes = layer(X)
    np.testing.assert_array_equal(spikes, oracle(layer.weight[...], layer.threshold[...], X))
    assert 0 < spikes.mean() < 1
    assert float(jnp.abs(layer.weight[...]).max()) <= 1 / np.sqrt(T)


def test_psn_runs_in_a_network_over_all_of_time():
    net = nn.Sequential(nnx.Linear(4, N, rngs=RNGS), PSN(N, T, rngs=RNGS), nn.LI(N, beta=0.9))
    x = jnp.ones((B, T, 4))
    out, state = nn.run(net, x)
    np.testing.assert_allclose(out, nn.run(net.layers[2], net.layers[1](net.layers[0](x)))[0])
    assert [choice.mode for choice in nn.explain(net, x, mode="parallel")][1] == "parallel"
    with pytest.raises(ValueError, match="PSN: expected all of time in one call; got one time step"):
        nn.run(net, x, mode="step")


@pytest.mark.parametrize("order", [1, 3, T])
def test_masked_psn_looks_back_over_its_order(order):
    layer = MaskedPSN(N, T, order, rngs=RNGS)
    layer.threshold[...] = jnp.zeros(T)
    seen = np.array([[1.0 if 0 <= t - s < order else 0.0 for s in range(T)] for t in range(T)])
    np.testing.assert_array_equal(layer(X), oracle(layer.weight[...] * seen, layer.threshold[...], X))
    slope = jax.jacobian(lambda x: layer(x[None])[0, :, 0])(X[0])[..., 0]
    np.testing.assert_array_equal(slope != 0, seen != 0)


def test_masking_is_progressive():
    layer = MaskedPSN(N, T, 2, rngs=RNGS, masking=0.0)
    np.testing.assert_array_equal(layer.weights(), layer.weight[...])
    layer.masking = 0.75
    np.testing.assert_allclose(layer.weights()[0, -1], layer.weight[...][0, -1] * 0.25)


def sliding():
    layer = SlidingPSN(N, 3, threshold=0.4)
    layer.weight[...] = jnp.array([0.3, -0.5, 1.0])
    return layer


def test_sliding_psn_is_a_matrix_with_equal_diagonals():
    layer, weights = sliding(), np.zeros((T, T))
    for age, w in enumerate([1.0, -0.5, 0.3]):
        weights += w * np.eye(T, k=-age)
    np.testing.assert_array_equal(layer(X), oracle(weights, np.full(T, 0.4), X))
    np.testing.assert_array_equal(SlidingPSN(N, 3).weight[...], [0.25, 0.5, 1.0])


def test_sliding_psn_streams():
    layer = sliding()
    whole, end = layer(X, return_state=True)
    for mode in ("step", "layer", "parallel"):
        out, state = nn.run(layer, X, mode=mode)
        np.testing.assert_array_equal(out, whole)
        np.testing.assert_array_equal(state, end)
    first, state = layer(X[:, :1], return_state=True)
    second, state = layer(X[:, 1:], start=state, return_state=True)
    np.testing.assert_array_equal(jnp.concatenate([first, second], 1), whole)
    np.testing.assert_array_equal(state, X[:, -2:])


@pytest.mark.parametrize(("batch", "steps"), [(B, 0), (B, 1), (0, T)])
def test_sliding_psn_short_and_empty(batch, steps):
    assert sliding()(X[:batch, :steps]).shape == (batch, steps, N)
    assert SlidingPSN(N, 1)(X).shape == X.shape


@pytest.mark.parametrize("name", ["psn", "sliding"])
def test_any_trailing_shape(name):
    layer = PSN((2, 2), T, rngs=RNGS) if name == "psn" else SlidingPSN((2, 2), 2, np.ones((2, 2)))
    x = jax.random.normal(jax.random.key(1), (B, T, 2, 2)) * 4
    assert layer(x).shape == x.shape
    assert all(jnp.any(g != 0) for g in jax.tree.leaves(nnx.grad(lambda layer: jnp.sum(layer(x) * x))(layer)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PSN(N, T, rngs=RNGS)(X[:, :4]), ValueError, "PSN: expected 6 steps .* got 4 .* pad or cut"),
        (lambda: PSN(N, T, rngs=RNGS)(X[..., :2]), ValueError, r"expected input of shape \(batch, time, 3\)"),
        (lambda: PSN(N, T), ValueError, r"spyx.experimental.PSN\(rngs=\): expected nnx.Rngs"),
        (lambda: PSN(N, 0, rngs=RNGS), ValueError, r"PSN\(num_steps=\): expected at least 1; got 0"),
        (lambda: MaskedPSN(N, T, 1.5, rngs=RNGS), TypeError, r"MaskedPSN\(order=\): expected an int; got 1.5"),
        (
            lambda: MaskedPSN(N, T, 2, rngs=RNGS, masking=2.0),
            ValueError,
            r"\(masking=\): expected a number in",
        ),
        (lambda: SlidingPSN(N, 2, activation=3), TypeError, r"SlidingPSN\(activation=\): expected a surrogate"),
        (
            lambda: sliding()(X[:, 0], jnp.zeros((B, N))),
            ValueError,
            "expected steps of shape .* and a state",
        ),
        (lambda: sliding()(X, start=jnp.zeros((B, N))), ValueError, r"SlidingPSN\(start=\): expected a state of shape"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_channel_psn_has_weights_for_every_unit():
    layer = ChannelPSN((2, 3), order=4, threshold=0.5)
    draw = np.random.default_rng(0)
    layer.weight[...] = jnp.asarray(draw.normal(size=(4, 2, 3)), jnp.float32)
    x = draw.normal(size=(2, 9, 2, 3)).astype(np.float32)
    weight = np.asarray(layer.weight[...], np.float64)
    padded = np.concatenate([np.zeros((2, 3, 2, 3)), x], axis=1)
    h = np.stack([(padded[:, t : t + 4] * weight[None]).sum(1) for t in range(9)], axis=1)
    np.testing.assert_array_equal(layer(jnp.asarray(x)), (h > 0.5).astype(np.float32))
    steps = nn.run(layer, jnp.asarray(x), mode="step")[0]
    np.testing.assert_array_equal(steps, layer(jnp.asarray(x)))
    slope = jax.grad(lambda layer: layer(jnp.asarray(x)).sum())(layer).weight[...]
    assert slope.shape == (4, 2, 3)
    assert float(jnp.std(slope, axis=2).min()) > 0  # every unit learns its own
