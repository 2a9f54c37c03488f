"""N-MNIST: MNIST digits seen by an event camera that makes three small saccades."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyx.data._archive_or_folder import Store
from spyx.data._decode import decode_bytes
from spyx.data._recordings import Recordings
from spyx.data._split import Dataset, Split, stratified

CITATION = (
    "G. Orchard, A. Jayawant, G. K. Cohen and N. Thakor (2015). Converting Static Image Datasets to Spiking "
    "Neuromorphic Datasets Using Saccades. Frontiers in Neuroscience 9:437. doi:10.3389/fnins.2015.00437"
)
SENSOR = (34, 34)


def load(*, root: str | Path, validation: float = 0.1, split_seed: int = 0) -> Dataset:
    """Loads N-MNIST, or a part of it, from its own layout: `Train/<label>/<id>.bin` and `Test/<label>/<id>.bin`.

    Args:
        root: the folder, or a zip archive of it, that holds `Train` and `Test`.
        validation: share of the training recordings held out, stratified, in (0, 1). Default 0.1.
        split_seed: which recordings are held out. Default 0.

    Returns:
        Splits whose `x` are `Recordings` (34 by 34 pixels, about 308 ms) and `y` int32 in 0..9.

    Raises:
        ValueError: if `root` holds no recordings in that layout.
    """
    store = Store(root)
    train, test = (_part(store, part) for part in ("Train", "Test"))
    held_out, training = stratified(train.y, [validation], split_seed)
    return Dataset(
        name="nmnist",
        train=train.take(training),
        validation=train.take(held_out),
        test=test,
        num_classes=10,
        citation=CITATION,
        licence="CC BY-SA 4.0",
        split_note=f"test as published; {validation:.0%} of the training recordings held out with seed {split_seed}",
        sensor_size=SENSOR,
    )


def _part(store: Store, part: str) -> Split:
    names = [n for n in store.names(suffix=".bin") if n.split("/")[-3:-2] == [part]]
    labels = [name.split("/")[-2] for name in names]
    if not names or not all(label in list("0123456789") for label in labels):
        raise ValueError(
            f"nmnist: expected files {part}/<digit>/<id>.bin in {store.root}; got {len(names)} of them. "
            "Point root= at the folder or archive that holds Train and Test."
        )
    recordings = Recordings(
        names,
        lambda name: decode_bytes(store.read(name), store.label(name), "nmnist_bin", sensor_size=SENSOR),
        stamp=store.stamp(names),
        sensor_size=SENSOR,
    )
    return Split(recordings, np.array(labels, np.int32))
