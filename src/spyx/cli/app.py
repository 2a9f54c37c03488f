"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import spyx
from spyx.cli.config import Config, make_config
from spyx.cli.errors import OneLineErrors
from spyx.cli.nir import app as nir_app
from spyx.cli.zoo import app as zoo_app

app = typer.Typer(
    cls=OneLineErrors,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(nir_app, name="nir")
app.add_typer(zoo_app, name="zoo")

TRAIN = (
    "Train a spiking network on a dataset and write a folder with everything about the run.\n\n"
    "Without options: handwritten digits, one spike per pixel, about 97 % of the test part right after less than half "
    "a minute on two CPU cores. The test part is measured once, at the end; no choice is made on it.\n\n"
    "[bold]Examples[/]\n\n"
    "[cyan]spyx train[/]\n\n"
    "[cyan]spyx train --neuron ALIF --hidden 128,128 --epochs 60[/]\n\n"
    "[cyan]spyx train --config configs/nmnist.toml --data FOLDER[/]\n\n"
    "[cyan]spyx train --config runs/FIRST/config.toml --seed 1[/]"
)
DATA, NETWORK, TRAINING, OUTPUT = "Data", "Network", "Training", "Settings and output"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    """An option whose default is that of `Config`: None here means not given."""
    field = (names[0] if names else "").lstrip("-").replace("-", "_")
    default = getattr(Config, field, None)
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    shown = f" [dim]Default {default}.[/]" if default not in (None, "") else ""
    return typer.Option(*names, help=text + shown, rich_help_panel=panel, show_default=False, **more)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"spyx {spyx.__version__}")
        raise typer.Exit


FinishedRun = Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN", show_default=False)]
OwnNeuron = Annotated[
    str | None, typer.Option("--neuron", help="The neuron of a run with one of your own.", metavar="MODULE:CLASS")
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Spiking neural networks on JAX: train one on real data, score it again, look at the installation."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("train", help=TRAIN)
def train_command(
    dataset: Annotated[
        str | None,
        _option(DATA, "digits, yinyang and randman need no files; nmnist, shd, braille, ... need --data.", "--dataset"),
    ] = None,
    data: Annotated[
        str | None, _option(DATA, "Folder or archive of a dataset that is read from files.", "--data", metavar="FOLDER")
    ] = None,
    cache: Annotated[
        str | None,
        _option(DATA, "Folder where frames of recordings are kept for the next run.", "--cache", metavar="FOLDER"),
    ] = None,
    hold_out_speaker: Annotated[
        str | None,
        _option(DATA, "Test on this speaker alone, whom training never hears.", "--hold-out-speaker", metavar="NAME"),
    ] = None,
    encoder: Annotated[
        str | None,
        _option(DATA, "How values become spikes: latency, rate, phase, direct, delta; auto chooses.", "--encoder"),
    ] = None,
    steps: Annotated[int | None, _option(DATA, "Time steps per sample.", "--steps", metavar="N")] = None,
    hidden: Annotated[
        str | None, _option(NETWORK, "Size of every hidden layer, such as 256 or 256,128.", "--hidden", metavar="SIZES")
    ] = None,
    neuron: Annotated[
        str | None,
        _option(
            NETWORK,
            "Any neuron of spyx.nn by name: LIF, RLIF, ALIF, adLIF, PLIF, ...; or your own, MODULE:CLASS, from this "
            "folder.",
            "--neuron",
        ),
    ] = None,
    dynamics: Annotated[
        str | None,
        _option(
            NETWORK,
            "How IF, LIF, ALIF and CuBaLIF fire and reset: spyx, paper, snntorch, spikingjelly, norse, sinabs.",
            "--dynamics",
        ),
    ] = None,
    beta: Annotated[
        float | None, _option(NETWORK, "Membrane decay per step at the start, 0 to 1; trained.", "--beta", metavar="X")
    ] = None,
    surrogate: Annotated[
        str | None,
        _option(
            NETWORK, "Slope of a spike, with its first option: superspike:10, arctan:2, triangular, ...", "--surrogate"
        ),
    ] = None,
    delays: Annotated[
        int | None,
        _option(
            NETWORK,
            "Learn a delay of 0 to N steps for every weight of hidden layers.",
            "--delays",
            metavar="N",
        ),
    ] = None,
    epochs: Annotated[int | None, _option(TRAINING, "Passes over the training part.", "--epochs", metavar="N")] = None,
    batch_size: Annotated[int | None, _option(TRAINING, "Samples per update.", "--batch-size", metavar="N")] = None,
    learning_rate: Annotated[
        float | None,
        _option(
            TRAINING, "Step size of AdamW at the start; it falls to 0 along a cosine.", "--learning-rate", metavar="X"
        ),
    ] = None,
    delay_learning_rate: Annotated[
        float | None,
        _option(TRAINING, "Step size of delays, in time steps.", "--delay-learning-rate", metavar="X"),
    ] = None,
    seed: Annotated[
        int | None, _option(TRAINING, "Same seed, same machine: same numbers.", "--seed", metavar="N")
    ] = None,
    config: Annotated[
        Path | None,
        _option(
            OUTPUT,
            "TOML or YAML file with any of these settings and finer ones, such as clip, \\[raster] and \\[augment]; "
            "the command line wins.",
            "--config",
            metavar="FILE",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _option(
            OUTPUT, "New folder for the results. By default runs/TIME-DATASET-NEURON.", "--output", metavar="FOLDER"
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        _option(OUTPUT, "Go on with a run that was stopped or killed, with its settings.", "--resume", metavar="RUN"),
    ] = None,
) -> None:
    """See `TRAIN`."""
    given = {name: value for name, value in locals().items() if name in Config.__dataclass_fields__}
    from spyx.cli import train as training

    spyx.compilation_cache()
    if resume is not None:
        training.resume(resume, {**given, "config": config, "output": output}, Console())
        return
    training.train(make_config(config, given), output, Console())


@app.command("eval")
def eval_command(
    run: FinishedRun,
    neuron: OwnNeuron = None,
    part: Annotated[str, typer.Option(help="Part of the data: test, validation or train.", metavar="PART")] = "test",
    best: Annotated[
        bool, typer.Option("--best", help="Weights of the best epoch on the validation part, not of the last.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure the test part again with the weights of a finished run."""
    from spyx.cli.evaluate import evaluate

    spyx.compilation_cache()
    evaluate(run, Console(), neuron, part=part, best=best, as_json=as_json)


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="RUN...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list and nothing else.")] = False,
) -> None:
    """Print finished runs beside each other; runs that differ in the seed alone are one row with mean and spread."""
    from spyx.cli.compare import compare

    compare(runs, Console(), as_json=as_json)


@app.command("energy")
def energy_command(
    run: FinishedRun,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Prices of operations; all by default.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Of the test part, from its first on.", metavar="N")] = 256,
    neuron: OwnNeuron = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, under the names of NeuroBench.")] = False,
) -> None:
    """Count synaptic operations and estimate the energy of a finished run, beside a quantised network of its shape."""
    from spyx.cli.energy import energy

    spyx.compilation_cache()
    energy(run, model or [], samples, as_json, Console(), neuron)


@app.command("doctor")
def doctor_command(
    run: FinishedRun,
    neuron: OwnNeuron = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what keeps a network from learning: input, labels, layers and gradients. Exit status 1 if found."""
    from spyx.cli.doctor import doctor

    spyx.compilation_cache()
    if doctor(run, as_json, Console(), neuron):
        raise typer.Exit(1)


@app.command("info")
def info_command() -> None:
    """Print versions, devices and installed extras."""
    from spyx.cli.info import info

    info(Console())
