"""Augmentations: what they may change, what they must keep, the same key the same result, under jit and vmap."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.data import (
    Events,
    chain,
    drop_spikes,
    flip,
    jitter_events,
    jitter_time,
    mask_axis,
    mixup,
    shift_space,
)

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, 12, 6, 5, 2)).astype(np.float32))
ALL = {
    "drop_spikes": drop_spikes(0.3),
    "jitter_time": jitter_time(3),
    "shift_space": shift_space(2),
    "flip": flip(3),
    "mask_axis": mask_axis(4),
    "chain": chain(drop_spikes(0.1), flip(-1), mask_axis(3, axis=2)),
}


@pytest.mark.parametrize("name", ALL)
def test_keyed_jit_safe_and_shape_preserving(name):
    augment = jax.jit(ALL[name])
    first, again, other = augment(X, KEY), augment(X, KEY), augment(X, jax.random.key(1))
    assert first.shape == X.shape
    assert first.dtype == X.dtype
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, X)
    assert jax.eval_shape(augment, X.astype(jnp.uint8), KEY).dtype == jnp.uint8


@pytest.mark.parametrize("name", ["shift_space", "flip", "mask_axis"])
def test_samples_are_changed_each_in_its_own_way(name):
    same = jnp.broadcast_to(X[:1], (32, *X.shape[1:]))
    changed = np.asarray(ALL[name](same, KEY)).reshape(32, -1)
    assert len(np.unique(changed, axis=0)) > 1


def test_drop_only_removes_and_at_the_rate():
    out = drop_spikes(0.25)(jnp.ones((10, 1000)), KEY)
    assert set(np.unique(out)) == {0, 1}
    assert abs(float(out.mean()) - 0.75) < 0.02
    assert np.array_equal(drop_spikes(0)(X, KEY), X)


def test_jitter_keeps_every_spike_in_its_place_and_within_reach():
    out = jitter_time(3)(X, KEY)
    assert np.array_equal(out.sum(1), X.sum(1))
    one = jnp.zeros((500, 21, 1)).at[:, 10].set(1)
    steps = np.asarray(jitter_time(3)(one, KEY)).argmax(1).ravel()
    assert set(steps) == set(range(7, 14))
    edge = jnp.zeros((50, 21, 1)).at[:, 0].set(1)
    assert set(np.asarray(jitter_time(3)(edge, KEY)).argmax(1).ravel()) == {0, 1, 2, 3}
    assert np.array_equal(jitter_time(0)(X, KEY), X)


def test_shift_moves_the_whole_sample_and_fills_with_zeros():
    one = jnp.zeros((300, 2, 7, 7)).at[:, :, 3, 3].set(1)
    places = np.argwhere(np.asarray(shift_space(2)(one, KEY)))
    moves = places[:, 2:] - 3
    assert len(places) == 600
    assert np.array_equal(moves[::2], moves[1::2])
    assert {tuple(m) for m in moves} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert float(shift_space(9)(jnp.ones((40, 1, 4, 4)), KEY).min()) == 0
    assert shift_space(1, axes=(2,))(jnp.ones((2, 3, 4)), KEY).shape == (2, 3, 4)


def test_each_shifted_sample_is_the_sample_moved_with_zeros_behind_it():
    def moved(sample, down, right):
        out = np.zeros_like(sample)
        (a, b), (c, d) = ((max(0, by), size + min(0, by)) for by, size in ((down, 6), (right, 5)))
        out[:, a:b, c:d] = sample[:, a - down : b - down, c - right : d - right]
        return out.tobytes()

    for original, shifted in zip(np.asarray(X), np.asarray(shift_space(2)(X, KEY)), strict=True):
        assert shifted.tobytes() in {moved(original, i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert np.array_equal(shift_space(0)(X, KEY), X)


def test_flip_with_certainty_is_a_mirror():
    assert np.array_equal(flip(3, probability=1)(X, KEY), X[:, :, :, ::-1])
    assert np.array_equal(flip(-1, probability=1)(X, KEY), X[..., ::-1])
    assert np.array_equal(flip(3, probability=0)(X, KEY), X)


def test_a_mask_is_no_wider_than_the_axis():
    widths = np.asarray(mask_axis(50)(jnp.ones((400, 12, 6)), KEY) == 0).all(2).sum(1)
    assert set(widths) == set(range(13))
    assert np.bincount(widths).max() < 60  # each as often as any other: 400 / 13


def test_each_step_of_a_chain_draws_on_its_own():
    half = drop_spikes(0.5)
    out = chain(half, half)(jnp.ones((10, 1000)), KEY)
    assert abs(float(out.mean()) - 0.25) < 0.02


@pytest.mark.parametrize("axis", [1, 2])
def test_mask_silences_one_stretch(axis):
    out = np.asarray(mask_axis(4, axis=axis)(jnp.ones((400, 12, 6)), KEY))
    silent = (out == 0).all(axis=3 - axis)
    widths = silent.sum(1)
    assert set(widths) == {0, 1, 2, 3, 4}
    runs = (np.diff(silent.astype(int), axis=1, prepend=0) == 1).sum(1)
    assert (runs <= 1).all()
    assert silent.any(0).all()


def test_mixup_chooses_trains_and_mixes_labels():
    x = jnp.broadcast_to(jnp.arange(4.0).reshape(4, 1, 1), (4, 3, 1000))
    y = jnp.arange(4)
    mixed, labels = jax.jit(lambda x, y, k: mixup(x, y, k, num_classes=4, alpha=1.0))(x, y, KEY)
    assert labels.dtype == jnp.float32
    assert np.allclose(labels.sum(1), 1)
    for i in range(4):
        values, counts = np.unique(mixed[i, 0], return_counts=True)
        for value, count in zip(values, counts, strict=True):
            assert abs(count / 1000 - float(labels[i, int(value)])) < 0.06
    assert np.array_equal(mixed[:, 0], mixed[:, 2])
    assert (labels.max(1) < 0.999).any()  # with another sample, not with itself
    assert inspect.signature(mixup).parameters["alpha"].default == 0.2


def test_jittered_events_stay_sorted_inside_and_near():
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10_000, 500))
    events = Events(t, rng.integers(0, 9, 500), rng.integers(0, 7, 500), rng.integers(0, 2, 500), sensor_size=(9, 7))
    out = jitter_events(events, 3, time_us=50, pixels=1, drop=0.2)
    assert (np.diff(out.t) >= 0).all()
    assert 250 < len(out) < 450
    assert np.array_equal(jitter_events(events, 3, time_us=50, pixels=1, drop=0.2).t, out.t)
    assert np.array_equal(jitter_events(events, 3).x, events.x)
    assert len(jitter_events(events[:2], 0, drop=1)) == 1
    early = jitter_events(Events([0] * 99, unit=[0] * 99, sensor_size=(1,)), 0, time_us=500).t
    assert early.min() == 0 < early.max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drop_spikes(1.5), r"drop_spikes: expected probability in \[0, 1\]; got 1.5"),
        (lambda: jitter_time(-1), "jitter_time: expected max_steps >= 0; got -1"),
        (lambda: jitter_time(1.5), "jitter_time: expected max_steps to be a whole number; got 1.5"),
        (lambda: shift_space(-1), "shift_space: expected max_pixels >= 0; got -1"),
        (lambda: mask_axis(-1), "mask_axis: expected max_width >= 0; got -1"),
        (lambda: shift_space(1, axes=(0, 2)), "shift_space: expected axes >= 1, not the batch"),
        (lambda: flip(0), "flip: expected an axis of the sample; got 0"),
        (lambda: mask_axis(2, axis=0), "mask_axis: expected an axis of the sample; got 0"),
        (lambda: mixup(X, jnp.arange(4), KEY, num_classes=4, alpha=0), "mixup: expected alpha > 0; got 0"),
        (lambda: jitter_events(Events(t=[1], unit=[0]), 0), "jitter_events: expected events with a sensor size"),
    ],
)
def test_impossible_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
