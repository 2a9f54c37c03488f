"""Events in HDF5: camera recordings as columns of `/events` (as in DSEC), spike recordings as `/spikes` (SHD, SSC).

The file is opened by the guarded reader: a damaged one cannot hang or crash this process, and one that points at
other files is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from spyx.data import _guarded
from spyx.data._decode.source import Columns, Source

US_PER_S = 1_000_000
CAMERA = ("x", "y", "p")
SPIKES = ("spikes/times", "spikes/units")
LATEST_OFFSET = 2**53


@contextmanager
def faults(source: Source) -> Iterator[None]:
    """Turns the guarded reader's refusals into the one error of event files."""
    try:
        yield
    except _guarded.Damaged as fault:
        raise source.error(0, "an HDF5 file that can be read", f"a fault ({_first_line(fault)})") from None
    except _guarded.Refused as fault:
        action = "Pass max_bytes= if you trust the file." if fault.budget else "Do not trust the file."
        raise source.error(0, "an HDF5 file of plain data", f"{fault.place}, which {fault.what},", action) from None
    except ImportError as missing:
        raise ImportError(
            f"read_events: expected the package {missing.name}, which reads HDF5; got no such package. "
            "Run pip install 'spyx-jax[data]'."
        ) from missing


def _first_line(fault: Exception) -> str:
    return str(fault).split("\n")[0][:200]


def decode(source: Source, *, index: int | None = None) -> Columns:
    """Decodes one recording.

    Args:
        source: the bytes.
        index: which recording to read from a file of many spike recordings.
    """
    limits = _guarded.limits_for(len(source), source.max_bytes)
    content = source.data.data
    names = [f"events/{name}" for name in ("t", *CAMERA)]
    with faults(source):
        found, shapes, top = _guarded.columns(content, [*names, "t_offset"], limits, shapes=SPIKES[:1])
        if shapes:
            count = shapes[SPIKES[0]][0] if shapes[SPIKES[0]] else 0
            if index is None or not 0 <= index < count:
                raise source.error(0, f"an index in 0..{count - 1}", f"index={index}", "Pass index=.")
            (seconds,), (unit,) = _guarded.rows(content, SPIKES, index, index + 1, limits)
            return spike_columns(source, seconds, unit, index)
    missing = [name for name in names if name not in found]
    if missing:
        raise source.error(0, "groups /events with t, x, y and p, or /spikes", f"no {missing[0]} beside {top}")
    columns = {name: _column(source, f"/events/{name}", found[f"events/{name}"]) for name in ("t", *CAMERA)}
    t = columns.pop("t")
    return Columns(t if "t_offset" not in found else _moved(source, t, found["t_offset"]), columns, lambda i: 0)


def spike_columns(source: Source, seconds: np.ndarray, unit: np.ndarray, index: int) -> Columns:
    """Checks recording `index` of the SHD layout: times in seconds and unit numbers."""
    if seconds.shape != unit.shape:
        raise source.error(0, f"as many units as times in recording {index}", f"{unit.shape} and {seconds.shape}")
    if seconds.dtype.kind != "f" or unit.dtype.kind not in "iu":
        raise source.error(0, "times in seconds and whole unit numbers", f"{seconds.dtype} and {unit.dtype}")
    seconds = seconds.astype(np.float64)
    if len(seconds) and not (np.abs(seconds).max() <= 1e6):
        raise source.error(0, f"finite times in recording {index}", "a time that is no number of seconds")
    t = np.rint(seconds * US_PER_S).astype(np.int64)
    return Columns(t, {"unit": unit}, lambda i: 0)


def _column(source: Source, name: str, column: np.ndarray) -> np.ndarray:
    if column.ndim != 1 or column.dtype.kind not in "iub":
        raise source.error(0, f"{name} as a list of whole numbers", f"{column.dtype} of shape {column.shape}")
    return column


def _moved(source: Source, t: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Times plus `t_offset`; neither may be so large that the sum wraps around."""
    if (
        offset.shape not in ((), (1,))
        or offset.dtype.kind not in "iu"
        or abs(int(offset.reshape(-1)[0])) > LATEST_OFFSET
    ):
        raise source.error(0, "one whole number within 285 years as t_offset", f"{offset}"[:80])
    if len(t) and max(abs(int(t.min())), abs(int(t.max()))) > LATEST_OFFSET:
        raise source.error(0, "times within 285 years", f"t from {t.min()} to {t.max()}")
    return t.astype(np.int64) + int(offset.reshape(-1)[0])
