"""Events in NumPy files: `.npz` with arrays t, x, y, p (or t, unit), and `.npy` with a structured array of the same.

Headers are read here rather than by `numpy.load`, so that a damaged header cannot ask for more memory than the file
has bytes, and nothing is ever unpickled.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np

from spyx.data.decode.source import Columns, EventFileError, Source

CAMERA, UNITS = ("x", "y", "p"), ("unit",)
MAGIC = b"\x93NUMPY"
LARGEST_MEMBER = 1 << 32


def decode_npy(source: Source) -> Columns:
    """Decodes a structured array."""
    array = _array(source, source.data.tobytes(), 0)
    if array.dtype.names is None:
        raise source.error(0, "an array with fields t, x, y, p or t, unit", f"an array of {array.dtype}")
    return _columns(source, {name: array[name] for name in array.dtype.names})


def decode_npz(source: Source) -> Columns:
    """Decodes one array for each column."""
    columns = {}
    try:
        with zipfile.ZipFile(io.BytesIO(source.data.tobytes())) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name not in ("t", *CAMERA, *UNITS):
                    continue
                if member.file_size > LARGEST_MEMBER:
                    raise source.error(member.header_offset, "a column of at most 4 GiB", f"{member.file_size} bytes")
                columns[name] = _array(source, archive.read(member), member.header_offset)
    except EventFileError:
        raise
    except Exception as fault:  # zipfile raises six kinds for a damaged archive, and a bare ValueError for some
        raise source.error(0, "a zip archive of arrays", str(fault) or type(fault).__name__) from None
    return _columns(source, columns)


def _columns(source: Source, columns: dict[str, np.ndarray]) -> Columns:
    names = UNITS if "unit" in columns else CAMERA
    missing = [name for name in ("t", *names) if name not in columns]
    if missing:
        raise source.error(0, "columns t, x, y, p or t, unit", f"columns {sorted(columns)}", "Rename the columns.")
    for name in ("t", *names):
        column = columns[name]
        if column.ndim != 1 or len(column) != len(columns["t"]) or column.dtype.kind not in "iub":
            raise source.error(
                0, f"{name} as whole numbers of shape ({len(columns['t'])},)", f"{column.dtype} of shape {column.shape}"
            )
    return Columns(columns["t"], {name: columns[name] for name in names}, lambda i: 0)


def _array(source: Source, content: bytes, at: int) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as fault:  # the header is Python text, and its parser raises what Python's does
        raise source.error(at, "the header of a NumPy array", str(fault).split("\n")[0]) from None
    start = stream.tell()
    if dtype.hasobject or len(shape) != 1 or dtype.itemsize == 0:
        raise source.error(at, "a one-dimensional array of numbers", f"{dtype} of shape {shape}")
    if shape[0] < 0 or shape[0] * dtype.itemsize != len(content) - start:
        raise source.error(at, f"{shape[0] * dtype.itemsize} bytes of numbers", f"{len(content) - start} bytes")
    return np.frombuffer(content, dtype, shape[0], start)
