"""Writes small files of exactly the published layouts of data sets that are too large to be at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data import event_files
from tests.data.event_files import columns


def write_heidelberg(path: Path, count: int, num_classes: int, speakers: list[int] | None = None) -> list[tuple]:
    """A file of exactly the published layout: ragged float16 seconds and uint16 units, labels, speakers, keys."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(count)
    written = []
    with h5py.File(path, "w") as file:
        ragged = {"times": h5py.vlen_dtype(np.float16), "units": h5py.vlen_dtype(np.uint16)}
        sets = {name: file.create_dataset(f"spikes/{name}", (count,), dtype) for name, dtype in ragged.items()}
        for i in range(count):
            size = int(rng.integers(5, 40))
            times = np.sort(rng.uniform(0, 1, size)).astype(np.float16)
            units = rng.integers(0, 700, size).astype(np.uint16)
            sets["times"][i], sets["units"][i] = times, units
            written.append((times, units))
        file["labels"] = (np.arange(count) % num_classes).astype(np.uint16)
        if speakers is not None:
            file["extra/speaker"] = np.array(speakers, np.uint16)
        file["extra/keys"] = np.array([b"zero", b"one"])
    return written


def write_shd(folder: Path, train: int = 8, test: int = 4) -> list[tuple]:
    """SHD: six training speakers, of them 10 and 11, and two others to test on. Returns the training file's spikes."""
    speakers = np.resize([0, 1, 10, 11, 0, 10, 2, 3], train).tolist()
    written = write_heidelberg(folder / "shd_train.h5", train, 20, speakers)
    write_heidelberg(folder / "shd_test.h5", test, 20, np.resize([4, 5], test).tolist())
    return written


def write_ssc(folder: Path, train: int = 5) -> None:
    """SSC: the three published parts."""
    for name, count in (("train", train), ("valid", 3), ("test", 2)):
        write_heidelberg(folder / f"ssc_{name}.h5", count, 35)


def write_dvs_gesture(folder: Path, gestures: int = 2) -> dict:
    """DVS128 Gesture: a trial each of three people, one of them in the test part. Returns the events of every trial."""
    written = columns(400, 128, 128)
    spans = [(1 if i % 2 == 0 else 11, i * 200_000 // gestures, (i + 1) * 200_000 // gestures) for i in range(gestures)]
    table = "".join(f"{label},{start},{stop}\n" for label, start, stop in spans)
    for user in ("user01_led", "user21_lab", "user24_fluorescent"):
        (folder / f"{user}.aedat").write_bytes(event_files.aedat3(written))
        (folder / f"{user}_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{table}")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\nuser21_lab.aedat\n")
    (folder / "trials_to_test.txt").write_text("user24_fluorescent.aedat\n")
    return written


def write_cifar10_dvs(folder: Path, suffix: str = "aedat", training: int = 10) -> dict:
    """CIFAR10-DVS: two of its classes, with two recordings each in the test part. Returns every recording's events."""
    written = columns(30, 128, 128)
    content = event_files.aedat2(written) if suffix == "aedat" else event_files.aedat4(written)
    for name in ("airplane", "truck"):
        (folder / name).mkdir()
        for number in (*range(training), 900, 901):
            (folder / name / f"cifar10_{name}_{number}.{suffix}").write_bytes(content)
    return written


WRITERS = {"shd": write_shd, "ssc": write_ssc, "dvs_gesture": write_dvs_gesture, "cifar10_dvs": write_cifar10_dvs}
"""By the name of the data set; each takes a folder."""
