"""Interrupts `spyx train` with SIGINT at random moments: one line, exit code 130, and no traceback, every time.

    PYTHONPATH=tests python -m interrupted --count 50 --seed 1

Each interrupt falls a random time after something that the folder of the run shows: nothing yet (the program is
loaded), settings (it compiles), an epoch (it trains), weights (it scores, draws and writes the page).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

EXIT_CODE = 130
LIMIT_S = 300
LINE_S = 60
"""How long a program may take to end after the signal, on a machine that has other things to do."""
STARTED_S = 1.0
"""Until Python has loaded the first lines of spyx, a signal is Python's own business."""


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


MOMENTS: dict[str, tuple[Callable[[Path], bool], float, int]] = {
    "loading": (lambda run: True, 4.0, 3000),
    "compiling": (lambda run: (run / "config.toml").exists(), 4.0, 3000),
    "training": (lambda run: _lines(run / "metrics.csv") > 1, 3.0, 3000),
    "saving and drawing": (lambda run: (run / "weights.safetensors").exists(), 8.0, 2),
}
"""By what is on: whether it has begun, seconds within which the signal comes, and epochs of the run."""


def interrupts(count: int, seed: int, folder: Path) -> Iterator[str]:
    """For every interrupt, when it was sent and what was said.

    Raises:
        AssertionError: one was lost, or ended otherwise than in one line and 130.
    """
    rng, done, number = random.Random(seed), 0, 0
    environment = os.environ | {"SPYX_CACHE": str(folder / "cache")}
    while done < count:
        name = list(MOMENTS)[done % len(MOMENTS)]
        begun, within, epochs = MOMENTS[name]
        number, run = number + 1, folder / str(number)
        assert number < 4 * count + 20, "most runs ended before their signal"
        options = ["--epochs", epochs, "--hidden", 8, "--steps", 4, "--batch-size", 629, "--output", run]
        process = subprocess.Popen(
            [sys.executable, "-m", "spyx", "train", *map(str, options)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(STARTED_S)
        deadline = time.monotonic() + LIMIT_S
        while not begun(run) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, within))
        over = process.poll() is not None or _ended(run)
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=LINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"lost: {name}, {_files(run)}") from None
        if over:  # nothing was left to interrupt
            assert "Traceback" not in said, said
            continue
        # A run that can go on says so at once, and once more when it is saved.
        lines = [line for line in said.strip().splitlines() if "finishing this step" not in line]
        where = f"{name}, {_files(run)}"
        assert process.returncode == EXIT_CODE, (where, process.returncode, said)
        assert [line[:17] for line in lines] == ["spyx: interrupted"], (where, said)
        done += 1
        yield f"{name}: {lines[0].replace(str(folder), '')}"


def _ended(run: Path) -> bool:
    """The record with the times is the last thing that a run writes."""
    record = run / "record.json"
    return record.exists() and '"writing the page"' in record.read_text()


def _files(run: Path) -> str:
    return ", ".join(sorted(path.name for path in run.glob("*"))) or "nothing yet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, said in enumerate(interrupts(options.count, options.seed, Path(folder)), 1):
            found[said.partition(":")[0]] += 1
            print(f"{number}. {said}", flush=True)
    print(f"seed {options.seed}: {found.total()} interrupts, none lost: {dict(found)}")


if __name__ == "__main__":
    main()
