"""The page of a run: written when the run begins, when it is stopped, and with everything when it is finished."""

from __future__ import annotations

import csv
import io
import math
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyx import report
from spyx.cli.config import FILE_ONLY, Config, make_config, read
from spyx.cli.inputs import Inputs
from spyx.cli.resume import NO_MATTER
from spyx.cli.runs import CHOSEN_BY, SETTINGS, open_run, read_history, read_table, save_text
from spyx.cli.score import make_loss
from spyx.cli.summary import hidden_words
from spyx.data._disk import naming, opened
from spyx.optimize._stopping import names_of, scores_of
from spyx.report._page import content as of
from spyx.report._page.document import read_content
from spyx.report._page.jsonable import text
from spyx.report._page.writer import PAGE, save_page, write_page

if TYPE_CHECKING:
    from flax import nnx

    from spyx.cli.runs import Metrics
    from spyx.data._json import JSON, Object
    from spyx.optimize import History
    from spyx.report._page.layer_history import LayerRow

LAYERS = "layers.csv"
COLUMNS = ("epoch", "layer", "rate", "silent", "gradient")
WATCHED = 32
"""Samples on which layers are watched, or a fortieth of an epoch where that is less: 2.5 % of its work at most."""
MOST_MEASUREMENTS = 200
SHARE = 0.03
"""Of a training's time, by its own clock, that watching layers may take; the first time, which compiles, apart."""
HOW = f"after the first and the last epoch, and in between as often as costs at most {SHARE:.0%} of the time,"
LARGEST_PAGE = 1 << 24


class LayerLog:
    """Rates and gradients of layers after epochs, in `layers.csv`; what fails there never fails the run.

    The first and the last epoch are measured, and in between as many as cost at most `SHARE` of the time.

    Args:
        folder: of the run.
        config: its settings.
        samples: its data.
        warn: is given the one line that says why layers are not watched any more.
    """

    def __init__(self, folder: Path, config: Config, samples: Inputs, warn: Callable[[str], object]) -> None:
        x, y, lengths = samples.part("train")
        count = max(1, min(WATCHED, len(y) // 40))
        ends = None if lengths is None else lengths[:count]
        self.history = report.LayerHistory(make_loss(config), (np.asarray(x[:count], np.float32), y[:count], ends))
        self._folder, self._warn, self._healthy = folder, warn, True
        self._epochs, self._every = config.epochs, math.ceil(config.epochs / MOST_MEASUREMENTS)
        self._began, self._spent, self._last, self._asked = 0.0, 0.0, -1, 0.0

    def start(self, done: int) -> None:
        """Before the first epoch; of a run that is resumed, the rows of the epochs that count are read again."""
        self.history.rows[:] = [row for row in read_layers(self._folder) if row["epoch"] <= done]
        self._guarded(lambda: save_text(self._folder, LAYERS, _table([COLUMNS, *map(_row, self.history.rows)])))

    def due(self, epoch: int) -> bool:
        """Is this epoch, counted from 0, to be measured? The copy of the network is part of what it costs."""
        self._asked = time.perf_counter()
        cheap = self._spent <= SHARE * (self._asked - self._began) and epoch - self._last >= self._every
        return self._began == 0.0 or epoch + 1 == self._epochs or cheap

    def __call__(self, epoch: int, model: nnx.Module) -> None:
        """After an epoch that is due."""
        self._guarded(lambda: self._measure(epoch, model))
        self._last, after = epoch, time.perf_counter()
        if self._began == 0.0:
            self._began = after
        else:
            self._spent += after - self._asked

    def _measure(self, epoch: int, model: nnx.Module) -> None:
        before = len(self.history.rows)
        self.history(epoch, model)
        path = self._folder / LAYERS
        with naming(path), path.open("a", encoding="utf-8", newline="") as file:
            file.write(_table(map(_row, self.history.rows[before:])))

    def _guarded(self, call: Callable[[], object]) -> None:
        if self._healthy:
            try:
                call()
            except Exception as error:  # neurons of users fail in many ways, and disks are full
                self._healthy = False
                self._warn(f"rates and gradients of layers are not written any more: {error}")


def begin(folder: Path, config: Config, samples: Inputs) -> None:
    """The page of a run that has no epoch yet: settings, versions and the command."""
    save_page(folder, {**_base(folder, config, samples), "versions": of.versions()})


def stopped(folder: Path, config: Config, why: str) -> None:
    """The page of a run that has ended too early, with the epochs that it has."""
    save_page(folder, {**current(folder, config), "status": "stopped", "note": text(why)})


def finish(
    folder: Path,
    config: Config,
    model: nnx.Module,
    samples: Inputs,
    history: History,
    metrics: Metrics,
    log: LayerLog | None,
    found: Sequence[report.Finding],
    examined: int,
) -> Path:
    """The page with everything.

    Args:
        folder: of the run.
        config: its settings.
        model: the trained network.
        samples: its data.
        history: its epochs.
        metrics: its results.
        log: rates and gradients of its layers.
        found: what the doctor found.
        examined: training samples that it looked at.
    """
    base = _base(folder, config, samples)
    del base["missing"]  # what is missing shows in the making
    layers = None if log is None else of.layers_over_time(log.history.rows, log.history.samples, HOW)
    x, y, lengths = samples.part("validation")
    about = f"The trained network on {examined} training samples, forward and backward, and the parts of the data."
    entries = {"layers": layers, "findings": of.findings(found, about), "status": "finished"}
    return write_page(
        folder,
        history,
        model=model,
        data=(x, y),
        lengths=lengths,
        more={**base, **_numbers(config, history, metrics, samples.classes), **entries},
    )


def current(folder: Path, config: Config) -> Object:
    """What the folder of a run says now: the content of its page, with the rows that have been written since."""
    content = _saved(folder)
    content = {**_base(folder, config, None), "versions": []} if content is None else content
    if content.get("status") == "finished":
        return content
    history = read_history(folder)
    content |= _numbers(config, history, None, _whole(content.get("classes"), 0))
    samples = _whole(content.get("watched"), WATCHED)
    content["layers"] = of.layers_over_time(read_layers(folder), samples, HOW)
    return content


def settings_of(folder: Path) -> Config:
    """The settings of a run; a neuron of the user's own is a name here, and is not loaded.

    Raises:
        UserError: `folder` is no run.
    """
    path = folder / SETTINGS
    neuron = read(path).get("neuron") if path.is_file() else None
    return open_run(folder, neuron if isinstance(neuron, str) and ":" in neuron else None)


def read_layers(folder: Path) -> list[LayerRow]:
    """The rows of layers.csv that are whole."""
    found: list[LayerRow] = []
    for row in read_table(folder / LAYERS):
        try:
            rate, silent, gradient = (float(row[name]) for name in COLUMNS[2:])
            epoch, layer = int(row["epoch"]), row["layer"]
        except (TypeError, ValueError, KeyError):
            continue
        found.append({"epoch": epoch, "layer": layer, "rate": rate, "silent": silent, "gradient": gradient})
    return found


def command_of(config: Config) -> str:
    """The command that trains this run again, without files where options can say everything."""
    usual = make_config(None, {"dataset": config.dataset})
    changed = {name: value for name, value in asdict(config).items() if value != asdict(usual)[name]}
    if changed.keys() & {*FILE_ONLY}:
        return "spyx train --config config.toml"
    words = ["spyx", "train", "--dataset", config.dataset]
    for name, value in changed.items():
        if name != "dataset":
            shown = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", shown]
    return shlex.join([*words, "--seed", str(config.seed)] if "seed" not in changed else words)


def _base(folder: Path, config: Config, samples: Inputs | None) -> Object:
    """What is known before the first epoch."""
    usual = asdict(make_config(None, {"dataset": config.dataset}))
    parts = []
    if samples is not None:
        parts = [f"{len(samples.y[part])} {part}" for part in ("train", "validation", "test")]
    about = [f"{config.dataset}, {config.encoder} code, {config.steps} time steps", hidden_words(config, " \u2192 ")]
    about += [f"{' / '.join(parts)} samples"] if parts else []
    mine = {name: value for name, value in asdict(config).items() if name not in NO_MATTER or value != usual[name]}
    return {
        "format": of.FORMAT,
        "kind": "run",
        "title": text(folder.absolute().name),
        "subtitle": text("; ".join(about)),
        "status": "training",
        "note": "",
        "epochs": config.epochs,
        "written": of.now(),
        "results": [],
        "settings": of.settings_of(mine, usual),
        "command": text(command_of(config)),
        "config": config.to_toml(),
        "watched": 1 if samples is None else max(1, min(WATCHED, len(samples.y["train"]) // 40)),
        "classes": 0 if samples is None else samples.classes,
        "missing": {},
    }


def _numbers(config: Config, history: History, metrics: Metrics | None, classes: int) -> Object:
    """Curves, and the numbers at the top of the page."""
    loss_name = f"cross-entropy (nats), labels smoothed by {config.smoothing:g}"
    reference: dict[str, float] = {}
    if metrics is not None:
        reference = {"test_accuracy": metrics["test_accuracy"], "test_loss": metrics["test_loss"]}
    reference |= {"chance": 1 / classes} if classes > 1 else {}
    found: Object = {"curves": of.curves(history, loss_name=loss_name, reference=reference)}
    results: list[Object] = []

    def add(name: str, value: float, unit: str, about: str = "", digits: int = 4) -> None:
        results.append({"name": name, "value": of.number(value, digits), "unit": unit, "about": about})

    if metrics is not None:
        add("test accuracy", 100 * metrics["test_accuracy"], "%", f"{metrics['test_samples']} samples, measured once")
        add("test loss", metrics["test_loss"], "nats")
    if history and "eval_acc" in history[-1]:
        best = max(range(len(history)), key=lambda i: _rank(history[i]))
        about = f"best {100 * history[best]['eval_acc']:.2f} % after epoch {best + 1}"
        add("validation accuracy", 100 * history[-1]["eval_acc"], "%", about)
    if history and "train_loss" in history[-1]:
        add("training loss", history[-1]["train_loss"], "nats", f"after epoch {len(history)} of {config.epochs}")
    if metrics is not None and (rates := metrics["firing_rate"].values()):
        add("mean firing rate", 100 * sum(rates) / len(rates), "%", "spikes per neuron and time step", 3)
    if metrics is not None:
        add("training time", metrics["run_s"], "s", f"and {metrics['compile_s']:.1f} s compiling", 3)
    return {**found, "results": results}


def _whole(value: JSON, otherwise: int) -> int:
    return value if isinstance(value, int) and value > 0 else otherwise


def _rank(row: dict[str, float]) -> list[float]:
    """As `CHOSEN_BY` has it, of rows that may lack numbers."""
    scores = scores_of(CHOSEN_BY, {name: row.get(name, math.nan) for name in names_of(CHOSEN_BY)})
    return [-math.inf if math.isnan(score) else score for score in scores]


def _saved(folder: Path) -> Object | None:
    path = folder / PAGE
    try:
        with opened(path, "spyx", LARGEST_PAGE) as file:
            return read_content(file.read().decode("utf-8"))
    except (OSError, ValueError):
        return None


def _row(row: LayerRow) -> tuple[int, str, float, float, float]:
    return row["epoch"], row["layer"], row["rate"], row["silent"], row["gradient"]


def _table(rows: Iterable[Iterable[object]]) -> str:
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue()
