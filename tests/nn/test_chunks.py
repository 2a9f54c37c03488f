"""Time in chunks: same answer, same gradients; recomputation, truncation, streams."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn

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
