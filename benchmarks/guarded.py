"""Measures what the guarded reader costs: SHD read through spyx against plain h5py: `python -m benchmarks.guarded`.

Files of SHD's layout and size (8,156 training samples of 7,800 spikes on average) are made in a temporary folder; with
`--data FOLDER`, the published `shd_train.h5` there is read instead. Both sides read every sample, in order, as times
in microseconds and unit numbers, one after the other in the same process, several times over; the medians count.
`--samples` reads fewer of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SAMPLES, MEAN_SPIKES = 8156, 7800
BAR = 1.3


def write(path: Path, samples: int) -> None:
    """A file of SHD's layout: ragged float16 seconds and uint16 units."""
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        ragged = {"times": h5py.vlen_dtype(np.float16), "units": h5py.vlen_dtype(np.uint16)}
        sets = {name: file.create_dataset(f"spikes/{name}", (samples,), dtype) for name, dtype in ragged.items()}
        for i in range(samples):
            size = int(rng.gamma(6, MEAN_SPIKES / 6)) + 1
            sets["times"][i] = np.sort(rng.random(size, np.float32)).astype(np.float16)
            sets["units"][i] = rng.integers(0, 700, size, np.uint16)
        file["labels"] = (np.arange(samples) % 20).astype(np.uint16)
        file["extra/speaker"] = (np.arange(samples) % 12).astype(np.uint16)


def plain(path: Path) -> int:
    """All samples by h5py alone: what a loop over the file does."""
    import h5py

    spikes = 0
    with h5py.File(path, "r") as file:
        times, units = file["spikes/times"], file["spikes/units"]
        for i in range(len(times)):
            t = np.round(np.asarray(times[i], np.float64) * 1e6).astype(np.int64)
            spikes += len(t) + 0 * len(units[i])
    return spikes


def guarded(path: Path) -> int:
    """All samples by spyx, checked and sorted."""
    from spyx.data.sets.heidelberg import read_split

    split, _ = read_split(path, 20, "shd")
    return sum(len(events) for events in split.x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.data / "shd_train.h5" if options.data else Path(folder) / "shd_train.h5"
        if not options.data:
            write(path, options.samples)
        times: dict[Callable[[Path], int], list[float]] = {plain: [], guarded: []}
        spikes = set()
        for _ in range(options.repeats):
            for read, taken in times.items():
                start = time.perf_counter()
                spikes.add(read(path))
                taken.append(time.perf_counter() - start)
        assert len(spikes) == 1
    alone, ours = (statistics.median(taken) for taken in times.values())
    ratio = ours / alone
    pairs = sorted(b / a for a, b in zip(*times.values(), strict=True))
    print(f"{options.samples} samples, {spikes.pop():,} spikes: h5py {alone:.2f} s, spyx {ours:.2f} s, medians")
    print(f"ratios of neighbours {pairs[0]:.2f} to {pairs[-1]:.2f}")
    print(f"ratio {ratio:.2f} ({'met' if ratio <= BAR else 'MISSED'}: at most {BAR})")


if __name__ == "__main__":
    main()
