"""Spiking Heidelberg Digits: spoken digits in German and English, as spikes of 700 cochlea units."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyx.data._split import Dataset
from spyx.data.sets.heidelberg import CITATION, LICENCE, SENSOR, fetch, read_split

CHECKSUMS = {
    "shd_train.h5": "md5:f3252aeb598ac776c1b526422d90eecb",
    "shd_test.h5": "md5:1503a5064faa34311c398fb0a1ed0a6f",
}


def load(*, root: str | Path, validation_speakers: tuple[int, ...] = (10, 11), download: bool = False) -> Dataset:
    """Loads `shd_train.h5` and `shd_test.h5`.

    SHD has no validation part, and its test part holds two speakers whom training never hears. So whole speakers are
    held out of the training part for validation: choosing on the test part, as is often done, flatters the result.

    Args:
        root: the folder with the two files.
        validation_speakers: speakers (numbers in the file) to hold out of the training part. Default 10 and 11.
        download: True fetches missing files (38 and 130 MB packed) into `root`. Default False.

    Returns:
        Splits whose `x` are `Recordings` (700 units) and `y` int32 in 0..19.

    Raises:
        ValueError: if files are missing or damaged, or holding out these speakers leaves a part empty.
        ImportError: if h5py is not installed.
    """
    root = Path(root)
    if download:
        for name, checksum in CHECKSUMS.items():
            fetch(root, name, checksum)
    whole, speaker = read_split(root / "shd_train.h5", 20, "shd")
    test, _ = read_split(root / "shd_test.h5", 20, "shd")
    held_out = np.isin(speaker, validation_speakers)
    if held_out.all() or not held_out.any():
        raise ValueError(
            f"shd: expected validation_speakers among {sorted(set(speaker.tolist()))}, but not all of them; "
            f"got {validation_speakers}."
        )
    return Dataset(
        name="shd",
        train=whole.take(np.flatnonzero(~held_out)),
        validation=whole.take(np.flatnonzero(held_out)),
        test=test,
        num_classes=20,
        citation=CITATION,
        licence=LICENCE,
        split_note=f"test as published; validation is speakers {list(validation_speakers)} of the training part",
        sensor_size=SENSOR,
    )
