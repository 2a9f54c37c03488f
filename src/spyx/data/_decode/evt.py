"""Prophesee `.raw`: a text header that names the encoding, then EVT2 or EVT3 words."""

from __future__ import annotations

import re

import numpy as np

from spyx.data._decode import evt3
from spyx.data._decode.source import Columns, Source, unwrap

CLOCKS = ("prophesee", "expelliarmus")
TIME_HIGH = 8
EVT2_KINDS = (0, 1, TIME_HIGH, 10, 14, 15)  # off, on, time, trigger, other, continued


def decode(source: Source, *, clock: str = "prophesee") -> Columns:
    """Decodes one recording.

    Args:
        source: the bytes.
        clock: "prophesee" takes the time as Prophesee's format description does. "expelliarmus" counts each fall
            of EVT3's low time bits as a lap of 4,096 microseconds on top of the high bits, which gives the times of
            expelliarmus 1.1.12; a recording then seems to last longer than it did.
    """
    if clock not in CLOCKS:
        raise ValueError(f"read_events: expected clock to be one of {CLOCKS}; got {clock!r}. Leave it out to be safe.")
    lines, start = source.text_header(b"%")
    version, sensor_size = _read_header(source, "\n".join(lines))
    if version == "2":
        return _decode_evt2(source, start, sensor_size)
    return evt3.decode_words(source, start, sensor_size, clock)


def _read_header(source: Source, text: str) -> tuple[str, tuple[int, int] | None]:
    found = re.search(r"^% *(?:evt *|format *EVT)([0-9.]+)", text, re.MULTILINE)
    version = found[1].rstrip(".").removesuffix(".0") if found else "no version"
    if version not in ("2", "3"):
        raise source.error(
            0, "a header line '% evt 2.0' or '% evt 3.0'", version, "EVT2.1 and EVT4 are not read: convert them first."
        )
    width, height = (re.search(rf"{name}=(\d{{1,5}})", text) for name in ("width", "height"))
    if width and height:
        return version, (int(width[1]), int(height[1]))
    pair = re.search(r"^% *geometry *(\d{1,5})x(\d{1,5})", text, re.MULTILINE)
    return version, (int(pair[1]), int(pair[2])) if pair else None


def _decode_evt2(source: Source, start: int, sensor_size: tuple[int, int] | None) -> Columns:
    words = source.records(start, "<u4")
    kind = (words >> 28).astype(np.uint8)
    known = np.isin(kind, EVT2_KINDS)
    if not known.all():
        at = int(np.argmin(known))
        raise source.error(start + 4 * at, "an EVT2 word", f"a word of kind {kind[at]}")
    highs, at = np.flatnonzero(kind == TIME_HIGH), np.flatnonzero(kind <= 1)
    if len(at) and (len(highs) == 0 or highs[0] > at[0]):
        raise source.error(
            start + 4 * int(at[0]), "a time word before the first event", "an event", "Cut recordings at a time word."
        )
    high = unwrap((words[highs] & 0x0FFFFFFF).astype(np.int64), 1 << 28) << 6
    event = words[at]
    t = high[np.searchsorted(highs, at) - 1] + (event >> 22 & 0x3F) if len(at) else np.empty(0, np.int64)
    addresses = {"x": (event >> 11 & 0x7FF).astype(np.uint16), "y": (event & 0x7FF).astype(np.uint16), "p": kind[at]}
    return Columns(t, addresses, lambda i: start + 4 * int(at[i]), sensor_size)
