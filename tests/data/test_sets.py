"""Data sets: real files where they are at hand, files of the published layout where they are not, honest splits."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from tests.data import event_files
from tests.data.event_files import columns
from tests.data.published import write_cifar10_dvs, write_dvs_gesture, write_heidelberg, write_shd, write_ssc

from spyx.data import EventFileError, load
from spyx.data.sets import NAMES, heidelberg
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
    times = np.concatenate([part.x for part in (data.train, data.validation, data.test)]).argmax(1)
    labels = np.concatenate([part.y for part in (data.train, data.validation, data.test)])
    for label in range(3):  # each unit uses the whole range
        assert times[labels == label].min(0).tolist() == [0] * 5
        assert times[labels == label].max(0).tolist() == [19] * 5
    with pytest.raises(ValueError, match="randman: expected num_classes >= 2; got 1"):
        load("randman", num_classes=1)


def test_randman_is_smooth_and_learnable():
    """Neighbours on a manifold have near spike times: one nearest neighbour tells the classes apart."""
    data = load("randman", num_classes=4, num_units=10, samples_per_class=200, smoothness=2.0, cutoff=100)
    times = [split.x.argmax(axis=1).astype(float) for split in (data.train, data.test)]
    distance = ((times[1][:, None] - times[0][None]) ** 2).sum(-1)
    assert (data.train.y[distance.argmin(1)] == data.test.y).mean() > 0.95


def test_shd_holds_out_speakers(tmp_path):
    written = write_shd(tmp_path)
    data = load("shd", root=tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [5, 3, 4]
    assert data.validation.x.names == ["shd_train.h5#2", "shd_train.h5#3", "shd_train.h5#5"]
    assert data.validation.y.tolist() == [2, 3, 5]
    events = data.validation.x[1]
    assert np.array_equal(events.t, np.round(written[3][0].astype(np.float64) * 1e6))
    assert sorted(events.unit.tolist()) == sorted(written[3][1].tolist())
    assert "speakers [10, 11]" in data.split_note
    with pytest.raises(ValueError, match=r"shd: expected validation_speakers among \[0, 1, 2, 3, 10, 11\]"):
        load("shd", root=tmp_path, validation_speakers=(7,))


def test_ssc_uses_the_published_parts(tmp_path):
    write_ssc(tmp_path)
    data = load("ssc", root=tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [5, 3, 2]
    assert [name.split("#")[0] for name in data.validation.x.names] == ["ssc_valid.h5"] * 3
    assert data.num_classes == 35
    (tmp_path / "ssc_test.h5").unlink()
    with pytest.raises(ValueError, match=r"ssc: expected the file ssc_test.h5 in .*; got no such file"):
        load("ssc", root=tmp_path)


def test_damaged_heidelberg_files_are_refused(tmp_path):
    write_heidelberg(tmp_path / "shd_train.h5", 8, 40, list(range(8)))
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.6; got 0\.\.7 at byte 0 of .*shd_train.h5"):
        heidelberg.read_split(tmp_path / "shd_train.h5", 7, "shd")
    content = (tmp_path / "shd_train.h5").read_bytes()
    (tmp_path / "shd_train.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(EventFileError, match=r"expected an HDF5 file that can be read; got .*shd_train.h5"):
        load("shd", root=tmp_path)


def test_dvs_gesture_cuts_trials_into_gestures_and_holds_out_people(tmp_path):
    c = write_dvs_gesture(tmp_path)
    data = load("dvs_gesture", root=tmp_path)
    assert data.validation.x.names == ["user21_lab.aedat#0-100000", "user21_lab.aedat#100000-200000"]
    assert data.train.y.tolist() == data.test.y.tolist() == [0, 10]
    first, second = data.train.x
    inside = c["t"] < 200_000
    assert len(first) + len(second) == np.count_nonzero(inside)
    assert np.array_equal(np.concatenate([first.x, second.x]), c["x"][inside])
    (tmp_path / "user01_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n12,0,5\n")
    with pytest.raises(ValueError, match=r"dvs_gesture: expected a class in 1\.\.11"):
        load("dvs_gesture", root=tmp_path)
    with pytest.raises(ValueError, match=r"expected validation_users among \[1, 21\]"):
        load("dvs_gesture", root=tmp_path, validation_users=(5,))


@pytest.mark.parametrize("suffix", ["aedat", "aedat4"])
def test_cifar10_dvs_tests_on_the_last_recordings(tmp_path, suffix):
    c = write_cifar10_dvs(tmp_path, suffix, training=4)
    data = load("cifar10_dvs", root=tmp_path, validation=0.25)
    assert [len(data.train), len(data.validation), len(data.test)] == [6, 2, 4]
    assert data.test.y.tolist() == [0, 0, 9, 9]
    assert all("_90" in name for name in data.test.x.names)
    assert np.array_equal(data.train.x[0].x, c["x"])
    with pytest.raises(ValueError, match="cifar10_dvs: expected files <class>/..._<number>.aedat on both sides"):
        load("cifar10_dvs", root=tmp_path, first_test=2000)


def test_qtdb_has_a_label_for_each_step(shared):
    data = load("qtdb_ecg", root=shared / "data" / "qtdb_ecg")
    assert [len(data.train), len(data.validation), len(data.test)] == [556, 62, 141]
    assert data.train.x.shape == (556, 1301, 4)
    assert data.train.y.shape == (556, 1301)
    assert set(np.unique(data.train.x)) == {-1, 0, 1}
    assert data.test.y.min() == 0
    assert data.test.y.max() == 5
    # The majority class is known to be 30.5 % of the steps.
    assert np.bincount(data.test.y.ravel()).max() / data.test.y.size == pytest.approx(0.305, abs=0.005)
    with pytest.raises(ValueError, match="qtdb_ecg: expected the MATLAB file"):
        load("qtdb_ecg", root=shared / "data")


def test_braille_is_balanced_and_scaled(shared):
    data = load("braille", root=shared / "data")
    assert data.train.x.shape == (945, 76, 12)
    assert np.bincount(data.test.y).tolist() == [10] * 27
    assert data.train.x.max() == 1.0
    assert data.train.x.min() >= 0.2
    with pytest.raises(ValueError, match="braille: expected the file"):
        load("braille", root=shared / "nothing.npz")


def test_spoken_digits_official_split_and_one_speaker_out(shared):
    data = load("spoken_digits", root=shared / "data" / "fsdd.zip")
    assert [len(data.train), len(data.validation), len(data.test)] == [2400, 300, 300]
    assert_no_shared_names(data)
    assert {int(name.rsplit("_", 1)[1][:-4]) for name in data.test.x.names} == set(range(5))
    assert np.bincount(data.test.y).tolist() == [30] * 10
    events = data.test.x[7]
    assert data.sensor_size == events.sensor_size == (64,)
    assert 100 < len(events) < 5000
    alone = load("spoken_digits", root=shared / "data" / "fsdd.zip", held_out_speaker="theo")
    assert [len(alone.train), len(alone.validation), len(alone.test)] == [2250, 250, 500]
    assert all("_theo_" in name for name in alone.test.x.names)
    assert not any("_theo_" in name for name in alone.train.x.names + alone.validation.x.names)
    assert alone.train.x.stamp != data.train.x.stamp
    with pytest.raises(ValueError, match=r"got 3000 files by \['george', .*\] and held_out_speaker='bob'"):
        load("spoken_digits", root=shared / "data" / "fsdd.zip", held_out_speaker="bob")


def test_your_own_folder_by_label(tmp_path):
    c = columns(20)
    for label in ("wave", "clap"):
        (tmp_path / label).mkdir()
        for i in range(10):
            (tmp_path / label / f"{i}.bin").write_bytes(event_files.nmnist_bin(c))
    data = load("folder", root=tmp_path, sensor_size=(34, 34))
    assert [len(data.train), len(data.validation), len(data.test)] == [14, 2, 4]
    assert [name.split("/")[0] for name in data.train.x.names] == ["clap"] * 7 + ["wave"] * 7
    assert np.array_equal(data.train.x[0].t, c["t"])
    with pytest.raises(EventFileError, match=r"expected x in 0\.\.15"):
        load("folder", root=tmp_path, sensor_size=(16, 34)).train.x[0]


def test_your_own_folder_with_parts(tmp_path):
    for part in ("train", "validation", "test"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            (tmp_path / part / label / "0.bin").write_bytes(event_files.nmnist_bin(columns(20)))
    data = load("folder", root=tmp_path, sensor_size=(34, 34))
    assert data.test.x.names == ["test/a/0.bin", "test/b/0.bin"]
    (tmp_path / "test" / "a" / "0.bin").unlink()
    (tmp_path / "test" / "b" / "0.bin").unlink()
    with pytest.raises(ValueError, match=r"folder: expected all files under .* got none under \['test'\]"):
        load("folder", root=tmp_path, sensor_size=(34, 34))
    with pytest.raises(ValueError, match="folder: expected a folder for each of two or more labels"):
        load("folder", root=tmp_path / "train" / "a", sensor_size=(34, 34))


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_has_its_own_documented_loader(name):
    module = importlib.import_module(f"spyx.data.sets.{name}")
    assert module.load.__doc__
    assert module.__doc__
