"""Stochastic activations: their odds, their two gradients, their keys."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference import leaky_oracle as oracle
from spyx.experimental import StochasticAssociativeLIF, refractory_sigmoid_bernoulli, sigmoid_bernoulli

KEY = jax.random.key(0)
X = jnp.linspace(-0.5, 2.5, 13)


def odds(name, x):
    x = np.asarray(x, np.float64)
    if name == "sigmoid":
        return 0.8 * oracle.sigmoid(10 * (x - 1))
    return np.maximum(np.cos(2 * np.pi * (x - 1)) * oracle.sigmoid(50 * (x - 1)), 0)


CASES = {"sigmoid": sigmoid_bernoulli, "refractory": refractory_sigmoid_bernoulli}


@pytest.mark.parametrize("name", CASES)
def test_spikes_have_the_documented_odds(name):
    act, draws = CASES[name](), 4000
    np.testing.assert_allclose(act.probability(X), odds(name, X), atol=1e-5)
    spikes = act(jnp.broadcast_to(X, (draws, len(X))), KEY)
    assert set(np.unique(spikes)) == {0.0, 1.0}
    np.testing.assert_allclose(spikes.mean(0), odds(name, X), atol=4 * 0.5 / np.sqrt(draws))


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_probability_or_its_derivative_E3(name):
    x = np.linspace(-0.4, 2.4, 12)  # off the kinks of the refractory odds

    def slope(grad):
        return jax.grad(lambda x: jnp.sum(CASES[name](grad=grad)(x, KEY)))(jnp.float32(x))

    derivative = (odds(name, x + 1e-6) - odds(name, x - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope("probability"), odds(name, x), atol=1e-5)
    np.testing.assert_allclose(slope("derivative"), derivative, rtol=1e-3, atol=1e-3)


def test_forward_mode_and_dtype():
    act = sigmoid_bernoulli(grad="derivative")
    spikes, tangent = jax.jvp(lambda x: act(x, KEY), (X,), (jnp.ones_like(X),))
    np.testing.assert_array_equal(spikes, act(X, KEY))
    np.testing.assert_allclose(tangent, jax.grad(lambda x: jnp.sum(act(x, KEY)))(X), rtol=1e-5)
    assert act(X.astype(jnp.bfloat16), KEY).dtype == jnp.bfloat16


def test_equal_by_value():
    assert sigmoid_bernoulli(10) == sigmoid_bernoulli(k=10.0)
    assert hash(sigmoid_bernoulli()) == hash(sigmoid_bernoulli())
    assert sigmoid_bernoulli() != sigmoid_bernoulli(grad="derivative")


def test_old_and_new_keys_draw_the_same():
    act = sigmoid_bernoulli()
    np.testing.assert_array_equal(act(X, jax.random.PRNGKey(3)), act(X, jax.random.key(3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sigmoid_bernoulli()(X, None), TypeError, "expected a random key where the spikes are drawn; got None"),
        (lambda: sigmoid_bernoulli()(X, 3), TypeError, "got int 3. Pass jax.random.key"),
        (lambda: sigmoid_bernoulli()(X, X), TypeError, "got an array of float32"),
        (lambda: sigmoid_bernoulli()(X, jax.random.split(KEY)), ValueError, r"expected one key; got \(2,\) keys"),
        (lambda: sigmoid_bernoulli()(jnp.arange(3), KEY), TypeError, "expected a floating membrane; got int32"),
        (lambda: sigmoid_bernoulli(k="steep"), TypeError, r"\(k=\): expected a number; got str"),
        (lambda: sigmoid_bernoulli(k=float("nan")), ValueError, r"\(k=\): expected a finite number"),
        (lambda: sigmoid_bernoulli(max_prob=1.5), ValueError, r"expected a probability in \[0, 1\]; got 1.5"),
        (lambda: refractory_sigmoid_bernoulli(grad="p"), ValueError, r"\(grad=\): expected one of .*; got 'p'"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_key_for_noise_and_spikes_makes_one_draw_of_both():
    """The documented hazard: the membrane is high exactly where the coin says no."""
    layer = StochasticAssociativeLIF(64, threshold=0.5, beta=0.0)
    noise_key, spike_key = jax.random.split(KEY)

    def rate(noise_key, spike_key):
        return float(layer(spike_key, jax.random.uniform(noise_key, (1, 40, 64)))[0].mean())

    assert abs(rate(noise_key, spike_key) - 0.4) < 0.05  # half of the membranes are above the threshold, odds 0.8
    assert abs(rate(KEY, KEY) - 0.3) < 0.02  # those between 0.5 and 0.8, all of them, and no other


def test_jax_finds_a_key_used_twice():
    def both(key):
        x = jax.random.uniform(key, (1, 4, 3))
        return StochasticAssociativeLIF(3, beta=0.5)(key, x)[0]

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(both)(KEY)
