"""What SHD and SSC share: spike trains of 700 cochlea units in HDF5 files of one layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spyx.data import _guarded
from spyx.data._decode.hdf5 import SPIKES, faults, spike_columns
from spyx.data._decode.source import Source
from spyx.data._events import Events
from spyx.data._fetch import Progress, download, extract
from spyx.data._recordings import Recordings
from spyx.data._split import Split

CITATION = (
    "B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke (2022). The Heidelberg Spiking Data Sets for the Systematic "
    "Evaluation of Spiking Neural Networks. IEEE TNNLS 33(7). doi:10.1109/TNNLS.2020.3044364"
)
LICENCE = "CC BY 4.0"
SENSOR = (700,)
ADDRESS = "https://zenkelab.org/datasets/"
AT_ONCE, NEAR = 64, 8
"""Recordings read with one request, when the one asked for is at most so many after the one before."""


def fetch(root: Path, name: str, checksum: str, mirrors: Sequence[str] = (), progress: Progress | None = None) -> bool:
    """Downloads and unpacks one file, unless it is there; whether it was fetched.

    Args:
        root: the folder.
        name: of the file.
        checksum: of the archive that holds it.
        mirrors: addresses of folders that hold the archive, tried before the publisher's.
        progress: as for `download`.
    """
    if (root / name).exists():
        return False
    addresses = [f"{folder.rstrip('/')}/{name}.zip" for folder in (*mirrors, ADDRESS)]
    extract(download(addresses, root / f"{name}.zip", checksum, progress=progress), root)
    return True


def read_split(path: Path, num_classes: int, set_name: str) -> tuple[Split, np.ndarray]:
    """One file as a split, and the speaker of each recording (-1 where the file does not say)."""
    if not path.is_file():
        raise ValueError(
            f"{set_name}: expected the file {path.name} in {path.parent}; got no such file. "
            "Pass download=True, or point root= at the folder that holds it."
        )
    source = Source(str(path), np.empty(0, np.uint8))
    limits = _guarded.limits_for(path.stat().st_size)
    with faults(source):
        wanted = ["labels", "extra/speaker"]
        found, shapes, top = _guarded.columns(str(path), wanted, limits, shapes=("spikes/times",))
    if "labels" not in found or not shapes.get("spikes/times"):
        raise source.error(0, "labels and a list /spikes/times", f"{top}")
    labels, count = found["labels"].astype(np.int64), shapes["spikes/times"][0]
    speaker = found.get("extra/speaker", np.full(len(labels), -1))
    if not labels.shape == (count,) == speaker.shape or count == 0:
        raise source.error(0, "a label and a speaker for each recording", f"{labels.shape} labels, {count} recordings")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise source.error(0, f"labels in 0..{num_classes - 1}", f"{labels.min()}..{labels.max()}")
    ahead = _Ahead(path, source, limits, count)

    def read(name: str) -> Events:
        index = int(name.rsplit("#", 1)[1])
        columns = spike_columns(source, *ahead(index), index)
        t, unit = columns.t, columns.addresses["unit"]
        if (t[1:] < t[:-1]).any():
            order = np.argsort(t, kind="stable")
            t, unit = t[order], unit[order]
        if len(unit) and not 0 <= int(unit.min()) <= int(unit.max()) < SENSOR[0]:
            outside = f"{unit.min()}..{unit.max()}"
            raise source.error(0, f"units in 0..{SENSOR[0] - 1} in recording {index}", outside)
        return Events(t, unit=unit, sensor_size=SENSOR)

    status = path.stat()
    names = [f"{path.name}#{i}" for i in range(count)]
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    return Split(Recordings(names, read, stamp=stamp, sensor_size=SENSOR), labels.astype(np.int32)), speaker


class _Ahead:
    """Rows of one file; who reads one after the other gets many with one request."""

    def __init__(self, path: Path, source: Source, limits: _guarded.Limits, count: int) -> None:
        self.path, self.source, self.limits, self.count = str(path), source, limits, count
        self.block: tuple[int, list[np.ndarray], list[np.ndarray]] = (0, [], [])
        self.last = -1

    def __call__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and units of one recording."""
        first, times, units = self.block
        if not first <= index < first + len(times):
            stop = min(index + (AT_ONCE if 0 < index - self.last <= NEAR else 1), self.count)
            with faults(self.source):
                times, units = _guarded.rows(self.path, SPIKES, index, stop, self.limits)
            first, self.block = index, (index, times, units)
        self.last = index
        return times[index - first], units[index - first]
