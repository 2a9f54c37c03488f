"""The encoders of `spyx.data` against the recorded vectors of Spyx 1.0; each intentional difference carries its ID.

Random draws are compared through what they may be, never bit by bit (D6).
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference import encode_oracle
from spyx import data

FILE = "data_spyx10"


@pytest.fixture
def vectors(golden):
    return golden(FILE)


@pytest.mark.parametrize("name", ["n4_0.0_1.0", "n8_0.0_1.0", "n5_-1.0_1.0", "n1_0.0_1.0", "n16_-2.5_3.5", "nd"])
def test_angle_code(vectors, name):
    meta = json.loads(str(vectors[f"angle_code_{name}/meta"]))
    encode = data.angle_code(meta["neuron_count"], meta["min_val"], meta["max_val"])
    out = encode(vectors[f"angle_code_{name}/x"])
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, vectors[f"angle_code_{name}/out"])


def test_angle_code_of_nan_is_the_last_neuron(vectors):
    out = data.angle_code(4, 0.0, 1.0)(vectors["angle_code_nan/x"])
    np.testing.assert_array_equal(out, vectors["angle_code_nan/out"])


@pytest.mark.parametrize(
    ("name", "num_steps", "threshold"),
    [
        ("T5_thr0.01", 5, 0.01),
        ("T8_thr0.01", 8, 0.01),
        ("T8_thr-1.0", 8, -1.0),
        ("T8_thr0.2", 8, 0.2),
        ("T1_thr0.01", 1, 0.01),
        ("T20_thr0.01", 20, 0.01),
        ("T32_thr0.05", 32, 0.05),
        ("nd", 7, 0.01),
        ("default", 6, 0.01),
    ],
)
def test_latency_code(vectors, name, num_steps, threshold):
    x, expected = vectors[f"latency_code_{name}/x"], vectors[f"latency_code_{name}/out"]
    out = data.latency_code(num_steps, threshold, time_axis=0)(x)
    assert out.dtype == jnp.uint8
    np.testing.assert_array_equal(out, expected)
    if x.ndim > 1:
        batched = data.latency_code(num_steps, threshold)(x)
        np.testing.assert_array_equal(batched, np.moveaxis(expected, 0, 1))


def test_D7_latency_code_puts_time_on_axis_1(vectors):
    x, expected = vectors["latency_code_nd/x"], vectors["latency_code_nd/out"]
    assert expected.shape == (7, *x.shape)  # Spyx 1.0 put time first
    np.testing.assert_array_equal(data.latency_code(7)(x), np.moveaxis(expected, 0, 1))


@pytest.mark.parametrize("name", ["B1C", "B1HW"])
def test_rate_code_unrolls_a_single_time_step(vectors, name):
    meta = json.loads(str(vectors[f"rate_code_exact_{name}/meta"]))
    out = data.rate_code(meta["num_steps"], meta["max_r"])(vectors[f"rate_code_exact_{name}/x"], jax.random.key(7))
    assert out.dtype == jnp.uint8
    assert out.shape == vectors[f"rate_code_exact_{name}/out"].shape


def test_D2_rate_code_gives_other_data_a_new_time_axis(vectors):
    x, folded = vectors["rate_code_exact_BC/x"], vectors["rate_code_exact_BC/out"]
    out = data.rate_code(5)(x, jax.random.key(7))
    assert folded.shape == (3, 4 * 5)  # Spyx 1.0 interleaved time and features
    assert out.shape == (3, 5, 4)
    assert data.rate_code(5)(x[:, 0], jax.random.key(7)).shape == (3, 5)
    assert data.rate_code(5)(x[:, :1], jax.random.key(7)).shape == (3, 5, 1)  # two axes: the 1 is a feature
    assert data.rate_code(5)(np.stack([x, x], 1), jax.random.key(7)).shape == (3, 5, 2, 4)


def test_D3_rate_code_has_the_ideal_rate_where_half_precision_was_biased(vectors):
    x, ideal, recorded = (vectors[f"rate_code_stats/{key}"] for key in ("x", "ideal", "mean_rate"))
    draws = int(vectors["rate_code_stats/n"])
    rate = data.rate_code(draws, 0.75)(x[None], jax.random.key(0))[0].mean(0, dtype=jnp.float32)
    error = np.sqrt(ideal * (1 - ideal) / draws)
    assert (np.abs(rate - ideal) <= 5 * error + 1e-6).all()
    assert (np.abs(recorded - ideal) > 5 * error + 1e-6).any()


@pytest.mark.parametrize(
    ("name", "max_shift", "axes"),
    [("default_axes_max3", 3, (-1,)), ("two_axes_max2", 2, (1, 2)), ("max1", 1, (-1,)), ("max0", 0, (-1,))],
)
def test_shift_augment_is_a_roll(vectors, name, max_shift, axes):
    x, recorded = vectors[f"shift_augment_{name}/x"], vectors[f"shift_augment_{name}/out"]
    allowed = {roll.tobytes() for roll in encode_oracle.rolls(x, max_shift, axes)}
    assert {out.tobytes() for out in recorded} <= allowed
    augment = jax.jit(data.shift_augment(max_shift, axes))
    assert {np.asarray(augment(x, jax.random.key(seed))).tobytes() for seed in range(6)} <= allowed


def test_D4_shift_augment_includes_both_ends(vectors):
    assert vectors["shift_augment_stats/values"].max() == 2  # Spyx 1.0 never drew +3
    marked = jnp.eye(8)[:1]
    augment = jax.vmap(data.shift_augment(3), in_axes=(None, 0))
    where = augment(marked, jax.random.split(jax.random.key(0), 200)).argmax(-1)
    assert set(np.asarray(where).ravel().tolist()) == {shift % 8 for shift in range(-3, 4)}


@pytest.mark.parametrize("batch_size", [3, 5, 10])
def test_shuffler(vectors, batch_size):
    x, y, obs, labels = (vectors[f"shuffler_bs{batch_size}/{key}"] for key in ("x", "y", "obs", "labels"))
    ours = data.shuffler((x, y), batch_size)((x, y), jax.random.key(3))
    assert ours.obs.shape == obs.shape
    assert ours.labels.shape == labels.shape
    position = {sample.tobytes(): i for i, sample in enumerate(x)}
    for batches in ((obs, labels), (np.asarray(ours.obs), np.asarray(ours.labels))):
        drawn = [position[sample.tobytes()] for sample in batches[0].reshape(-1, *x.shape[1:])]
        assert len(set(drawn)) == len(drawn)
        np.testing.assert_array_equal(batches[1].ravel(), y[drawn])


def test_D5_shuffler_refuses_a_batch_larger_than_the_data(vectors):
    x, y = vectors["shuffler_bs3/x"], vectors["shuffler_bs3/y"]
    with pytest.raises(ValueError, match="batch_size must be 1 to the number of samples, 10; got 11"):
        data.shuffler((x, y), 11)
