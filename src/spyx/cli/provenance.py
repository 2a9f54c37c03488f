"""record.json: what a run was made with and where its time went, so that it can be made again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from flax import nnx

import spyx
from spyx.cli import inputs
from spyx.cli.info import CORE, version
from spyx.cli.runs import save_text

if TYPE_CHECKING:
    from spyx.data._json import Object

RECORD = "record.json"


class Seconds(dict[str, float]):
    """Seconds by what they were spent on."""

    @contextlib.contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Adds the time inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self[what] = self.get(what, 0.0) + time.perf_counter() - began


def record_of(samples: inputs.Inputs, model: nnx.Module, seeds: list[int]) -> Object:
    """Everything but the time: versions, commit, device, command, date, data, network.

    Args:
        samples: the data as they are trained on.
        model: the network.
        seeds: of this run, and of those that were trained with it by one program.
    """
    steps = int(samples.x["train"].shape[1])
    lengths = samples.lengths.get("train")
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(["spyx", *sys.argv[1:]]),
        "versions": {"spyx": spyx.__version__, "python": platform.python_version()}
        | {name: found for name in CORE if (found := version(name))},
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "data_sha256": digest(samples),
        "samples": {part: len(samples.y[part]) for part in inputs.PARTS},
        "time_steps": steps,
        "mean_time_steps": steps if lengths is None else float(np.mean(lengths)),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))),
        "seeds_together": seeds,
    }


def write(folder: Path, record: Object, seconds: dict[str, float] | None = None) -> None:
    """The record of a run; the seconds are there when it has ended."""
    rounded = {} if seconds is None else {"seconds": {name: round(value, 3) for name, value in seconds.items()}}
    save_text(folder, RECORD, json.dumps({**record, **rounded}, indent=2) + "\n")


def digest(samples: inputs.Inputs) -> str:
    """SHA-256 over values, shapes and formats of all parts, as they reach the network."""
    seen = hashlib.sha256()
    for part in inputs.PARTS:
        for array in samples.part(part):
            if array is not None:
                values = np.ascontiguousarray(array)
                seen.update(f"{part} {values.dtype} {values.shape}\n".encode())
                seen.update(values.data)
    return seen.hexdigest()


def _commit() -> str | None:
    """Of the repository that the command was called in, or None."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
