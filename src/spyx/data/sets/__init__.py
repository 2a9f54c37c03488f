"""The data sets spyx knows by name, one file each."""

from __future__ import annotations

import importlib

from spyx.data._split import Dataset

NAMES = (
    "digits",
    "randman",
    "yinyang",
    "shd",
    "ssc",
    "nmnist",
    "dvs_gesture",
    "cifar10_dvs",
    "spoken_digits",
    "qtdb_ecg",
    "braille",
    "folder",
)


def load(name: str, /, **options: object) -> Dataset:
    """Loads a data set by name; `spyx.data.sets.<name>.load` documents its options.

    Args:
        name: one of `spyx.data.sets.NAMES`.
        **options: passed to that data set's own `load` (a seed for generated data, `root=` for files on disk).

    Returns:
        A `Dataset` with `train`, `validation` and `test`.

    Raises:
        ValueError: if no data set has that name.

    Example:
        >>> load("yinyang", num_samples=100, seed=0).num_classes
        3
    """
    if name not in NAMES:
        raise ValueError(f"load: expected the name of a data set; got {name!r}. The names are: {', '.join(NAMES)}.")
    return importlib.import_module(f"spyx.data.sets.{name}").load(**options)
