"""A run's folder: settings, numbers, weights. Weights are files of `spyx.save`."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import spyx
from spyx.cli.config import Config, make_config, read
from spyx.cli.errors import UserError
from spyx.cli.text import is_plain
from spyx.data._disk import naming, opened, part_of
from spyx.saving.model import Differs

if TYPE_CHECKING:
    from flax import nnx

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


WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
"""Weights after the epoch that was best on the validation part."""
EPOCHS = "metrics.csv"
METRICS = "metrics.json"
ROW = ("epoch", "train_loss", "eval_loss", "eval_acc")
SETTINGS = "config.toml"
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
    """The network as `spyx.save` writes it, so that `spyx.load` makes it again without the run.

    Raises:
        OSError: the file cannot be written.
        UserError: weights that are not finite.
    """
    try:
        spyx.save(folder / file, model)
    except ValueError as error:
        raise UserError(f"{folder / file} was not written: {error}") from error


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


def read_network(folder: Path, file: str = WEIGHTS) -> nnx.Module:
    """The network of a run without neurons of the user's own.

    Raises:
        UserError: the file is missing or damaged, or holds numbers that are not finite.
    """
    with _naming_weights(folder, file):
        return spyx.load(folder / file)


def load_weights(folder: Path, model: nnx.Module, file: str = WEIGHTS) -> None:
    """Put saved weights into a model of the same structure.

    Raises:
        UserError: the file is missing or damaged, holds numbers that are not finite, or belongs to another network.
    """
    with _naming_weights(folder, file):
        spyx.load(folder / file, into=model)


@contextlib.contextmanager
def _naming_weights(folder: Path, file: str) -> Iterator[None]:
    path = folder / file
    try:
        if path.exists() and not path.is_file():
            raise FileNotFoundError
        yield
    except OSError as error:
        raise UserError(f"{folder} has no readable {file}: was the run finished?") from error
    except Differs as error:
        raise UserError(
            f"{path} belongs to another network than {folder / SETTINGS} describes: they differ at {error.place}."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: it has {error.__cause__}.") from error


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
