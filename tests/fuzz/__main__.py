"""Damages files of every format and prints a table of what reading made of them.

    PYTHONPATH=tests python -m fuzz --count 10000 --seed 1 [--format NAME]

Every format runs in a process of its own, so that a crash or a hang is seen and counted: more than 10 seconds of
computing for one file, or two minutes by the clock.
"""

from __future__ import annotations

import argparse
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzz.cases import LIMIT_S, PATIENCE, faults, outcomes, peak_mib
from fuzz.formats import formats


def one(name: str, count: int, seed: int) -> None:
    """Print one line per file."""
    with tempfile.TemporaryDirectory() as folder:
        for outcome in outcomes(formats()[name], count, seed, Path(folder)):
            print(" ".join(outcome.split())[:200], flush=True)
    print(f"peak {peak_mib():.0f}", flush=True)


def watched(name: str, count: int, seed: int) -> tuple[Counter[str], str]:
    """The outcomes of one format, and the peak of memory."""
    command = [sys.executable, "-W", "ignore", "-m", "fuzz", "--one", name, "--count", str(count), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: Counter[str] = Counter()
    peak, text = "-", b""
    while process.stdout:
        if not select.select([process.stdout], [], [], 2 * PATIENCE * LIMIT_S)[0]:
            process.kill()
            found[f"HANG (seed {seed}, case {found.total()})"] += 1
            break
        chunk = process.stdout.read1(2**16)  # type: ignore[attr-defined]
        if not chunk:
            break
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"peak "):
                peak = line[5:].decode()
            else:
                found[line.decode()] += 1
    if process.wait() and not faults(found):
        found[f"CRASH {process.returncode} (seed {seed}, case {found.total()})"] += 1
    return found, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=list(formats()), action="append")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.count, options.seed)
        return
    print(f"seed {options.seed}, {options.count} files of each format, {LIMIT_S} s and 1 GiB each")
    print(
        "| format | checksum | refused | same | different | faults | peak MiB | s |\n|---|---|---|---|---|---|---|---|"
    )
    wrong = 0
    for name, format in formats().items():
        if options.format and name not in options.format:
            continue
        began = time.monotonic()
        found, peak = watched(name, options.count, options.seed)
        bad = faults(found)
        wrong += sum(bad.values())
        numbers = " | ".join(str(found[word]) for word in ("refused", "same", "different"))
        took = time.monotonic() - began
        print(
            f"| {name} | {'yes' if format.checksum else 'no'} | {numbers} | {sum(bad.values())} | {peak} | {took:.0f} |"
        )
        for fault, times in list(bad.items())[:5]:
            print(f"    {times} x {fault}")
        sys.stdout.flush()
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
