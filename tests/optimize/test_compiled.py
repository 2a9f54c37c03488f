"""`compile_fit`: equal to `fit`, compiled once, shuffled by its key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from optimize.conftest import BATCHES, CLASSES, TX, WIDTH, eval_fn, loss_fn, network, params_of
from spyx import nn, optimize


def metric_fn(model, x, y):
    return eval_fn(model, x, y)[0]


def test_compile_fit_equals_fit_and_leaves_its_model_alone(data, batches):
    model, other = network(), network()
    before = params_of(model)
    history = optimize.fit(other, TX, loss_fn, lambda: batches, epochs=3, eval_iter=lambda: batches, eval_fn=eval_fn)
    trained, compiled = optimize.compile_fit(model, TX, loss_fn, data, epochs=3, eval_data=data, metric_fn=metric_fn)
    np.testing.assert_allclose(compiled["train_loss"], [epoch["train_loss"] for epoch in history], rtol=1e-5)
    np.testing.assert_allclose(compiled["eval_metric"], [epoch["eval_acc"] for epoch in history], rtol=1e-5)
    for got, expected in zip(params_of(trained), params_of(other), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    for got, expected in zip(params_of(model), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_batchnorm_and_dropout_carry_their_state_as_in_fit(data, batches):
    def make():
        rngs = nnx.Rngs(0)
        layers = nnx.Linear(WIDTH, 7, rngs=rngs), nnx.BatchNorm(7, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)
        return nn.Sequential(*layers, nnx.Linear(7, CLASSES, rngs=rngs), nn.LI(CLASSES, beta=0.9))

    other = make()
    history = optimize.fit(other, TX, loss_fn, lambda: batches, epochs=2, eval_iter=lambda: batches, eval_fn=eval_fn)
    trained, compiled = optimize.compile_fit(
        make(), TX, loss_fn, data, epochs=2, eval_data=data, metric_fn=lambda m, x, y: eval_fn(m, x, y)[1]
    )
    np.testing.assert_allclose(compiled["train_loss"], [epoch["train_loss"] for epoch in history], rtol=1e-5)
    np.testing.assert_allclose(compiled["eval_metric"], [epoch["eval_loss"] for epoch in history], rtol=1e-5)
    for name in ("mean", "var"):
        got, expected = (getattr(model.layers[1], name)[...] for model in (trained, other))
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert int(trained.layers[2].rngs.count[...]) == int(other.layers[2].rngs.count[...])


@pytest.mark.parametrize("key", [None, 5])
def test_a_solver_gets_a_key_of_its_own_at_every_step(data, batches, key):
    """Its parameters walk at random: where they end says which keys they met."""

    def build(loss, params):
        def step(state, batch, key):
            return jax.tree.map(lambda a: a + jax.random.normal(key, a.shape, a.dtype), state), jnp.float32(0)

        return optimize.SolverImpl(lambda _: params, step, lambda state: state)

    start = jax.random.key(key or 0)
    walked = sum(np.asarray(jax.random.normal(jax.random.fold_in(start, n), (CLASSES,))) for n in range(2 * BATCHES))
    given = None if key is None else start
    trained, _ = optimize.compile_fit(network(), build, loss_fn, data, epochs=2, key=given)
    np.testing.assert_allclose(trained.layers[0].bias[...], walked, rtol=1e-5, atol=1e-6)
    if key is None:
        model = network()
        optimize.fit(model, build, loss_fn, lambda: batches, epochs=2)
        np.testing.assert_allclose(model.layers[0].bias[...], walked, rtol=1e-5, atol=1e-6)


def test_equal_networks_are_traced_once(data):
    traced = []

    def counted(model, x, y):
        traced.append(1)
        return loss_fn(model, x, y)

    first = optimize.compile_fit(network(), TX, counted, data, epochs=2)[1]
    count = len(traced)
    assert count > 0
    other = optimize.compile_fit(network(seed=1), TX, counted, data, epochs=2)[1]
    again = optimize.compile_fit(network(), TX, counted, data, epochs=2)[1]
    assert len(traced) == count
    np.testing.assert_array_equal(first["train_loss"], again["train_loss"])
    assert not np.allclose(first["train_loss"], other["train_loss"])


def test_a_key_shuffles_all_samples_anew_in_every_epoch(data):
    """A loss that says which samples it saw: labels are powers of two, so a sum names its members."""
    x = jnp.zeros((BATCHES, 2, 1, 6))
    y = jnp.asarray(2.0 ** np.arange(2 * BATCHES).reshape(BATCHES, 2), jnp.float32)

    def members(model, x, y):
        return y.sum() + 0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))

    def report(key):
        seen = []
        solver = optimize.backprop(TX)

        def build(loss, params):
            impl = solver(loss, params)

            def step(state, batch, k):
                jax.debug.callback(lambda s: seen.append(float(s)), batch[1].sum(), ordered=True)
                return impl.step(state, batch, k)

            return impl._replace(step=step)

        _, history = optimize.compile_fit(network(), build, members, (x, y), epochs=2, key=key)
        jax.effects_barrier()
        return seen, history["train_loss"]

    in_order, _ = report(None)
    assert in_order == [3.0, 12.0, 48.0, 192.0] * 2
    shuffled, losses = report(jax.random.key(1))
    assert sum(shuffled[:BATCHES]) == sum(shuffled[BATCHES:]) == 255.0
    assert shuffled[:BATCHES] != shuffled[BATCHES:]
    assert any(total not in in_order for total in shuffled)
    np.testing.assert_allclose(losses, 255.0 / BATCHES)
    assert report(jax.random.key(1))[0] == shuffled


def test_epoch_callbacks_change_no_number(data):
    key, told = jax.random.key(3), []
    arguments = dict(epochs=3, key=key, eval_data=data, metric_fn=metric_fn)
    silent, expected = optimize.compile_fit(network(), TX, loss_fn, data, **arguments)
    trained, history = optimize.compile_fit(
        network(), TX, loss_fn, data, **arguments, on_epoch_end=lambda *args: told.append(args)
    )
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
        np.testing.assert_allclose([numbers[name] for _, numbers in told], values, rtol=1e-5)
    np.testing.assert_allclose(params_of(trained)[0], params_of(silent)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_impossible_epochs(data, bad):
    with pytest.raises(ValueError, match=r"compile_fit\(epochs=\): expected a whole number"):
        optimize.compile_fit(network(), TX, loss_fn, data, epochs=bad)


def test_data_that_is_not_staged(data):
    x, y = data
    for wrong in ((x, y[:2]), (x[:0], y[:0]), (x, y[0]), (x, y[:, :5]), ()):
        with pytest.raises(ValueError, match=r"train_data=\): expected arrays \(batches, batch"):
            optimize.compile_fit(network(), TX, loss_fn, wrong, epochs=1)
    with pytest.raises(TypeError, match="expected a tuple of arrays"):
        optimize.compile_fit(network(), TX, loss_fn, x, epochs=1)
    with pytest.raises(ValueError, match="eval_data and metric_fn together; got only eval_data"):
        optimize.compile_fit(network(), TX, loss_fn, data, epochs=1, eval_data=data)
    with pytest.raises(TypeError, match="expected an Optax optimiser or a solver; got float"):
        optimize.compile_fit(network(), 0.1, loss_fn, data, epochs=1)


def test_nan_names_epoch_step_and_place(data):
    x, y = data
    with pytest.raises(FloatingPointError, match=r"epoch 0, step \d: .* NaN in batch\[0\], in 1 of 240"):
        optimize.compile_fit(
            network(), TX, loss_fn, (x.at[2, 1, 3, 0].set(jnp.nan), y), epochs=2, key=jax.random.key(0)
        )
    with pytest.raises(FloatingPointError, match=r"eval_data=\): expected numbers; got NaN"):
        optimize.compile_fit(network(), TX, loss_fn, data, epochs=1, eval_data=(x * jnp.nan, y), metric_fn=metric_fn)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_named(data, label):
    x, y = data
    wrong = (x, y.at[2, 5].set(label))
    with pytest.raises(
        ValueError,
        match=rf"compile_fit: epoch 0, step 2: expected labels in 0\.\.2, for 3 .* got {label} at batch\[1\]\[5\]",
    ):
        optimize.compile_fit(network(), TX, loss_fn, wrong, epochs=2)
    for callback in (None, lambda *_: None):
        with pytest.raises(
            ValueError, match=rf"\(eval_data=\), in batch 2: expected labels .* got {label} at batch\[1\]\[5\]"
        ):
            optimize.compile_fit(
                network(), TX, loss_fn, data, epochs=2, eval_data=wrong, metric_fn=metric_fn, on_epoch_end=callback
            )
