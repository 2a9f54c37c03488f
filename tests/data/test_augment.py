"""Shift augmentation: which rolls it makes, how often, and of what."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import encode_oracle
from spyx import data

X = np.arange(2 * 3 * 8, dtype=np.float32).reshape(2, 3, 8)
KEYS = jax.random.split(jax.random.key(0), 300)
MARK = np.zeros((5, 1, 30), np.float32)
MARK[..., 0] = 1.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_every_result_is_a_roll_of_both_axes(shift_both, seed):
    allowed = {roll.tobytes() for roll in encode_oracle.rolls(X, 2, (1, 2))}
    assert np.asarray(shift_both(X, jax.random.key(seed))).tobytes() in allowed


@pytest.fixture(scope="module")
def shift_both():
    return jax.jit(data.shift_augment(2, (1, 2)))


def test_shifts_are_uniform_with_both_ends_and_ten_by_default():
    shifts = jax.vmap(data.shift_augment(), in_axes=(None, 0))(MARK, KEYS).argmax(-1)[:, 0, 0]
    values, counts = np.unique((np.asarray(shifts) + 15) % 30 - 15, return_counts=True)
    assert values.tolist() == list(range(-10, 11))
    assert ((counts - 300 / 21) ** 2 / (300 / 21)).sum() < 45.3  # chi-squared, 20 degrees of freedom, p = 0.001


def test_one_shift_per_call_or_one_per_sample():
    together = data.shift_augment(10)(MARK, KEYS[0]).argmax(-1)
    assert len(set(together.ravel().tolist())) == 1
    apart = data.shift_augment(10, per_sample=True)(MARK, KEYS[0]).argmax(-1)
    assert len(set(apart.ravel().tolist())) > 1


@pytest.mark.parametrize("axes", [(1,), (-1,), (1, -1), 2])
def test_per_sample_rolls_each_sample_along_the_named_axes(axes):
    out = jax.jit(data.shift_augment(2, axes, per_sample=True))(X, KEYS[1])
    inner = [axis % 3 - 1 for axis in np.atleast_1d(axes)]
    for sample, original in zip(out, X, strict=True):
        assert np.asarray(sample).tobytes() in {roll.tobytes() for roll in encode_oracle.rolls(original, 2, inner)}


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bool_, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("per_sample", [False, True])
def test_dtype_and_shape_stay(dtype, per_sample):
    x = jnp.asarray(X > 4, dtype)
    out = data.shift_augment(3, per_sample=per_sample)(x, KEYS[0])
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert out.sum() == x.sum()


def test_no_shift_changes_nothing_and_a_key_repeats_itself():
    np.testing.assert_array_equal(data.shift_augment(0)(X, KEYS[0]), X)
    augment = data.shift_augment(3)
    np.testing.assert_array_equal(augment(X, KEYS[0]), jax.jit(augment)(jnp.asarray(X), KEYS[0]))


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_numpy_integers_are_axes_and_sizes(integer):
    for make in (data.shift_augment, data.shift_space):
        for axes, plain in ((integer(2), 2), (np.array([1, 2], integer), (1, 2))):
            np.testing.assert_array_equal(make(integer(2), axes)(X, KEYS[0]), make(2, plain)(X, KEYS[0]))
    np.testing.assert_array_equal(data.mask_axis(integer(2), integer(2))(X, KEYS[1]), data.mask_axis(2, 2)(X, KEYS[1]))
    np.testing.assert_array_equal(data.jitter_time(integer(2))(X, KEYS[2]), data.jitter_time(2)(X, KEYS[2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.shift_augment(-1), "max_shift must be a whole number, 0 or more; got -1"),
        (lambda: data.shift_augment(0.5), "max_shift must be a whole number, 0 or more; got 0.5"),
        (lambda: data.shift_augment(1, ()), "axes must name at least one axis; got none"),
        (lambda: data.shift_augment(1, 3)(X, KEYS[0]), r"axes \(3,\) are out of range for data of shape \(2, 3, 8\)"),
        (lambda: data.shift_augment(1, (2, -1))(X, KEYS[0]), r"axes must differ; got \(2, -1\)"),
        (lambda: data.shift_augment(1, (0,), per_sample=True)(X, KEYS[0]), "with per_sample, axis 0 holds the samples"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=f"^shift_augment: {message}"):
        make()
