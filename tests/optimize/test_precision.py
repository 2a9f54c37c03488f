"""Averages of parameters, short formats, accumulation and clipping reach every loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import fn, nn, optimize

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.random((6, 8, 5, 6)) < 0.5, jnp.float32)
Y = jnp.asarray(RNG.integers(0, 3, (6, 8)), jnp.int32)
ADAM = optax.adam(0.01)


def make():
    rngs = nnx.Rngs(0)
    return nn.Sequential(nnx.Linear(6, 7, rngs=rngs), nn.LIF(7, rngs=rngs), nnx.Linear(7, 3, rngs=rngs))


def loss_fn(model, x, y):
    return fn.integral_crossentropy()(nn.run(model, x)[0], y)


def train(solver, x=X, y=Y, **more):
    return optimize.train(make(), solver, loss_fn, (x, y), **(dict(epochs=3) | more))


def leaves(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


def same(a, b, **tolerance):
    for one, other in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(one, other, **(dict(rtol=2e-4, atol=1e-6) | tolerance))


def test_the_average_is_that_of_the_parameters_of_every_step():
    decay, seen, steps = 0.8, [], len(Y)
    step, model = optimize.make_train_step(loss_fn), make()
    optimizer = nnx.Optimizer(model, ADAM, wrt=nnx.Param)
    for number in range(steps):
        step(model, optimizer, X[number], Y[number])
        seen.append([np.asarray(leaf) for leaf in leaves(model)])
    weights = np.array([(1 - decay) * decay ** (steps - 1 - n) for n in range(steps)])
    expected = [
        sum(w * a for w, a in zip(weights / weights.sum(), arrays, strict=True)) for arrays in zip(*seen, strict=True)
    ]
    trained = train(optimize.averaged(ADAM, decay), epochs=1)
    for one, other in zip(leaves(trained.model), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_is_what_is_measured_and_kept_and_survives_a_resume(tmp_path):
    solver = optimize.averaged(ADAM, 0.9)
    given = dict(eval_data=(X, Y), metric_fn=loss_fn, best="-eval_metric")
    whole = train(solver, **given)
    assert whole.history[-1]["eval_metric"] == pytest.approx(
        float(np.mean([loss_fn(whole.model, x, y) for x, y in zip(X, Y, strict=True)])), rel=1e-4
    )
    plain = train(ADAM)
    assert [row["train_loss"] for row in whole.history] == pytest.approx([row["train_loss"] for row in plain.history])
    train(solver, folder=tmp_path, stop_when=lambda history: True, **given)
    again = train(solver, folder=tmp_path, resume=True, **given)
    assert again.history == whole.history[:1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_short_format_trains_masters_in_float32(dtype):
    seen = []

    def loss(model, x, y):
        traces = nn.run(model, x)[0]
        seen.append((traces.dtype, x.dtype, y.dtype))
        return fn.integral_crossentropy()(traces, y)

    short = optimize.train(make(), optimize.mixed_precision(ADAM, dtype), loss, (X, Y), epochs=4)
    assert set(seen) == {(jnp.dtype(dtype), jnp.dtype(dtype), jnp.dtype("int32"))}
    assert {leaf.dtype for leaf in leaves(short.model)} == {jnp.dtype("float32")}
    whole = train(ADAM, epochs=4)
    assert [row["train_loss"] for row in short.history] == pytest.approx(
        [row["train_loss"] for row in whole.history], rel=0.05
    )
    assert short.history[-1] != whole.history[-1]


def test_small_gradients_survive_in_float16():
    def tiny(model, x):
        return (nn.run(model, x)[0] * jnp.asarray(2.0**-12, x.dtype)).mean() * 2.0**-12

    moved = {}
    for scale in (1.0, 2.0**14):
        model = nn.LI(1, beta=0.5)
        solver = optimize.mixed_precision(optax.sgd(2.0**22), "float16", scale)
        trained = optimize.train(model, solver, tiny, (jnp.ones((1, 1, 3, 1)),), epochs=1)
        moved[scale] = float(jnp.abs(trained.model.beta[...] - model.beta[...]))
    whole = optimize.train(nn.LI(1, beta=0.5), optax.sgd(2.0**22), tiny, (jnp.ones((1, 1, 3, 1)),), epochs=1)
    assert moved[2.0**14] == pytest.approx(float(jnp.abs(whole.model.beta[...] - 0.5)), rel=0.01)
    assert moved[1.0] != pytest.approx(moved[2.0**14], rel=0.01)


def test_batchnorm_s_averages_stay_in_float32():
    rngs = nnx.Rngs(0)
    model = nn.Sequential(nnx.Linear(6, 7, rngs=rngs), nnx.BatchNorm(7, rngs=rngs), nn.LI(7))
    with jax.numpy_dtype_promotion("standard"):  # Flax's own layer mixes the formats
        trained = optimize.train(model, optimize.mixed_precision(ADAM), loss_fn, (X, Y), epochs=1).model
    state = nnx.state(trained, nnx.BatchStat)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    assert not np.allclose(jax.tree.leaves(state)[0], 0)


def test_accumulated_batches_are_one_batch():
    many = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
    one = train(optax.sgd(0.1), X.reshape(3, 16, 5, 6), Y.reshape(3, 16))
    same(train(many).model, one.model)


def test_clipped_averaged_short_and_accumulated_together():
    tx = optax.MultiSteps(optax.chain(optax.clip_by_global_norm(0.1), ADAM), 2).gradient_transformation()
    trained = train(optimize.averaged(optimize.mixed_precision(tx), 0.5), epochs=6)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


BAD = [
    (
        lambda: optimize.averaged(ADAM, 1.0),
        ValueError,
        r"averaged\(decay=\): expected a number from 0 to below 1; got 1.0",
    ),
    (lambda: optimize.averaged("adam", 0.5), TypeError, r"averaged: expected an Optax optimiser"),
    (
        lambda: optimize.mixed_precision(ADAM, "float32"),
        ValueError,
        r"mixed_precision\(dtype=\): expected bfloat16 or float16",
    ),
    (lambda: optimize.mixed_precision(ADAM, scale=0), ValueError, r"mixed_precision\(scale=\)"),
    (lambda: optimize.mixed_precision(ADAM)(lambda p, b: p, 0.0), TypeError, r"expected the loss of a network"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_mistakes_are_told(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
