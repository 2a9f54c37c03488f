"""A run's folder: settings, numbers, weights. Weights are plain arrays in an .npz file, with their checksum beside."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.cli.config import Config, make_config, read
from spyx.cli.errors import UserError, refuse_nan
from spyx.cli.text import is_plain
from spyx.data._budget import LARGEST
from spyx.data._disk import naming, opened, part_of
from spyx.data.decode.numpy_file import arrays
from spyx.data.decode.source import Source

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

    from spyx.optimize import History


class Labels(TypedDict, total=False):
    """How labels per step were counted, in words."""

    labels: str


class Metrics(Labels):
    """The result of a run, as metrics.json has it: accuracies and shares in [0, 1], seconds, activity by layer."""

    test_accuracy: float
    test_loss: float
    test_samples: int
    split: str
    firing_rate: dict[str, float]
    silent_neurons: dict[str, float]
    best_epoch: int
    compile_s: float
    run_s: float
    devices: int
    processes: int


WEIGHTS = "weights.npz"
BEST = "best.npz"
"""Weights after the epoch that was best on the validation part."""
EPOCHS = "metrics.csv"
METRICS = "metrics.json"
ROW = ("epoch", "train_loss", "eval_loss", "eval_acc")
SETTINGS = "config.toml"
DIGEST_LENGTH = 64
CHOSEN_BY = "eval_acc,-eval_loss"
"""The numbers that choose the best epoch, as `optimize.train(best=)` takes them."""
LARGEST_TABLE, MOST_ROWS, MOST_COLUMNS = 1 << 25, 100_000, 64
"""Of a table that is read, where an epoch is a row; JSON may have as many bytes."""


def check_output(output: Path | None) -> None:
    """Refuse a folder that is there or cannot be made, before anything is loaded."""
    if output is None:
        return
    if not is_plain(str(output)):
        raise UserError(f"--output: expected a name without control characters; got {str(output)!r}.")
    if os.path.lexists(output):
        raise UserError(f"--output: {output} exists already, and a run is never overwritten. Name another.")
    above = next((folder for folder in output.absolute().parents if os.path.lexists(folder)), Path("."))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"--output: cannot make {output}: {above} is no folder that can be written.")


def new_folder(output: Path | None, config: Config) -> Path:
    """A folder that did not exist before; by default runs/<time>-<dataset>-<neuron>, with a number if that is taken."""
    dataset, neuron = (name.rpartition(":")[2] for name in (config.dataset, config.neuron))
    usual = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{dataset}-{neuron}"
    names = [output] if output else [usual, *(usual.with_name(f"{usual.name}-{n}") for n in range(2, 1000))]
    for folder in names:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"--output: cannot make {folder}: {error.strerror}.") from error
    raise UserError(f"--output: {names[0]} exists already, and a run is never overwritten. Name another.")


def is_finished(folder: Path) -> bool:
    """Whether a run has its result."""
    return (folder / METRICS).is_file()


def save_text(folder: Path, name: str, text: str) -> None:
    """One file of a run, whole or not at all."""
    _save(folder, name, lambda part: part.write_text(text, encoding="utf-8"))


def save_numbers(folder: Path, history: History, metrics: Metrics) -> None:
    """metrics.csv, one row per epoch, and metrics.json, the result with all epochs."""
    save_epochs(folder, history)
    save_text(folder, METRICS, json.dumps({**metrics, "epochs": history}, indent=2) + "\n")


def save_epochs(folder: Path, history: History) -> None:
    """metrics.csv, from the first epoch on."""
    text = _rows([ROW, *([n, *(e[name] for name in ROW[1:])] for n, e in enumerate(history, 1))])
    _save(folder, EPOCHS, lambda part: part.write_bytes(text.encode()))


def add_epoch(folder: Path, number: int, epoch: dict[str, float]) -> None:
    """One more row of metrics.csv."""
    path = folder / EPOCHS
    with naming(path), path.open("a", encoding="utf-8", newline="") as file:
        file.write(_rows([[number, *(epoch[name] for name in ROW[1:])]]))


def _rows(rows: Iterable[Iterable[object]]) -> str:
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    return table.getvalue()


def save_weights(folder: Path, model: nnx.Module, file: str = WEIGHTS) -> None:
    """Every array of the model but the states of random generators, named by its path, and then the checksum."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in _named(model).items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    _save(folder, file, lambda part: part.write_bytes(content.getbuffer()))
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    save_text(folder, f"{file}.sha256", f"{digest}  {file}\n")


def _save(folder: Path, name: str, write: Callable[[Path], object]) -> None:
    path = folder / name
    part = part_of(path)
    try:
        with naming(path):
            write(part)
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_weights(folder: Path, file: str = WEIGHTS) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The saved arrays by name, as the checksum says.

    Raises:
        UserError: the file is missing, damaged, or holds anything but finite numbers.
    """
    path = folder / file
    try:
        with opened(folder / f"{file}.sha256", "spyx", LARGEST) as sums:
            expected = sums.read(DIGEST_LENGTH).decode("ascii", "replace")
        with opened(path, "spyx", LARGEST) as weights:
            content = np.frombuffer(weights.read(), np.uint8)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no readable {file} with its checksum: was the run finished?") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory.") from error
    if hashlib.sha256(content.data).hexdigest() != expected:
        raise UserError(f"{path} is damaged: its SHA-256 is not the one that was written beside it.")
    try:
        saved = arrays(Source(str(path), content))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    for name, value in saved.items():
        if value.dtype.kind not in "fiub":
            raise UserError(f"{path}, {name}: expected numbers; got {value.dtype}.")
        refuse_nan(f"{path}, {name}", value, infinite=False)
    return saved


def load_weights(folder: Path, model: nnx.Module, file: str = WEIGHTS) -> None:
    """Put saved weights into a model of the same structure.

    Raises:
        UserError: the file is missing or damaged, holds numbers that are not finite, or belongs to another network.
    """
    saved, named = read_weights(folder, file), _named(model)
    for name in sorted({*saved, *named}):
        here = _kind(saved[name]) if name in saved else "nothing"
        wanted = _kind(named[name]) if name in named else "nothing"
        if here != wanted:
            raise UserError(
                f"{folder / file} belongs to another network than {folder / SETTINGS} describes: "
                f"{name} is {here} in place of {wanted}."
            )
    state = nnx.state(model, nnx.Not(nnx.RngState))
    paths = jax.tree_util.tree_leaves_with_path(state)
    leaves = [jnp.asarray(saved[_name(path)], leaf.dtype) for path, leaf in paths]
    nnx.update(model, jax.tree.unflatten(jax.tree.structure(state), leaves))


def _kind(array: Shaped[np.ndarray | Array, "..."]) -> str:
    return f"{array.dtype} {tuple(array.shape)}"


def open_run(
    folder: Path, neuron: str | None = None, *, needs: Iterable[str] = ("neuron", "dataset"), **own: str | None
) -> Config:
    """The settings of a run.

    Args:
        folder: where it is.
        neuron: the class `module:Class` of a run with a neuron of the user's own, which its settings alone do not load.
        needs: the settings whose code the caller will load.
        **own: `dataset` and `loss`, as `neuron`.

    Raises:
        UserError: `folder` is no run, or one with another neuron, data set or loss.
    """
    if not (folder / SETTINGS).is_file():
        raise UserError(f"{folder} is not a run: expected a folder with {SETTINGS}, as spyx train makes it.")
    given = {"neuron": neuron, **own}
    config = make_config(folder / SETTINGS, given, needs)
    for name, mine in given.items():
        if mine is not None and (trained := read(folder / SETTINGS).get(name)) != mine:
            raise UserError(f"--{name}: {folder} was trained with {trained!r}; got {mine!r}.")
    return config


@contextlib.contextmanager
def naming_settings(folder: Path) -> Iterator[None]:
    """Puts the name of a run's settings before what is wrong with one of them."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder / SETTINGS}: {error}") from error


def read_json(path: Path) -> Any:
    """What a file of a run holds.

    Raises:
        OSError, ValueError, RecursionError: it is missing, endless, or no JSON.
    """
    with opened(path, "spyx", LARGEST_TABLE) as file:
        return json.loads(file.read())


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table with a head that are whole; none of a file that is missing, endless or no table."""
    try:
        with opened(path, "spyx", LARGEST_TABLE) as file:
            # A last line that is cut is left.
            whole, _, _ = file.read().decode("utf-8", "replace").rpartition("\n")
        rows = csv.reader(io.StringIO(whole))
        head = next(rows, [])
        if len(head) > MOST_COLUMNS:
            return []
        return [dict(zip(head, row, strict=True)) for row in itertools.islice(rows, MOST_ROWS) if len(row) == len(head)]
    except (OSError, ValueError, csv.Error):
        return []


def read_history(folder: Path) -> History:
    """The rows of metrics.csv that are numbers, without their epoch."""
    found = []
    for row in read_table(folder / EPOCHS):
        with contextlib.suppress(ValueError):
            found.append({name: float(value) for name, value in row.items() if name and name != "epoch"})
    return found


def _named(model: nnx.Module) -> dict[str, Shaped[Array, "..."]]:
    state = nnx.state(model, nnx.Not(nnx.RngState))
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path: tuple[object, ...]) -> str:
    words = (str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
    return ".".join(word for word in words if word != "value")
