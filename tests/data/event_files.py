"""Writes event files of every format from plain columns, following the format descriptions, for tests to read back."""

from __future__ import annotations

import io
import struct

import numpy as np


def columns(count: int = 400, width: int = 34, height: int = 34, seed: int = 0, last_us: int = 300_000) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "t": np.sort(rng.integers(1, last_us, count)),
        "x": rng.integers(0, width, count),
        "y": rng.integers(0, height, count),
        "p": rng.integers(0, 2, count),
    }


def rows(c: dict) -> list[tuple[int, int, int, int]]:
    return [tuple(int(v) for v in row) for row in zip(c["t"], c["x"], c["y"], c["p"], strict=True)]


def nmnist_bin(c: dict) -> bytes:
    return b"".join(
        bytes([x, y, p << 7 | t >> 16 & 127, t >> 8 & 255, t & 255]) for t, x, y, p in rows(c)
    )  # 23 bits of time


def dat(c: dict, header: bytes = b"% Data file\n% Version 2\n% Width 34\n% Height 34\n", kind: int = 12) -> bytes:
    body = b"".join(struct.pack("<II", t % 2**32, x | y << 14 | p << 28) for t, x, y, p in rows(c))
    return header + bytes([kind, 8]) + body


def evt2(c: dict) -> bytes:
    words, high = [], None
    for t, x, y, p in rows(c):
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high % 2**28)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return b"% evt 2.0\n" + struct.pack(f"<{len(words)}I", *words)


def evt3(c: dict, vectors: bool = True) -> bytes:
    """Runs of events with one time, row and polarity and rising x become vectors where `vectors` is set."""
    words: list[int] = []
    high = low = row = None
    events, at = rows(c), 0
    while at < len(events):
        t, x, y, p = events[at]
        if t >> 12 != high:
            high, low = t >> 12, None
            words.append(8 << 12 | high % 4096)
        if t & 4095 != low:
            low = t & 4095
            words.append(6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        run = [x]
        while (
            vectors
            and at + len(run) < len(events)
            and (events[at + len(run)][0], *events[at + len(run)][2:]) == (t, y, p)
            and run[-1] < events[at + len(run)][1] < x + 32
        ):
            run.append(events[at + len(run)][1])
        if len(run) == 1:
            words.append(2 << 12 | p << 11 | x)
        else:
            words.append(3 << 12 | p << 11 | x)
            bits = sum(1 << (column - x) for column in run)
            words += [4 << 12 | bits & 4095, 4 << 12 | bits >> 12 & 4095, 5 << 12 | bits >> 24 & 255]
        at += len(run)
    return b"% evt 3.0\n% geometry 640x480\n" + struct.pack(f"<{len(words)}H", *words)


def aedat2(c: dict) -> bytes:
    """DVS128 addresses: x mirrored, bit 0 clear for on."""
    body = b"".join(struct.pack(">II", y << 8 | (127 - x) << 1 | 1 - p, t) for t, x, y, p in rows(c))
    return b"#!AER-DAT2.0\r\n# made for a test\r\n" + body


def aedat3(c: dict, packet: int = 100, invalid: int = 3) -> bytes:
    """Packets of polarity events with some invalid ones and a packet of another kind between them."""
    out = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"]
    events = rows(c)
    for first in range(0, len(events), packet):
        part = events[first : first + packet]
        body = b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in part)
        body += struct.pack("<II", 127 << 17, part[-1][0]) * invalid
        number = len(part) + invalid
        out.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, number, number, len(part)) + body)
        out.append(struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8))
    return b"".join(out)


def aedat4(c: dict, pack=lambda packet: packet, compression: int = 0, packet: int = 100) -> bytes:
    """Header and packets as FlatBuffers laid out by hand: one table with its fields, one vector of structs."""
    table = (
        struct.pack("<I4s", 16, b"IOHE") + struct.pack("<HHHH", 8, 16, 4, 8) + struct.pack("<iiq", 8, compression, -1)
    )
    info = b'<node path="/mainloop/Recorder/outInfo/0/info/"><attr key="sizeX" type="int">34</attr>'
    info += b'<attr key="sizeY" type="int">34</attr></node>'
    header = table + info
    out = [b"#!AER-DAT4.0\r\n", struct.pack("<I", len(header)), header]
    events = rows(c)
    for first in range(0, len(events), packet):
        part = events[first : first + packet]
        body = b"".join(struct.pack("<qhhB3x", t, x, y, p) for t, x, y, p in part)
        buffer = struct.pack("<I4sHHHH", 16, b"EVTS", 6, 8, 4, 0) + struct.pack("<iII", 8, 4, len(part)) + body
        content = pack(struct.pack("<I", len(buffer)) + buffer)
        out.append(struct.pack("<ii", 0, len(content)) + content)
        other = pack(struct.pack("<II4s", 8, 4, b"IMUS") + bytes(4))
        out.append(struct.pack("<ii", 1, len(other)) + other)
    return b"".join(out)


def npz(c: dict) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **c)
    return stream.getvalue()


def npy(c: dict) -> bytes:
    stream = io.BytesIO()
    table = np.zeros(len(c["t"]), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
    for name in c:
        table[name] = c[name]
    np.save(stream, table, allow_pickle=False)
    return stream.getvalue()


def hdf5(c: dict, offset: int = 0) -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name in c:
            file[f"events/{name}"] = c[name]
        file["t_offset"] = offset
    return stream.getvalue()


WRITERS = {
    "nmnist_bin": nmnist_bin,
    "dat": dat,
    "evt2": evt2,
    "evt3": evt3,
    "aedat2": aedat2,
    "aedat3": aedat3,
    "aedat4": aedat4,
    "npz": npz,
    "npy": npy,
    "hdf5": hdf5,
}
SUFFIX = {"nmnist_bin": "bin", "evt2": "raw", "evt3": "raw", "hdf5": "h5"}
