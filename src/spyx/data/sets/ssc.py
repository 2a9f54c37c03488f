"""Spiking Speech Commands: 35 spoken words, as spikes of 700 cochlea units."""

from __future__ import annotations

from pathlib import Path

from spyx.data._split import Dataset
from spyx.data.sets.heidelberg import CITATION, LICENCE, SENSOR, fetch, read_split

CHECKSUMS = {
    "ssc_train.h5": "md5:d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid.h5": "md5:b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test.h5": "md5:a35ff1e9cffdd02a20eb850c17c37748",
}


def load(*, root: str | Path, download: bool = False) -> Dataset:
    """Loads `ssc_train.h5`, `ssc_valid.h5` and `ssc_test.h5`, the parts as published.

    Args:
        root: the folder with the three files.
        download: True fetches missing files into `root`. Default False.

    Returns:
        Splits whose `x` are `Recordings` (700 units) and `y` int32 in 0..34.

    Raises:
        ValueError: if files are missing or damaged.
        ImportError: if h5py is not installed.
    """
    root = Path(root)
    if download:
        for name, checksum in CHECKSUMS.items():
            fetch(root, name, checksum)
    train, validation, test = (read_split(root / name, 35, "ssc")[0] for name in CHECKSUMS)
    return Dataset(
        name="ssc",
        train=train,
        validation=validation,
        test=test,
        num_classes=35,
        citation=CITATION,
        licence=LICENCE,
        split_note="train, validation and test as published",
        sensor_size=SENSOR,
    )
