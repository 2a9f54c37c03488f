"""Writing files: a full disk is told with the file's name, and part files have names that nobody else uses."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Puts the name of the file into an error of the disk that has none, such as that of a full one."""
    try:
        yield
    except OSError as fault:
        if fault.filename is None and fault.errno is not None:
            raise OSError(fault.errno, fault.strerror, str(path)) from fault
        raise


def part_of(path: Path) -> Path:
    """A name beside `path` that no other thread or process has: write that file, then move it over `path`."""
    return path.with_name(f"{path.name[:64]}.{secrets.token_hex(8)}.part")
