"""`spyx train`: from settings to a finished run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from spyx import nn, optimize, report
from spyx.cli import inputs, make_network, page
from spyx.cli.config import Config
from spyx.cli.doctor import SAMPLES, diagnose, fresh_network
from spyx.cli.errors import Interrupted, UserError
from spyx.cli.make_solver import make_solver
from spyx.cli.many_devices import ALONE, Spread
from spyx.cli.progress import Shown, working
from spyx.cli.provenance import Seconds, record_of, write
from spyx.cli.resume import CHECKPOINTS, acknowledge, at_once, go_on, in_words_of_options, resumed, settings_of, stopped
from spyx.cli.runs import (
    BEST,
    CHOSEN_BY,
    ROW,
    SETTINGS,
    add_epoch,
    check_output,
    naming_settings,
    new_folder,
    save_epochs,
    save_numbers,
    save_text,
    save_weights,
)
from spyx.cli.score import batches, check_loss, class_weights, make_loss, make_metric, score, weighed
from spyx.cli.summary import NO_NEURONS, activity_lines, hidden_words, hints, next_commands
from spyx.cli.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Integer, Num

    from spyx.cli.config import Settings
    from spyx.cli.runs import Labels, Metrics
    from spyx.data._json import Object

SHOWN = 256


def train(config: Config, output: Path | None, console: Console, spread: Spread = ALONE) -> Path:
    """Train, measure the test part once, and write the run folder.

    Raises:
        UserError: a name, a file or a folder is wrong, or training met a number that is not finite.
    """
    began = time.perf_counter()
    config, samples = prepared(config, output, console, spread)
    if not spread.first:  # the first process alone writes
        return _run(config, output or Path(), samples, console, began, spread, resume=False)
    folder = new_folder(output, config)
    save_text(folder, SETTINGS, config.to_toml())
    return _run(config, folder, samples, console, began, spread, resume=False)


def prepared(
    config: Config, output: Path | None, console: Console, spread: Spread = ALONE
) -> tuple[Config, inputs.Inputs]:
    """Settings with everything in them that the data decide, and the data; nothing is written."""
    check_output(output) if spread.first else None
    inputs.check_names(config)
    make_network.check_names(config)
    check_loss(config)
    config = replace(config, neuron=make_network.full_name(config.neuron), dataset=inputs.full_name(config.dataset))
    if config.data:
        config = replace(config, data=_place("--data", config.data), cache=_place("--cache", config.cache))
    with working(console, f"loading {config.dataset}"):
        samples = inputs.load_inputs(config)
    steps = samples.x["train"].shape[1]
    taken = steps if config.raster.bin_ms else config.steps
    config = replace(config, encoder=samples.encoder, steps=taken)
    _check_batch(config, samples, spread)
    return config, samples


def resume(folder: Path, given: Settings, console: Console, spread: Spread = ALONE) -> Path:
    """Go on with a run that was stopped, from its newest checkpoint that is whole.

    Raises:
        UserError: as `train`; the run is finished, in use, or not as it was.
    """
    began = time.perf_counter()
    config = resumed(folder, given)
    samples = loaded(folder, config, console)
    _check_batch(config, samples, spread)
    return _run(config, folder, samples, console, began, spread, resume=True)


def loaded(folder: Path, config: Config, console: Console) -> inputs.Inputs:
    """The data of a run that is to go on; what its settings name wrongly is told with their file."""
    with naming_settings(folder):
        inputs.check_names(config)
        make_network.check_names(config)
        check_loss(config)
    with working(console, f"loading {config.dataset}"):
        return inputs.load_inputs(config)


def _check_batch(config: Config, samples: inputs.Inputs, spread: Spread) -> None:
    if config.batch_size % spread.parts:
        raise UserError(
            f"--batch-size: expected a multiple of {spread.parts}, the devices that share a batch; "
            f"got {config.batch_size}."
        )
    if config.batch_size > (most := len(samples.y["train"])):
        raise UserError(
            f"--batch-size: expected at most {most}, the samples of the training part; got {config.batch_size}."
        )


def _run(
    config: Config,
    folder: Path,
    samples: inputs.Inputs,
    console: Console,
    began: float,
    spread: Spread,
    *,
    resume: bool,
) -> Path:
    steps, features = samples.x["train"].shape[1:]
    model = fresh_network(config, samples)
    _introduce(console, config, samples, steps, features, spread)
    record = record_of(samples, model, [config.seed])
    if spread.first:
        write(folder, record)
    tell = partial(_page, console) if spread.first else _nothing
    tell(lambda: page.begin(folder, config, samples))
    # Weights that several processes share can be computed with by all of them alone.
    log = page.LayerLog(folder, config, samples, partial(warn, console)) if spread.processes == 1 else None
    try:
        with spread.losses_named():
            trained = _learn(config, folder, model, samples, console, spread, log, resume=resume)
    except FloatingPointError as error:
        why = str(error)
        tell(lambda: page.stopped(folder, config, why))
        raise UserError(why) from error
    except optimize.CheckpointError as error:
        raise in_words_of_options(error) from error
    except optimize.Stopped as error:
        told = stopped(error, folder, config.epochs)
        tell(lambda: page.stopped(folder, config, str(told)))
        raise told from error
    except KeyboardInterrupt as error:
        raise at_once(folder) from error
    if not spread.first:
        return folder
    try:
        save_weights(folder, trained.model)
        if trained.best_model is not None:
            save_weights(folder, trained.best_model, BEST)
    except OSError as error:
        raise UserError(
            f"the weights could not be written: {error.filename}: {error.strerror}. Make room, then: {go_on(folder)}"
        ) from error
    try:
        return finish(console, folder, config, trained, samples, began, record, log, spread)
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


def finish(
    console: Console,
    folder: Path,
    config: Config,
    trained: optimize.Trained,
    samples: inputs.Inputs,
    began: float,
    record: Object,
    log: page.LayerLog | None = None,
    spread: Spread = ALONE,
) -> Path:
    """Measure the test part and write everything but the weights."""
    model, history = trained.model, trained.history
    seconds = Seconds(samples.seconds, compiling=trained.compile_s, training=trained.run_s)
    with seconds.of("scoring"):
        result = score(config, model, *samples.part("test"))
    x = np.asarray(samples.x["validation"][:SHOWN], np.float32)
    y = np.asarray(samples.y["validation"][:SHOWN])
    final = nn.rounded(model)
    activities = report.record(final, x)
    labels: Labels = {"labels": samples.about_labels("test")} if samples.per_step else {}
    metrics: Metrics = {
        "test_accuracy": result["acc"],
        "test_loss": result["loss"],
        "test_samples": len(samples.y["test"]),
        **labels,
        "split": samples.note,
        "firing_rate": {a.name: a.rate for a in activities.values() if a.spiking},
        "silent_neurons": {a.name: a.silent for a in activities.values() if a.spiking},
        "best_epoch": trained.best_epoch + 1,
        "compile_s": trained.compile_s,
        "run_s": trained.run_s,
        "devices": spread.devices,
        "processes": spread.processes,
    }
    save_numbers(folder, history, metrics)
    try:
        with seconds.of("drawing"):
            _plot(folder, config, history, result["acc"], x.reshape(*x.shape[:2], *samples.frame), y, activities)
    except Exception as error:  # a picture is worth less than a run: disks, fonts and back ends fail in many ways
        console.print(f"[yellow]no pictures:[/] {safe(error)}")
    with working(console, "looking for faults"), seconds.of("diagnosing"):
        found, _ = diagnose(config, samples, final, history)
    examined = min(SAMPLES, len(samples.y["train"]))
    with working(console, "writing the page"), seconds.of("writing the page"):
        _page(console, lambda: page.finish(folder, config, model, samples, history, metrics, log, found, examined))
    write(folder, record, seconds)
    took = time.perf_counter() - began
    _summarise(console, folder, config, history, metrics, activities, found, took)
    return folder


def _page(console: Console, write: Callable[[], object]) -> None:
    """A page is worth less than a run: one line says why there is none."""
    try:
        write()
    except Exception as error:
        console.print(f"[yellow]no page:[/] {safe(error)}", highlight=False, soft_wrap=True)


def _nothing(write: Callable[[], object]) -> None:
    """Of a process that does not write the run's folder."""


def warn(console: Console, line: str) -> None:
    """A line about what went wrong and does not end the run."""
    console.print(f"[yellow]{safe(line)}[/]", highlight=False, soft_wrap=True)


def _learn(
    config: Config,
    folder: Path,
    model: nn.Sequential,
    samples: inputs.Inputs,
    console: Console,
    spread: Spread,
    log: page.LayerLog | None,
    *,
    resume: bool,
) -> optimize.Trained:
    lengths = [samples.lengths["train"]] if "train" in samples.lengths else []
    x, y, *lengths = batches(samples.x["train"], samples.y["train"], config.batch_size, *lengths)
    shown = Shown(console, config.epochs, len(y))

    say = partial(warn, console)

    def start(history: list[dict[str, float]]) -> None:
        if any(set(ROW[1:]) - set(row) for row in history):
            raise UserError(f"--resume: the checkpoints in {folder / CHECKPOINTS} are not of spyx train.")
        if spread.first:
            save_epochs(folder, history)
        if log is not None:
            log.start(len(history))
        shown.start(history)

    def note(epoch: int, numbers: dict[str, float]) -> None:
        shown.epoch(epoch, numbers)
        try:
            add_epoch(folder, epoch + 1, numbers) if spread.first else None
        except OSError as error:  # all rows are written again at the end
            say(f"{error.filename}: {error.strerror}.")

    with shown:
        return optimize.train(
            model,
            make_solver(config, config.epochs * len(y), samples.frame),
            make_loss(config, class_weights(config, samples)),
            (x, y),
            lengths=lengths[0] if lengths else None,
            epochs=config.epochs,
            eval_data=weighed(*samples.part("validation"), parts=spread.parts),
            metric_fn=make_metric(config),
            key=jax.random.key(config.seed),
            folder=folder / CHECKPOINTS,
            resume=resume,
            best=CHOSEN_BY,
            settings=settings_of(config),
            on_start=start,
            on_epoch_start=partial(make_network.set_widths, config) if make_network.learns_delays(config) else None,
            on_epoch_end=note,
            on_epoch_model=log,
            on_step=shown.step,
            on_signal=acknowledge,
            notify=say,
            mesh=spread.mesh,
        )


def _plot(
    folder: Path,
    config: Config,
    history: optimize.History,
    accuracy: float,
    x: Num[np.ndarray, "samples time *features"],
    y: Integer[np.ndarray, "samples *time"],
    activities: report.Recording[np.ndarray],
) -> None:
    title = f"{config.dataset}, {config.encoder} code, {hidden_words(config, '-')}"
    loss_name = f"cross-entropy (labels smoothed by {config.smoothing:g})"
    figure = report.plot_history(history, title=title, test_accuracy=accuracy, loss_name=loss_name)
    figure.savefig(folder / "training.png")
    layers = list(activities.values())
    predictions = np.asarray(layers[-1]["spikes"]).sum(axis=1).argmax(axis=-1)
    label, index, truth = f"A validation sample of {config.dataset}", 0, None
    if y.ndim == 1:
        chosen = report.choose_samples(y, predictions, layers[0]["spikes"])
        index = chosen.right if chosen.right is not None else chosen.wrong or 0
        truth = int(y[index])
        label += f": class {truth}, predicted {predictions[index]}"
    figure = report.plot_sample(x, activities, sample=index, label_of=truth, title=label)
    figure.savefig(folder / "raster.png")


def _introduce(
    console: Console, config: Config, samples: inputs.Inputs, steps: int, features: int, spread: Spread
) -> None:
    counts = " / ".join(str(len(samples.y[part])) for part in inputs.PARTS)
    sizes = " -> ".join(map(str, (features, *config.hidden, samples.classes)))
    console.print(f"[bold]{config.dataset}[/]: {counts} train / validation / test samples, {config.encoder} code")
    if samples.per_step:
        console.print(f"labels: {samples.about_labels('train')}")
    neurons = f"{config.neuron} neurons" if config.hidden or config.layers.conv else NO_NEURONS
    console.print(f"network {sizes}, {neurons}, {steps} time steps, on {spread}")


def _summarise(
    console: Console,
    folder: Path,
    config: Config,
    history: optimize.History,
    metrics: Metrics,
    activities: report.Recording[np.ndarray],
    found: Sequence[report.Finding],
    total: float,
) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")  # a long path is not cut
    table.add_row("test accuracy", f"[bold green]{metrics['test_accuracy']:.2%}[/]")
    table.add_row("validation accuracy", f"{history[-1]['eval_acc']:.2%}")
    for name, activity in activity_lines(activities):
        table.add_row(name, activity)
    compile_s, run_s = metrics["compile_s"], metrics["run_s"]
    table.add_row("time", f"{total:.1f} s, of them {compile_s:.1f} s compiling and {run_s:.1f} s training")
    table.add_row("folder", safe(folder))
    if (folder / page.PAGE).is_file():
        table.add_row("page", safe(folder / page.PAGE))
    console.print()
    console.print(table)
    console.print("\n[bold]What to try next[/]")
    for hint in hints(config, history, found):
        console.print(f"- {safe(hint)}", highlight=False)
    for command in next_commands(folder):
        console.print(f"  {safe(command)}", highlight=False, soft_wrap=True)
