"""Losses and metrics: values against NumPy, gradients, dtypes, axes, transformations."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference import fn_oracle
from spyx import axn, fn
from spyx.fn._labels import strict_labels

BATCH, TIME, CLASSES = 4, 10, 3
RANDOM = np.random.default_rng(0)
MEMBRANES = RANDOM.normal(size=(BATCH, TIME, CLASSES)).astype(np.float32)
SPIKES = (RANDOM.random((BATCH, TIME, CLASSES)) < 0.2).astype(np.float32)
SPIKES[0, :, 1] = 0.0  # a neuron that never fires
TARGETS = np.array([1, 0, 2, 1], np.int32)

LOSSES = {
    "integral_crossentropy": (fn.integral_crossentropy, fn_oracle.integral_crossentropy, MEMBRANES),
    "rate_crossentropy": (fn.rate_crossentropy, fn_oracle.rate_crossentropy, SPIKES),
    "max_crossentropy": (fn.max_crossentropy, fn_oracle.max_crossentropy, MEMBRANES),
    "mse_spikerate": (fn.mse_spikerate, fn_oracle.mse_spikerate, SPIKES),
    "first_spike_loss": (fn.first_spike_loss, fn_oracle.first_spike_loss, SPIKES),
}
METRICS = {
    "integral_accuracy": (fn.integral_accuracy, lambda x: x.sum(0).argmax(-1)),
    "rate_accuracy": (fn.rate_accuracy, lambda x: x.sum(0).argmax(-1)),
    "max_accuracy": (fn.max_accuracy, lambda x: x.max(0).argmax(-1)),
    "first_spike_accuracy": (fn.first_spike_accuracy, lambda x: fn_oracle.first_spike_time(x).argmin(-1)),
}
FACTORIES = {name: row[0] for name, row in (LOSSES | METRICS).items()}
EVERY_LOSS = pytest.mark.parametrize("name", LOSSES)
EVERY_METRIC = pytest.mark.parametrize("name", METRICS)
EVERY_ONE = pytest.mark.parametrize("name", FACTORIES)


@pytest.fixture(scope="module")
def made():
    """Each loss and metric with its defaults, compiled once for the module."""
    return {name: make() for name, make in FACTORIES.items()}


@EVERY_LOSS
def test_loss_equals_the_equation(made, name):
    _, oracle, traces = LOSSES[name]
    np.testing.assert_allclose(made[name](traces, TARGETS), oracle(traces, TARGETS), rtol=1e-5)


@pytest.mark.parametrize("logits", ["count", "rate", "step"])
def test_rate_crossentropy_of_counts_rates_and_steps(logits):
    loss = fn.rate_crossentropy(0.1, logits=logits)(SPIKES, TARGETS)
    np.testing.assert_allclose(loss, fn_oracle.rate_crossentropy(SPIKES, TARGETS, 0.1, logits=logits), rtol=1e-5)


@EVERY_METRIC
def test_metric_equals_the_definition(made, name):
    for traces in (SPIKES, SPIKES[:, ::-1], SPIKES if name == "first_spike_accuracy" else MEMBRANES):
        expected = METRICS[name][1](np.moveaxis(traces, 1, 0))
        score, preds = made[name](traces, TARGETS)
        np.testing.assert_array_equal(preds, expected)
        np.testing.assert_allclose(score, np.mean(expected == TARGETS))
        assert (score.dtype, preds.dtype) == (jnp.float32, jnp.int32)


@EVERY_LOSS
def test_gradient_is_the_slope_of_the_loss(made, name):
    traces = np.abs(LOSSES[name][2])
    traces = 0.1 + 0.8 * traces / traces.max()  # inside [0, 1], with room for a central difference
    direction = RANDOM.normal(size=traces.shape).astype(np.float32)
    gradient = jax.grad(made[name])(traces, TARGETS)
    above, below = (made[name](traces + s * 5e-3 * direction, TARGETS) for s in (1, -1))
    slope = float(above - below) / 1e-2
    np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=2e-2, atol=1e-3)


@EVERY_ONE
def test_every_axis_convention_gives_the_same_answer(made, name):
    expected = jax.tree.leaves(made[name](SPIKES, TARGETS))
    time_major = FACTORIES[name](time_axis=0)(np.moveaxis(SPIKES, 1, 0), TARGETS)
    stacked = FACTORIES[name](time_axis=-2)(SPIKES.reshape(2, 2, TIME, CLASSES), TARGETS.reshape(2, 2))
    counted_back = FACTORIES[name](time_axis=-3)(np.moveaxis(SPIKES, 1, 0), TARGETS)
    for found in (time_major, stacked, counted_back):
        for a, b in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=1e-5)


@EVERY_ONE
def test_one_unbatched_sample(made, name):
    alone = FACTORIES[name](time_axis=0)(SPIKES[1], 0)
    batched = made[name](SPIKES[1:2], TARGETS[1:2])
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(batched), strict=True):
        np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=1e-5)


@EVERY_ONE
def test_every_dtype_of_spikes_and_labels(made, name):
    expected = jax.tree.leaves(made[name](SPIKES, TARGETS))
    for spikes in (jnp.bool_, jnp.uint8, jnp.int32, jnp.float16, jnp.bfloat16):
        for found, value in zip(
            jax.tree.leaves(made[name](jnp.asarray(SPIKES, spikes), TARGETS)), expected, strict=True
        ):
            np.testing.assert_allclose(found, value, rtol=2e-7)  # one bit: casts may be fused in another order
            assert found.dtype == value.dtype
    for labels in (np.int8, np.uint8, np.uint32, np.int64, np.float32):
        found = jax.tree.leaves(made[name](SPIKES, TARGETS.astype(labels)))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)


def test_half_precision_is_summed_in_float32(made):
    traces = jnp.full((1, 4096, 2), 0.5, jnp.bfloat16).at[0, 0, 1].set(1.0)  # bfloat16 sums stop growing at 128
    _, preds = made["integral_accuracy"](traces, np.array([1]))
    assert preds.tolist() == [1]
    gradient = jax.grad(made["integral_crossentropy"])(traces, np.array([1]))
    assert gradient.dtype == jnp.bfloat16


@EVERY_LOSS
def test_float64_stays_float64(name):
    """A difference that float32 cannot hold is still there."""
    factory, oracle, traces = LOSSES[name]
    with jax.enable_x64(True):
        fine = traces.astype(np.float64) * (1 if name == "first_spike_loss" else 1 + 1e-9)
        found = factory()(fine, TARGETS)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, oracle(fine, TARGETS), rtol=1e-12)
    assert factory()(traces.astype(np.float64), TARGETS).dtype == jnp.float32  # without it, JAX has no float64


@EVERY_ONE
def test_jit_vmap_and_lower(made, name):
    call = made[name]
    expected = jax.tree.leaves(call(SPIKES, TARGETS))
    for found in (jax.jit(call)(SPIKES, TARGETS), call.lower(SPIKES, TARGETS).compile()(SPIKES, TARGETS)):
        for a, b in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    halves = jax.vmap(call)(SPIKES.reshape(2, 2, TIME, CLASSES), TARGETS.reshape(2, 2))
    np.testing.assert_allclose(np.mean(jax.tree.leaves(halves)[0]), expected[0], rtol=1e-5)


@EVERY_ONE
def test_lists_are_arrays_too(made, name):
    found = jax.tree.leaves(made[name](SPIKES.tolist(), TARGETS.tolist()))
    np.testing.assert_allclose(found[0], jax.tree.leaves(made[name](SPIKES, TARGETS))[0], rtol=1e-6)


def test_documented_defaults():
    def default(factory):
        return {name: p.default for name, p in inspect.signature(factory).parameters.items()}

    nothing_left_out = {"ignore": None, "class_weights": None, "start": 0}
    assert default(fn.integral_crossentropy) == {"smoothing": 0.3, "time_axis": 1} | nothing_left_out
    assert default(fn.integral_accuracy) == {"time_axis": 1} | nothing_left_out
    expected = {"sparsity": 0.25, "smoothing": 0.0, "time_axis": 1, "scale_by_time": True}
    assert default(fn.mse_spikerate) == expected | nothing_left_out
    assert all(default(factory)["time_axis"] == 1 for factory in FACTORIES.values())


# What perfect spiking costs


def perfect_spikes(sparsity):
    spikes = np.zeros((BATCH, TIME, CLASSES), np.uint8)
    for sample, label in enumerate(TARGETS):
        spikes[sample, : round(TIME * sparsity), label] = 1
    return spikes


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 1.0])
def test_mse_spikerate_of_perfect_spiking_is_zero_without_the_factor_of_time(sparsity):
    loss_fn = fn.mse_spikerate(sparsity, scale_by_time=False)
    assert loss_fn(perfect_spikes(sparsity), TARGETS) < 1e-12  # a mean over ten steps rounds
    assert loss_fn(1 - perfect_spikes(sparsity), TARGETS) > 0.1
    assert sparsity == 0.0 or fn.mse_spikerate(sparsity)(perfect_spikes(sparsity), TARGETS) > 0.1


def test_perfect_spiking_is_the_least_that_each_loss_reaches(made):
    spikes = perfect_spikes(1.0)
    assert made["rate_crossentropy"](spikes, TARGETS) < 1e-3
    floor = np.log(1 + (CLASSES - 1) / np.e)
    np.testing.assert_allclose(fn.rate_crossentropy(logits="rate")(spikes, TARGETS), floor, rtol=1e-6)
    assert fn.first_spike_loss(tau_steps=0.5)(spikes, TARGETS) < 1e-3
    for name in METRICS:
        assert made[name](spikes, TARGETS)[0] == 1.0


# The first spike


@pytest.mark.parametrize("train", [[0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 1]])
def test_gradient_of_the_first_spike_time(train):
    """Against the products written out; a spike after the first gets none, a silent neuron is pulled at every step."""
    rival = [0, 0, 0, 1, 0, 0]
    spikes = np.array([train, rival], np.float32).T[None]
    gradient = jax.grad(fn.first_spike_loss(tau_steps=2.0))(spikes, np.array([0]))[0]
    times = fn_oracle.first_spike_time(spikes[0])
    share = np.exp(-times / 2.0) / np.exp(-times / 2.0).sum()
    pull = np.array([1.0, 0.0]) - share
    for neuron in range(2):
        expected = pull[neuron] / 2.0 * fn_oracle.first_spike_time_gradient(spikes[0, :, neuron])
        np.testing.assert_allclose(gradient[:, neuron], expected, rtol=1e-5, atol=1e-7)
    first = int(times[0])
    assert not np.any(gradient[first + 1 :, 0])


def test_a_silent_readout_still_learns_through_the_surrogate():
    """Nothing fires at first; gradient descent on the membranes makes the right neuron fire first."""
    loss_fn, spike = fn.first_spike_loss(), axn.superspike(2.0)

    @jax.jit
    def step(v):
        loss, gradient = jax.value_and_grad(lambda v: loss_fn(spike(v), jnp.array([1])))(v)
        return v - 2.0 * gradient, loss

    v = jnp.full((1, TIME, CLASSES), -0.5)
    assert not spike(v).any()
    for _ in range(50):
        v, loss = step(v)
        assert np.isfinite(loss)
    assert fn.first_spike_accuracy()(spike(v), np.array([1]))[0] == 1.0


def test_first_spike_of_membranes_is_nan_rather_than_a_number(made):
    assert np.isnan(made["first_spike_loss"](MEMBRANES, TARGETS))
    assert np.isnan(made["first_spike_accuracy"](MEMBRANES, TARGETS)[0])
    for value in (1.001, -0.001):
        one = SPIKES.copy()
        one[0, 0, 0] = value
        assert np.isnan(made["first_spike_loss"](one, TARGETS))
        assert np.isnan(made["first_spike_accuracy"](one, TARGETS)[0])


# Wrong arguments


@EVERY_ONE
@pytest.mark.parametrize(
    ("traces", "targets", "time_axis", "message"),
    [
        ((4,), (4,), 1, "at least 2 dimensions"),
        ((3, 4, 5), (3,), 3, "out of range"),
        ((3, 4, 5), (3,), -4, "out of range"),
        ((3, 4, 5), (3, 1), 1, r"\(3, 1\) does not match the batch axes \(3,\)"),
        ((20, 4, 5), (4,), 1, "does not match.*time-major data\\? use time_axis=0"),
        ((20, 2, 3, 5), (2, 3), 1, "does not match.*time-major data\\? use time_axis=0"),
        ((4, 5), (), 1, "must not be the class axis.*needs time_axis=0"),
        ((3, 4, 5), (3,), -1, "must not be the class axis"),
        ((0, 4, 5), (0,), 1, r"must not be empty; got shape \(0, 4, 5\)"),
        ((3, 0, 5), (3,), 1, "must not be empty"),
    ],
)
def test_shapes_are_checked_eagerly_and_while_tracing(name, traces, targets, time_axis, message):
    call = FACTORIES[name](time_axis=time_axis)
    arguments = np.zeros(traces, np.float32), np.zeros(targets, np.int32)
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        call(*arguments)
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        jax.eval_shape(call, *arguments)


@EVERY_ONE
@pytest.mark.parametrize("label", [-1, CLASSES, 0.5, 255])
def test_a_label_that_is_no_class_makes_the_result_nan_in_a_training_loop(made, name, label):
    """Eagerly, compiled and in the gradient alike, whatever the others are; predictions stay."""
    wrong = np.array([1, 0, label, 1], np.float32)
    pure = jax.tree.leaves(made[name](SPIKES, wrong))
    assert np.isfinite(pure[0])
    with strict_labels():
        for call in (made[name], jax.jit(lambda *a: made[name](*a))):
            found = jax.tree.leaves(call(SPIKES, wrong))
            assert np.isnan(found[0])
            for preds, expected in zip(found[1:], pure[1:], strict=True):
                np.testing.assert_array_equal(preds, expected)
        if name in LOSSES:
            assert np.isnan(jax.grad(made[name])(SPIKES, wrong)[2]).all()


def test_every_whole_number_dtype_of_a_wrong_label_is_noticed(made):
    for dtype, label in ((np.int8, -1), (np.uint8, 255), (np.uint32, 2**32 - 1), (np.int32, 3), (np.bool_, None)):
        targets = TARGETS.astype(dtype)
        if label is not None:
            targets[1] = label
        with strict_labels():
            assert np.isnan(made["integral_crossentropy"](SPIKES, targets)) == (label is not None)


@EVERY_LOSS
def test_nan_traces_give_a_nan_loss(made, name):
    traces = SPIKES.copy()
    traces[2, 3, 1] = np.nan
    assert np.isnan(made[name](traces, TARGETS))


@EVERY_ONE
def test_wrong_kinds(made, name):
    with pytest.raises(TypeError, match=f"^{name}: traces must be one array; got a tuple of 2. run returns"):
        made[name]((SPIKES, None), TARGETS)
    with pytest.raises(TypeError, match=f"^{name}: traces must be real numbers; got dtype complex64"):
        made[name](SPIKES.astype(np.complex64), TARGETS)
    with pytest.raises(TypeError, match=f"^{name}: targets must be real numbers; got dtype <U1"):
        made[name](SPIKES, np.array(list("abca")))
    with pytest.raises(TypeError, match=f"^{name}: time_axis must be an int; got 1.5"):
        FACTORIES[name](time_axis=1.5)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("integral_crossentropy", {"smoothing": 1.5}, r"smoothing must be in \[0, 1\]; got 1.5"),
        ("rate_crossentropy", {"smoothing": -0.1}, r"smoothing must be in \[0, 1\]"),
        ("rate_crossentropy", {"logits": "sum"}, "logits must be one of count, rate, step; got 'sum'"),
        ("max_crossentropy", {"smoothing": np.nan}, r"smoothing must be in \[0, 1\]; got nan"),
        ("mse_spikerate", {"smoothing": 2}, r"smoothing must be in \[0, 1\]"),
        ("mse_spikerate", {"sparsity": 25}, r"sparsity must be in \[0, 1\]; got 25.*divide a percentage by 100"),
        ("first_spike_loss", {"tau_steps": 0.0}, "tau_steps must be positive and finite; got 0.0"),
        ("first_spike_loss", {"tau_steps": np.inf}, "tau_steps must be positive and finite"),
    ],
)
def test_settings_are_checked_when_the_loss_is_made(name, arguments, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        FACTORIES[name](**arguments)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float32, (BATCH, TIME, CLASSES), elements=st.floats(-100, 100, width=32)),
    hnp.arrays(np.int32, BATCH, elements=st.integers(0, CLASSES - 1)),
)
def test_any_membranes_give_the_loss_of_the_equation(made_crossentropy, traces, targets):
    found = made_crossentropy(traces, targets)
    np.testing.assert_allclose(found, fn_oracle.integral_crossentropy(traces, targets), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def made_crossentropy(made):
    return made["integral_crossentropy"]
