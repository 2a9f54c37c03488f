"""`spyx train`: from settings to a finished run folder."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from spyx import nn, optimize, report
from spyx.cli import inputs, network
from spyx.cli.config import Config
from spyx.cli.errors import Interrupted, UserError
from spyx.cli.progress import Shown, working
from spyx.cli.resume import CHECKPOINTS, answer, at_once, go_on, in_words_of_options, resumed, settings_of, stopped
from spyx.cli.runs import (
    BEST,
    add_epoch,
    check_output,
    new_folder,
    save_epochs,
    save_numbers,
    save_text,
    save_weights,
)
from spyx.cli.score import batches, make_loss, make_metric, score, weighed
from spyx.cli.solver import make_solver
from spyx.cli.summary import activity_lines, hints, next_commands
from spyx.cli.text import safe

SHOWN = 256


def train(config: Config, output: Path | None, console: Console) -> Path:
    """Train, measure the test part once, and write the run folder.

    Raises:
        UserError: a name, a file or a folder is wrong, or training met a number that is not finite.
    """
    began = time.perf_counter()
    check_output(output)
    inputs.check_names(config)
    network.check_names(config)
    config = replace(config, neuron=network.full_name(config.neuron))
    if config.data:
        config = replace(config, data=_place("--data", config.data), cache=_place("--cache", config.cache))
    with working(console, f"loading {config.dataset}"):
        samples = inputs.load_inputs(config)
    steps = samples.x["train"].shape[1]
    taken = steps if config.raster.bin_ms else config.steps
    config = replace(config, dataset=config.dataset.lower(), encoder=samples.encoder, steps=taken)
    _check_batch(config, samples)
    folder = new_folder(output, config)
    save_text(folder, "config.toml", config.to_toml())
    return _run(config, folder, samples, console, began, resume=False)


def resume(folder: Path, given: dict[str, Any], console: Console) -> Path:
    """Go on with a run that was stopped, from its newest checkpoint that is whole.

    Raises:
        UserError: as `train`; the run is finished, in use, or not as it was.
    """
    began = time.perf_counter()
    config = resumed(folder, given)
    inputs.check_names(config)
    network.check_names(config)
    with working(console, f"loading {config.dataset}"):
        samples = inputs.load_inputs(config)
    _check_batch(config, samples)
    return _run(config, folder, samples, console, began, resume=True)


def _check_batch(config: Config, samples: inputs.Inputs) -> None:
    if config.batch_size > (most := len(samples.y["train"])):
        raise UserError(
            f"--batch-size: expected at most {most}, the samples of the training part; got {config.batch_size}."
        )


def _run(config: Config, folder: Path, samples: inputs.Inputs, console: Console, began: float, *, resume: bool) -> Path:
    steps, features = samples.x["train"].shape[1:]
    model = network.make_network(config, features, samples.classes, samples.frame)
    _introduce(console, config, samples, steps, features)
    try:
        trained = _learn(config, folder, model, samples, console, resume=resume)
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    except optimize.CheckpointError as error:
        raise in_words_of_options(error) from error
    except optimize.Stopped as error:
        raise stopped(error, folder, config.epochs) from error
    except KeyboardInterrupt as error:
        raise at_once(folder) from error
    try:
        save_weights(folder, trained.model)
        if trained.best_model is not None:
            save_weights(folder, trained.best_model, BEST)
    except OSError as error:
        raise UserError(
            f"the weights could not be written: {error.filename}: {error.strerror}. Make room, then: {go_on(folder)}"
        ) from error
    try:
        return _finish(console, folder, config, trained, samples, began)
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}. The weights are safe: run spyx eval {folder} for the result."
        ) from error
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted. The weights are safe: run spyx eval {folder} for the result.") from error


def _place(option: str, path: str) -> str:
    """The whole path of a folder that a setting names."""
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{option}: expected a folder; got {path!r}: {error}.") from error


def _finish(
    console: Console, folder: Path, config: Config, trained: optimize.Trained, samples: inputs.Inputs, began: float
) -> Path:
    """Measure the test part and write everything but the weights."""
    model, history = trained.model, trained.history
    result = score(config, model, *samples.part("test"))
    x = np.asarray(samples.x["validation"][:SHOWN], np.float32)
    y = np.asarray(samples.y["validation"][:SHOWN])
    activities = report.record(nn.rounded(model), x)
    metrics = {
        "test_accuracy": result["acc"],
        "test_loss": result["loss"],
        "test_samples": len(samples.y["test"]),
        **({"labels": samples.about_labels("test")} if samples.per_step else {}),
        "split": samples.note,
        "firing_rate": {a.name: a.rate for a in activities if a.spikes},
        "silent_neurons": {a.name: a.silent for a in activities if a.spikes},
        "best_epoch": trained.best_epoch + 1,
        "compile_s": trained.compile_s,
        "run_s": trained.run_s,
    }
    save_numbers(folder, history, metrics)
    try:
        _plot(folder, config, history, result["acc"], x, y, activities)
    except Exception as error:  # a picture is worth less than a run: disks, fonts and back ends fail in many ways
        console.print(f"[yellow]no pictures:[/] {safe(error)}")
    _summarise(console, folder, config, history, metrics, activities, time.perf_counter() - began)
    return folder


def _learn(
    config: Config, folder: Path, model: Any, samples: inputs.Inputs, console: Console, *, resume: bool
) -> optimize.Trained:
    lengths = [samples.lengths["train"]] if "train" in samples.lengths else []
    x, y, *lengths = batches(samples.x["train"], samples.y["train"], config.batch_size, *lengths)
    shown = Shown(console, config.epochs, len(y))

    def warn(line: str) -> None:
        console.print(f"[yellow]{safe(line)}[/]", highlight=False, soft_wrap=True)

    def start(history: list[dict[str, float]]) -> None:
        save_epochs(folder, history)
        shown.start(history)

    def note(epoch: int, numbers: dict[str, float]) -> None:
        shown.epoch(epoch, numbers)
        try:
            add_epoch(folder, epoch + 1, numbers)
        except OSError as error:  # all rows are written again at the end
            warn(f"{error.filename}: {error.strerror}.")

    with shown:
        return optimize.train(
            model,
            make_solver(config, config.epochs * len(y), samples.frame),
            make_loss(config),
            (x, y),
            lengths=lengths[0] if lengths else None,
            epochs=config.epochs,
            eval_data=weighed(*samples.part("validation")),
            metric_fn=make_metric(config),
            key=jax.random.key(config.seed),
            folder=folder / CHECKPOINTS,
            resume=resume,
            best="eval_acc",
            settings=settings_of(config),
            on_start=start,
            on_epoch_start=partial(network.set_widths, config) if network.learns_delays(config) else None,
            on_epoch_end=note,
            on_step=shown.step,
            on_signal=answer,
            notify=warn,
        )


def _plot(
    folder: Path, config: Config, history: Any, accuracy: float, x: np.ndarray, y: np.ndarray, activities: Any
) -> None:
    sizes = "-".join(map(str, config.hidden))
    title = f"{config.dataset}, {config.encoder} code, {sizes} {config.neuron} neurons"
    loss_name = f"cross-entropy (labels smoothed by {config.smoothing:g})"
    figure = report.plot_history(history, title=title, test_accuracy=accuracy, loss_name=loss_name)
    figure.savefig(folder / "training.png")
    answers = activities[-1].outputs.sum(axis=1).argmax(axis=-1)
    label = f"a validation sample of {config.dataset}"
    if y.ndim == 1:
        label += f": class {y[0]}, answered {answers[0]}"
    report.plot_raster(x, activities, title=label).savefig(folder / "raster.png")


def _introduce(console: Console, config: Config, samples: inputs.Inputs, steps: int, features: int) -> None:
    counts = " / ".join(str(len(samples.y[part])) for part in inputs.PARTS)
    sizes = " -> ".join(map(str, (features, *config.hidden, samples.classes)))
    console.print(f"[bold]{config.dataset}[/]: {counts} train / validation / test samples, {config.encoder} code")
    if samples.per_step:
        console.print(f"labels: {samples.about_labels('train')}")
    console.print(f"network {sizes}, {config.neuron} neurons, {steps} time steps, on {jax.devices()[0].device_kind}")


def _summarise(
    console: Console, folder: Path, config: Config, history: Any, metrics: Any, activities: Any, total: float
) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("test accuracy", f"[bold green]{metrics['test_accuracy']:.2%}[/]")
    table.add_row("validation accuracy", f"{history[-1]['eval_acc']:.2%}")
    for name, activity in activity_lines(activities):
        table.add_row(name, activity)
    compile_s, run_s = metrics["compile_s"], metrics["run_s"]
    table.add_row("time", f"{total:.1f} s, of them {compile_s:.1f} s compiling and {run_s:.1f} s training")
    table.add_row("folder", safe(folder))
    console.print()
    console.print(table)
    console.print("\n[bold]What to try next[/]")
    for hint in hints(config, history, activities):
        console.print(f"- {safe(hint)}", highlight=False)
    for command in next_commands(folder):
        console.print(f"  {safe(command)}", highlight=False, soft_wrap=True)
