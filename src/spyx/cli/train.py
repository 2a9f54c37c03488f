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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from spyx import nn, optimize, report
from spyx.cli import inputs, network
from spyx.cli.config import Config
from spyx.cli.errors import Interrupted, UserError, pick
from spyx.cli.runs import check_output, new_folder, save_numbers, save_text, save_weights
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
    config = replace(config, neuron=pick("neuron", config.neuron, network.neurons()))
    if config.data:
        config = replace(config, data=_place("--data", config.data), cache=_place("--cache", config.cache))
    samples = inputs.load_inputs(config)
    steps, features = samples.x["train"].shape[1:]
    taken = steps if config.raster.bin_ms else config.steps
    config = replace(config, dataset=config.dataset.lower(), encoder=samples.encoder, steps=taken)
    folder = new_folder(output, config)
    save_text(folder, "config.toml", config.to_toml())

    model = network.make_network(config, features, samples.classes)
    _introduce(console, config, samples, steps, features)
    try:
        model, history, seconds = _learn(config, model, samples, console)
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted: {folder} holds the settings, and no weights.") from error
    try:
        save_weights(folder, model)
    except OSError as error:
        raise UserError(f"the weights are lost: {error.filename}: {error.strerror}. Train again elsewhere.") from error
    try:
        return _finish(console, folder, config, model, samples, history, seconds, began)
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
    console: Console,
    folder: Path,
    config: Config,
    model: Any,
    samples: inputs.Inputs,
    history: Any,
    seconds: dict[str, float],
    began: float,
) -> Path:
    """Measure the test part and write everything but the weights."""
    result = score(config, model, samples.x["test"], samples.y["test"])
    x = np.asarray(samples.x["validation"][:SHOWN], np.float32)
    y = np.asarray(samples.y["validation"][:SHOWN])
    activities = report.record(nn.rounded(model), x)
    metrics = {
        "test_accuracy": result["acc"],
        "test_loss": result["loss"],
        "test_samples": len(samples.y["test"]),
        "split": samples.note,
        "firing_rate": {a.name: a.rate for a in activities if a.spikes},
        "silent_neurons": {a.name: a.silent for a in activities if a.spikes},
        **seconds,
    }
    save_numbers(folder, history, metrics)
    try:
        _plot(folder, config, history, result["acc"], x, y, activities)
    except Exception as error:  # a picture is worth less than a run: disks, fonts and back ends fail in many ways
        console.print(f"[yellow]no pictures:[/] {safe(error)}")
    _summarise(console, folder, config, history, metrics, activities, time.perf_counter() - began)
    return folder


def _learn(config: Config, model: Any, samples: inputs.Inputs, console: Console) -> tuple[Any, Any, dict[str, float]]:
    data = batches(samples.x["train"], samples.y["train"], config.batch_size)
    history: list[dict[str, float]] = []
    marks = [time.perf_counter()]
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  loss {task.fields[loss]}  validation {task.fields[accuracy]}  left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("compiling", total=config.epochs, loss="-", accuracy="-")

        def note(epoch: int, numbers: dict[str, Any]) -> None:
            measured = numbers["eval_metric"]
            row = {"train_loss": numbers["train_loss"], "eval_loss": measured["loss"], "eval_acc": measured["acc"]}
            history.append(row)
            marks.append(time.perf_counter())
            progress.update(
                bar,
                advance=1,
                description="training",
                loss=f"{row['train_loss']:.3f}",
                accuracy=f"{row['eval_acc']:.1%}",
            )

        model, _ = optimize.compile_fit(
            model,
            make_solver(config, config.epochs * len(data[1]), samples.frame),
            make_loss(config),
            data,
            epochs=config.epochs,
            eval_data=weighed(samples.x["validation"], samples.y["validation"]),
            metric_fn=make_metric(config),
            key=jax.random.key(config.seed),
            on_epoch_start=partial(network.set_widths, config) if config.delays else None,
            on_epoch_end=note,
        )
    epochs = np.diff(marks)
    usual = float(np.median(epochs[1:])) if len(epochs) > 1 else 0.0
    run_s = float(epochs[1:].sum() + min(usual, epochs[0]))
    return model, history, {"compile_s": float(marks[-1] - marks[0]) - run_s, "run_s": run_s}


def _plot(
    folder: Path, config: Config, history: Any, accuracy: float, x: np.ndarray, y: np.ndarray, activities: Any
) -> None:
    sizes = "-".join(map(str, config.hidden))
    title = f"{config.dataset}, {config.encoder} code, {sizes} {config.neuron} neurons"
    loss_name = f"cross-entropy (labels smoothed by {config.smoothing:g})"
    figure = report.plot_history(history, title=title, test_accuracy=accuracy, loss_name=loss_name)
    figure.savefig(folder / "training.png")
    answers = activities[-1].outputs.sum(axis=1).argmax(axis=-1)
    label = f"a validation sample of {config.dataset}: class {y[0]}, answered {answers[0]}"
    report.plot_raster(x, activities, title=label).savefig(folder / "raster.png")


def _introduce(console: Console, config: Config, samples: inputs.Inputs, steps: int, features: int) -> None:
    counts = " / ".join(str(len(samples.y[part])) for part in inputs.PARTS)
    sizes = " -> ".join(map(str, (features, *config.hidden, samples.classes)))
    console.print(f"[bold]{config.dataset}[/]: {counts} train / validation / test samples, {config.encoder} code")
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
