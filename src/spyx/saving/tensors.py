"""Arrays by name in a safetensors file, with text beside them: written whole or not at all, every size checked.

The format is that of https://huggingface.co/docs/safetensors: eight bytes with the length of a JSON header, the header,
and the bytes of all arrays without gaps. Nothing in it is code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from spyx.data._disk import naming, part_of

if TYPE_CHECKING:
    from os import PathLike

    from jaxtyping import Shaped, UInt8

    from spyx.data._json import JSON, Object

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 1 << 25
MOST_AXES = 32
DIGEST = "sha256"


class Damaged(ValueError):
    """What is wrong with a file, in the middle of a sentence, and what to do."""

    def __init__(self, what: str, advice: str = "Save it again.") -> None:
        super().__init__(what)
        self.advice = advice


class Contents(NamedTuple):
    """Arrays by name, and text by name."""

    arrays: dict[str, Shaped[np.ndarray, "..."]]
    texts: dict[str, str]


def write(path: str | PathLike[str], arrays: Mapping[str, Shaped[np.ndarray, "..."]], texts: Mapping[str, str]) -> None:
    """Write a file with a SHA-256 of all that it holds."""
    table: Object = {}
    place = 0
    # Wide items first, so that every array lies at a multiple of its item's size.
    ordered = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    for name in ordered:
        array = arrays[name]
        table[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    # Bytes of an array in C order, little-endian: what the format says.
    buffers = [np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8) for name in ordered]
    digest = _digest(table, texts, buffers)
    header = json.dumps({"__metadata__": {**texts, DIGEST: digest}, **table}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    part = part_of(Path(path))
    try:
        with naming(path):
            with part.open("wb") as file:
                file.write(len(header).to_bytes(8, "little"))
                file.write(header)
                for buffer in buffers:
                    file.write(memoryview(buffer))  # type: ignore[arg-type]
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read(path: str | PathLike[str]) -> Contents:
    """Every array and every text but the digest.

    Raises:
        Damaged: anything but a whole file that `write` wrote.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size - 8):
            raise Damaged("a header that does not fit into the file")
        header = _parsed(file.read(length))
        try:
            data = np.frombuffer(file.read(size - 8 - length), np.uint8)
        except MemoryError:
            raise Damaged(f"{size} bytes, which do not fit into memory", "Check the file.") from None
    if len(data) != size - 8 - length:
        raise Damaged("a file that was cut off while it was read")
    found = header.pop("__metadata__", {})
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise Damaged("metadata that is no text")
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    arrays, place = {}, 0
    for name, entry in sorted(header.items(), key=_begin):
        dtype, shape, begin, end = _entry(name, entry)
        if begin != place or end > len(data):
            raise Damaged(f"{name!r} at {begin} to {end} of {len(data)} bytes, where {place} is next")
        arrays[name] = data[begin:end].view(dtype).reshape(shape)
        place = end
    if place != len(data):
        raise Damaged(f"{len(data) - place} bytes that belong to no array")
    expected = texts.pop(DIGEST, None)
    if expected != _digest(header, texts, [data]):
        raise Damaged("contents that do not match their SHA-256" if expected else "no SHA-256 of the contents")
    return Contents(arrays, texts)


def parsed_json(text: str | bytes) -> JSON:
    """JSON without repeated names, NaN or infinity, and without deep nesting."""

    def once(pairs: list[tuple[str, JSON]]) -> Object:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Damaged("JSON that repeats a name")
        return found

    def finite(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            raise Damaged(f"the number {word[:20]}")
        return value

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=finite, parse_float=finite)
    except RecursionError as error:
        raise Damaged("JSON that is nested too deeply") from error
    except Damaged:
        raise
    except ValueError as error:  # also text that is no UTF-8, and a number of too many digits
        raise Damaged(f"no JSON: {str(error)[:100]}") from error


def _parsed(header: bytes) -> Object:
    found = parsed_json(header)
    if not isinstance(found, dict):
        raise Damaged("a header that is no JSON object")
    return found


def _begin(item: tuple[str, object]) -> tuple[int, int]:
    offsets = item[1].get("data_offsets") if isinstance(item[1], dict) else None
    whole = isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets)
    return (offsets[0], offsets[1]) if whole else (0, 0)  # type: ignore[index]


def _entry(name: str, entry: object) -> tuple[np.dtype, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Damaged(f"{name!r} without dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Damaged(f"{name!r} with the dtype {str(dtype)[:20]!r}")
    for what, numbers, most in (("shape", shape, MOST_AXES), ("data_offsets", offsets, 2)):
        if not isinstance(numbers, list) or len(numbers) > most or not all(type(n) is int and n >= 0 for n in numbers):
            raise Damaged(f"{name!r} with the {what} {str(numbers)[:60]}")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise Damaged(f"{name!r} of shape {shape} and dtype {dtype} in {str(offsets)[:60]}")
    return DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _digest(table: Object, texts: Mapping[str, str], buffers: list[UInt8[np.ndarray, " bytes"]]) -> str:
    found = hashlib.sha256(json.dumps([dict(texts), dict(table)], sort_keys=True).encode())
    for buffer in buffers:
        found.update(buffer)  # type: ignore[arg-type]
    return found.hexdigest()
