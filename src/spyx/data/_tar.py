"""Reading a tar archive once, from front to back, in linear time.

`tarfile` searches extended headers with an expression that takes quadratic time (up to Python 3.11.9 and 3.12.5), and
takes a damaged header for the end. What is read here: ustar, GNU long names, names and sizes of pax headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from spyx.data._archive import Bad, Forward

BLOCK = 512
LONGEST_HEADER = 2**20
FILE, FOLDER, LONG_NAME, PAX, PAX_GLOBAL = (b"0", b"\0", b"7"), b"5", b"L", b"x", b"g"


class Member(NamedTuple):
    """A member: `kind` is "file", "folder" or "other"; only a file has a size."""

    name: str
    size: int
    kind: str


class Tar:
    """The members of an archive, one after the other.

    Args:
        source: its bytes.
    """

    def __init__(self, source: Forward) -> None:
        self.source = source
        self.left = self.padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Each member; its content is read before the next one is asked for, or skipped."""
        long_name: str | None = None
        pax: dict[str, str] = {}
        while True:
            at = self.source.at
            header = self.source.read(BLOCK)
            if header.count(0) == BLOCK:
                return
            if len(header) < BLOCK:
                raise Bad(f"an archive without an end at byte {at}")
            kind, size = header[156:157], _number(header[124:136], at)
            if _number(header[148:156], at) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
                raise Bad(f"a header with another checksum at byte {at}")
            if kind in (LONG_NAME, PAX, PAX_GLOBAL):
                if size > LONGEST_HEADER:
                    raise Bad(f"a header of {size} bytes at byte {at}")
                self._begin(size)
                text = self.read(size)
                self._skip()
                if kind == LONG_NAME:
                    long_name = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif kind == PAX:
                    pax = _pax(text, at)
                continue
            name = pax.get("path", long_name if long_name is not None else _name(header))
            if "size" in pax:
                size = _number_of(pax["size"], at)
            what = "other"
            if kind in (*FILE, FOLDER) and not any(key.startswith("GNU.sparse") for key in pax):
                what = "folder" if name.endswith("/") or kind == FOLDER else "file"
            self._begin(size if what == "file" else 0)
            yield Member(name, self.left, what)
            self._skip()
            long_name, pax = None, {}

    def read(self, size: int) -> bytes:
        """The next bytes of the member, none at its end."""
        block = self.source.read(min(size, self.left))
        if len(block) < min(size, self.left):
            raise Bad(f"a member that is cut off at byte {self.source.at}")
        self.left -= len(block)
        return block

    def _begin(self, size: int) -> None:
        self.left, self.padding = size, -size % BLOCK

    def _skip(self) -> None:
        while self.left:
            self.read(2**20)
        if len(self.source.read(self.padding)) < self.padding:
            raise Bad(f"a member that is cut off at byte {self.source.at}")


def _number(field: bytes, at: int) -> int:
    """A number in octal digits, or, marked by the first bit, in binary."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not all(ord("0") <= digit <= ord("7") for digit in digits):
        raise Bad(f"a header that is none at byte {at}")
    return int(digits or b"0", 8)


def _number_of(text: str, at: int) -> int:
    if not text.isdecimal() or len(text) > 19:
        raise Bad(f"a size that is no number at byte {at}")
    return int(text)


def _name(header: bytes) -> str:
    name, prefix = (field.split(b"\0", 1)[0] for field in (header[:100], header[345:500]))
    whole = prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
    return whole.decode("utf-8", "surrogateescape")


def _pax(text: bytes, at: int) -> dict[str, str]:
    """Lines `length key=value`, each of which says how long it is."""
    found, place = {}, 0
    while place < len(text):
        digits, _, _ = text[place : place + 10].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        line = text[place : place + length]
        key, equals, value = line[len(digits) + 1 :].partition(b"=")
        if length <= len(digits) + 2 or len(line) < length or not equals or line[-1:] != b"\n":
            raise Bad(f"an extended header that is damaged at byte {at}")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        place += length
    return found
