"""One virtual environment per peer, from its pinned requirements: `python -m benchmarks setup`."""

from __future__ import annotations

import shutil
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

NEWEST_FIRST = ("python3.14", "python3.13", "python3.12")
NEEDS_NEWER = {"sparx": 12}
"""Libraries that need at least this minor version of Python 3."""


def python_of(library: str) -> Path | None:
    """The interpreter that has `library`; None where `setup` has not been run."""
    if library in OWN:
        return Path(sys.executable)
    python = ENVIRONMENTS / library / "bin" / "python"
    return python if python.exists() else None


def interpreter(peer: str) -> str | None:
    """The Python that the environment of `peer` is made with; None where there is none that is new enough."""
    least = NEEDS_NEWER.get(peer, 0)
    if sys.version_info.minor >= least:
        return sys.executable
    names = [name for name in NEWEST_FIRST if int(name.rpartition(".")[2]) >= least]
    for name in filter(None, map(shutil.which, names)):
        if subprocess.run([name, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return name
    return None


def setup(peers: list[str]) -> None:
    """Make the environments that are not there yet; a failed one is removed and the others go on."""
    for peer in peers:
        folder, file = ENVIRONMENTS / peer, REQUIREMENTS / f"{peer}.txt"
        if python_of(peer):
            print(f"{peer}: already there")
            continue
        python = interpreter(peer)
        if python is None:
            print(f"{peer}: not installed (no Python 3.{NEEDS_NEWER[peer]} or newer is on the PATH)")
            continue
        print(f"{peer}: installing", flush=True)
        pins = file.read_text().split()
        first = [pin for pin in pins if pin.startswith("torch==")]  # where a CPU build lies at hand, pip takes it now
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        try:
            subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
            for wanted in (first, ["-r", str(file)]):
                if wanted:
                    subprocess.run([*pip, *wanted], check=True)
        except subprocess.CalledProcessError as error:
            subprocess.run(["rm", "-rf", str(folder)], check=True)
            print(f"{peer}: not installed ({error})")
