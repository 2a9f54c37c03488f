"""Events in HDF5: camera recordings as columns of `/events` (as in DSEC), spike recordings as `/spikes` (SHD, SSC)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from spyx.data.decode.source import Columns, EventFileError, Source

US_PER_S = 1_000_000
LARGEST_COLUMN = 1 << 33
CAMERA = ("x", "y", "p")


@contextmanager
def opened(source: Source | None, path: str) -> Iterator[Any]:
    """Opens a file from its bytes (or its path) and turns the library's complaints into ours."""
    try:
        import h5py
    except ImportError as missing:
        raise ImportError(
            "read_events: expected the package h5py, which reads HDF5; got no such package. "
            "Run pip install 'spyx-jax[data]'."
        ) from missing
    blame = source or Source(path, np.empty(0, np.uint8))
    try:
        with h5py.File(io.BytesIO(source.data.tobytes()) if source else path, "r") as file:
            yield file
    except EventFileError:
        raise
    except Exception as fault:  # the library promises no particular kind for a damaged file
        found = str(fault).split("\n")[0] or type(fault).__name__
        raise blame.error(0, "an HDF5 file that can be read", found) from None


def decode(source: Source, *, index: int | None = None) -> Columns:
    """Decodes one recording.

    Args:
        source: the bytes.
        index: which recording to read from a file of many spike recordings.
    """
    with opened(source, source.name) as file:
        if "spikes" in file:
            count = len(file["spikes/times"])
            if index is None or not 0 <= index < count:
                raise source.error(0, f"an index in 0..{count - 1}", f"index={index}", "Pass index=.")
            return spike_columns(source, file, index)
        if "events" not in file:
            raise source.error(0, "a group /events or /spikes", f"{sorted(file)}")
        group = file["events"]
        missing = [name for name in ("t", *CAMERA) if name not in group]
        if missing:
            raise source.error(0, "/events with t, x, y and p", f"{sorted(group)}")
        columns = {name: _whole(source, f"/events/{name}", group[name]) for name in ("t", *CAMERA)}
        offset = int(file["t_offset"][()]) if "t_offset" in file else 0
    t = columns.pop("t")
    if offset:
        t = t.astype(np.int64) + offset
    return Columns(t, columns, lambda i: 0)


def spike_columns(source: Source, file: Any, index: int) -> Columns:
    """Reads recording `index` of the SHD layout: times in seconds and unit numbers, one array of each a recording."""
    seconds = np.asarray(file["spikes/times"][index])
    unit = np.asarray(file["spikes/units"][index])
    if seconds.ndim != 1 or seconds.shape != unit.shape:
        raise source.error(0, f"as many units as times in recording {index}", f"{unit.shape} and {seconds.shape}")
    if seconds.dtype.kind != "f" or unit.dtype.kind not in "iu":
        raise source.error(0, "times in seconds and whole unit numbers", f"{seconds.dtype} and {unit.dtype}")
    seconds = seconds.astype(np.float64)
    if not np.isfinite(seconds).all() or (len(seconds) and np.abs(seconds).max() > 1e6):
        raise source.error(0, f"finite times in recording {index}", "a time that is no number of seconds")
    t = np.round(seconds * US_PER_S).astype(np.int64)
    return Columns(t, {"unit": unit}, lambda i: 0)


def _whole(source: Source, name: str, dataset: Any) -> np.ndarray:
    if dataset.ndim != 1 or dataset.dtype.kind not in "iub":
        raise source.error(0, f"{name} as a list of whole numbers", f"{dataset.dtype} of shape {dataset.shape}")
    if dataset.size * dataset.dtype.itemsize > LARGEST_COLUMN:
        raise source.error(0, f"{name} of at most {LARGEST_COLUMN} bytes", f"{dataset.size} values")
    return np.asarray(dataset[:])
