"""One run of the study: `spyx train` in a process of its own, then its numbers in one file, `result.json`."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rows import Row

RESULT = "result.json"
COSTED = 64
"""Samples of the test part on which operations are counted."""
ROOT = Path(__file__).resolve().parents[2]


def run(row: Row, seed: int, fold: str, *, runs: Path, data: Path | None, cache: Path | None) -> dict[str, Any]:
    """Train and measure, or go on where an earlier call was stopped; what is finished is read and not run again.

    Raises:
        RuntimeError: `spyx train` failed; its message was printed.
    """
    folder = runs / row.name / (f"seed-{seed}" + (f"-{fold}" if fold else ""))
    if (folder / RESULT).is_file():
        return json.loads((folder / RESULT).read_text())
    if not (folder / "metrics.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        words = row.command(seed, fold, data, cache, folder)
        if (folder / "config.toml").is_file():
            if row.neuron:  # settings load no code, and a run with a neuron of its own starts again
                folder.rename(folder.with_name(f"{folder.name}-stopped-{time.time_ns()}"))
            else:
                words = ["train", "--resume", str(folder)]
        began, before = time.perf_counter(), _cpu_s()
        if _spyx(words).returncode:
            raise RuntimeError(f"{row.name}, seed {seed} {fold}: spyx {' '.join(words)} failed.")
        spent = {"wall_s": time.perf_counter() - began, "cpu_s": _cpu_s() - before, "resumed": words[1] == "--resume"}
        (folder / "spent.json").write_text(json.dumps(spent))
    words = [sys.executable, "-m", "benchmarks.accuracy.study", str(folder), *([row.neuron] if row.neuron else [])]
    measured = subprocess.run(words, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
    if measured.returncode:
        raise RuntimeError(f"{row.name}, seed {seed} {fold}: measuring failed: {measured.stderr[-2000:]}")
    result = {"row": row.name, "seed": seed, "fold": fold, "settings_sha256": digest(row.settings)}
    result |= json.loads(measured.stdout.splitlines()[-1]) | json.loads((folder / "spent.json").read_text())
    part = folder / f"{RESULT}.part"
    part.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(part, folder / RESULT)
    return result


def digest(path: Path) -> str:
    """SHA-256 of a file's text, whatever its line ends."""
    return hashlib.sha256("\n".join(path.read_text(encoding="utf-8").splitlines()).encode()).hexdigest()


def measure(folder: Path, neuron: str | None = None) -> dict[str, Any]:
    """What a finished run reached on its test part, at its last epoch and at the one that validation chose.

    Args:
        folder: of the run.
        neuron: `module:Class`, where it is none of the library's.
    """
    import jax

    import spyx
    from spyx import nn, report
    from spyx.cli.runs import BEST, WEIGHTS, load_weights
    from spyx.cli.score import score
    from spyx.cli.trained import open_trained

    config, samples, model = open_trained(folder, neuron, WEIGHTS)
    metrics = json.loads((folder / "metrics.json").read_text())
    last = score(config, model, *samples.part("test"))
    load_weights(folder, model, BEST)
    best = score(config, model, *samples.part("test"))
    x, _, lengths = samples.part("test")
    cost = report.cost(nn.rounded(model), x[:COSTED], lengths=None if lengths is None else lengths[:COSTED]).as_dict()
    spikes = sum(layer["active"] for layer in cost["Layers"] if layer["updates"] and layer is not cost["Layers"][-1])
    with (folder / "metrics.csv").open() as file:
        validation = [round(float(line["eval_acc"]), 5) for line in csv.DictReader(file)]
    return {
        "test_last": last["acc"],
        "test_best": best["acc"],
        "validation": validation,
        "best_epoch": metrics["best_epoch"],
        "epochs": config.epochs,
        "parameters": cost["Parameters"],
        "spikes": spikes,
        "operations": cost["SynapticOperations"],
        "operations_counted_on": cost["Samples"],
        "samples": {part: len(samples.y[part]) for part in samples.y},
        "steps": int(samples.x["test"].shape[1]),
        "split": metrics["split"],
        "labels": metrics.get("labels", "one per sample"),
        "run_s": metrics["run_s"],
        "compile_s": metrics["compile_s"],
        "versions": {"spyx": spyx.__version__, "jax": jax.__version__, "python": platform.python_version()},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {jax.default_backend()}",
    }


def _spyx(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "spyx", *words], env=_environment(), check=False)


def _environment() -> dict[str, str]:
    """Rows may name neurons of this package."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)))
