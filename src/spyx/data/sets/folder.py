"""Your own recordings: event files in folders that are named after their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyx.data._archive_or_folder import Store
from spyx.data._decode import decode_bytes
from spyx.data._events import Events
from spyx.data._recordings import Recordings
from spyx.data._split import Dataset, Split, stratified

PARTS = ("train", "validation", "test")


def load(
    *,
    root: str | Path,
    sensor_size: tuple[int, ...],
    format: str | None = None,
    sort: bool = False,
    split_seed: int = 0,
) -> Dataset:
    """Loads `<label>/<file>`, split 70 / 10 / 20 % at random, or `train|validation|test/<label>/<file>` as it is.

    If people, scenes or sessions occur in several recordings, make the three folders yourself: a random split would
    put the same person into training and test.

    Args:
        root: the folder, or a zip archive of it.
        sensor_size: (width, height) of the camera or (units,); events outside are an error.
        format: one of those of `spyx.data.read_events`; None looks at each file. Default None.
        sort: True puts events in order of time instead of refusing unsorted files. Default False.
        split_seed: which stratified split to make where there are no three folders. Default 0.

    Returns:
        Splits whose `x` are `Recordings` and `y` int32: the place of the label among the sorted labels.

    Raises:
        ValueError: if there are fewer than two labels, a part is missing, or a label is too small to split.
    """
    store = Store(root)
    names = [name for name in store.names() if not name.rsplit("/", 1)[-1].startswith(".") and "/" in name]
    labels = sorted({name.split("/")[-2] for name in names})
    parts = {part: [name for name in names if name.split("/")[-3:-2] == [part]] for part in PARTS}
    if len(labels) < 2:
        raise ValueError(f"folder: expected a folder for each of two or more labels in {store.root}; got {labels}.")

    def read(name: str) -> Events:
        return decode_bytes(store.read(name), store.label(name), format, sensor_size=sensor_size, sort=sort)

    def split(chosen: list[str]) -> Split:
        recordings = Recordings(chosen, read, stamp=store.stamp(chosen), sensor_size=sensor_size)
        return Split(recordings, np.array([labels.index(name.split("/")[-2]) for name in chosen], np.int32))

    if any(parts.values()):
        empty = [part for part, chosen in parts.items() if not chosen]
        if empty or sum(map(len, parts.values())) != len(names):
            raise ValueError(
                f"folder: expected all files under {PARTS} in {store.root}; got none under {empty or 'no part'} and "
                f"{len(names) - sum(map(len, parts.values()))} elsewhere."
            )
        made = {part: split(chosen) for part, chosen in parts.items()}
        note = "the three folders"
    else:
        whole = split(names)
        indices = stratified(whole.y, [0.2, 0.1], split_seed)
        if min(map(len, indices)) == 0:
            raise ValueError(f"folder: expected enough files to split 70 / 10 / 20 %; got {len(names)}. Add some.")
        made = dict(zip(("test", "validation", "train"), map(whole.take, indices), strict=True))
        note = f"stratified at random with seed {split_seed}: 70 % train, 10 % validation, 20 % test"
    return Dataset(
        name=f"folder-{store.root.name}",
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        num_classes=len(labels),
        citation="your own recordings",
        licence="yours",
        split_note=note,
        sensor_size=sensor_size,
    )
