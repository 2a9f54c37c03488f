"""Events in NumPy files: `.npz` with arrays t, x, y, p (or t, unit), and `.npy` with a structured array of the same.

Headers are read here rather than by `numpy.load`, so that a damaged header cannot ask for more memory than the file
has bytes, and nothing is ever unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection

import numpy as np

from spyx.data._archive import unzip
from spyx.data._decode.source import Columns, EventFileError, Source

CAMERA, UNITS = ("x", "y", "p"), ("unit",)
MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 17


def decode_npy(source: Source) -> Columns:
    """Decodes a structured array."""
    array = _array(source, source.data.data, 0, "this file")
    if array.dtype.names is None or array.ndim != 1:
        raise source.error(0, "a list with fields t, x, y, p or t, unit", f"{array.dtype} of shape {array.shape}")
    return _columns(source, {name: array[name] for name in array.dtype.names})


def decode_npz(source: Source) -> Columns:
    """Decodes one array for each column."""
    return _columns(source, arrays(source, ("t", *CAMERA, *UNITS)))


def array(source: Source) -> np.ndarray:
    """The array of an `.npy` file."""
    return _array(source, source.data.data, 0, "this file")


def arrays(source: Source, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, or those with one of the wanted names; what is over the budget is not unpacked."""
    found: dict[str, np.ndarray] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(source.data.data)) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if wanted is not None and name not in wanted:
                    continue
                if name in found:
                    raise source.error(member.header_offset, "one array of each name", f"{name} twice")
                total += member.file_size
                source.afford(member.header_offset, total, "arrays")
                found[name] = _array(source, memoryview(unzip(archive, member)), member.header_offset, name)
    except EventFileError:
        raise
    except Exception as fault:  # zipfile raises six kinds for a damaged archive, and a bare ValueError for some
        raise source.error(0, "a zip archive of arrays", str(fault) or type(fault).__name__) from None
    return found


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


def _array(source: Source, content: memoryview, at: int, name: str) -> np.ndarray:
    stream = io.BytesIO(content[:LONGEST_HEADER])
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as fault:  # the header is Python text, and its parser raises what Python's does
        raise source.error(at, f"the header of a NumPy array in {name}", str(fault).split("\n")[0]) from None
    start = stream.tell()
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise source.error(at, f"an array of numbers or texts in {name}", f"{dtype} of shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size != len(content) - start:
        raise source.error(at, f"{size} bytes of numbers in {name}", f"{len(content) - start} bytes")
    values = np.frombuffer(content, dtype, offset=start) if size else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran else "C")
