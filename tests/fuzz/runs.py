"""Files of runs, models and checkpoints: what other people send along with their numbers."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console

from fuzz.format import Format
from spyx import nn, saving
from spyx.cli import page
from spyx.cli.compare import compare
from spyx.cli.compare_page import comparison
from spyx.cli.config import Config
from spyx.cli.runs import read_history
from spyx.optimize._checkpoint import SUMS, CheckpointError, Checkpoints, _digests, _sums
from spyx.report._page.document import as_json, render

HISTORY = [{"train_loss": 2.0 - k, "eval_loss": 2.5 - k, "eval_acc": 0.25 * k} for k in range(2)]
WEIGHTS = {"layers.0.kernel": jnp.arange(6, dtype=jnp.float32).reshape(2, 3), "step": jnp.int32(7)}


def runs_and_models() -> list[Format]:
    """The formats."""
    return [
        Format("model", "a.safetensors", _save_model, _load_model, checksum=True),
        Format("result of a run", "metrics.json", _make_run, _read_result),
        Format("settings of a run", "config.toml", _make_run, _read_result),
        Format("epochs of a run", "metrics.csv", _make_epochs, lambda path: read_history(path.parent), lenient=True),
        Format("page of a run", "report.html", _make_page, _read_page, lenient=True),
        Format("checkpoint", "a.bundle", _make_checkpoint, _read_checkpoint, checksum=True),
        Format("checkpoint, sums made again", "a.bundle", _make_checkpoint, lambda p: _read_checkpoint(p, forged=True)),
    ]


def _save_model(path: Path) -> None:
    saving.save(path, nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.LIF(3, beta=0.9), nn.LI(3, beta=0.5)))


def _load_model(path: Path) -> Any:
    state = nnx.state(saving.load(path))
    return {str(where): np.asarray(leaf) for where, leaf in nnx.to_flat_state(state)}


def _make_run(path: Path) -> None:
    numbers = {"test_accuracy": 0.5, "test_loss": 1.25, "run_s": 3.5}
    path.with_name("metrics.json").write_text(json.dumps({**numbers, "epochs": HISTORY}, indent=2))
    path.with_name("config.toml").write_text(Config().to_toml())


def _read_result(path: Path) -> Any:
    rows = compare([path.parent], Console(file=io.StringIO()))
    return as_json({**comparison(rows), "written": ""})


def _make_epochs(path: Path) -> None:
    rows = ["epoch,train_loss,eval_loss,eval_acc", "1,2.0,2.5,0.1", "2,1.0,1.5,0.3", "3,0.5,1.25,0.5"]
    path.write_text("\r\n".join(rows) + "\r\n")


def _make_page(path: Path) -> None:
    _make_epochs(path.with_name("metrics.csv"))
    path.with_name("config.toml").write_text(Config().to_toml())
    content = page.current(path.parent, Config()) | {"written": "", "versions": [["jax", "0.10.2"]]}
    page.save_page(path.parent, content | {"status": "finished"})


def _read_page(path: Path) -> Any:
    return render({**page.current(path.parent, Config()), "written": ""}, live=True)


def _make_checkpoint(path: Path) -> None:
    """The files of a checkpoint, one after the other in a zip archive that packs nothing."""
    store = Checkpoints(path.parent / "sound", 1, "fuzz")
    with store.locked():
        store.save(WEIGHTS, {"epoch": 1}, wait=True)
    folder = path.parent / "sound" / "000001"
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in files]
    sizes = [file.stat().st_size for file in files]
    path.with_name("names.json").write_text(json.dumps([names, sizes]))
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    shutil.rmtree(path.parent / "sound")


def _read_checkpoint(path: Path, forged: bool = False) -> Any:
    """The bundle as the files that it was made of, the last one with what is left; forged, with sums that fit."""
    names, sizes = json.loads(path.with_name("names.json").read_text())
    content, root = path.read_bytes(), path.parent / "out"
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "000001"
    for name, size in zip(names, [*sizes[:-1], len(content)], strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content[:size])
        content = content[size:]
    if forged:
        (folder / SUMS).write_bytes(_sums(_digests(folder)))
    said: list[str] = []
    try:
        found = Checkpoints(root, 1, "fuzz").restore(lambda *_: WEIGHTS, said.append)
    except CheckpointError as error:  # which names the folder
        raise ValueError(f"{path}: {error}") from error
    if found is None:
        raise ValueError(f"{path}: {said}")
    return [{name: np.asarray(array) for name, array in found[0].items()}, found[1]]
