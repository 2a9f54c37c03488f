"""AEDAT 3.1 of cAER (DVS128 Gesture): a text header, then packets of events behind 28-byte headers."""

from __future__ import annotations

import numpy as np

from spyx.data._decode.source import Columns, Source

MARK = b"#!AER-DAT3."
POLARITY = 1
HEADER = np.dtype(
    [
        ("kind", "<i2"),
        ("source", "<i2"),
        ("size", "<i4"),
        ("time_offset", "<i4"),
        ("overflow", "<i4"),
        ("capacity", "<i4"),
        ("number", "<i4"),
        ("valid", "<i4"),
    ]
)
END_OF_HEADER = "#!END-HEADER"


def decode(source: Source) -> Columns:
    """Decodes the change events of one recording; other kinds and events marked invalid are left out."""
    if source.data[: len(MARK)].tobytes() != MARK:
        raise source.error(0, f"the mark {MARK!r}", repr(source.data[: len(MARK)].tobytes()))
    _, start = source.text_header(b"#", last=END_OF_HEADER)
    at, parts, places = start, [], []
    while at < len(source):
        if len(source) - at < HEADER.itemsize:
            raise source.error(at, f"a packet header of {HEADER.itemsize} bytes", f"{len(source) - at} bytes")
        header = source.data[at : at + HEADER.itemsize].view(HEADER)[0]
        number, size, overflow = (int(header[name]) for name in ("number", "size", "overflow"))
        body, end = at + HEADER.itemsize, at + HEADER.itemsize + size * number
        if size <= 0 or number < 0 or number > int(header["capacity"]) or overflow < 0:
            raise source.error(at, "a packet header", f"{number} events of {size} bytes, overflow {overflow}")
        if end > len(source):
            raise source.error(at, f"a packet of {size * number} bytes", f"{len(source) - body} bytes before the end")
        if header["kind"] == POLARITY:
            if size != 8:
                raise source.error(at, "polarity events of 8 bytes", f"{size} bytes")
            records = source.data[body:end].view("<u4").reshape(-1, 2)
            valid = np.flatnonzero(records[:, 0] & 1)
            stamp = records[valid, 1]
            if len(stamp) and int(stamp.max()) >= 2**31:
                worst = body + 8 * int(valid[int(np.argmax(stamp))])
                raise source.error(worst, "a time of 31 bits", f"{int(stamp.max())}")
            parts.append((stamp.astype(np.int64) + (overflow << 31), records[valid, 0]))
            places.append(body + 8 * valid)
        at = end
    if not parts:
        return Columns(np.empty(0, np.int64), {n: np.empty(0, np.uint16) for n in "xyp"}, lambda i: start)
    t = np.concatenate([times for times, _ in parts])
    data = np.concatenate([words for _, words in parts])
    place = np.concatenate(places)
    addresses = {
        "x": (data >> 17).astype(np.uint16),
        "y": (data >> 2 & 0x7FFF).astype(np.uint16),
        "p": (data >> 1 & 1).astype(np.uint8),
    }
    return Columns(t, addresses, lambda i: int(place[i]))
