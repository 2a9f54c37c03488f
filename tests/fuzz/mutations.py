"""Damage to the bytes of a file: what disks, transfers and mischief do."""

from __future__ import annotations

import random
import struct

EXTREMES = (0, 1, -1, 2**15 - 1, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One kind of damage, at a random place."""
    place, bad = rng.randrange(len(data)), bytearray(data)
    length = min(rng.choice([1, 2, 8, 64, 512]), len(data) - place)
    other = rng.randrange(len(data) - length + 1)
    kind = rng.randrange(10)
    if kind == 0:
        return data[:place]
    if kind == 1:
        bad[place] ^= 1 << rng.randrange(8)
    elif kind == 2:
        for _ in range(rng.choice([1, 4, 32])):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
    elif kind == 3:
        bad[place : place + length] = rng.randbytes(length)
    elif kind == 4:
        bad[place : place + length] = bytes(length)
    elif kind == 5:
        bad[rng.randrange(min(2048, len(bad)))] = rng.randrange(256)
    elif kind == 6:
        bad[place : place + length], bad[other : other + length] = (
            bad[other : other + length],
            bad[place : place + length],
        )
    elif kind == 7:
        bad[place:place] = rng.randbytes(length) if rng.random() < 0.5 else b""
        del bad[other : other + length]
    elif kind == 8:  # a number that is as large as its field
        size = rng.choice([1, 2, 4, 8])
        value = rng.choice(EXTREMES) % 2 ** (8 * size)
        place = min(place if rng.random() < 0.5 else rng.randrange(min(256, len(bad))), len(bad) - size)
        bad[place : place + size] = struct.pack("<Q", value)[:size]
    else:  # a part that is there twice
        bad[other:other] = data[place : place + length]
    return bytes(bad)
