"""AEDAT 4.0 of DV: packets of FlatBuffers, each compressed with LZ4 or Zstandard or not at all."""

from __future__ import annotations

import re
import struct

import numpy as np

from spyx.data._budget import budget
from spyx.data._decode import flatbuffer
from spyx.data._decode.codec import HIGHEST, LOWEST, unpacker
from spyx.data._decode.flatbuffer import Damaged
from spyx.data._decode.source import Columns, Source

MAGIC = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype({"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12],
                  "itemsize": 16})  # fmt: skip


def decode(source: Source, *, stream: int | None = None) -> Columns:
    """Decodes the change events of one recording.

    Args:
        source: the bytes.
        stream: which stream to read where a file holds events of several cameras.
    """
    compression, table_at, info, at = _read_header(source)
    end = table_at if table_at > 0 else len(source)
    if end > len(source):
        raise source.error(len(source), f"packets up to byte {end}", "the end of the file")
    unpack, left = unpacker(compression), budget(len(source), source.max_bytes)
    parts: list[np.ndarray] = []
    places: list[int] = []
    streams: set[int] = set()
    while at < end:
        if end - at < 8:
            raise source.error(at, "a packet header of 8 bytes", f"{end - at} bytes")
        number, size = (int(n) for n in source.data[at : at + 8].view("<i4"))
        if size <= 0 or at + 8 + size > end:
            raise source.error(at, "a packet that ends inside the file", f"a packet of {size} bytes")
        try:
            packet = unpack(source.data[at + 8 : at + 8 + size].tobytes(), left)
        except Damaged as fault:
            raise source.error(at + 8, "a packet that unpacks", str(fault)) from None
        left -= len(packet)
        events = _events(source, at + 8, packet)
        if events is not None and (stream is None or stream == number):
            streams.add(number)
            parts.append(events)
            places.append(at)
        at += 8 + size
    if len(streams) > 1:
        raise source.error(places[0], "events of one camera", f"streams {sorted(streams)}", "Pass stream= to choose.")
    return _columns(source, parts, places, _sensor_size(info, streams))


def _columns(source: Source, parts: list[np.ndarray], places: list[int], size: tuple[int, int] | None) -> Columns:
    events = np.concatenate(parts) if parts else np.empty(0, EVENT)
    starts = np.cumsum([0, *(len(part) for part in parts)])

    def offset_of(event: int) -> int:
        return places[int(np.searchsorted(starts, event, side="right")) - 1]

    for name in ("x", "y"):
        if len(events) and int(events[name].min()) < 0:
            worst = int(np.argmin(events[name]))
            raise source.error(offset_of(worst), f"{name} >= 0", f"{name} = {events[name][worst]}")
    if len(events) and int(events["p"].max()) > 1:
        worst = int(np.argmax(events["p"]))
        raise source.error(offset_of(worst), "a polarity of 0 or 1", f"{events['p'][worst]}")
    addresses = {"x": events["x"].astype(np.uint16), "y": events["y"].astype(np.uint16), "p": events["p"].copy()}
    return Columns(events["t"].astype(np.int64), addresses, offset_of, size)


def _read_header(source: Source) -> tuple[int, int, str, int]:
    start = len(MAGIC)
    if source.data[:start].tobytes() != MAGIC:
        raise source.error(0, f"the mark {MAGIC!r}", repr(source.data[:start].tobytes()))
    if len(source) < start + 4:
        raise source.error(start, "a header size of 4 bytes", f"{len(source) - start} bytes")
    size = int(source.data[start : start + 4].view("<u4")[0])
    header = source.data[start + 4 : start + 4 + size].tobytes()
    if len(header) != size or header[4:8] != b"IOHE":
        raise source.error(start, "a header marked IOHE", f"{size} bytes marked {header[4:8]!r}")
    try:
        table = flatbuffer.root(header)
        compression = flatbuffer.integer(header, table, 0, "<i", LOWEST)
        table_at = flatbuffer.integer(header, table, 1, "<q", -1)
    except Damaged as fault:
        raise source.error(start + 4, "a header table", str(fault)) from None
    if not LOWEST <= compression <= HIGHEST:
        raise source.error(start + 4, "a compression number in 0..4", str(compression))
    return compression, table_at, header.decode("latin-1"), start + 4 + size


def _events(source: Source, at: int, packet: bytes) -> np.ndarray | None:
    """The events of a packet, or None where it holds something else."""
    if len(packet) < 12:
        raise source.error(at, "a packet of at least 12 bytes", f"{len(packet)} bytes")
    if packet[8:12] != b"EVTS":
        return None
    if struct.unpack_from("<I", packet)[0] != len(packet) - 4:
        raise source.error(at, f"a packet of {len(packet) - 4} bytes", f"{struct.unpack_from('<I', packet)[0]}")
    body = packet[4:]
    try:
        return flatbuffer.structs(body, flatbuffer.root(body), 0, EVENT)[0]
    except Damaged as fault:
        raise source.error(at, "a table of events", str(fault)) from None


def _sensor_size(info: str, streams: set[int]) -> tuple[int, int] | None:
    if len(streams) != 1:
        return None
    end = f"/outInfo/{min(streams)}/info/"
    for node in info.split('path="/mainloop/')[1:]:  # every node is looked at once: the time is linear
        path, _, rest = node.partition('"')
        block = rest.partition("</node>")[0]
        if path.endswith(end):
            sides = [re.search(rf'key="size{axis}" type="int">(\d{{1,5}})<', block) for axis in "XY"]
            return (int(sides[0][1]), int(sides[1][1])) if sides[0] and sides[1] else None
    return None
