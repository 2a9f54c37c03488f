"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import spyx
from spyx.cli.config import Config, make_config
from spyx.cli.data import app as data_app
from spyx.cli.errors import OneLineErrors, UserError
from spyx.cli.nir import app as nir_app
from spyx.cli.zoo import app as zoo_app

if TYPE_CHECKING:
    from typer.models import OptionInfo

app = typer.Typer(
    cls=OneLineErrors,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(nir_app, name="nir")
app.add_typer(data_app, name="data")
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
DEVICES = "Several devices and machines"


def _option(panel: str, text: str, *names: str, metavar: str | None = None) -> OptionInfo:
    """An option whose default is that of `Config`: None here means not given."""
    field = (names[0] if names else "").lstrip("-").replace("-", "_")
    default = getattr(Config, field, None)
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    shown = f" [dim]Default {default}.[/]" if default not in (None, "") else ""
    return typer.Option(*names, help=text + shown, rich_help_panel=panel, show_default=False, metavar=metavar)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"spyx {spyx.__version__}")
        raise typer.Exit


FinishedRun = Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN", show_default=False)]
OwnDataset = Annotated[
    str | None, typer.Option("--dataset", help="The data set of a run with one of your own.", metavar="MODULE:FUNCTION")
]
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
        _option(
            DATA,
            "digits, yinyang and randman need no files; nmnist, shd, braille, folder, ... need --data; or your "
            "own, "
            "MODULE:FUNCTION, from this folder.",
            "--dataset",
        ),
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
    sensor_size: Annotated[
        str | None,
        _option(DATA, "Width and height of the camera, or units, of --dataset folder.", "--sensor-size", metavar="W,H"),
    ] = None,
    encoder: Annotated[
        str | None,
        _option(
            DATA,
            "How values become spikes: latency, rate, phase, direct, delta or, with a threshold, delta:0.03; "
            "auto chooses.",
            "--encoder",
        ),
    ] = None,
    steps: Annotated[int | None, _option(DATA, "Time steps per sample.", "--steps", metavar="N")] = None,
    hidden: Annotated[
        str | None,
        _option(
            NETWORK,
            "Size of every hidden layer, such as 256 or 256,128; none for no hidden layer.",
            "--hidden",
            metavar="SIZES",
        ),
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
    loss: Annotated[
        str | None,
        _option(
            TRAINING,
            "integral_crossentropy, max_crossentropy, rate_crossentropy, mse_spikerate; or your own, MODULE:FUNCTION.",
            "--loss",
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
    calibrate: Annotated[
        float | None,
        _option(
            NETWORK,
            "Scale the weights at the start, so that every layer fires in this share of the steps, such as 0.1.",
            "--calibrate",
            metavar="RATE",
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
    seeds: Annotated[
        str | None,
        _option(
            TRAINING,
            "Several seeds, 0..4 or 0,3,7, each with a folder of its own; trained by one program. In place of --seed.",
            "--seeds",
            metavar="SEEDS",
        ),
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
    devices: Annotated[
        str | None,
        _option(
            DEVICES,
            "Split every batch over N devices of this process; BxU splits hidden units over U as well. By default 1, "
            "and with --coordinator all.",
            "--devices",
            metavar="N",
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        _option(
            DEVICES,
            "Join a job of several processes, whose first listens at HOST:PORT; auto in SLURM, Kubernetes, Open MPI.",
            "--coordinator",
            metavar="HOST:PORT",
        ),
    ] = None,
    processes: Annotated[int | None, _option(DEVICES, "Processes of the job.", "--processes", metavar="N")] = None,
    process_id: Annotated[
        int | None, _option(DEVICES, "Number of this one, from 0.", "--process-id", metavar="N")
    ] = None,
    patience: Annotated[
        float | None,
        _option(
            DEVICES,
            "Seconds without a sign of life after which another process is lost and the job ends. [dim]Default 60.[/]",
            "--patience",
            metavar="S",
        ),
    ] = None,
) -> None:
    """See `TRAIN`."""
    given = {name: value for name, value in locals().items() if name in Config.__dataclass_fields__}
    from spyx.cli import train as training
    from spyx.cli.many_devices import spread_over
    from spyx.cli.resume import are_seeds

    settings = make_config(config, given) if resume is None else None
    several = seeds is not None or (resume is not None and are_seeds(resume))
    if several and (devices or coordinator or processes):
        option = "--seeds" if resume is None else "--resume of several seeds"
        raise UserError(f"{option}: expected no --devices and no other processes beside it; got both. Leave one out.")
    with spread_over(devices, coordinator, processes, process_id, patience, resume or output) as spread:
        spyx.compilation_cache()
        console = Console(quiet=not spread.first)
        if resume is not None:
            again = {**given, "config": config, "output": output, "seeds": seeds}
            if several:
                from spyx.cli.seeds import resume_seeds

                resume_seeds(resume, again, console)
            else:
                training.resume(resume, again, console, spread)
        elif settings is not None and seeds is not None:
            from spyx.cli.seeds import parsed, train_seeds

            train_seeds(settings, parsed(seeds, seed), output, console)
        elif settings is not None:
            training.train(settings, output, console, spread)


@app.command("eval")
def eval_command(
    run: FinishedRun,
    neuron: OwnNeuron = None,
    dataset: OwnDataset = None,
    part: Annotated[str, typer.Option(help="Part of the data: test, validation or train.", metavar="PART")] = "test",
    best: Annotated[
        bool, typer.Option("--best", help="Weights of the best epoch on the validation part, not of the last.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure the test part again with the weights of a finished run."""
    from spyx.cli.evaluate import evaluate

    spyx.compilation_cache()
    evaluate(run, Console(), neuron, dataset=dataset, part=part, best=best, as_json=as_json)


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="RUN...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list and nothing else.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Write a page with their curves too, a new .html file.", metavar="FILE"),
    ] = None,
) -> None:
    """Print finished runs beside each other; runs that differ in the seed alone are one row with mean and spread."""
    from spyx.cli.compare import compare

    if page is None:
        compare(runs, Console(), as_json=as_json)
        return
    from spyx.cli.compare_page import check_name, write_comparison

    check_name(page)
    write_comparison(compare(runs, Console(), as_json=as_json), page, Console(stderr=as_json))


@app.command("serve")
def serve_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.", metavar="RUN", show_default=False)],
    port: Annotated[int, typer.Option("--port", help="Of this machine; 0 takes a free one.", metavar="N")] = 0,
) -> None:
    """Show the page of a run in a browser on this machine, live while it trains. Ctrl-C ends it."""
    from spyx.cli.serve import serve

    serve(run, port, Console())


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
    fix: Annotated[
        bool, typer.Option("--fix", help="Apply the changes to try, to a copy, and print the numbers after them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what keeps a network from learning: input, labels, layers and gradients. Exit status 1 if found."""
    from spyx.cli.doctor import doctor

    spyx.compilation_cache()
    if doctor(run, as_json, Console(), neuron, fix=fix):
        raise typer.Exit(1)


@app.command("info")
def info_command() -> None:
    """Print versions, devices and installed extras."""
    from spyx.cli.info import info

    info(Console())
