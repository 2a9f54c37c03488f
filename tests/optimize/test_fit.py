"""`fit`: what it computes, what it carries, when it compiles, and how it is driven."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from optimize.conftest import BATCH, CLASSES, TX, WIDTH, eval_fn, loss_fn, network, params_of, spiking_network
from spyx import nn, optimize


def reference(batches, epochs: int, tx=TX, make=network):
    """Plain JAX, one step after the other."""
    graphdef, params, rest = nnx.split(make(), nnx.Param, ...)
    grad = jax.jit(jax.value_and_grad(lambda p, x, y: loss_fn(nnx.merge(graphdef, p, rest), x, y)))
    state, means = tx.init(params), []
    for _ in range(epochs):
        losses = []
        for x, y in batches:
            loss, grads = grad(params, x, y)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            losses.append(float(loss))
        means.append(np.mean(losses))
    return means, [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


@pytest.mark.smoke
def test_fit_equals_a_plain_loop(batches):
    model = spiking_network()
    history = optimize.fit(model, TX, loss_fn, lambda: iter(batches), epochs=3)
    losses, params = reference(batches, 3, make=spiking_network)
    np.testing.assert_allclose([epoch["train_loss"] for epoch in history], losses, rtol=1e-5)
    for got, expected in zip(params_of(model), params, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_weight_decay_sees_the_parameters(batches):
    model, tx = network(), optax.adamw(0.02, weight_decay=0.5)
    optimize.fit(model, tx, loss_fn, lambda: batches, epochs=1)
    for got, expected in zip(params_of(model), reference(batches, 1, tx)[1], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_fit_learns_and_reports_what_spyx_1_reported(batches):
    history = optimize.fit(
        network(), TX, loss_fn, lambda: batches, epochs=12, eval_iter=lambda: batches, eval_fn=eval_fn
    )
    assert set(history[0]) == {"train_loss", "eval_acc", "eval_loss", "run_s", "compile_s"}
    assert history[-1]["eval_acc"] > 0.9 > history[0]["eval_acc"]
    assert history[-1]["eval_loss"] < history[0]["eval_loss"]


def test_evaluation_weighs_every_sample_the_same(batches):
    (x, y), *_ = batches
    uneven = [(x[:6], y[:6]), (x[6:], y[6:])]
    model = network()
    parts = optimize.fit(model, TX, loss_fn, lambda: batches, epochs=1, eval_iter=lambda: uneven, eval_fn=eval_fn)
    accuracy, loss = eval_fn(model, x, y)
    assert parts[0]["eval_acc"] == pytest.approx(float(accuracy))
    assert parts[0]["eval_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_one_trace_serves_all_epochs_and_compile_time_is_apart(batches):
    traced = []

    def counted(model, x, y):
        traced.append(1)
        return loss_fn(model, x, y)

    history = optimize.fit(network(), TX, counted, lambda: batches, epochs=4)
    assert len(traced) == 1
    model, traced[:] = nn.LI(WIDTH), []
    model.beta = nnx.Param(jnp.asarray(0.5))  # of a weak type, which an update would make a strong one
    optimize.fit(
        model, TX, lambda m, x, y: (traced.append(1), nn.run(m, x)[0].mean() ** 2)[1], lambda: batches, epochs=1
    )
    assert len(traced) == 1
    assert history[0]["compile_s"] > 0
    assert [epoch["compile_s"] for epoch in history[1:]] == [0, 0, 0]
    assert all(epoch["run_s"] > 0 for epoch in history)


def test_callbacks_see_the_model_of_their_moment(batches):
    model = network()
    seen, steps = [], []
    optimize.fit(
        model,
        TX,
        loss_fn,
        lambda: batches,
        epochs=3,
        on_epoch_end=lambda epoch, numbers: seen.append((epoch, numbers["train_loss"], params_of(model)[0])),
        on_step=lambda epoch, step, loss: steps.append((epoch, step, loss)),
        check_every=2,
    )
    assert [epoch for epoch, *_ in seen] == [0, 1, 2]
    assert [(epoch, step) for epoch, step, _ in steps] == [(e, s) for e in range(3) for s in (1, 3)]
    assert all(isinstance(loss, float) for *_, loss in steps)
    expected = reference(batches, 1)[1][0]
    np.testing.assert_allclose(seen[0][2], expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(seen[0][2], seen[2][2])


def test_a_callback_may_keep_the_arrays_of_its_epoch(batches):
    """The best epoch so far, held as the model's own arrays, without a copy."""
    model, held = network(), []
    options = {"on_epoch_end": lambda *_: held.append(jax.tree.leaves(nnx.state(model, nnx.Param)))}
    optimize.fit(model, TX, loss_fn, lambda: batches, epochs=3, **options)
    for epochs, leaves in enumerate(held, 1):
        for leaf, expected in zip(leaves, reference(batches, epochs)[1], strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6)


def test_the_history_is_not_the_callbacks_and_steps_are_told_every_16(batches):
    told = []
    history = optimize.fit(
        network(),
        TX,
        loss_fn,
        lambda: batches * 5,
        epochs=2,
        on_epoch_end=lambda _, numbers: numbers.clear(),
        on_step=lambda epoch, step, _: told.append((epoch, step)),
    )
    assert all(np.isfinite(epoch["train_loss"]) for epoch in history)
    assert told == [(0, 15), (1, 15)]


def test_an_evaluation_that_cannot_be_used_is_stopped_soon(batches):
    (x, y), *_ = batches
    taken = []

    def source():
        for number in range(100):
            taken.append(number)
            yield (x * jnp.nan, y) if number == 1 else (x, y)

    with pytest.raises(FloatingPointError, match="NaN in batch 1 of the evaluation after epoch 0"):
        optimize.fit(network(), TX, loss_fn, lambda: batches, epochs=1, eval_iter=source, eval_fn=eval_fn)
    assert len(taken) < 25


def test_fit_leaves_arrays_that_the_model_was_made_of_alone(batches):
    """Donated buffers are the run's own: a parameter that someone else holds stays readable."""
    model = network()
    held = jax.tree.leaves(nnx.state(model, nnx.Param))
    before = [np.array(leaf) for leaf in held]  # copies
    optimize.fit(model, TX, loss_fn, lambda: batches, epochs=1)
    for leaf, value in zip(held, before, strict=True):
        np.testing.assert_array_equal(leaf, value)
    assert not np.allclose(params_of(model)[0], before[0])


def test_an_interrupted_run_keeps_what_it_learned(batches):
    model = network()

    def interrupt(epoch, numbers):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize.fit(model, TX, loss_fn, lambda: batches, epochs=5, on_epoch_end=interrupt)
    np.testing.assert_allclose(params_of(model)[0], reference(batches, 2)[1][0], rtol=1e-4, atol=1e-6)


def test_single_arrays_lists_and_numpy_batches(batches):
    def loss(model, x):
        return nn.run(model, x)[0].mean() ** 2

    x = np.asarray(batches[0][0])
    history = optimize.fit(network(), TX, loss, lambda: [x, [x], (x,), jnp.asarray(x)], epochs=1)
    assert np.isfinite(history[0]["train_loss"])


def test_numpy_integers_are_whole_numbers(batches, data):
    history = optimize.fit(network(), TX, loss_fn, lambda: batches, epochs=np.int64(2), check_every=np.int32(2))
    compiled = optimize.compile_fit(network(), TX, loss_fn, data, epochs=np.int64(2))[1]
    np.testing.assert_allclose(compiled["train_loss"], [epoch["train_loss"] for epoch in history], rtol=1e-5)


def with_norm_and_dropout() -> nn.Sequential:
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nnx.Linear(WIDTH, 7, rngs=rngs),
        nnx.BatchNorm(7, rngs=rngs),
        nn.LIF(7, beta=0.8),
        nnx.Dropout(0.3, rngs=rngs),
        nnx.Linear(7, CLASSES, rngs=rngs),
        nn.LI(CLASSES, beta=0.9),
    )


def test_batchnorm_and_dropout_carry_their_state(batches):
    model = with_norm_and_dropout()
    counted = int(model.layers[3].rngs.count[...])
    scores = []
    for _ in range(2):
        history = optimize.fit(
            model, TX, loss_fn, lambda: batches, epochs=2, eval_iter=lambda: batches, eval_fn=eval_fn
        )
        scores.append(history[-1]["eval_loss"])
    assert scores[1] < scores[0]
    assert not np.allclose(model.layers[1].mean[...], 0)
    assert int(model.layers[3].rngs.count[...]) == counted + 4 * len(batches)
    assert not model.layers[3].deterministic
    step = optimize.make_eval_step(eval_fn)
    assert step(model, *batches[0])[1] == step(model, *batches[0])[1]
    scored = np.mean([float(step(model, *batch)[1]) for batch in batches])
    assert history[-1]["eval_loss"] == pytest.approx(scored, rel=1e-5)
    model.eval()
    assert float(loss_fn(model, *batches[0])) == pytest.approx(float(step(model, *batches[0])[1]), rel=1e-5)


def test_a_solver_of_the_users_own(batches):
    """Random search: no gradients, the key differs from step to step."""

    def build(loss, params):
        def step(state, batch, key):
            best, _ = state
            leaves, treedef = jax.tree.flatten(best)
            keys = jax.random.split(key, len(leaves))
            moved = [a + 0.05 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
            moved = jax.tree.unflatten(treedef, moved)
            better = loss(moved, batch) < loss(best, batch)
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), moved, best)
            return (best, key), loss(best, batch)

        return optimize.SolverImpl(lambda key: (params, key), step, lambda state: state[0])

    model = network()
    history = optimize.fit(model, build, loss_fn, lambda: batches[:1], epochs=30)
    assert history[-1]["train_loss"] < 0.95 * history[0]["train_loss"]
    assert float(loss_fn(model, *batches[0])) == pytest.approx(history[-1]["train_loss"], rel=1e-4)


def test_single_steps_in_place(batches):
    model = network()
    optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
    train, evaluate = optimize.make_train_step(loss_fn), optimize.make_eval_step(eval_fn)
    losses = [float(train(model, optimizer, x, y)) for x, y in batches]
    expected, params = reference(batches, 1)
    assert np.mean(losses) == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(params_of(model)[0], params[0], rtol=1e-4, atol=1e-6)
    accuracy, loss = evaluate(model, *batches[0])
    assert 0 <= float(accuracy) <= 1
    assert float(loss) == pytest.approx(float(loss_fn(model, *batches[0])), rel=1e-5)
    assert batches[0][0].shape[0] == BATCH
