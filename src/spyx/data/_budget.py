"""How much a file may unpack to, for everything that reads one: known before memory is taken."""

from __future__ import annotations

FLOOR = 1 << 26
RATIO = 100
LARGEST = 1 << 34


def budget(size: int, max_bytes: int | None = None, largest: int = LARGEST) -> int:
    """Most bytes that a file of `size` bytes may unpack to: 64 MiB and 100 times its size, at most `largest`.

    Args:
        size: bytes of the file.
        max_bytes: what the caller allows in its place, whatever the size.
        largest: limit of large files. Default 16 GiB.

    Example:
        >>> budget(1000), budget(1000, max_bytes=5)
        (67208864, 5)
    """
    return min(largest, FLOOR + RATIO * size) if max_bytes is None else max_bytes
