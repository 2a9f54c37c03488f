"""Data sets: real files where they are at hand, files of the published layout where they are not, honest splits."""

from __future__ import annotations

import numpy as np
import pytest

from spyx.data import load
from spyx.data.sets.yinyang import which_class


def assert_no_shared_names(data) -> None:
    names = [set(getattr(data, part).x.names) for part in ("train", "validation", "test")]
    assert sum(map(len, names)) == len(set.union(*names))


def test_nmnist_holds_all_events_and_an_honest_split(shared):
    data = load("nmnist", root=shared / "data" / "nmnist_small.zip")
    assert [len(data.train), len(data.validation), len(data.test)] == [900, 100, 100]
    assert_no_shared_names(data)
    assert all(name.startswith("Test/") for name in data.test.x.names)
    assert data.test.y.tolist() == [int(name.split("/")[1]) for name in data.test.x.names]
    splits = (data.train, data.validation, data.test)
    assert sum(len(events) for split in splits for events in split.x) == 4_518_827
    assert data.sensor_size == (34, 34)


def test_nmnist_refuses_folders_of_another_layout(tmp_path):
    (tmp_path / "Train" / "cat").mkdir(parents=True)
    (tmp_path / "Train" / "cat" / "1.bin").write_bytes(bytes(5))
    with pytest.raises(ValueError, match=r"nmnist: expected files Train/<digit>/<id>.bin in "):
        load("nmnist", root=tmp_path)


def test_yinyang_classes_are_balanced_and_true():
    data = load("yinyang", num_samples=700, seed=1)
    assert [len(data.train), len(data.validation), len(data.test)] == [500, 100, 100]
    assert np.ptp(np.bincount(data.train.y)) <= 1
    points = data.train.x.astype(float)
    assert np.array_equal(which_class(points[:, :2]), data.train.y)
    assert np.allclose(points[:, :2] + points[:, 2:], 1)
    # The symbol is mirrored through its middle: yin becomes yang, dots stay dots.
    mirrored = which_class(1 - points[:, :2])
    assert np.array_equal(mirrored, np.array([1, 0, 2])[data.train.y])
    assert not np.array_equal(data.train.x[:100], data.test.x)
    with pytest.raises(ValueError, match="yinyang: expected num_samples >= 21; got 20"):
        load("yinyang", num_samples=20)


def test_randman_spikes_once_a_unit_and_only_timing_tells():
    data = load("randman", num_classes=3, num_units=5, num_steps=20, samples_per_class=50, cutoff=50)
    assert data.train.x.shape == (120, 20, 5)
    assert (data.train.x.sum(axis=1) == 1).all()
    assert np.bincount(data.test.y).tolist() == [5, 5, 5]
    again = load("randman", num_classes=3, num_units=5, num_steps=20, samples_per_class=50, cutoff=50)
    assert np.array_equal(again.train.x, data.train.x)
    with pytest.raises(ValueError, match="randman: expected num_classes >= 2; got 1"):
        load("randman", num_classes=1)


def test_randman_is_smooth_and_learnable():
    """Neighbours on a manifold have near spike times: one nearest neighbour tells the classes apart."""
    data = load("randman", num_classes=4, num_units=10, samples_per_class=200, smoothness=2.0, cutoff=100)
    times = [split.x.argmax(axis=1).astype(float) for split in (data.train, data.test)]
    distance = ((times[1][:, None] - times[0][None]) ** 2).sum(-1)
    assert (data.train.y[distance.argmin(1)] == data.test.y).mean() > 0.95
