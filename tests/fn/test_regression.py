"""Regression losses: per step against NumPy, spike trains against the closed form of their distance."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from reference import fn_oracle
from spyx import fn

BATCH, TIME, UNITS = 3, 12, 2
RANDOM = np.random.default_rng(1)
TRACES, TARGETS = RANDOM.normal(size=(2, BATCH, TIME, UNITS)).astype(np.float32)
TRAINS, OTHERS = (RANDOM.random((2, BATCH, TIME, UNITS)) < 0.3).astype(np.uint8)
LENGTHS = np.array([12, 5, 5], np.int32)
WITHIN = np.arange(TIME) < LENGTHS[:, None]
WEIGHTS = np.array([1.0, 0.5, 2.0], np.float32)
PER_STEP = {"mse": (fn.mse, np.square), "mae": (fn.mae, np.abs)}
FACTORIES = {"mse": fn.mse, "mae": fn.mae, "van_rossum": lambda **options: fn.van_rossum(3.0, **options)}
EVERY_ONE = pytest.mark.parametrize("name", FACTORIES)
EACH_STEPWISE = pytest.mark.parametrize("name", PER_STEP)


def padded(x):
    return np.where(WITHIN[..., None], x, np.nan).astype(np.float32)


@EACH_STEPWISE
def test_error_per_step(name):
    make, error = PER_STEP[name]
    errors = error(TRACES.astype(np.float64) - TARGETS)
    np.testing.assert_allclose(make()(TRACES, TARGETS), errors.mean(), rtol=1e-6)
    np.testing.assert_allclose(make(start=3)(TRACES, TARGETS), errors[:, 3:].mean(), rtol=1e-6)
    weights = RANDOM.random((BATCH, TIME)).astype(np.float32)
    found = make()(padded(TRACES), padded(TARGETS), lengths=LENGTHS, weights=weights)
    np.testing.assert_allclose(found, np.average(errors.mean(-1)[WITHIN], weights=weights[WITHIN]), rtol=1e-6)
    per_sample = make()(padded(TRACES), padded(TARGETS), mask=WITHIN, weights=1 / LENGTHS)
    expected = np.mean([errors[i, :n].mean() for i, n in enumerate(LENGTHS)])
    np.testing.assert_allclose(per_sample, expected, rtol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 3.0, 40.0])
def test_van_rossum_is_the_double_sum_over_spikes(tau):
    expected = np.mean(
        [
            fn_oracle.van_rossum(np.flatnonzero(TRAINS[b, :, n]), np.flatnonzero(OTHERS[b, :, n]), tau)
            for b in range(BATCH)
            for n in range(UNITS)
        ]
    )
    np.testing.assert_allclose(fn.van_rossum(tau)(TRAINS, OTHERS), expected, rtol=2e-5)


def test_van_rossum_in_closed_form():
    """A spike too many costs 1/2 wherever it is; one n steps late costs 1 - exp(-n / tau); many far apart add up."""
    loss = fn.van_rossum(4.0)
    silent = np.zeros((1, 30, 1), np.float32)

    def train(*steps):
        found = silent.copy()
        found[0, list(steps)] = 1
        return found

    for step in (0, 17, 29):
        np.testing.assert_allclose(loss(train(step), silent), 0.5, rtol=1e-6)
        np.testing.assert_allclose(loss(silent, train(step)), 0.5, rtol=1e-6)
    for late in (1, 4, 9):
        np.testing.assert_allclose(loss(train(20), train(20 + late)), 1 - np.exp(-late / 4), rtol=1e-5)
    assert loss(train(3, 9), train(3, 9)) == 0
    count = fn.van_rossum(1e4)(train(1, 2, 3), silent)
    np.testing.assert_allclose(count, 9 / 2, rtol=1e-3)  # a long kernel compares counts, squared


@EVERY_ONE
def test_loss_and_gradient_of_a_padded_batch_are_those_of_the_samples_alone(name):
    x, y = (TRAINS, OTHERS) if name == "van_rossum" else (TRACES, TARGETS)
    graded = jax.value_and_grad(FACTORIES[name]())
    loss, gradient = graded(padded(x), padded(y), lengths=LENGTHS, weights=WEIGHTS)
    assert not gradient[~WITHIN].any()
    shares = WEIGHTS * (1 if name == "van_rossum" else LENGTHS)  # per step, a sample counts with each of its steps
    shares = shares / shares.sum()
    values = []
    for i, n in enumerate(LENGTHS):
        value, own = graded(x[i : i + 1, :n].astype(np.float32), y[i : i + 1, :n])
        np.testing.assert_allclose(gradient[i, :n], own[0] * shares[i], rtol=1e-5, atol=1e-7)
        values.append(value)
    np.testing.assert_allclose(loss, np.dot(shares, values), rtol=1e-6)


@EVERY_ONE
def test_axes_burn_in_and_nothing_at_all(name):
    x, y = TRAINS.astype(np.float32), OTHERS
    expected = FACTORIES[name]()(x, y, lengths=LENGTHS)
    turned = FACTORIES[name](time_axis=0)(np.moveaxis(x, 1, 0), np.moveaxis(y, 1, 0), lengths=LENGTHS)
    np.testing.assert_allclose(turned, expected, rtol=1e-6)
    x = x.copy()
    x[:, :5] = np.nan
    later, y = FACTORIES[name](start=5), y.astype(np.float32)
    np.testing.assert_allclose(later(x, y), FACTORIES[name]()(x[:, 5:], y[:, 5:]), rtol=1e-6)
    found, gradient = jax.value_and_grad(later)(x, y, lengths=np.array([5, 4, 0]))  # over before it begins
    assert found == 0
    assert not gradient.any()


@EVERY_ONE
def test_wrong_arguments(name):
    call = FACTORIES[name]()
    with pytest.raises(ValueError, match=rf"^{name}: targets must have the traces' shape \(3, 12, 2\); got \(3, 12\)"):
        call(TRACES, TARGETS[..., 0])
    with pytest.raises(ValueError, match=f"^{name}: lengths must be in 0..12; got 13"):
        call(TRACES, TARGETS, lengths=np.array([1, 13, 2]))
    with pytest.raises(ValueError, match=f"^{name}: start must be less than the 12 time steps"):
        FACTORIES[name](start=12)(TRACES, TARGETS)
    with pytest.raises(TypeError, match=f"^{name}: traces must be one array; got a tuple of 2"):
        call((TRACES, None), TARGETS)
    assert np.isnan(jax.jit(lambda n: call(TRACES, TARGETS, lengths=n))(np.array([1, -1, 2])))


def test_van_rossum_needs_a_time_constant_and_weighs_samples():
    for tau in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="^van_rossum: tau_steps must be positive and finite; got"):
            fn.van_rossum(tau)
    with pytest.raises(ValueError, match=r"^van_rossum: weights must have shape \(3,\); got \(3, 12\)"):
        fn.van_rossum()(TRAINS, OTHERS, weights=np.ones((BATCH, TIME)))


def test_mae_does_not_move_what_matches():
    traces, targets = np.float32([[[0.0], [1.0], [1.0]]]), np.float32([[[0.0], [1.0], [0.0]]])
    np.testing.assert_allclose(jax.grad(fn.mae())(traces, targets).ravel(), [0.0, 0.0, 1 / 3], rtol=1e-6)
