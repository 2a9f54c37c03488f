"""Kills a training with SIGKILL at random moments, resumes it, and compares its end with that of one left alone.

    PYTHONPATH=tests python -m killed --kills 30 --seed 1

A third of the kills fall anywhere in the process, the others into training, where nearly every moment is in a save.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TRAINEE = Path(__file__).with_name("trainee.py")
LIMIT_S = 300
TRAINING_S = 2.0


def kills(count: int, seed: int, folder: Path, expected: str) -> Iterator[tuple[str, bool]]:
    """For every kill: what was in the folder, and whether a checkpoint was being written.

    Raises:
        AssertionError: a run did not resume, or ended otherwise than `expected`.
    """
    rng, run, done = random.Random(seed), 0, 0
    while True:
        place = folder / str(run)
        command = [sys.executable, "-W", "ignore", str(TRAINEE), str(place), str(folder / "cache")]
        said = folder / "said"
        with said.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        if left := done < count:
            if anywhere := done % 3 == 2:
                time.sleep(rng.uniform(0, 8))
            else:
                while not said.stat().st_size and process.poll() is None:
                    time.sleep(0.05)
                time.sleep(rng.uniform(0, TRAINING_S))
            process.kill()
        code = process.wait(LIMIT_S)
        if code == 0:
            assert said.read_text().split()[-1] == expected, "the run that was killed and resumed ended otherwise"
            if not left:
                return
            run += 1
        else:
            assert left, f"it did not end: {said.read_text()[-2000:]}"
            assert code == -signal.SIGKILL, f"it did not resume: {said.read_text()[-2000:]}"
            done += 1
            names = sorted(path.name for path in place.glob("0*"))
            when = "anywhere" if anywhere else "training"
            yield f"{when}, {', '.join(names) or 'nothing'}", any(name.endswith(".part") for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from killed.trainee import outcome

    expected, saving = outcome(None), 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (found, writing) in enumerate(kills(options.kills, options.seed, Path(folder), expected), 1):
            saving += writing
            print(f"kill {number}: {found}", flush=True)
    print(f"{options.kills} kills, {saving} of them during a save; every run ended as one that was left alone")


if __name__ == "__main__":
    main()
