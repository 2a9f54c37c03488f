"""One virtual environment per peer, from its pinned requirements: `python -m benchmarks setup`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "peers" / "requirements"
ENVIRONMENTS = HERE / ".venvs"

OWN = ("ours", "roofline")
"""Run in the environment of the command itself."""

PEERS = tuple(sorted(file.stem for file in REQUIREMENTS.glob("*.txt")))

MISSING = {
    "snnax": "the release on PyPI, 0.0.1, does not import (its modules import one another in a circle)",
}
"""Libraries that cannot be measured, and why."""


def python_of(library: str) -> Path | None:
    """The interpreter that has `library`; None where `setup` has not been run."""
    if library in OWN:
        return Path(sys.executable)
    python = ENVIRONMENTS / library / "bin" / "python"
    return python if python.exists() else None


def setup(peers: list[str]) -> None:
    """Make the environments that are not there yet; a failed one is removed and the others go on."""
    for peer in peers:
        folder, file = ENVIRONMENTS / peer, REQUIREMENTS / f"{peer}.txt"
        if python_of(peer):
            print(f"{peer}: already there")
            continue
        print(f"{peer}: installing", flush=True)
        pins = file.read_text().split()
        first = [pin for pin in pins if pin.startswith("torch==")]  # where a CPU build lies at hand, pip takes it now
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            for wanted in (first, ["-r", str(file)]):
                if wanted:
                    subprocess.run([*pip, *wanted], check=True)
        except subprocess.CalledProcessError as error:
            subprocess.run(["rm", "-rf", str(folder)], check=True)
            print(f"{peer}: not installed ({error})")
