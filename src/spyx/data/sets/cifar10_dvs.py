"""CIFAR10-DVS: CIFAR-10 images moved on a screen in front of an event camera."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spyx.data._archive_or_folder import Store
from spyx.data._decode import decode_bytes
from spyx.data._events import Events
from spyx.data._recordings import Recordings
from spyx.data._split import Dataset, Split, stratified

CITATION = (
    "H. Li, H. Liu, X. Ji, G. Li and L. Shi (2017). CIFAR10-DVS: An Event-Stream Dataset for Object Classification. "
    "Frontiers in Neuroscience 11:309. doi:10.3389/fnins.2017.00309"
)
SENSOR = (128, 128)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(*, root: str | Path, first_test: int = 900, validation: float = 0.1, split_seed: int = 0) -> Dataset:
    """Loads `<class>/cifar10_<class>_<number>.aedat` (AEDAT 2.0) or `.aedat4` files.

    The publishers give no split. As most papers do, the recordings from number 900 on are the test part; unlike most
    papers, a validation part is held out of the rest.

    Args:
        root: the folder (or a zip archive of it) with one folder for each class.
        first_test: number of the first test recording of each class. Default 900.
        validation: share of the other recordings held out, stratified, in (0, 1). Default 0.1.
        split_seed: which recordings are held out. Default 0.

    Returns:
        Splits whose `x` are `Recordings` (128 by 128 pixels, about 1.2 s) and `y` int32 in 0..9.

    Raises:
        ValueError: if `root` holds no recordings in that layout.
    """
    store = Store(root)
    pattern = re.compile(r"(?:.*/)?(" + "|".join(CLASSES) + r")/[^/]*?(\d+)\.aedat4?")
    found = [(name, match) for name in store.names() if (match := pattern.fullmatch(name))]
    number = np.array([int(match[2]) for _, match in found], np.int64)
    is_test = number >= first_test
    if is_test.all() or not is_test.any():
        raise ValueError(
            f"cifar10_dvs: expected files <class>/..._<number>.aedat on both sides of number {first_test} in "
            f"{store.root}; got {len(found)} files. Check root= and first_test=."
        )
    names = [name for name, _ in found]

    def read(name: str) -> Events:
        format = "aedat4" if name.endswith("4") else "aedat2"
        return decode_bytes(store.read(name), store.label(name), format, sensor_size=SENSOR, sort=True)

    recordings = Recordings(names, read, stamp=store.stamp(names), sensor_size=SENSOR)
    whole = Split(recordings, np.array([CLASSES.index(match[1]) for _, match in found], np.int32))
    rest = np.flatnonzero(~is_test)
    held_out, training = stratified(whole.y[rest], [validation], split_seed)
    return Dataset(
        name="cifar10_dvs",
        train=whole.take(rest[training]),
        validation=whole.take(rest[held_out]),
        test=whole.take(np.flatnonzero(is_test)),
        num_classes=len(CLASSES),
        citation=CITATION,
        licence="CC BY 4.0",
        split_note=f"test is numbers >= {first_test}; {validation:.0%} of the rest held out with seed {split_seed}",
        sensor_size=SENSOR,
    )
