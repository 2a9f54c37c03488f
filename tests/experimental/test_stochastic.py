"""Stochastic neurons: one membrane in every way of running, and spikes that depend on the key alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import leaky_oracle as oracle
from spyx import nn
from spyx.experimental import (
    SPSN,
    NoisyState,
    StochasticAssociativeCuBaLIF,
    StochasticAssociativeLIF,
    with_key,
)

KEY = jax.random.key(0)
B, T, N = 2, 9, 3
X = jax.random.uniform(jax.random.key(1), (B, T, N))
BETA, ALPHA = np.array([0.0, 0.5, 0.9]), np.array([0.3, 0.6, 1.0])


def lif(**options):
    return StochasticAssociativeLIF(N, beta=BETA, k=5, **options)


def cuba(**options):
    return StochasticAssociativeCuBaLIF(N, alpha=ALPHA, beta=BETA, k=5, **options)


def spsn(**options):
    return SPSN(N, beta=BETA, k=5, **options)


LAYERS = {"lif": lif, "cuba": cuba, "spsn": spsn}
MEMBRANES = {
    "lif": oracle.leak(X, BETA),
    "cuba": oracle.leak(oracle.leak(X, ALPHA), BETA),
    "spsn": oracle.leak(X, BETA, gain=1 - BETA),
}


def voltage(state):
    return getattr(state, "v", state)


@pytest.mark.parametrize("name", LAYERS)
def test_whole_sequence_stepwise_and_every_mode_have_one_membrane(name):
    layer = LAYERS[name]()
    out, end = layer(KEY, X, return_state=True)[0], layer(KEY, X, return_state=True)[-1]
    assert out.shape == X.shape
    np.testing.assert_allclose(voltage(end), MEMBRANES[name][:, -1], atol=1e-5)
    start = with_key(layer.initial_state(B), KEY)
    answers = {mode: nn.run(layer, X, start, mode=mode) for mode in ("step", "layer", "parallel")}
    for spikes, state in answers.values():
        np.testing.assert_array_equal(spikes, answers["step"][0])  # the draws are the sample's and the step's
        np.testing.assert_allclose(voltage(state.membrane), MEMBRANES[name][:, -1], atol=1e-5)
        assert state.time.tolist() == [T] * B
    assert answers["step"][0].any()


@pytest.mark.parametrize("layer", [lif(), spsn()], ids=["lif", "spsn"])
def test_the_documented_call_answers_spikes_and_membrane(layer):
    spikes, v = layer(KEY, X)
    np.testing.assert_allclose(
        v, MEMBRANES["lif" if isinstance(layer, StochasticAssociativeLIF) else "spsn"], atol=1e-5
    )
    np.testing.assert_array_equal(spikes, layer.activation(v, KEY))


def test_cubalif_answers_spikes_alone_E4():
    assert isinstance(cuba()(KEY, X), jax.Array)


def test_spike_false_answers_the_membrane_twice_and_needs_no_key():
    first, v = lif(spike=False)(None, X)
    np.testing.assert_array_equal(first, v)
    out, _ = nn.run(lif(spike=False), X)
    np.testing.assert_allclose(out, v, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_chunks_carry_the_state(name):
    layer = LAYERS[name]()
    start = with_key(layer.initial_state(B), KEY)
    whole, end = nn.run(layer, X, start)
    first, state = nn.run(layer, X[:, :4], start)
    second, state = nn.run(layer, X[:, 4:], state, mode="parallel")
    np.testing.assert_array_equal(jnp.concatenate([first, second], 1), whole)
    membrane = layer(KEY, X[:, :4], return_state=True)[-1]
    membrane = layer(jax.random.key(9), X[:, 4:], start=membrane, return_state=True)[-1]
    for got in (state.membrane, membrane):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, end.membrane)


def test_a_sample_does_not_depend_on_its_batch():
    layer = lif()
    start = with_key(layer.initial_state(B), KEY)
    alone = jax.tree.map(lambda a: a[1:], start)
    np.testing.assert_array_equal(nn.run(layer, X[1:], alone)[0], nn.run(layer, X, start)[0][1:])


def test_a_network_gets_different_keys_for_its_layers():
    net = nn.Sequential(lif(), nn.IF(N), lif())
    state = with_key(net.initial_state(B), KEY)
    keys = [jax.random.key_data(s.key) for s in state if isinstance(s, NoisyState)]
    assert len({tuple(row) for key in keys for row in key.tolist()}) == 2 * B
    assert nn.run(net, X, state)[0].shape == X.shape


def test_noise_gives_every_sequence_a_new_key():
    layer = lif(noise=nnx.Rngs(0))
    first, second = nn.run(layer, X)[0], nn.run(layer, X)[0]
    assert (first != second).any()
    assert [c.mode for c in nn.explain(layer, X, mode="parallel")] == ["parallel"]


def test_any_trailing_shape_and_uint8_spikes():
    layer = StochasticAssociativeLIF((2, 3), beta=0.5)
    x = jax.random.bernoulli(KEY, 0.5, (B, T, 2, 3)).astype(jnp.uint8)
    spikes, v = layer(KEY, x)
    np.testing.assert_allclose(v, oracle.leak(x, 0.5), atol=1e-5)
    np.testing.assert_array_equal(spikes, layer.activation(v, KEY))


@pytest.mark.parametrize(("batch", "steps"), [(B, 0), (B, 1), (0, T)])
@pytest.mark.parametrize("name", LAYERS)
def test_short_and_empty(name, batch, steps):
    layer = LAYERS[name]()
    x = X[:batch, :steps]
    out = layer(KEY, x)
    assert (out if name == "cuba" else out[0]).shape == x.shape
    assert nn.run(layer, x, with_key(layer.initial_state(batch), KEY))[0].shape == x.shape


def test_gradients_of_a_stepped_and_a_whole_run_agree():
    graphdef, params = nnx.split(cuba(grad="derivative"))

    def loss(params, mode):
        layer = nnx.merge(graphdef, params)
        return jnp.sum(nn.run(layer, X, with_key(layer.initial_state(B), KEY), mode=mode)[0] * jnp.sin(X * 9))

    stepped, whole = (jax.jit(jax.grad(loss), static_argnums=1)(params, mode) for mode in ("step", "parallel"))
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(stepped))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, stepped)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lif()(None, X), TypeError, "StochasticAssociativeLIF: expected a random key .* got None"),
        (lambda: cuba()(X, KEY), TypeError, "StochasticAssociativeCuBaLIF: expected a random key .* array of float32"),
        (lambda: lif()(KEY, X[..., :2]), ValueError, r"expected input of shape \(batch, time, 3\); got \(2, 9, 2\)"),
        (lambda: lif()(KEY, X[0]), ValueError, r"expected input of shape \(batch, time, 3\); got \(9, 3\)"),
        (lambda: lif(spike=False)(KEY, KEY), TypeError, "A key comes first"),
        (lambda: lif()(KEY, X, start=jnp.zeros((B, 2))), ValueError, r"\(start=\): expected a state of shape \(2, 3\)"),
        (lambda: nn.run(lif(), X), ValueError, "expected a state with a random key; got one without. Set it with"),
        (lambda: nn.run(lif(), X, mode="step"), ValueError, "expected a state with a random key; got one without"),
        (lambda: with_key(nn.IF(2).initial_state(1), KEY), ValueError, "expected the state of a stochastic layer"),
        (lambda: with_key(lif().initial_state(1), None), TypeError, "with_key: expected a random key"),
        (lambda: StochasticAssociativeLIF(3), ValueError, r"experimental.StochasticAssociativeLIF\(rngs=\): expected"),
        (lambda: SPSN((3,)), ValueError, r"spyx.experimental.SPSN\(rngs=\): expected nnx.Rngs"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
