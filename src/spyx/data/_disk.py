"""Files on disk: regular ones are read, a full disk is told with the name, and part files have names of their own."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the name of the file into an error of the disk that has none, or that of the part it is written to."""
    try:
        yield
    except OSError as fault:
        if fault.errno is not None and str(fault.filename or ".part").endswith(".part"):
            raise OSError(fault.errno, fault.strerror, str(path)) from fault
        raise


def part_of(path: Path) -> Path:
    """A name beside `path` that no other thread or process has: write that file, then move it over `path`."""
    return path.with_name(f"{path.name[:64]}.{secrets.token_hex(8)}.part")


def size_of(path: str | Path, owner: str) -> int:
    """Bytes of a regular file; a pipe or a device could be read without an end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a pipe or a device.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            errno.ENOENT, f"{owner}: expected a file; got none. Check the path", os.fspath(path)
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"{owner}: expected a regular file; got {os.fspath(path)!r}, which is a folder, a pipe or a device. "
            "Check the path."
        )
    return status.st_size


def opened(path: str | Path, owner: str, largest: int) -> BinaryIO:
    """A regular file, open for reading bytes; whoever reads it knows that it ends, and after how much.

    Args:
        path: of the file.
        owner: what errors begin with.
        largest: bytes that it may have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a pipe, a device or a larger file.
    """
    size = size_of(path, owner)  # before it is opened: that alone can make a device do something
    if size > largest:
        raise ValueError(f"{owner}: expected a file of at most {largest} bytes; got {size} in {os.fspath(path)!r}.")
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
