"""SPSN: its gains, its two solvers, and the decay that its documentation saw collapse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from reference import leaky_oracle as oracle
from spyx import fn, nn
from spyx.experimental import SPSN

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 9, 3))
BETA = np.array([0.1, 0.5, 0.9])
GAINS = {"leak": 1 - BETA, "none": np.ones(3), "variance": np.sqrt(1 - BETA**2)}


@pytest.mark.parametrize("normalize", GAINS)
def test_gain_E2(normalize):
    layer = SPSN(3, beta=BETA, normalize=normalize)
    np.testing.assert_allclose(layer(KEY, X)[1], oracle.leak(X, BETA, gain=GAINS[normalize]), atol=1e-5)


def test_variance_keeps_the_size_of_the_membrane_whatever_the_decay():
    x = jax.random.normal(KEY, (4, 500, 3))

    def sizes(normalize):
        return np.asarray(jnp.std(SPSN(3, beta=BETA, normalize=normalize)(KEY, x)[1][:, 50:], (0, 1)))

    np.testing.assert_allclose(sizes("variance"), 1, atol=0.1)
    np.testing.assert_allclose(sizes("leak"), np.sqrt((1 - BETA) / (1 + BETA)), atol=0.1)


def test_convolution_is_the_recurrence_with_a_state_to_start_from():
    x = jnp.stack([X, 2 * X, -X, 0 * X], axis=-1)
    beta = BETA[:, None]
    start = jnp.ones((2, 3, 4))
    for method in ("scan", "fft"):
        _, v, end = SPSN((3, 4), beta=beta, method=method)(KEY, x, start=start, return_state=True)
        np.testing.assert_allclose(v, oracle.leak(x, beta, start=1.0, gain=1 - beta), atol=1e-5)
        np.testing.assert_array_equal(end, v[:, -1])


@pytest.mark.parametrize("normalize", GAINS)
@pytest.mark.parametrize("method", ["scan", "fft"])
def test_gradient_at_the_ends_of_the_range_is_finite(method, normalize):
    graphdef, params = nnx.split(SPSN(3, beta=jnp.array([0.0, 1.0, 0.5]), method=method, normalize=normalize))
    g = jax.jit(jax.grad(lambda params: jnp.sum(nnx.merge(graphdef, params)(KEY, X)[1] ** 2)))(params)
    assert jnp.isfinite(g["beta"][...]).all()


def test_one_decay_for_whatever_comes():
    np.testing.assert_allclose(SPSN((1,), beta=0.5)(KEY, X)[1], oracle.leak(X, 0.5, gain=0.5), atol=1e-5)


def test_sigmoid_stores_a_logit():
    layer = SPSN(3, beta=BETA, bounded="sigmoid")
    np.testing.assert_allclose(layer.decays(), BETA, atol=1e-6)
    np.testing.assert_allclose(layer.beta[...], np.log(BETA / (1 - BETA)), atol=1e-5)
    np.testing.assert_allclose(layer(KEY, X)[1], SPSN(3, beta=BETA)(KEY, X)[1], atol=1e-6)


def decays_after_training(**options):
    """Tell which half of 20 channels is the busier one, from the spikes of two units: the decays before and after."""
    linear = nnx.Linear(20, 2, use_bias=False, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split((linear, SPSN(2, rngs=nnx.Rngs(1), **options)))
    loss_fn, optimizer = fn.integral_crossentropy(smoothing=0.0), optax.adam(0.02)

    def loss(params, key):
        to_labels, to_input, to_spikes = jax.random.split(key, 3)
        labels = jax.random.randint(to_labels, (64,), 0, 2)
        busy = (jnp.arange(20) // 10)[None] == labels[:, None]
        x = jax.random.bernoulli(to_input, jnp.where(busy, 0.06, 0.03)[:, None], (64, 32, 20)).astype(jnp.float32)
        linear, output = nnx.merge(graphdef, params)
        return loss_fn(output(to_spikes, linear(x))[0], labels)

    def update(carry, key):
        params, moments = carry
        change, moments = optimizer.update(jax.grad(loss)(params, key), moments, params)
        return (optax.apply_updates(params, change), moments), None

    keys = jax.random.split(jax.random.key(2), 200)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        (trained, _), _ = jax.jit(lambda p: jax.lax.scan(update, (p, optimizer.init(p)), keys))(params)
    return nnx.merge(graphdef, params)[1].decays(), nnx.merge(graphdef, trained)[1].decays()


def test_the_single_decay_of_an_output_layer_collapses_to_zero_as_documented_E2():
    before, after = decays_after_training(beta=0.5)
    assert (float(before), float(after)) == (0.5, 0.0)


def test_per_unit_decays_with_the_options_do_not_collapse_E2():
    before, after = decays_after_training(normalize="variance", bounded="sigmoid")
    assert after.shape == (2,)
    assert (after > 0.4).all()
    assert (after < 0.97).all()
    assert (jnp.abs(after - before) > 0.02).any()


def test_a_run_in_chunks_by_fft():
    layer = SPSN(3, beta=BETA, method="fft", noise=nnx.Rngs(0))
    start = layer.initial_state(2)
    whole, end = nn.run(layer, X, start, mode="parallel")
    first, state = nn.run(layer, X[:, :5], start, mode="parallel")
    second, state = nn.run(layer, X[:, 5:], state, mode="parallel")
    np.testing.assert_array_equal(jnp.concatenate([first, second], 1), whole)
    np.testing.assert_allclose(state.membrane, end.membrane, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(normalize="no"), r"SPSN\(normalize=\): expected one of \('leak', 'none', 'variance'\); got 'no'"),
        (dict(method="conv"), r"SPSN\(method=\): expected one of"),
        (dict(bounded=True), r"SPSN\(bounded=\): expected one of"),
        (dict(beta=1.0, bounded="sigmoid"), r"expected a trainable beta inside \(0, 1\); got 1.0"),
        (dict(beta=nn.Fixed(0.5), bounded="sigmoid"), "got a Fixed one"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SPSN(3, **{"beta": 0.5, **options})
