"""EVT3, the 16-bit words of Prophesee `.raw` files.

A word changes a state (the clock, the row, the base column) or carries events that take the state as it is. Nothing
here loops over words: a state is repeated once for each event that arrives before its next change.
"""

from __future__ import annotations

import numpy as np

from spyx.data._decode.evt3_loop import decode_loop
from spyx.data._decode.source import Columns, Source, unwrap

ROW, SINGLE, BASE, VECTOR12, VECTOR8, TIME_LOW, TIME_HIGH = 0, 2, 3, 4, 5, 6, 8
IGNORED = (7, 10, 14, 15)  # continuations, external triggers, other
UNKNOWN = 255
BYTES_PER_EVENT = 13


def _events_per_word() -> np.ndarray:
    words = np.arange(1 << 16, dtype=np.uint32)
    kind = words >> 12
    count = np.full(1 << 16, UNKNOWN, np.uint8)
    count[np.isin(kind, (ROW, BASE, TIME_LOW, TIME_HIGH, *IGNORED))] = 0
    count[kind == SINGLE] = 1
    for vector, mask in ((VECTOR12, 0xFFF), (VECTOR8, 0xFF)):
        count[kind == vector] = np.bitwise_count(words[kind == vector] & mask)
    return count


_EVENTS = _events_per_word()


def decode_words(source: Source, start: int, sensor_size: tuple[int, int] | None, clock: str) -> Columns:
    """Decodes the words from byte `start` on."""
    words = source.records(start, "<u2")
    fast = decode_loop(words, _EVENTS, clock == "expelliarmus", lambda events: _afford(source, start, events))
    if fast is not None:
        t, x, y, p = fast
        return Columns(t, {"x": x, "y": y, "p": p}, lambda event: _place(words, start, event), sensor_size)
    kind = (words >> 12).astype(np.uint8)
    counts = np.take(_EVENTS, words)
    if len(counts) and counts.max() == UNKNOWN:
        at = int(np.argmax(counts == UNKNOWN))
        raise source.error(start + 2 * at, "an EVT3 word", f"a word of kind {kind[at]}")
    ends = np.cumsum(counts, dtype=np.int64)
    _afford(source, start, int(ends[-1]) if len(ends) else 0)

    def each_event(states: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
        """Repeats each state's value for the events up to the next state."""
        total = int(ends[-1]) if len(ends) else 0
        before = ends[states]
        if total and (len(states) == 0 or before[0] > 0):
            raise source.error(
                _place(words, start, 0),
                f"a {name} word before the first event",
                "an event",
                "Cut recordings at a time word.",
            )
        return np.repeat(values, np.diff(before, append=total))

    times = np.flatnonzero((kind == TIME_LOW) | (kind == TIME_HIGH))
    t = each_event(times, _CLOCKS[clock](words[times], kind[times]), "time")
    rows = np.flatnonzero(kind == ROW)
    y = each_event(rows, words[rows] & np.uint16(0x7FF), "row")
    column = _columns(source, start, words, kind, counts, ends)
    addresses = {"x": column & np.uint16(0x7FF), "y": y, "p": (column >> 11).astype(np.uint8)}
    return Columns(t, addresses, lambda event: _place(words, start, event), sensor_size)


def _afford(source: Source, start: int, events: int) -> None:
    source.afford(start, BYTES_PER_EVENT * events, "events")


def _place(words: np.ndarray, start: int, event: int) -> int:
    """The byte of the word that carries an event."""
    return start + 2 * int(np.searchsorted(np.cumsum(np.take(_EVENTS, words), dtype=np.int64), event, side="right"))


def _columns(
    source: Source, start: int, words: np.ndarray, kind: np.ndarray, counts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """The column of each event, with the polarity in bit 11."""
    singles = np.flatnonzero(kind == SINGLE)
    vectors = np.flatnonzero((kind == VECTOR12) | (kind == VECTOR8))
    if len(vectors) == 0:
        return words[singles] & np.uint16(0xFFF)
    bases = np.flatnonzero(kind == BASE)
    if len(bases) == 0 or bases[0] > vectors[0]:
        raise source.error(start + 2 * int(vectors[0]), "a base column word before the first vector", "a vector")
    # A base moves on by the width of each vector that follows it.
    width = np.where(kind[vectors] == VECTOR12, 12, 8)
    travelled = np.cumsum(width) - width
    first = np.searchsorted(vectors, bases)
    following = np.diff(first, append=len(vectors))
    base = np.repeat(words[bases] & np.uint16(0xFFF), following)
    moved = travelled - np.repeat(travelled[np.minimum(first, len(vectors) - 1)], following)
    masks = words[vectors] & np.where(width == 12, np.uint16(0xFFF), np.uint16(0xFF))
    bits = np.unpackbits(masks.astype("<u2").view(np.uint8), bitorder="little")
    step = np.flatnonzero(bits) & 15
    many = counts[vectors].astype(np.int64)
    x = np.repeat((base & np.uint16(0x7FF)) + moved, many) + step
    if len(x) and (top := int(x.max())) > 0x7FF:
        worst = np.repeat(vectors, many)[int(np.argmax(x))]
        raise source.error(start + 2 * int(worst), "a column in 0..2047", f"x = {top}")
    merged = np.empty(int(ends[-1]), np.uint16)
    merged[ends[singles] - 1] = words[singles] & np.uint16(0xFFF)
    slot = np.repeat(ends[vectors] - many - (np.cumsum(many) - many), many) + np.arange(len(x))
    merged[slot] = x | np.repeat(base & np.uint16(0x800), many)
    return merged


def _clock(words: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Time after each time word: 12 high bits that wrap, 12 low bits that start again when the high bits move on."""
    part = (words & np.uint16(0xFFF)).astype(np.int64)
    highs = np.flatnonzero(kind == TIME_HIGH)
    laps = unwrap(part[highs], 1 << 12)
    high = _hold(laps, highs, len(words))
    moved = highs[np.diff(laps, prepend=-1) != 0]
    lows = np.flatnonzero((kind == TIME_LOW) | np.isin(np.arange(len(words)), moved))
    low = _hold(np.where(kind[lows] == TIME_LOW, part[lows], 0), lows, len(words))
    return (high << 12) + low


def _clock_of_expelliarmus(words: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """As `_clock`, but each fall of the low bits also counts as a lap, as expelliarmus 1.1.12 does."""
    part = (words & np.uint16(0xFFF)).astype(np.int64)
    highs, lows = np.flatnonzero(kind == TIME_HIGH), np.flatnonzero(kind == TIME_LOW)
    high = _hold(unwrap(part[highs], 1 << 12), highs, len(words))
    falls = np.cumsum(np.diff(part[lows], prepend=0) < 0)
    return (high + _hold(falls, lows, len(words)) << 12) + _hold(part[lows], lows, len(words))


_CLOCKS = {"prophesee": _clock, "expelliarmus": _clock_of_expelliarmus}


def _hold(values: np.ndarray, changes: np.ndarray, length: int) -> np.ndarray:
    """A state at each of `length` words, given its values at `changes`; 0 before the first."""
    bounds = np.concatenate([changes, [length]])
    return np.concatenate([np.zeros(bounds[0], values.dtype), np.repeat(values, np.diff(bounds))])
