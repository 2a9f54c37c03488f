"""AEDAT 2.0 of jAER: a text header, then big-endian pairs of a 32-bit address and a 32-bit microsecond time.

What the address bits mean depends on the chip, which the file names only sometimes, so the chip is an option.
"""

from __future__ import annotations

import numpy as np

from spyx.data._decode.source import Columns, Source, unwrap

MARK = b"#!AER-DAT2.0"
# First bit and width of x and y, bit of the polarity, its value for "on", columns (mirrored on the chip), rows.
CHIPS = {
    "dvs128": ((1, 7), (8, 7), 0, 0, 128, 128),
    "davis240": ((12, 10), (22, 9), 11, 1, 240, 180),
    "davis346": ((12, 10), (22, 9), 11, 1, 346, 260),
}


def decode(source: Source, *, chip: str = "dvs128") -> Columns:
    """Decodes the change events of one recording; images and inertial samples of a DAVIS are left out.

    Args:
        source: the bytes.
        chip: "dvs128" (also of CIFAR10-DVS), "davis240" or "davis346".
    """
    if chip not in CHIPS:
        raise ValueError(f"read_events: expected chip to be one of {tuple(CHIPS)}; got {chip!r}. Pass chip=.")
    if source.data[: len(MARK)].tobytes() != MARK:
        raise source.error(0, f"the mark {MARK!r}", repr(source.data[: len(MARK)].tobytes()))
    _, start = source.text_header(b"#")
    (x_low, x_bits), (y_low, y_bits), p_bit, on, width, height = CHIPS[chip]
    records = source.records(start, np.dtype([("address", ">u4"), ("t", ">u4")]))
    address = records["address"].astype(np.uint32)
    other = (address >> 31 != 0) if chip == "dvs128" else (address & 0x80000400) != 0
    at = np.flatnonzero(~other)
    if chip == "dvs128" and len(at) < len(address):
        first = int(np.argmax(other))
        raise source.error(start + 8 * first, "an address of a DVS128", f"{int(address[first]):#010x}", "Pass chip=.")
    address = address[at]
    x = (address >> x_low & (1 << x_bits) - 1).astype(np.int64)
    if len(x) and (top := int(x.max())) >= width:
        worst = start + 8 * int(at[int(np.argmax(x))])
        raise source.error(worst, f"x in 0..{width - 1}", f"x = {top}", "Pass the chip= that recorded the file.")
    addresses = {
        "x": (width - 1 - x).astype(np.uint16),
        "y": (address >> y_low & (1 << y_bits) - 1).astype(np.uint16),
        "p": (address >> p_bit & 1 == on).astype(np.uint8),
    }
    t = unwrap(records["t"].astype(np.int64)[at], 2**32)
    return Columns(t, addresses, lambda i: start + 8 * int(at[i]), (width, height))
