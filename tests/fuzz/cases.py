"""One damaged file after the other, and what reading makes of each."""

from __future__ import annotations

import os
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fuzz.formats import REFUSALS, Format, digest
from fuzz.mutations import damaged

LIMIT_S, LIMIT_MIB = 10, 1024
PATIENCE = 6
"""Times the limit by the clock: other programs take their part of the machine."""


def peak_mib() -> float:
    """Most memory that this process, or one of its children, has held so far."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def standing_mib() -> float:
    """What this process holds now: in a long session of tests it may be most of a gigabyte before the first file."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return 0.0


def computing_s() -> float:
    """Time that this process, and those of its children that ended, have computed so far."""
    return sum(os.times()[:4])


def outcomes(one: Format, count: int, seed: int, folder: Path) -> Iterator[str]:
    """What became of each of `count` damaged files: refused, same, DIFFERENT, or a fault in capitals.

    Different contents are a fault where a checksum covers them, and a number to report where none does.
    """
    path = folder / one.file
    path.unlink(missing_ok=True)
    one.make(path)
    whole = path.read_bytes()
    expected = digest(one.read(path))
    before = {name.name for name in folder.iterdir()}
    for number in range(count):
        rng = random.Random(f"{seed} {one.name} {number}")
        bad = damaged(whole, rng)
        path.write_bytes(bad)
        began, computed, most = time.monotonic(), computing_s(), max(peak_mib(), standing_mib() + LIMIT_MIB)
        try:
            found = digest(one.read(path))
            outcome = "same" if found == expected else "DIFFERENT" if one.checksum else "different"
        except REFUSALS as error:
            outcome = "refused" if one.file in str(error) or not bad else f"NAMELESS {error}"
        except Exception as error:
            outcome = f"RAISED {type(error).__name__} {error}"
        if computing_s() - computed > LIMIT_S or time.monotonic() - began > PATIENCE * LIMIT_S:
            outcome = "SLOW"
        if peak_mib() > most:
            outcome = f"LARGE {peak_mib():.0f} MiB"
        left = {name.name for name in folder.iterdir()} - before - {"out"}
        if left:
            outcome = f"LEFT {left}"
        yield outcome if outcome.islower() else f"{outcome} (seed {seed}, case {number})"


def faults(found: Counter[str]) -> dict[str, int]:
    """The outcomes that are none of refused, same and different."""
    return {outcome: count for outcome, count in found.items() if outcome not in ("refused", "same", "different")}
