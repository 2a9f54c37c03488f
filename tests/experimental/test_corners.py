"""Corners of the experimental neurons: odds of exactly 0, cotangents, defaults, and steps against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, experimental, nn
from spyx.experimental import (
    PSN,
    PSU_LIF,
    SPSN,
    AssociativeLIF,
    MaskedPSN,
    SlidingPSN,
    StochasticAssociativeCuBaLIF,
    StochasticAssociativeLIF,
    refractory_sigmoid_bernoulli,
    sigmoid_bernoulli,
    with_key,
)

KEY, B, T, N = jax.random.key(0), 2, 9, 3


def test_odds_of_nothing_and_of_certainty():
    """The coin is uniform on [0, 1): 0 never fires though it can be thrown, and 1 always does."""
    never, always = sigmoid_bernoulli(max_prob=0.0), sigmoid_bernoulli(max_prob=1.0)
    x, coins = jnp.full(3, 100.0), jnp.array([0.0, 0.5, 1 - 2.0**-24])
    assert never.fire(x, coins).tolist() == [0.0, 0.0, 0.0]
    assert always.fire(x, coins).tolist() == [1.0, 1.0, 1.0]
    half = sigmoid_bernoulli(max_prob=1.0, threshold=2.0)
    assert half.fire(jnp.full(3, 2.0), jnp.array([0.49, 0.5, 0.51])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("make", "grad"), [(sigmoid_bernoulli, "derivative"), (refractory_sigmoid_bernoulli, "probability")]
)
def test_a_gradient_is_the_cotangent_times_the_slope(make, grad):
    act, x = make(3.0, 1.25, grad=grad), jnp.linspace(0.3, 2.2, 7)
    g = jnp.arange(7.0) - 3
    slope = jax.vjp(lambda x: act(x, KEY), x)[1](jnp.ones(7))[0]
    np.testing.assert_allclose(jax.vjp(lambda x: act(x, KEY), x)[1](g)[0], g * slope, rtol=1e-6)
    u = np.linspace(0.3, 2.2, 7) - 1.25
    odds = 1 / (1 + np.exp(-3 * u))
    odds = 0.8 * odds if make is sigmoid_bernoulli else np.maximum(np.cos(2 * np.pi * 1.25 * u) * odds, 0)
    np.testing.assert_allclose(act.probability(x), odds, atol=1e-5)
    if grad == "probability":
        np.testing.assert_allclose(slope, odds, atol=1e-5)


def test_defaults_are_the_documented_ones():
    assert StochasticAssociativeLIF(1, beta=0.5).activation == sigmoid_bernoulli(100.0, 1.0, 0.8, grad="probability")
    cuba = StochasticAssociativeCuBaLIF(1, alpha=0.5, beta=0.5)
    assert cuba.activation == refractory_sigmoid_bernoulli(100.0, 1.0, grad="probability")
    assert SPSN(1, beta=0.5).activation == sigmoid_bernoulli(10.0, 1.0)
    assert sigmoid_bernoulli() == sigmoid_bernoulli(10.0, 1.0, 0.8)
    assert refractory_sigmoid_bernoulli() == refractory_sigmoid_bernoulli(50.0, 1.0)
    assert (PSU_LIF(1, beta=0.5).activation, PSU_LIF(1, k=3, beta=0.5).activation) == (axn.arctan(2), axn.arctan(3))
    assert AssociativeLIF(1, beta=0.5).activation == axn.superspike()
    assert PSU_LIF(1, beta=0.5).threshold == AssociativeLIF(1, beta=0.5).threshold == 1


def test_layers_draw_from_keys_of_their_own_and_steps_too():
    state = with_key(nn.Sequential(*[StochasticAssociativeLIF(40, beta=0.0, k=1)] * 2).initial_state(B), KEY)
    keys = np.concatenate([jax.random.key_data(s.key) for s in state])
    assert len(np.unique(keys, axis=0)) == 2 * B
    layer = StochasticAssociativeLIF(40, beta=0.0, k=1)
    x = jnp.ones((B, T, 40))
    spikes, end = nn.run(layer, x, with_key(layer.initial_state(B), KEY))
    assert all((spikes[0, s] != spikes[0, t]).any() for s in range(T) for t in range(s))
    assert (spikes[0] != spikes[1]).any()
    assert end.time.tolist() == [T] * B
    state, stepped = with_key(layer.initial_state(B), KEY), []
    for t in range(3):  # one step at a time throws the same coins
        out, state = layer(x[:, t], state)
        stepped.append(out)
    np.testing.assert_array_equal(jnp.stack(stepped, 1), spikes[:, :3])


def test_weights_start_within_the_bound_and_thresholds_are_per_step():
    layer = PSN(N, 50, rngs=nnx.Rngs(0))
    weight = np.asarray(layer.weight[...])
    assert 0.95 / np.sqrt(50) < np.abs(weight).max() <= 1 / np.sqrt(50)
    assert abs(weight.std() * np.sqrt(3 * 50) - 1) < 0.05  # uniform
    identity = PSN(N, T, rngs=nnx.Rngs(0))
    identity.weight[...], identity.threshold[...] = jnp.eye(T), jnp.arange(T, dtype=jnp.float32) - 0.5
    spikes = identity(jnp.full((B, T, N), 3.0))
    assert spikes[0, :, 0].tolist() == [1.0] * 4 + [0.0] * 5


@pytest.mark.parametrize("masking", [0.0, 0.25, 1.0])
def test_masking_scales_what_is_outside(masking):
    layer = MaskedPSN(N, 4, 2, rngs=nnx.Rngs(0), masking=masking)
    layer.weight[...] = jnp.ones((4, 4))
    out = 1 - masking
    expected = [[1, out, out, out], [1, 1, out, out], [out, 1, 1, out], [out, out, 1, 1]]
    assert layer.weights().tolist() == expected


def test_sliding_psn_of_order_one_and_the_newest_weight_last():
    layer = SlidingPSN(1, 3, threshold=0.9)
    layer.weight[...] = jnp.array([0.0, 0.0, 1.0])
    x = jnp.array([[[1.0], [0.0], [1.0], [0.0]]])
    assert layer(x)[0, :, 0].tolist() == [1.0, 0.0, 1.0, 0.0]
    layer.weight[...] = jnp.array([1.0, 0.0, 0.0])
    assert layer(x)[0, :, 0].tolist() == [0.0, 0.0, 1.0, 0.0]
    one = SlidingPSN(1, 1, threshold=0.9)
    out, end = one(x, return_state=True)
    assert (out[0, :, 0].tolist(), end.shape) == ([1.0, 0.0, 1.0, 0.0], (1, 0, 1))


@pytest.mark.parametrize("bounded", ["clip", "sigmoid"])
def test_decays_stay_in_their_range(bounded):
    layer = SPSN(2, beta=jnp.array([0.25, 0.75]), bounded=bounded)
    layer.beta[...] = jnp.array([-3.0, 4.0])
    expected = [0.0, 1.0] if bounded == "clip" else (1 / (1 + np.exp([3.0, -4.0]))).tolist()
    np.testing.assert_allclose(layer.decays(), expected, rtol=1e-5)
    _, v = layer(KEY, jnp.ones((1, 2, 2)))
    gain = 1 - np.array(expected)
    np.testing.assert_allclose(v[0, 1], gain * (1 + np.array(expected)), atol=1e-5)


def test_the_gain_of_variance_and_its_slope():
    beta = jnp.array([0.0, 0.6, 1.0])
    gain = experimental._spsn.GAINS["variance"]
    np.testing.assert_allclose(gain(beta), [1.0, 0.8, 0.0], rtol=1e-6)
    slope = jax.vmap(jax.grad(lambda b: gain(b)))(beta)
    np.testing.assert_allclose(slope, [0.0, -0.75, 0.0], rtol=1e-5, atol=1e-6)


def test_the_refractory_trace_starts_from_its_own_state():
    layer = PSU_LIF(1, threshold=0.25, beta=0.5, spike=False)
    x = jnp.array([[[0.5], [-1.0]]])
    _, v, end = layer(x, start=PSU_LIF.State(jnp.full((1, 1), 2.0), jnp.full((1, 1), -8.0)), return_state=True)
    one, two = 0.5 * 2 + 0.5, 0.5 * 1.5 - 1.0
    trace = 0.5 * (0.5 * -8 + 1 / (1 + np.exp(-one))) + 1 / (1 + np.exp(-two))
    np.testing.assert_allclose(v[0, :, 0], [one, two], rtol=1e-5)
    np.testing.assert_allclose([end.v.item(), end.r.item()], [two, trace], rtol=1e-5)


def test_snntorch_s_decays_there_and_back():
    for beta, decay in ((1.0, 1.0), (0.5, np.exp(-0.5)), (0.1, np.exp(-0.9))):
        np.testing.assert_allclose(AssociativeLIF.beta_from_snntorch(beta), decay, rtol=1e-6)
        np.testing.assert_allclose(AssociativeLIF.snntorch_beta_from_beta(decay), beta, rtol=1e-5)
