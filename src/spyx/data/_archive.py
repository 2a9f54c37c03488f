"""Reading zip and tar archives that may lie: every checksum is reached, and nothing grows beyond its budget."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

BLOCK = 1 << 20
SMALL_BLOCK = 1 << 12
"""What is read at once of a method that unpacks whole blocks, however much they grow."""
LARGEST_DICTIONARY = 1 << 28
DISK = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE", "ENFILE", "ENOENT", "EFBIG")
    if hasattr(errno, name)
)
"""Errors of the disk, which are not the archive's fault."""
END_OF_ZIP = struct.Struct("<4s4H2LH")
GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"


class Bad(Exception):
    """An archive that is not what it says it is; the text says what."""


class Refused(ValueError):
    """An archive that may be intact and is not wanted; the text is that of the error."""


@contextmanager
def faults() -> Iterator[None]:
    """Turns everything that the archive modules raise for a damaged archive into `Bad`."""
    try:
        yield
    except (Bad, Refused):
        raise
    except OSError as fault:
        if fault.errno in DISK:
            raise
        raise Bad(str(fault)) from None
    except MemoryError:
        raise Bad("it asks for more memory than there is") from None
    except (ArithmeticError, EOFError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError) as fault:
        raise Bad(str(fault) or type(fault).__name__) from None
    except Exception as fault:  # tarfile, zipfile, zlib and lzma each have errors of their own
        raise Bad(str(fault) or type(fault).__name__) from None


class Readable(Protocol):
    """A file, or a member of an archive."""

    def read(self, size: int, /) -> bytes: ...


def copy(source: Readable, write: Callable[[bytes], object], size: int, block: int) -> None:
    """Copies exactly `size` bytes and makes sure that there are no more, which also checks the checksum."""
    left = size
    while piece := source.read(min(block, left + 1)):
        left -= len(piece)
        if left < 0:
            break
        write(piece)
    if left:
        raise Bad(f"{size} bytes are promised, and {'more' if left < 0 else size - left} are there")


def unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """The content of one member of a zip archive; the caller has checked its size."""
    whole = bytearray()
    with archive.open(member) as source:
        copy(source, whole.extend, member.file_size, block_of(member))
    return whole


def block_of(member: zipfile.ZipInfo) -> int:
    """How much of a member may be read at once."""
    return BLOCK if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else SMALL_BLOCK


class Forward:
    """The bytes of a tar archive, unpacked from front to back and counted.

    Args:
        file: the archive as it lies on disk.
        most: how many bytes it may unpack to.
    """

    def __init__(self, file: IO[bytes], most: int) -> None:
        head = file.read(8)
        file.seek(0)
        self.most, self.at = most, 0
        self.source: Readable = file
        if head.startswith(GZIP):
            self.source = gzip.GzipFile(fileobj=file)
        elif head.startswith(BZIP2):
            self.source = _Unpacked(file, bz2.BZ2Decompressor)
        elif head.startswith(XZ):
            self.source = _Unpacked(file, lambda: lzma.LZMADecompressor(memlimit=LARGEST_DICTIONARY))

    def read(self, size: int) -> bytes:
        """As a file's; more than the budget is an error before it is unpacked."""
        if size < 0 or self.at + size > self.most + BLOCK:
            raise Bad(f"it unpacks to more than {self.most} bytes")
        parts, left = [], size
        while left and (part := self.source.read(left)):
            parts.append(part)
            left -= len(part)
        self.at += size - left
        if self.at > self.most:
            raise Bad(f"it unpacks to more than {self.most} bytes")
        return b"".join(parts)

    def finish(self) -> None:
        """Read to the end, where the checksum is; after a tar archive there are only zeros."""
        while piece := self.read(min(BLOCK, self.most + BLOCK - self.at)):
            if piece.strip(b"\0"):
                raise Bad("something follows the end of the archive")


class _Unpacked:
    """A bzip2 or xz file of one or more streams, with a limit on what is unpacked at once."""

    def __init__(self, file: IO[bytes], make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self.file, self.make = file, make
        self.stream = make()

    def read(self, size: int) -> bytes:
        while True:
            data = b""
            if self.stream.eof:
                data = self.stream.unused_data.lstrip(b"\0")
                while not data and (more := self.file.read(BLOCK)):
                    data = more.lstrip(b"\0")
                if not data:
                    return b""
                self.stream = self.make()
            elif self.stream.needs_input:
                data = self.file.read(SMALL_BLOCK)
                if not data:
                    raise Bad("it is cut off")
            piece = self.stream.decompress(data, size)
            if piece:
                return piece


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members of a zip archive: as many as it says, each under a name of its own; a folder is empty.

    `zipfile` does not count, and takes a file whose name ends with a slash for a folder.
    """
    found = archive.infolist()
    listed = _count(archive)
    if listed not in (None, len(found)):
        raise Bad(f"{len(found)} members where it lists {listed}")
    names = [info.filename for info in found]
    if "" in names:
        raise Bad("a member without a name")
    if len(set(names)) < len(names):
        raise Bad(f"a name that is there twice, {next(name for name in names if names.count(name) > 1)!r}")
    for info in found:
        if info.is_dir():
            with archive.open(info) as source:  # the local header has the name once more
                if info.file_size or source.read(1):
                    raise Bad(f"a folder with content, {info.filename!r}")
    return found


def _count(archive: zipfile.ZipFile) -> int | None:
    """How many members the end of the archive says there are; None where a larger table says so."""
    file = archive.fp
    if file is None:
        return None
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - END_OF_ZIP.size - 2**16, 0))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END_OF_ZIP.size:
        return None
    count = END_OF_ZIP.unpack_from(tail, at)[4]
    return None if count == 0xFFFF else count
