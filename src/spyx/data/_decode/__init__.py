"""Reading event files: one function for every format, one error for every fault."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spyx.data._budget import LARGEST
from spyx.data._decode import aedat2, aedat3, aedat4, dat, evt, hdf5, nmnist_bin, numpy_file
from spyx.data._decode.source import Columns, Source
from spyx.data._disk import size_of
from spyx.data._events import MAX_COORDINATE, Events, first_fault

FORMATS: dict[str, Callable[..., Columns]] = {
    "nmnist_bin": nmnist_bin.decode,
    "dat": dat.decode,
    "evt": evt.decode,
    "aedat2": aedat2.decode,
    "aedat3": aedat3.decode,
    "aedat4": aedat4.decode,
    "hdf5": hdf5.decode,
    "npz": numpy_file.decode_npz,
    "npy": numpy_file.decode_npy,
}
_MARKS = (
    (b"#!AER-DAT4.0", "aedat4"),
    (b"#!AER-DAT3.", "aedat3"),
    (b"#!AER-DAT2.0", "aedat2"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
)
_SUFFIXES = {".bin": "nmnist_bin", ".dat": "dat", ".raw": "evt", ".aedat": "aedat2"}
LATEST_US = 2**53
_LIMITS = {"x": MAX_COORDINATE, "y": MAX_COORDINATE, "p": 1, "unit": 2**31 - 1}


def read_events(
    path: str | Path,
    format: str | None = None,
    *,
    sensor_size: tuple[int, ...] | None = None,
    sort: bool = False,
    max_bytes: int | None = None,
    **options: str | int | None,
) -> Events:
    """Reads a whole recording, or raises one error that says where the file is broken.

    Args:
        path: the file.
        format: "nmnist_bin", "dat", "evt", "aedat2", "aedat3", "aedat4", "hdf5", "npz" or "npy"; None looks at the
            first bytes, then at the suffix.
        sensor_size: (width, height), or (units,); an event outside is an error. Default: what the file says.
        sort: True puts events in order of time; False makes a step back in time an error. Default False.
        max_bytes: most bytes that the file may unpack to. Default: 64 MiB and 100 times its size, at most 16 GiB.
        **options: `clock=` for EVT3, `chip=` for AEDAT2, `stream=` for AEDAT4, `index=` for SHD files.

    Returns:
        The events, sorted and checked.

    Raises:
        EventFileError: a ValueError with the file, the byte and what was found there, if the file is empty,
            truncated, unsorted, out of range, damaged or over `max_bytes`.
        FileNotFoundError: no such file.
        ImportError: if the format needs a package that is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "one.bin"
        >>> _ = file.write_bytes(bytes([7, 15, 128, 2, 142]))
        >>> events = read_events(file)
        >>> events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()
        ([654], [7], [15], [1])
    """
    size = size_of(path, "read_events")
    if size > (LARGEST if max_bytes is None else max(max_bytes, LARGEST)):
        nothing = Source(str(path), np.empty(0, np.uint8))
        raise nothing.error(
            0, f"a file of at most {LARGEST} bytes", f"{size}", "Pass max_bytes= if you trust the file."
        )
    content = np.fromfile(path, np.uint8)
    return decode_bytes(content, str(path), format, sensor_size=sensor_size, sort=sort, max_bytes=max_bytes, **options)


def decode_bytes(
    content: bytes | np.ndarray,
    name: str,
    format: str | None = None,
    *,
    sensor_size: tuple[int, ...] | None = None,
    sort: bool = False,
    max_bytes: int | None = None,
    **options: str | int | None,
) -> Events:
    """Does what `read_events` does, for the content of a file that `name` names in errors."""
    source = Source(name, np.frombuffer(content, np.uint8), max_bytes)
    if len(source) == 0:
        raise source.error(0, "a recording", "an empty file")
    format = format or _guess(source)
    if format not in FORMATS:
        raise ValueError(f"read_events: expected a format of {', '.join(FORMATS)}; got {format!r}.")
    decode = FORMATS[format]
    if options and (unknown := set(options) - set(inspect.signature(decode).parameters)):
        raise TypeError(f"read_events: expected options of the format {format}; got {', '.join(sorted(unknown))}.")
    try:
        columns = decode(source, **options)
    except MemoryError:
        raise source.error(0, "a file that fits into memory", f"{len(source)} bytes of {format}") from None
    declared = columns.sensor_size
    if declared is not None and max(declared) > MAX_COORDINATE + 1:
        raise source.error(0, f"a sensor of at most {MAX_COORDINATE + 1} pixels a side", f"{declared}")
    return _checked(source, columns, sensor_size or columns.sensor_size, sort)


def _checked(source: Source, columns: Columns, sensor_size: tuple[int, ...] | None, sort: bool) -> Events:
    t, addresses = columns.t, columns.addresses
    if len(t) == 0:
        raise source.error(len(source), "at least one event", "none", "The recording holds no change events.")
    if int(t.max()) > LATEST_US or int(t.min()) < -LATEST_US:
        at = int(np.argmax((t > LATEST_US) | (t < -LATEST_US)))
        raise source.error(columns.offset_of(at), "a time within 285 years", f"t = {t[at]}")
    t = t.astype(np.int64, copy=False)
    for name, column in addresses.items():
        if len(column) != len(t):
            raise source.error(0, f"{len(t)} values of {name}, as of t", f"{len(column)}")
        if column.dtype.kind != "u" or int(column.max()) > _LIMITS[name]:
            outside = (column < 0) | (column > _LIMITS[name])
            if outside.any():
                at = int(np.argmax(outside))
                raise source.error(columns.offset_of(at), f"{name} in 0..{_LIMITS[name]}", f"{name} = {column[at]}")
    if sort:
        order = np.argsort(t, kind="stable")
        t, addresses = t[order], {name: column[order] for name, column in addresses.items()}
        columns = columns._replace(offset_of=lambda i, original=columns.offset_of: original(int(order[i])))
    fault = first_fault(t, addresses, sensor_size)
    if fault is not None:
        at, expected, found = fault
        action = "Pass sort=True to sort." if "ascending" in expected else "Check sensor_size."
        raise source.error(columns.offset_of(at), expected, found, action)
    return Events(t, **addresses, sensor_size=sensor_size)


def _guess(source: Source) -> str:
    head = source.data[:16].tobytes()
    for mark, format in _MARKS:
        if head.startswith(mark):
            return format
    suffix = Path(source.name).suffix.lower()
    if suffix not in _SUFFIXES:
        raise source.error(0, "a format known by its first bytes or suffix", f"{head[:8]!r}", "Pass format=.")
    return _SUFFIXES[suffix]
