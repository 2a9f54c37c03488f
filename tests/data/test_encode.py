"""Encoders: values against plain NumPy, axes, dtypes, transformations, wrong input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reference import encode_oracle
from spyx import data

KEY = jax.random.key(0)
X = np.random.default_rng(0).random((4, 6)).astype(np.float32)
SIGNAL = np.cumsum(np.random.default_rng(1).normal(size=(4, 10, 3)), axis=1).astype(np.float32)

# Each encoder as a function of the data alone, with the shape it makes of X.
ENCODERS = {
    "angle_code": (data.angle_code(5, 0.0, 1.0), (4, 6, 5)),
    "rate_code": (lambda x: data.rate_code(8)(x, KEY), (4, 8, 6)),
    "latency_code": (data.latency_code(8), (4, 8, 6)),
    "phase_code": (data.phase_code(8), (4, 8, 6)),
    "direct_code": (data.direct_code(8), (4, 8, 6)),
    "delta_code": (data.delta_code(0.1), (4, 6, 2)),
}
EVERY_ONE = pytest.mark.parametrize("name", ENCODERS)
WITH_TIME_AXIS = {
    "latency_code": lambda time_axis: data.latency_code(8, time_axis=time_axis),
    "phase_code": lambda time_axis: data.phase_code(8, time_axis=time_axis),
    "direct_code": lambda time_axis: data.direct_code(8, time_axis=time_axis),
}


@EVERY_ONE
def test_shape_and_dtype(name):
    encode, shape = ENCODERS[name]
    out = encode(X)
    assert isinstance(out, jax.Array)
    assert out.shape == shape
    assert out.dtype == (jnp.float32 if name in ("angle_code", "direct_code") else jnp.uint8)


@EVERY_ONE
def test_numpy_jax_and_jit_agree(name):
    encode, _ = ENCODERS[name]
    expected = encode(X)
    for found in (encode(jnp.asarray(X)), jax.jit(encode)(X), encode(X.astype(np.float64))):
        np.testing.assert_array_equal(found, expected)


@EVERY_ONE
def test_vmap_over_stacked_batches(name):
    encode, shape = ENCODERS[name]
    out = jax.vmap(encode)(np.stack([X, X]))
    assert out.shape == (2, *shape)
    np.testing.assert_array_equal(out[0], encode(X))


@EVERY_ONE
@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.uint8, jnp.int32, jnp.float16, jnp.bfloat16])
def test_other_dtypes_are_read_as_numbers(name, dtype):
    encode, _ = ENCODERS[name]
    x = jnp.asarray(X > 0.5, dtype)
    np.testing.assert_array_equal(encode(x), encode((X > 0.5).astype(np.float32)))


@pytest.mark.parametrize("name", WITH_TIME_AXIS)
@pytest.mark.parametrize("time_axis", [0, 1, 2, -1])
def test_time_goes_where_it_is_asked_to(name, time_axis):
    leading = WITH_TIME_AXIS[name](0)(X)
    assert leading.shape == (8, 4, 6)
    np.testing.assert_array_equal(WITH_TIME_AXIS[name](time_axis)(X), np.moveaxis(leading, 0, time_axis))


def test_D7_time_is_axis_1_by_default_in_every_encoder():
    for name, make in WITH_TIME_AXIS.items():
        np.testing.assert_array_equal(ENCODERS[name][0](X), np.moveaxis(make(0)(X), 0, 1))


# Values

UNIT = hnp.arrays(np.float32, (4, 6), elements=st.floats(-0.5, 1.5, width=32))


@settings(max_examples=40, deadline=None)
@given(UNIT)
def test_angle_code_fires_the_neuron_of_the_interval(x):
    out = np.asarray(data.angle_code(5, 0.0, 1.0)(x))
    np.testing.assert_array_equal(out.sum(-1), 1)
    np.testing.assert_array_equal(out.argmax(-1), encode_oracle.angle_index(x, 5, 0.0, 1.0))


@settings(max_examples=40, deadline=None)
@given(UNIT)
def test_latency_code_fires_once_the_earlier_the_larger(x):
    out = np.asarray(data.latency_code(8, 0.2, time_axis=0)(x))
    times = np.where(out.any(0), out.argmax(0), -1)
    np.testing.assert_array_equal(times, encode_oracle.latency_times(x, 8, 0.2))
    assert (out.sum(0) <= 1).all()


def test_a_value_at_the_threshold_is_silent():
    x = np.array([[0.25, 0.25 + 1e-6, 0.0, 0.01, np.nextafter(np.float32(0.01), np.float32(1))]], np.float32)
    assert data.latency_code(4, 0.25)(x).sum(1).tolist() == [[0, 1, 0, 0, 0]]
    assert data.latency_code(4)(x).sum(1).tolist() == [[1, 1, 0, 0, 1]]  # 0.01 by default
    assert data.latency_code(4, -1.0)(x).sum() == 5


@settings(max_examples=40, deadline=None)
@given(UNIT)
def test_phase_code_writes_binary_digits_twice(x):
    out = np.asarray(data.phase_code(8, num_phases=4, time_axis=0)(x))
    expected = [encode_oracle.phase_digits(value, 8, 4) for value in x.ravel()]
    np.testing.assert_array_equal(out.reshape(8, -1).T, expected)


def test_phase_code_of_a_pixel_is_its_bits():
    pixels = np.arange(256, dtype=np.uint8)
    out = np.asarray(data.phase_code(8, time_axis=0)(pixels.astype(np.float32) / np.float32(255)))
    np.testing.assert_array_equal(out, np.unpackbits(pixels[None], axis=0))


def test_direct_code_repeats_the_value_and_keeps_its_dtype():
    out = data.direct_code(8)(jnp.asarray(X, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, np.broadcast_to(jnp.asarray(X, jnp.bfloat16)[:, None], (4, 8, 6)))
    np.testing.assert_array_equal(jax.grad(lambda x: data.direct_code(8)(x).sum())(X), np.full_like(X, 8))


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (10,), elements=st.floats(-8, 8, width=16)))
def test_delta_code_follows_the_step_forward_rule(signal):
    out = data.delta_code(0.5, time_axis=0)(signal)
    np.testing.assert_array_equal(out, encode_oracle.delta_spikes(signal, 0.5))


def test_delta_code_of_a_slow_signal_recovers_it_within_one_threshold():
    slow = np.sin(np.linspace(0, 6, 200)).astype(np.float32)[None, :, None]
    spikes = np.asarray(data.delta_code(0.05)(slow), np.float32)
    recovered = slow[:, :1] + 0.05 * np.cumsum(spikes[..., 0] - spikes[..., 1], axis=1)
    assert np.abs(recovered - slow).max() <= 0.05 + 1e-5
    assert spikes.sum() > 40


def test_delta_code_on_any_axis_and_each_row_alone():
    out = np.asarray(data.delta_code(0.5)(SIGNAL))
    assert out.shape == (4, 10, 3, 2)
    assert out.any((0, 1, 2)).all()
    assert not (out[..., 0] & out[..., 1]).any()
    np.testing.assert_array_equal(out[2, :, 1], encode_oracle.delta_spikes(SIGNAL[2, :, 1], 0.5))
    time_major = data.delta_code(0.5, time_axis=0)(np.moveaxis(SIGNAL, 1, 0))
    np.testing.assert_array_equal(np.moveaxis(time_major, 0, 1), out)
    last = data.delta_code(0.5, time_axis=-1)(np.moveaxis(SIGNAL, 1, -1))
    np.testing.assert_array_equal(np.moveaxis(last, 2, 1), out)


def test_rate_code_draws_the_promised_rate_and_each_key_its_own():
    x = np.array([[0.0, 0.001, 0.4, 1.0, 1.5, -0.2]], np.float32)
    spikes = data.rate_code(100_000, 0.5)(x, KEY)[0]
    ideal = np.clip(x[0] * 0.5, 0, 1)
    assert (np.abs(spikes.mean(0, dtype=jnp.float32) - ideal) <= 5 * np.sqrt(ideal * (1 - ideal) / 100_000)).all()
    encode = data.rate_code(8)
    np.testing.assert_array_equal(encode(X, KEY), data.rate_code(8, 0.75)(X, KEY))  # 0.75 by default
    np.testing.assert_array_equal(encode(X, KEY), encode(X, KEY))
    assert (encode(X, KEY) != encode(X, jax.random.key(1))).any()
    np.testing.assert_array_equal(encode(X, jax.random.PRNGKey(0)), encode(X, KEY))  # an old-style key is a key


def test_rate_code_draws_each_step_on_its_own():
    spikes = np.asarray(data.rate_code(2000, 1.0)(np.full((1, 2), 0.5), KEY)[0], np.float64)
    assert abs(np.corrcoef(spikes[1:, 0], spikes[:-1, 0])[0, 1]) < 0.1
    assert abs(np.corrcoef(spikes[:, 0], spikes[:, 1])[0, 1]) < 0.1


# Wrong input


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "angle_code"])
def test_nan_is_an_error_where_it_can_be_seen_and_no_spike_where_it_cannot(name):
    encode, _ = ENCODERS[name]
    x = X.copy()
    x[1] = np.nan
    with pytest.raises(ValueError, match=f"^{name}: data must hold numbers; got NaN"):
        encode(x)
    out = jax.jit(encode)(x)
    if name == "direct_code":
        assert np.isnan(out[1]).all()
    else:
        assert not np.any(out[1])
    assert np.any(out[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.angle_code(0, 0.0, 1.0), "angle_code: neuron_count must be a whole number, 1 or more; got 0"),
        (
            lambda: data.angle_code(4, 1.0, 1.0),
            "angle_code: min_val must be below max_val, both finite; got 1.0 and 1.0",
        ),
        (lambda: data.angle_code(4, 0.0, np.inf), "angle_code: min_val must be below max_val, both finite"),
        (lambda: data.angle_code(4, np.nan, 1.0), "angle_code: min_val must be below max_val, both finite"),
        (lambda: data.rate_code(0), "rate_code: num_steps must be a whole number, 1 or more; got 0"),
        (lambda: data.rate_code(2.5), "rate_code: num_steps must be a whole number, 1 or more; got 2.5"),
        (lambda: data.rate_code(4, 1.5), r"rate_code: max_r must be a probability in \[0, 1\]; got 1.5"),
        (lambda: data.rate_code(4, np.nan), "rate_code: max_r must be a probability"),
        (lambda: data.latency_code(-1), "latency_code: num_steps must be a whole number"),
        (lambda: data.latency_code(4, 1.0), "latency_code: threshold must be finite and below 1; got 1.0"),
        (lambda: data.latency_code(4, np.nan), "latency_code: threshold must be finite and below 1"),
        (lambda: data.phase_code(8, 0), "phase_code: num_phases must be a whole number"),
        (lambda: data.phase_code(34, 17), "phase_code: num_phases must be 1 to 16; got 17"),
        (lambda: data.phase_code(9, 4), r"phase_code: num_steps must be a multiple of num_phases \(4\); got 9"),
        (lambda: data.direct_code(0), "direct_code: num_steps must be a whole number"),
        (lambda: data.delta_code(0.0), "delta_code: threshold must be positive and finite; got 0.0"),
        (lambda: data.delta_code(np.inf), "delta_code: threshold must be positive and finite"),
        (lambda: data.rate_code(4)(0.5, KEY), "rate_code: data must have a batch axis"),
        (lambda: data.phase_code(8)(0.5), r"phase_code: time_axis 1 is out of range for data of shape \(\)"),
        (lambda: data.latency_code(4, time_axis=3)(X), r"latency_code: time_axis 3 is out of range .* \(4, 6\)"),
        (lambda: data.direct_code(4, time_axis=-4)(X), "direct_code: time_axis -4 is out of range"),
        (lambda: data.delta_code(0.1)(X[0]), r"delta_code: time_axis 1 is out of range for data of shape \(6,\)"),
        (lambda: data.delta_code(0.1)(X[:, :0]), "delta_code: data must have at least one time step"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_a_numpy_integer_is_a_whole_number(integer):
    eight = integer(8)
    assert data.rate_code(eight)(X, KEY).shape == (4, 8, 6)
    for name, encode in (
        ("angle_code", data.angle_code(integer(5), 0.0, 1.0)),
        ("latency_code", data.latency_code(eight)),
        ("phase_code", data.phase_code(eight, eight)),
        ("direct_code", data.direct_code(eight)),
    ):
        np.testing.assert_array_equal(encode(X), ENCODERS[name][0](X))
