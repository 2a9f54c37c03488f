"""AER `.dat` of Prophesee and ATIS cameras (N-Cars, Gen1): a text header, two bytes of kind, 8 bytes an event.

Version 2 packs x in 14 bits, y in 14 and the polarity above them; version 1 (ATIS) has 9, 8 and 1 bits.
"""

from __future__ import annotations

import re

import numpy as np

from spyx.data._decode.source import Columns, Source, unwrap

KINDS = {0: "two-dimensional events", 12: "contrast detection events"}


def decode(source: Source) -> Columns:
    """Decodes one recording."""
    lines, start = source.text_header(b"%")
    if len(source) < start + 2:
        raise source.error(start, "an event kind and an event size of one byte each", f"{len(source) - start} bytes")
    kind, size = (int(b) for b in source.data[start : start + 2])
    if kind not in KINDS or size != 8:
        raise source.error(
            start,
            "event kind 0 or 12 with 8 bytes an event",
            f"kind {kind} with {size} bytes",
            "Only change events are read.",
        )
    start += 2
    records = source.records(start, np.dtype([("t", "<u4"), ("address", "<u4")]))
    address = records["address"]
    x_bits, y_bits = (14, 14) if _number(lines, "Version", 2) >= 2 else (9, 8)
    addresses = {
        "x": (address & (1 << x_bits) - 1).astype(np.uint16),
        "y": (address >> x_bits & (1 << y_bits) - 1).astype(np.uint16),
        "p": (address >> (x_bits + y_bits) & 1).astype(np.uint8),
    }
    width, height = _number(lines, "Width", 0), _number(lines, "Height", 0)
    t = unwrap(records["t"].astype(np.int64), 2**32)
    return Columns(t, addresses, lambda i: start + 8 * i, (width, height) if width and height else None)


def _number(lines: list[str], name: str, default: int) -> int:
    for line in lines:
        if found := re.fullmatch(rf"% *{name} +(\d{{1,9}})\s*", line):
            return int(found[1])
    return default
