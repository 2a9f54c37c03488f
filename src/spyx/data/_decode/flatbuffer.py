"""The little of FlatBuffers that AEDAT4 needs: find a field of a table, with every offset checked."""

from __future__ import annotations

import struct

import numpy as np


class Damaged(Exception):
    """A buffer that points outside itself."""


def _read(kind: str, buffer: bytes, at: int) -> int:
    if at < 0 or at + struct.calcsize(kind) > len(buffer):
        raise Damaged(f"an offset of {at} in a buffer of {len(buffer)} bytes")
    return struct.unpack_from(kind, buffer, at)[0]


def root(buffer: bytes) -> int:
    """Position of the root table."""
    return _read("<I", buffer, 0)


def field(buffer: bytes, table: int, index: int) -> int | None:
    """Position of field `index` of the table at `table`, or None where it holds its default."""
    layout = table - _read("<i", buffer, table)
    slot = 4 + 2 * index
    if slot + 2 > _read("<H", buffer, layout):
        return None
    offset = _read("<H", buffer, layout + slot)
    return table + offset if offset else None


def integer(buffer: bytes, table: int, index: int, kind: str, default: int) -> int:
    """An integer field."""
    at = field(buffer, table, index)
    return default if at is None else _read(kind, buffer, at)


def structs(buffer: bytes, table: int, index: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """A field that is a vector of structs, and where in the buffer it starts."""
    at = field(buffer, table, index)
    if at is None:
        return np.empty(0, dtype), 0
    vector = at + _read("<I", buffer, at)
    length = _read("<I", buffer, vector)
    if vector + 4 + length * dtype.itemsize > len(buffer):
        raise Damaged(f"a vector of {length} records in a buffer of {len(buffer)} bytes")
    return np.frombuffer(buffer, dtype, length, vector + 4), vector + 4
