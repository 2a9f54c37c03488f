"""Measures the data pipeline against its bars: `python -m benchmarks.data --data FOLDER`.

FOLDER holds `nmnist_small.zip` and `events/evt3_sample.raw`. Prints one row a bar: what, measured, bar, met or not.
Times are the best of several repetitions of one process on this machine; say which machine when you quote them.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

RASTER = {"bin_ms": 10, "duration_ms": 310, "start": "zero", "binary": True}


def best(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def first_batch(data: Path, cache: Path) -> float:
    from spyx.data import Loader, Raster, load, rasterise

    start = time.perf_counter()
    recordings = load("nmnist", root=data / "nmnist_small.zip")
    frames = rasterise(recordings, Raster(**RASTER), cache)
    batch = next(iter(Loader(frames.train, 32, key=0)))
    batch.x.block_until_ready()
    return time.perf_counter() - start


def in_fresh_process(what: str, *arguments: str) -> float:
    """Runs one measurement where nothing is compiled or imported; imports of jax itself are not counted."""
    command = [sys.executable, "-m", "benchmarks.data", "--only", what, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def decode_nmnist(data: Path) -> float:
    """Million events a second over all recordings, from bytes in memory to validated events."""
    from spyx.data._decode import decode_bytes

    with zipfile.ZipFile(data / "nmnist_small.zip") as archive:
        contents = [archive.read(name) for name in archive.namelist() if name.endswith(".bin")]
    events = sum(len(content) for content in contents) // 5
    seconds = best(lambda: [decode_bytes(c, "a.bin", "nmnist_bin", sensor_size=(34, 34)) for c in contents], 5)
    return events / seconds / 1e6


def decode_evt3(data: Path) -> tuple[float, float | None]:
    """Million events a second, ours and expelliarmus's, the same file in the same process."""
    from spyx.data import read_events

    path = data / "events" / "evt3_sample.raw"
    events = len(read_events(path))
    ours = events / best(lambda: read_events(path), 30) / 1e6
    with contextlib.suppress(ImportError):
        from expelliarmus import Wizard

        wizard = Wizard(encoding="evt3")
        return ours, events / best(lambda: wizard.read(str(path)), 30) / 1e6
    return ours, None


def epoch_over_device(data: Path, cache: Path) -> float:
    """Time of a training epoch from the cache over that with all batches on the device already."""
    import jax
    import jax.numpy as jnp

    from spyx import fn
    from spyx.data import Loader, Raster, load, rasterise

    frames = rasterise(load("nmnist", root=data / "nmnist_small.zip"), Raster(**RASTER), cache)
    size = int(np.prod(frames.train.x.sample_shape[1:]))
    weights = jax.random.normal(jax.random.key(0), (size, 256)) * 0.02, jnp.zeros((256, 10))

    def loss(w, x, y):
        def step(v, current):
            v = 0.9 * v + current
            spike = jax.nn.sigmoid(10 * (v - 1))
            return v - spike, spike

        drive = jnp.moveaxis(x.reshape(*x.shape[:2], -1) @ w[0], 1, 0)
        _, spikes = jax.lax.scan(step, jnp.zeros_like(drive[0]), drive)
        logits = spikes.mean(0) @ w[1]
        return fn.integral_crossentropy(smoothing=0.0)(logits[:, None], y)

    @jax.jit
    def train(w, x, y):
        return jax.tree.map(lambda a, g: a - 0.1 * g, w, jax.grad(loss)(w, x, y))

    def epoch(batches):
        w = weights
        for batch in batches:
            w = train(w, batch.x, batch.y)
        jax.block_until_ready(w)

    loader = Loader(frames.train, 32, key=0)
    resident = list(loader)
    epoch(resident)
    epoch(loader)
    ratios = []
    for _ in range(5):  # one after the other, so that a busy machine slows both
        ratios.append(best(lambda: epoch(loader), 1) / best(lambda: epoch(resident), 1))
    return float(np.median(ratios))


def peak_growth(data: Path) -> float:
    """MiB of peak memory added by rasterising the recordings ten times over, beyond doing it once."""
    from spyx.data import Raster, Recordings, load
    from spyx.data._cache import write_packed

    train = load("nmnist", root=data / "nmnist_small.zip").train.x
    raster = Raster(**RASTER)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 10):
            many = Recordings(train.names * times, train.read, stamp="", sensor_size=train.sensor_size)
            write_packed(Path(folder) / f"{times}.spyx", (raster(events).x for events in many))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return peaks[1] - peaks[0]


def cache_share(data: Path, cache: Path) -> float:
    from spyx.data import Raster, load, rasterise

    frames = rasterise(load("nmnist", root=data / "nmnist_small.zip"), Raster(**RASTER), cache)
    files = sum(split.x.path.stat().st_size for split in (frames.train, frames.validation, frames.test))
    return files / sum(int(np.prod(split.x.shape)) for split in (frames.train, frames.validation, frames.test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", choices=["first", "peak"])
    options = parser.parse_args()
    if options.only == "first":
        import jax

        jax.devices()
        print(first_batch(options.data, options.cache))
        return
    if options.only == "peak":
        print(peak_growth(options.data))
        return
    folder = ["--data", str(options.data)]
    with tempfile.TemporaryDirectory() as cache:
        cold = in_fresh_process("first", *folder, "--cache", cache)
        warm = min(in_fresh_process("first", *folder, "--cache", cache) for _ in range(3))
        rows = [
            ("first batch of 1,100 N-MNIST recordings, cold", cold, "s", cold < 3, "< 3 s"),
            ("first batch, from the cache", warm, "s", warm < 0.3, "< 0.3 s"),
        ]
        rate = decode_nmnist(options.data)
        rows.append(("decoding .bin", rate, "M events/s", rate >= 20, ">= 20 M/s"))
        ours, theirs = decode_evt3(options.data)
        bar = f">= expelliarmus, {theirs:.1f} M/s" if theirs else "expelliarmus is not installed"
        rows.append(("decoding EVT3", ours, "M events/s", theirs is None or ours >= theirs, bar))
        share = cache_share(options.data, Path(cache))
        # The header and four bytes of checksum a recording come on top of the eighth.
        rows.append(("cache over uint8", share, "", share <= 0.126, "1/8 and checksums"))
        ratio = epoch_over_device(options.data, Path(cache))
        rows.append(("epoch from the cache over all on the device", ratio, "x", ratio <= 1.1, "<= 1.1 x"))
    growth = in_fresh_process("peak", *folder)
    rows.append(("peak memory, ten times the recordings", growth, "MiB more", growth < 20, "none"))
    for what, value, unit, met, bar in rows:
        print(f"{what:48} {value:9.3f} {unit:12} {'met' if met else 'MISSED':7} ({bar})")


if __name__ == "__main__":
    main()
