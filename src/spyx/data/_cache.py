"""Rasterised recordings on disk, eight spikes a byte, memory-mapped and checked.

Layout: 8 bytes of mark, header size (u4), header (JSON: version, frame shape, kind), one record a sample, one CRC-32 a
record (u4), SHA-256 of header and checksums. The version and a digest of the sources and of the recipe are in the
file's name, so an old cache is never taken for a new one. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from spyx.data._disk import naming, opened, part_of
from spyx.data._raster import Raster
from spyx.data._recordings import Recordings
from spyx.data._split import Dataset, Split

VERSION = 1
MOST_AXES = 16
LARGEST = 1 << 42
MARK = b"SPYXBITS"
KINDS = {"bits": np.uint8, "uint8": np.uint8, "uint16": np.uint16, "int16": np.int16}


class Packed:
    """Samples of one shape in a cache file: read packed, unpacked on the device as float32.

    Args:
        path: a file written by `write_packed`.
        rows: which of its samples, in which order. Default: all.

    Raises:
        ValueError: if the file is damaged, truncated or of another version.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "three.spyx"
        >>> write_packed(path, np.eye(3, dtype=np.uint8).reshape(3, 3, 1))
        >>> packed = Packed(path)
        >>> packed.shape, packed.unpack(jnp.asarray(packed.gather(np.array([2])))).ravel().tolist()
        ((3, 3, 1), [0.0, 0.0, 1.0])
    """

    dtype = np.dtype(np.float32)

    def __init__(self, path: str | Path, rows: np.ndarray | None = None) -> None:
        self.path = Path(path)
        header, start, count = _open(self.path)
        self.sample_shape: tuple[int, ...] = tuple(header["shape"])
        self.kind: str = header["kind"]
        self._records = np.memmap(self.path, np.uint8, "r", start, (count, _record_bytes(self.sample_shape, self.kind)))
        self._sums = np.fromfile(self.path, "<u4", count, offset=start + self._records.size)
        self._checked = np.zeros(count, bool)
        self.rows = np.arange(count) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, time, ...)."""
        return (len(self), *self.sample_shape)

    def __getitem__(self, index: int | np.ndarray | slice) -> Packed | np.ndarray:
        """The samples at `index`, still on disk; of one number, that sample as an array (time, ...)."""
        rows = self.rows[index]
        return Packed(self.path, rows) if np.ndim(rows) else np.asarray(Packed(self.path, rows[None]))[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All samples in memory, as they were written: `np.asarray(packed)`."""
        records = self.gather(np.arange(len(self)))
        if self.kind == "bits":
            flat = np.unpackbits(records, axis=1, count=int(np.prod(self.sample_shape)))
        else:
            flat = records.view(np.dtype(KINDS[self.kind]).newbyteorder("<"))
        return flat.reshape(self.shape).astype(dtype or flat.dtype.newbyteorder("="), copy=False)

    def gather(self, index: np.ndarray) -> np.ndarray:
        """Reads packed samples: uint8 of shape (samples, bytes). Each is checked the first time it is read."""
        rows = self.rows[index]
        records = self._records[rows]
        for row, record in zip(rows, records, strict=True):
            if not self._checked[row]:
                if zlib.crc32(record) != self._sums[row]:
                    raise ValueError(
                        f"Packed: expected sample {row} as it was written; got other bytes in {self.path}. "
                        "Delete the file: it is made again from the recordings."
                    )
                self._checked[row] = True
        return records

    def unpack(self, packed: jax.Array) -> jax.Array:
        """Turns packed samples into float32 of shape (batch, time, ...); runs on the device, jit-safe."""
        shape = (packed.shape[0], *self.sample_shape)
        if self.kind == "bits":
            # Five times as fast on a CPU as jnp.unpackbits, which does not fuse with the cast.
            place = jnp.arange(7, -1, -1, dtype=jnp.uint8)[None, None, :]
            bits = packed[:, :, None] >> place & jnp.uint8(1)
            flat = bits.reshape(packed.shape[0], -1)[:, : int(np.prod(self.sample_shape))]
        else:
            dtype = np.dtype(KINDS[self.kind])
            grouped = packed if dtype.itemsize == 1 else packed.reshape(packed.shape[0], -1, dtype.itemsize)
            flat = jax.lax.bitcast_convert_type(grouped, dtype)
        return flat.reshape(shape).astype(jnp.float32)


def write_packed(path: str | Path, samples: Iterable[np.ndarray]) -> None:
    """Writes samples of one shape, one at a time, each 8 to the byte if it holds only zeros and ones by type.

    Args:
        path: where the file appears, when all is written.
        samples: at least one array; uint8 is packed as bits, other kinds are stored as they are.

    Raises:
        ValueError: if there are no samples, shapes differ, or uint8 samples hold more than 0 and 1.
        OSError: if the disk is full or the folder cannot be written; the error names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        with naming(path), part.open("xb") as file:
            _write(file, samples)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def rasterise(dataset: Dataset, raster: Raster, folder: str | Path) -> Dataset:
    """Rasterises every recording of a data set, once: the result is stored in `folder` and read there the next time.

    Args:
        dataset: its splits hold `Recordings`.
        raster: the recipe; it must give every recording equally many frames.
        folder: where cache files live.

    Returns:
        The same data set with `Packed` samples of shape (time, ...).

    Raises:
        ValueError: if the recipe leaves the number of frames open.
        TypeError: if the data set holds no recordings.

    Example:
        >>> import tempfile
        >>> from spyx.data import Events
        >>> spike = Events(t=[0], unit=[1], sensor_size=(2,))
        >>> part = Split(Recordings(["a"], lambda name: spike, stamp="", sensor_size=(2,)), np.array([0], np.int32))
        >>> mine = Dataset("mine", part, part, part, 2, citation="me", licence="CC0", split_note="one recording")
        >>> rasterise(mine, Raster(num_bins=4), tempfile.mkdtemp()).train.x.shape
        (1, 4, 2)
    """
    if raster.num_frames() is None:
        raise ValueError(
            f"rasterise: expected a raster with a fixed number of frames; got {raster}. "
            "Give num_bins, or bin_ms with duration_ms."
        )

    def one(part: str, split: Split) -> Split:
        if not isinstance(split.x, Recordings):
            raise TypeError(
                f"rasterise: expected a data set of recordings; got {type(split.x).__name__} in {dataset.name}. "
                "Its samples are frames already."
            )
        recipe = f"{VERSION} {raster!r} {split.x.sensor_size} {split.x.stamp}"
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        path = Path(folder) / f"{dataset.name}-{part}-{digest}-v{VERSION}.spyx"
        if not path.exists():
            write_packed(path, (raster(events, split.x.sensor_size).x for events in split.x))
        return Split(Packed(path), split.y)

    return dataset.map(one)


def _write(file, samples: Iterable[np.ndarray]) -> None:
    header, first, sums = b"", None, []
    for sample in samples:
        kind = "bits" if sample.dtype == np.uint8 else sample.dtype.name
        if first is None:
            if kind not in KINDS:
                raise ValueError(f"write_packed: expected samples of uint8, uint16 or int16; got {sample.dtype}.")
            first = (sample.shape, kind)
            header = json.dumps({"version": VERSION, "shape": sample.shape, "kind": kind}).encode()
            file.write(MARK + np.uint32(len(header)).tobytes() + header)
        if (sample.shape, kind) != first:
            raise ValueError(f"write_packed: expected samples of {first[1]} {first[0]}; got {kind} {sample.shape}.")
        if kind == "bits" and sample.size and sample.max() > 1:
            raise ValueError(f"write_packed: expected zeros and ones in uint8; got {sample.max()}. Use uint16 counts.")
        record = (
            np.packbits(sample).tobytes() if kind == "bits" else sample.astype(sample.dtype.newbyteorder("<")).tobytes()
        )
        sums.append(zlib.crc32(record))
        file.write(record)
    if first is None:
        raise ValueError("write_packed: expected at least one sample; got none. Check the split.")
    table = np.asarray(sums, "<u4").tobytes()
    file.write(table + hashlib.sha256(header + table).digest())


def _open(path: Path) -> tuple[dict, int, int]:
    """Checks everything but the records: (header, byte where records start, number of records)."""
    with opened(path, "Packed", LARGEST) as file:
        size = os.fstat(file.fileno()).st_size
        mark, length = file.read(len(MARK)), int.from_bytes(file.read(4), "little")
        if mark != MARK or length > 4096:
            raise _damaged(path, f"the mark {mark!r} and a header of {length} bytes")
        raw = file.read(length)
        start = len(MARK) + 4 + length
        try:
            header = json.loads(raw)
            record = _record_bytes(_shape(header["shape"]), header["kind"])
            version = header["version"]
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise _damaged(path, f"a header that cannot be read ({fault})") from None
        count, rest = divmod(size - start - 32, record + 4)
        if version != VERSION or rest or count < 1:
            raise _damaged(path, f"version {version} and {size} bytes")
        file.seek(start + count * record)
        table = file.read(4 * count)
        if hashlib.sha256(raw + table).digest() != file.read(32):
            raise _damaged(path, "a header or checksums that were changed")
    return header, start, count


def _shape(given: int | Sequence[int]) -> tuple[int, ...]:
    """The shape in a header, of whole numbers that a file could hold."""
    if not isinstance(given, list) or len(given) > MOST_AXES or not all(type(n) is int and n >= 1 for n in given):
        raise ValueError(f"the shape {given}"[:80])
    return tuple(given)


def _record_bytes(shape: tuple[int, ...], kind: str) -> int:
    size = math.prod(shape)
    return -(-size // 8) if kind == "bits" else size * np.dtype(KINDS[kind]).itemsize


def _damaged(path: Path, found: str) -> ValueError:
    return ValueError(
        f"Packed: expected a cache file of version {VERSION}; got {found} in {path}. "
        "Delete the file: it is made again from the recordings."
    )
