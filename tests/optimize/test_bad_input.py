"""What a new user gets wrong: each mistake ends in one clear error, never in a silent wrong answer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from optimize.conftest import BATCH, CLASSES, LOSS, TX, WIDTH, eval_fn, loss_fn, network, params_of
from spyx import nn, optimize


def fit(batches, model=None, tx=TX, loss=loss_fn, **options):
    return optimize.fit(network() if model is None else model, tx, loss, lambda: batches, **{"epochs": 1, **options})


def test_nan_in_a_batch(batches):
    x, y = batches[3]
    spoiled = [*batches[:3], (np.asarray(x.at[0, 0, 0].set(jnp.nan)), y)]
    model = network()
    with pytest.raises(FloatingPointError, match=r"fit: epoch 0, step 3: expected a batch of numbers; got NaN in batc"):
        fit(spoiled, model)
    for got, before in zip(params_of(model), params_of(network()), strict=True):
        assert np.isfinite(got).all()  # the parameters before the bad step, three updates on
        assert not np.allclose(got, before)


@pytest.mark.parametrize("check_every", [1, 4])
def test_nothing_is_learned_after_a_bad_step(batches, check_every):
    """The healthy batches behind it are not trained on, however late the loop looks."""
    x, y = batches[1]
    model, expected = network(), network()
    fit(batches[:1], expected)
    with pytest.raises(FloatingPointError, match="step 1: expected a batch of numbers"):
        fit([batches[0], (x * jnp.nan, y), *batches[2:]], model, check_every=check_every)
    for got, before in zip(params_of(model), params_of(expected), strict=True):
        np.testing.assert_array_equal(got, before)


@pytest.mark.parametrize("check_every", [1, 3])
def test_nan_is_dated_right_however_rarely_one_looks(batches, check_every):
    x, y = batches[1]
    calls = []

    def source():
        calls.append(1)
        return [batches[0], (x * jnp.nan, y), *batches[2:]] if len(calls) == 2 else batches

    with pytest.raises(FloatingPointError, match="epoch 1, step 1:"):
        optimize.fit(network(), TX, loss_fn, source, epochs=3, check_every=check_every)


def test_nan_that_no_spike_shows(batches):
    """The step function of NaN is 0, so a network that only spikes never tells its loss."""
    rngs = nnx.Rngs(0)
    model = nn.Sequential(
        nnx.Linear(WIDTH, 4, rngs=rngs), nn.LIF(4, beta=0.5), nnx.Linear(4, CLASSES, rngs=rngs), nn.LI(3)
    )
    x, y = batches[0]
    with pytest.raises(FloatingPointError, match=r"NaN in batch\[0\]\['x'\], in 240 of 240"):
        fit([{"x": x * jnp.nan, "y": y}], model, loss=lambda m, b: loss_fn(m, b["x"], b["y"]))


def test_nan_in_a_part_that_reaches_neither_loss_nor_gradient(batches):
    x, y = batches[0]
    with pytest.raises(
        FloatingPointError, match=r"step 0: expected a batch of numbers; got NaN in batch\[2\], in 1 of 3"
    ):
        fit([(x, y, np.array([0.0, np.nan, 1.0]))], loss=lambda model, x, y, _: loss_fn(model, x, y))


def test_nan_in_an_evaluation(batches):
    x, y = batches[0]
    with pytest.raises(FloatingPointError, match="NaN in batch 1 of the evaluation after epoch 0"):
        fit(batches, eval_iter=lambda: [batches[0], (x * jnp.nan, y)], eval_fn=eval_fn)


def spoiled(batches, label):
    """The label of sample 2 in batch 1 is no class."""
    x, y = batches[1]
    return [batches[0], (x, y.at[2].set(label)), *batches[2:]]


@pytest.mark.parametrize("label", [-1, CLASSES])
@pytest.mark.parametrize("check_every", [1, 3])
def test_a_label_that_is_no_class_in_training(batches, label, check_every):
    model = network()
    message = (
        rf"fit: epoch 0, step 1: expected labels in 0\.\.2, for 3 classes; got {label} at batch\[1\]\[2\], and 1 of 8"
    )
    with pytest.raises(ValueError, match=message):
        fit(spoiled(batches, label), model, check_every=check_every)
    expected = network()
    fit(batches[:1], expected)
    for got, before in zip(params_of(model), params_of(expected), strict=True):
        np.testing.assert_array_equal(got, before)  # the step with the wrong label changed nothing


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_in_an_evaluation(batches, label):
    place = "in batch 1 of the evaluation after epoch 0"
    message = rf"fit\(eval_iter=\), {place}: expected labels .* got {label} at batch\[1\]\[2\]"
    alone = [lambda m, x, y: (eval_fn(m, x, y)[0], jnp.float32(0)), lambda m, x, y: (jnp.float32(0), loss_fn(m, x, y))]
    for evaluation in (eval_fn, *alone):
        with pytest.raises(ValueError, match=message):
            fit(batches, eval_iter=lambda: spoiled(batches, label), eval_fn=evaluation)


def test_a_wrong_label_in_a_dictionary_and_one_made_inside_the_loss(batches):
    x, y = spoiled(batches, 7)[1]
    for loss, place in (
        (lambda m, b: loss_fn(m, b["x"], b["y"]), r"batch\[0\]\['y'\]\[2\]"),
        (lambda m, b: loss_fn(m, b["x"], b["y"] * 1 + 0), r"batch\[0\]\['y'\]\[2\]"),
        (
            lambda m, b: jax.jit(lambda out, y: LOSS(out, y))(nn.run(m, b["x"])[0], b["y"] + 1),
            r"labels\[1\], and 5 of 8",
        ),
    ):
        with pytest.raises(ValueError, match=f"step 0: expected labels in .* at {place}"):
            fit([{"x": x, "y": y}], loss=loss)


def test_a_score_that_is_nan_for_another_reason_is_reported(batches):
    history = fit(batches, eval_iter=lambda: batches, eval_fn=lambda m, x, y: (eval_fn(m, x, y)[0], jnp.nan))
    assert np.isnan(history[0]["eval_loss"])
    assert 0 <= history[0]["eval_acc"] <= 1


class Explosive(nn.Neuron):
    """Grows past what a float can hold within five steps."""

    state = dict(v=0.0)

    @staticmethod
    def step(p, x, v):
        v = 1e20 * (v + x)
        return v, v


def test_the_layer_that_is_bad_first_in_time_is_named():
    x = jnp.ones((1, 8, 2)).at[:, :, 0].set(1e38)  # layer 0 overflows in unit 0 at step 3, layer 1 in unit 1 at step 2
    model = nn.Sequential(nn.LI(2, beta=1.0), lambda y: y * jnp.array([[1.0, 1.5e38]]), nn.LI(2, beta=0.0))
    with pytest.raises(FloatingPointError, match=r"first in layer 1 \(<lambda>\)"):
        fit([(x, jnp.zeros(1))], model, loss=lambda model, x, y: nn.run(model, x)[0].mean())


def test_the_first_layer_whose_state_is_not_finite_is_named(batches):
    rngs = nnx.Rngs(0)
    inner = nn.Sequential(nnx.Linear(WIDTH, 4, rngs=rngs), Explosive(4))
    model = nn.Sequential(inner, nnx.Linear(4, CLASSES, rngs=rngs), nn.LI(CLASSES))
    with pytest.raises(FloatingPointError, match=r"step 0: .* first in layer 0\.1 \(Explosive\)"):
        fit(batches, model)


def test_parameters_that_are_not_finite_are_named(batches):
    with pytest.raises(
        FloatingPointError, match=r"step 1: expected finite parameters; got NaN or inf.*layers\.0\.bias"
    ):
        fit(batches, tx=optax.scale(float("-inf")))


def test_a_loss_and_a_gradient_of_the_users_own(batches):
    def infinite(model, x, y):
        return loss_fn(model, x, y) / 0.0

    def root(model, x, y):  # sqrt has an infinite slope at zero
        return jnp.sqrt(jnp.sum((nn.run(model, x)[0] * 0) ** 2))

    with pytest.raises(FloatingPointError, match="step 0: expected a finite loss; got inf although the input"):
        fit(batches, loss=infinite)
    with pytest.raises(
        FloatingPointError, match="step 0: expected a finite gradient; got NaN or infinity in that of lay"
    ):
        fit(batches, loss=root)


def test_a_batch_of_the_wrong_width(batches):
    x, y = batches[0]
    with pytest.raises(
        ValueError, match=r"Linear: expected 6 features on the last axis; got input of shape \(batch, 5"
    ):
        fit([(x[..., :5], y)])


def test_time_and_batch_swapped(batches):
    x, y = batches[0]
    with pytest.raises(ValueError, match=r"targets shape \(8,\) does not match .* time_axis=0"):
        fit([(jnp.swapaxes(x, 0, 1), y)])


def test_an_empty_data_set(batches):
    with pytest.raises(RuntimeError, match="expected at least one batch in epoch 0; got none"):
        fit([])
    with pytest.raises(
        ValueError, match=r"at least one sample; got shapes \[\(0, 5, 6\), \(0,\)\] in epoch 0, batch 0"
    ):
        fit([(batches[0][0][:0], batches[0][1][:0])])
    with pytest.raises(RuntimeError, match=r"eval_iter=\): expected at least one batch in epoch 0"):
        fit(batches, eval_iter=list, eval_fn=eval_fn)


def test_an_iterator_that_is_used_up(batches):
    used = iter(batches)
    with pytest.raises(RuntimeError, match="in epoch 1; got none. Return a fresh iterable"):
        optimize.fit(network(), TX, loss_fn, lambda: used, epochs=2)


def test_arguments_of_the_wrong_kind(batches):
    with pytest.raises(TypeError, match=r"train_iter=\): expected a function .* got list. Write lambda: batches"):
        optimize.fit(network(), TX, loss_fn, batches, epochs=1)
    with pytest.raises(ValueError, match=r"fit\(epochs=\): expected a whole number, 1 or more; got 0"):
        fit(batches, epochs=0)
    with pytest.raises(ValueError, match="eval_iter and eval_fn together; got only eval_iter"):
        fit(batches, eval_iter=lambda: batches)
    with pytest.raises(TypeError, match=r"loss_fn=\): expected one number per batch; got shape \(8,\)"):
        fit(batches, loss=lambda model, x, y: nn.run(model, x)[0].mean((1, 2)))
    with pytest.raises(TypeError, match=r"loss_fn=\): expected one number per batch; got 2 values"):
        fit(batches, loss=eval_fn)
    with pytest.raises(TypeError, match="expected a Flax NNX module.* got function"):
        fit(batches, model=lambda x: x)
    with pytest.raises(ValueError, match="expected a model with parameters; got none"):
        fit(batches, model=nn.LI(WIDTH, beta=nn.Fixed(0.5)))
    with pytest.raises(TypeError, match="expected an Optax optimiser or a solver; got float"):
        fit(batches, tx=1e-3)
    with pytest.raises(TypeError, match="backprop: expected an Optax optimiser; got function"):
        optimize.backprop(jax.grad)
    assert batches[0][0].shape[0] == BATCH


def test_infinities_in_a_batch_are_numbers():
    spike_times = jnp.array([jnp.inf, -jnp.inf, 1.0])  # their sum is NaN

    def loss(model, times):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) + times[2]

    assert np.isfinite(fit([(spike_times,)], loss=loss)[0]["train_loss"])
    with pytest.raises(FloatingPointError, match="got NaN in batch"):
        fit([(spike_times.at[1].set(jnp.nan),)], loss=loss)
