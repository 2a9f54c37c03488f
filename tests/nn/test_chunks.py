"""Time in chunks: same answer, same gradients; recomputation, truncation, streams."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn
from spyx.engine import device, plan

X = jax.random.normal(jax.random.key(0), (2, 11, 4))


def network():
    rngs = nnx.Rngs(0)
    return nn.Sequential(nnx.Linear(4, 5, rngs=rngs), nn.RLIF(5, rngs=rngs), nn.LI(5))


def gradients(**options):
    graphdef, weights = nnx.split(network())

    def loss(weights, x):
        outs, state = nn.run(nnx.merge(graphdef, weights), x, **options)
        return jnp.sum(jnp.cos(outs)) + jnp.sum(state[2]), outs

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(weights, X)


WHOLE = gradients()


@pytest.mark.parametrize(
    "options",
    [
        {"chunk": 4},
        {"chunk": 1},
        {"chunk": 11},
        {"chunk": 100},
        {"remat": True},
        {"chunk": 3, "remat": True},
        {"chunk": 4, "mode": "step"},
    ],
    ids=str,
)
def test_chunks_change_nothing(options):
    for a, b in zip(jax.tree.leaves(gradients(**options)), jax.tree.leaves(WHOLE), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_truncation_stops_the_gradient_at_the_cut():
    model = nn.LI(4, 0.9)
    late = jax.grad(lambda x: nn.run(model, x, chunk=4, truncate=True)[0][:, -1].sum())(X)
    assert not late[:, :8].any()
    np.testing.assert_allclose(late[:, 8:, 0], [[0.81, 0.9, 1.0]] * 2, rtol=1e-6)


class AfterInput(nn.Neuron):
    """Its spike answers this very step, so that the output cannot be read off the states before."""

    @staticmethod
    def step(p, x, v):
        v = 0.9 * v + x
        z = p.spike(v - 1.0)
        return z, v - z


@pytest.mark.parametrize(
    "make", [lambda rngs: nn.RLIF(4, rngs=rngs), lambda rngs: AfterInput(4)], ids=["RLIF", "after"]
)
@pytest.mark.parametrize("time_axis", [0, 1])
def test_automatic_chunks_change_nothing(make, time_axis, monkeypatch):
    monkeypatch.setattr(device, "CACHE_BYTES", 4 * 2 * 4 * 3)  # three steps of two samples and four units
    graphdef, weights = nnx.split(nn.Sequential(make(nnx.Rngs(0)), nn.LI(4, 0.9)))
    x = jnp.swapaxes(X, 0, 1) if time_axis == 0 else X

    def loss(weights, x, mode):
        outs, state = nn.run(nnx.merge(graphdef, weights), x, mode=mode, time_axis=time_axis)
        return jnp.sum(jnp.cos(outs)) + jnp.sum(state[1])

    def gradients(mode, wrt):
        return jax.jit(jax.value_and_grad(loss, argnums=wrt), static_argnums=2)(weights, x, mode)

    assert nn.explain(nnx.merge(graphdef, weights), x, time_axis=time_axis)[0].shape == (3, 2, 4)
    for wrt in (0, (0, 1)):
        for a, b in zip(jax.tree.leaves(gradients("auto", wrt)), jax.tree.leaves(gradients("layer", wrt)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_chunks_are_as_long_as_each_other_where_they_can_be(monkeypatch):
    monkeypatch.setattr(device, "CACHE_BYTES", 4 * 1 * 4 * 7)
    for steps, length in ((20, None), (21, 7), (24, 8), (23, 7)):
        cut = plan.cut(steps, 1, 4, 1, [], changes=False, whole=False)
        assert (cut and cut.length) == length


def test_chunks_are_shorter_for_a_larger_state(monkeypatch):
    monkeypatch.setattr(device, "CACHE_BYTES", 4 * 1 * 4 * 8)
    for neuron, length in ((nn.LIF(4, beta=0.9), 8), (nn.CuBaLIF(4, alpha=0.9, beta=0.9), 4)):
        assert nn.explain(neuron, jnp.ones((1, 32, 4)))[0].shape == (length, 1, 4)


def test_training_with_convolutions_or_large_weights_is_not_cut(monkeypatch):
    monkeypatch.setattr(device, "CACHE_BYTES", 100)
    rngs = nnx.Rngs(0)
    dense = nnx.Linear(2, 2, rngs=rngs)
    for layer, cut in ((dense, True), (nnx.Linear(2, 20, rngs=rngs), False), (nn.Conv(2, 2, (1,), rngs=rngs), False)):
        model = nn.Sequential(layer, nn.LIF(layer.out_features, 0.9))
        x = jnp.ones((1, 100, 2))
        assert nn.explain(model, x)[0].shape[0] < 100
        trained = nn.explain(model, x, grad=True)
        assert (trained[0].shape[0] < 100) == cut
        assert ("cut into chunks" in str(trained)) == cut


def test_remat_keeps_less():
    def memory(**options):
        model, x = nn.Sequential(nn.LIF(64, 0.9), nn.LI(64)), jnp.ones((4, 1024, 64))
        compiled = jax.jit(jax.grad(lambda x: nn.run(model, x, **options)[0].sum())).lower(x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(remat=True) < 0.6 * memory()


def test_batchnorm_and_dropout_are_carried_from_chunk_to_chunk():
    rngs = nnx.Rngs(0)
    model = nn.Sequential(
        nnx.BatchNorm(4, momentum=0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), nn.LI(4, nn.Fixed(0.0))
    )
    out, _ = nn.run(model, jnp.ones((1, 64, 4)).at[:, ::2].set(3.0), chunk=16)
    np.testing.assert_allclose(model.layers[0].mean[...], 2.0 * (1 - 0.5**4), rtol=1e-5)
    masks = np.asarray(out[0] == 0).reshape(4, -1)
    assert all((masks[i] != masks[j]).any() for i in range(4) for j in range(i))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_short_sequences(length):
    assert nn.run(network(), X[:, :length], chunk=4)[0].shape == (2, length, 5)
    assert nn.run(network(), X[:, :length], remat=True)[0].shape == (2, length, 5)


def test_a_stream_is_one_run():
    model = network()
    pieces = [X[:, :4], X[:, 4:8], X[:, 8:]]
    outs, states = zip(*nn.stream(model, iter(pieces)), strict=True)
    expected, end = nn.run(model, X)
    np.testing.assert_allclose(jnp.concatenate(outs, 1), expected, atol=1e-5)
    np.testing.assert_allclose(states[-1][2], end[2], atol=1e-5)


def test_a_stream_of_a_layer_of_your_own():
    class Sum:
        def initial_state(self, batch_size):
            return jnp.zeros((batch_size, 4))

        def __call__(self, x, total):
            return total + x, total + x

    *_, (out, _) = nn.stream(Sum(), [X[:, :5], X[:, 5:]])
    np.testing.assert_allclose(out[:, -1], X.sum(1), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, r"run\(chunk=\): expected at least 1 time step; got 0"),
        ({"chunk": 2.0}, r"run\(chunk=\)"),
        ({"truncate": True}, r"run\(truncate=\): expected a chunk to cut at"),
    ],
)
def test_wrong_cuts(options, message):
    with pytest.raises(ValueError, match=message):
        nn.run(network(), X, **options)
