"""DVS128 Gesture: eleven hand and arm gestures of 29 people in front of an event camera."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np

from spyx.data._archive_or_folder import Store
from spyx.data._decode import decode_bytes
from spyx.data._events import Events
from spyx.data._recordings import Recordings
from spyx.data._split import Dataset, Split

CITATION = (
    "A. Amir et al. (2017). A Low Power, Fully Event-Based Gesture Recognition System. "
    "IEEE Conference on Computer Vision and Pattern Recognition. doi:10.1109/CVPR.2017.781"
)
SENSOR = (128, 128)
NUM_CLASSES = 11
COLUMNS = ["class", "startTime_usec", "endTime_usec"]


def load(*, root: str | Path, validation_users: tuple[int, ...] = (21, 22, 23)) -> Dataset:
    """Loads the published layout: `user*.aedat` (AEDAT 3.1), `user*_labels.csv` and the two lists of trials.

    The published test part holds people whom training never sees, so validation holds out people as well.

    Args:
        root: the folder (or a zip archive of it) with `trials_to_train.txt` and `trials_to_test.txt`.
        validation_users: people to hold out of the training part. Default 21, 22 and 23.

    Returns:
        Splits whose `x` are `Recordings` (128 by 128 pixels, one gesture each) and `y` int32 in 0..10.

    Raises:
        ValueError: if files are missing or of another layout, or holding out these people leaves a part empty.
    """
    store = Store(root)
    trials, test_trials = _trials(store, "trials_to_train.txt"), _trials(store, "trials_to_test.txt")
    held_out = [name for name in trials if _user(name) in validation_users]
    training = [name for name in trials if name not in held_out]
    if not held_out or not training:
        raise ValueError(
            f"dvs_gesture: expected validation_users among {sorted({_user(name) for name in trials})}, but not all of "
            f"them; got {validation_users}."
        )
    return Dataset(
        name="dvs_gesture",
        train=_split(store, training),
        validation=_split(store, held_out),
        test=_split(store, test_trials),
        num_classes=NUM_CLASSES,
        citation=CITATION,
        licence="CC BY 4.0",
        split_note=f"test as published; validation is users {list(validation_users)} of the training part",
        sensor_size=SENSOR,
    )


def _trials(store: Store, name: str) -> list[str]:
    found = store.names(suffix=name)
    if len(found) != 1:
        raise ValueError(f"dvs_gesture: expected one file {name} in {store.root}; got {len(found)}. Check root=.")
    folder = found[0].removesuffix(name)
    lines = store.read(found[0]).decode("ascii", "replace").split()
    return [folder + line for line in lines if line.endswith(".aedat")]


def _user(name: str) -> int:
    digits = name.rsplit("/", 1)[-1].removeprefix("user")[:2]
    return int(digits) if digits.isdigit() else -1


def _split(store: Store, trials: list[str]) -> Split:
    names, labels = [], []
    for trial in trials:
        table = trial.removesuffix(".aedat") + "_labels.csv"
        rows = list(csv.DictReader(store.read(table).decode("ascii", "replace").splitlines()))
        for row in rows:
            if list(row)[:3] != COLUMNS or not all((row[name] or "").isdigit() for name in COLUMNS):
                raise ValueError(f"dvs_gesture: expected columns {COLUMNS} of numbers; got {row} in {table}.")
            label, start, stop = (int(row[name]) for name in COLUMNS)
            if not 1 <= label <= NUM_CLASSES or stop <= start:
                raise ValueError(f"dvs_gesture: expected a class in 1..11 and a time span; got {row} in {table}.")
            names.append(f"{trial}#{start}-{stop}")
            labels.append(label - 1)

    @lru_cache(maxsize=1)
    def whole(trial: str) -> Events:
        return decode_bytes(store.read(trial), store.label(trial), "aedat3", sensor_size=SENSOR, sort=True)

    def read(name: str) -> Events:
        trial, span = name.rsplit("#", 1)
        start, stop = (int(n) for n in span.split("-"))
        return whole(trial).between(start, stop)

    recordings = Recordings(names, read, stamp=store.stamp(trials), sensor_size=SENSOR)
    return Split(recordings, np.array(labels, np.int32))
