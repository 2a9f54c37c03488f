"""What SHD and SSC share: spike trains of 700 cochlea units in HDF5 files of one layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyx.data.decode.hdf5 import opened, spike_columns
from spyx.data.decode.source import Source
from spyx.data.events import Events
from spyx.data.fetch import download, extract
from spyx.data.recordings import Recordings
from spyx.data.split import Split

CITATION = (
    "B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke (2022). The Heidelberg Spiking Data Sets for the Systematic "
    "Evaluation of Spiking Neural Networks. IEEE TNNLS 33(7). doi:10.1109/TNNLS.2020.3044364"
)
LICENCE = "CC BY 4.0"
SENSOR = (700,)
ADDRESS = "https://zenkelab.org/datasets/"


def fetch(root: Path, name: str, checksum: str) -> None:
    """Downloads and unpacks one file, unless it is there."""
    if not (root / name).exists():
        extract(download(f"{ADDRESS}{name}.zip", root / f"{name}.zip", checksum), root)


def read_split(path: Path, num_classes: int, set_name: str) -> tuple[Split, np.ndarray]:
    """One file as a split, and the speaker of each recording (-1 where the file does not say)."""
    if not path.is_file():
        raise ValueError(
            f"{set_name}: expected the file {path.name} in {path.parent}; got no such file. "
            "Pass download=True, or point root= at the folder that holds it."
        )
    source = Source(str(path), np.empty(0, np.uint8))
    with opened(None, str(path)) as file:
        labels = np.asarray(file["labels"][:]).astype(np.int32)
        count = len(file["spikes/times"])
        speaker = np.asarray(file["extra/speaker"][:]) if "extra/speaker" in file else np.full(len(labels), -1)
    if not len(labels) == count == len(speaker) or len(labels) == 0:
        raise source.error(0, "a label and a speaker for each recording", f"{len(labels)} labels, {count} recordings")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise source.error(0, f"labels in 0..{num_classes - 1}", f"{labels.min()}..{labels.max()}")

    def read(name: str) -> Events:
        with opened(None, str(path)) as file:
            columns = spike_columns(source, file, int(name.rsplit("#", 1)[1]))
        order = np.argsort(columns.t, kind="stable")
        return Events(columns.t[order], unit=columns.addresses["unit"][order], sensor_size=SENSOR)

    status = path.stat()
    names = [f"{path.name}#{i}" for i in range(count)]
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    return Split(Recordings(names, read, stamp=stamp, sensor_size=SENSOR), labels), speaker
