"""A run's folder: settings, numbers, weights. Weights are plain arrays in an .npz file, with their checksum beside."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.cli.config import Config, make_config
from spyx.cli.errors import UserError, refuse_nan

WEIGHTS = "weights.npz"


def new_folder(output: Path | None, config: Config) -> Path:
    """A folder that did not exist before; by default runs/<time>-<dataset>-<neuron>."""
    folder = output or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.dataset}-{config.neuron}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"--output: {folder} exists already, and a run is never overwritten. Name another.") from None
    except OSError as error:
        raise UserError(f"--output: cannot make {folder}: {error.strerror}.") from error
    return folder


def save_numbers(folder: Path, history: list[dict[str, float]], metrics: dict[str, Any]) -> None:
    """metrics.csv, one row per epoch, and metrics.json, the result with all epochs."""
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history[0]])
        writer.writeheader()
        writer.writerows({"epoch": number, **epoch} for number, epoch in enumerate(history, 1))
    text = json.dumps({**metrics, "epochs": history}, indent=2)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


def save_weights(folder: Path, model: nnx.Module) -> None:
    """Every array of the model but the states of random generators, named by its path."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in _named(model).items()}
    np.savez(folder / WEIGHTS, **arrays)
    (folder / f"{WEIGHTS}.sha256").write_text(f"{_digest(folder)}  {WEIGHTS}\n", encoding="utf-8")


def load_weights(folder: Path, model: nnx.Module) -> None:
    """Put saved weights into a model of the same structure.

    Raises:
        UserError: the file is missing or damaged, holds NaN, or belongs to another network.
    """
    try:
        expected = (folder / f"{WEIGHTS}.sha256").read_text(encoding="utf-8").split()[0]
        found = _digest(folder)
    except (OSError, IndexError) as error:
        raise UserError(f"{folder} has no readable {WEIGHTS} with its checksum: was the run finished?") from error
    if found != expected:
        raise UserError(f"{folder / WEIGHTS} is damaged: its SHA-256 is not the one that was written beside it.")
    with np.load(folder / WEIGHTS, allow_pickle=False) as file:
        saved = {name: file[name] for name in file.files}
    named = _named(model)
    if {n: v.shape for n, v in named.items()} != {n: v.shape for n, v in saved.items()}:
        raise UserError(f"{folder / WEIGHTS} belongs to another network than {folder / 'config.toml'} describes.")
    for name, value in saved.items():
        refuse_nan(f"{folder / WEIGHTS}, {name}", value)
    state = nnx.state(model, nnx.Not(nnx.RngState))
    paths = jax.tree_util.tree_leaves_with_path(state)
    leaves = [jnp.asarray(saved[_name(path)], leaf.dtype) for path, leaf in paths]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(state), leaves))


def open_run(folder: Path) -> Config:
    """The settings of a run.

    Raises:
        UserError: `folder` is no run.
    """
    if not (folder / "config.toml").is_file():
        raise UserError(f"{folder} is not a run: expected a folder with config.toml, as spyx train makes it.")
    return make_config(folder / "config.toml", {})


def _named(model: nnx.Module) -> dict[str, Any]:
    state = nnx.state(model, nnx.Not(nnx.RngState))
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path: Any) -> str:
    words = (str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
    return ".".join(word for word in words if word != "value")


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
