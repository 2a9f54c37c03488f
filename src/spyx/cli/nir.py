"""`spyx nir`: check a graph, run it on an input, or write the network of a finished run as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from spyx.cli.errors import OneLineErrors, UserError, refuse_nan
from spyx.cli.text import lines, plain, safe

app = typer.Typer(
    cls=OneLineErrors,
    help="Networks in the Neuromorphic Intermediate Representation: check, run, convert.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(help="A .nir file.", metavar="FILE", show_default=False)]
Step = Annotated[float | None, typer.Option("--dt", help="Time step; by default what the file says.", metavar="X")]
Integration = Annotated[str | None, typer.Option("--integration", help="euler or exponential.")]
Reset = Annotated[str | None, typer.Option("--reset", help="nir, subtract or zero.")]
Spike = Annotated[str | None, typer.Option("--spike", help="post or pre: within the step, or one step later.")]


@app.command("check")
def check_command(
    file: File,
    dt: Step = None,
    integration: Integration = None,
    reset: Reset = None,
    spike: Spike = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Time steps of the trial.", metavar="N")] = 100,
    draw: Annotated[
        Path | None, typer.Option("--draw", help="File for a picture of the graph.", metavar="FILE")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Chip: speck, xylo, loihi2 or spinnaker2.")] = None,
) -> None:
    """Validate a graph, print it, and compare spyx, a float64 reference and other libraries on random spikes."""
    bridge, console = _bridge(), Console()
    found = _said(lambda: bridge.check(file, dt, steps=steps, integration=integration, reset=reset, spike=spike))
    table = Table("node", "type", "shape", "parameters")
    for row in found.table:
        table.add_row(*map(safe, row))
    console.print(table)
    console.print(lines(str(found.model)), markup=False, highlight=False)
    if draw is not None:
        _said(lambda: found.model.draw(draw))
        console.print(f"drawn to {safe(draw)}")
    how = found.meaning
    console.print(f"dt {how.dt:g}, {how.integration}, reset {how.reset}, spike {how.spike}")
    for line in _said(lambda: bridge.report(file, target)) if target else []:
        console.print(f"[yellow]{safe(target)}[/]: {safe(line)}")
    if found.agreements:
        others = Table("library", "verdict", "what it answered")
        for one in found.agreements:
            others.add_row(one.executor, one.verdict, safe(one.detail))
        console.print(others)
    if (how.reset, how.spike) != ("nir", "post") and any(one.verdict == "differs" for one in found.agreements):
        console.print("Most libraries know only NIR's own reset and spikes: compare with --reset nir --spike post.")
    parting = found.difference
    if parting is None:
        console.print(f"[bold green]spyx agrees with the reference[/] at {found.compared} nodes, {steps} steps")
        return
    console.print(
        f"[bold red]spyx and the reference part[/] at step {parting.step}, node {safe(repr(parting.node))}: "
        f"{parting.expected:.6g} expected, {parting.got:.6g} got"
    )
    raise typer.Exit(1)


@app.command("run")
def run_command(
    file: File,
    data: Annotated[Path, typer.Option("--input", help="Input (batch, time, *features) as .npy.", metavar="X.npy")],
    dt: Step = None,
    integration: Integration = None,
    reset: Reset = None,
    spike: Spike = None,
    output: Annotated[Path | None, typer.Option("--output", help="File for the answer, .npy.", metavar="Y.npy")] = None,
) -> None:
    """Run a graph on an input; maps are channels-last. Prints the spikes, or writes them to a file."""
    import numpy as np

    from spyx import nn

    bridge, console = _bridge(), Console()
    model = _said(lambda: bridge.from_nir(file, dt, integration=integration, reset=reset, spike=spike))
    if output is not None and not output.parent.is_dir():
        raise UserError(f"--output: expected a folder that exists; got {output}. Make it first.")
    x = _array(data)
    if x.dtype.kind not in "fiub":
        raise UserError(f"--input: expected numbers; got {x.dtype}.")
    refuse_nan(f"--input, {data}", x)
    out = _said(lambda: nn.run(model, x.astype(np.float32))[0])
    answers = {"output": out} if not isinstance(out, dict) else out
    for name, value in answers.items():
        console.print(f"{plain(name)}: {tuple(value.shape)}, sum {float(value.sum()):g}", markup=False)
    if output is not None:
        if len(answers) > 1:
            raise UserError(f"--output: this graph has the outputs {', '.join(answers)}; a .npy file holds one.")
        np.save(output, np.asarray(next(iter(answers.values()))))


@app.command("convert")
def convert_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN", show_default=False)],
    file: File,
    dt: Annotated[float, typer.Option("--dt", help="Time step that the time constants are counted in.")] = 1e-3,
    weights: Annotated[str | None, typer.Option("--weights", help="Precision: int8, float16, ...")] = None,
    decays: Annotated[str | None, typer.Option("--decays", help="Precision: int12, bfloat16, ...")] = None,
    portable: Annotated[
        bool, typer.Option("--portable", help="Move gains into weights, for libraries that ignore r.")
    ] = False,
) -> None:
    """Write the network of a finished run as a NIR graph."""
    from spyx import nn
    from spyx.cli import network
    from spyx.cli.runs import load_weights, open_run

    bridge, console = _bridge(), Console()
    config = open_run(run)
    network.check_names(config)
    features, classes = _sizes(run)
    model = network.make_network(config, features, classes)
    load_weights(run, model)
    graph = _said(lambda: bridge.to_nir(nn.rounded(model), dt))
    graph = bridge.portable(graph) if portable else graph
    graph = _said(lambda: bridge.quantise(graph, weights=weights, decays=decays))
    _said(lambda: bridge.write(file, graph))
    console.print(f"{safe(file)}: {len(graph.nodes)} nodes, dt {dt:g}")


def _array(path: Path) -> Any:
    """The array in a .npy file."""
    import numpy as np

    from spyx.data.decode.numpy_file import array
    from spyx.data.decode.source import Source

    if not path.is_file():
        raise UserError(f"--input: expected a file; got {path}. Check the path.")
    try:
        return array(Source(str(path), np.fromfile(path, np.uint8)))
    except (OSError, ValueError) as error:
        raise UserError(f"--input: expected an array in a .npy file; got {path}. Save it with numpy.save.") from error


def _sizes(run: Path) -> tuple[int, int]:
    """Width of the input and number of classes, read off the saved weights."""
    from spyx.cli.runs import WEIGHTS, read_weights

    kernels = {
        tuple(map(_number, name.split("."))): value.shape
        for name, value in read_weights(run).items()
        if "kernel" in name
    }
    if not kernels or any(len(shape) != 2 for shape in kernels.values()):
        raise UserError(f"{run / WEIGHTS} holds no weights of a network.")
    return kernels[min(kernels)][0], kernels[max(kernels)][1]


def _number(word: str) -> tuple[int, str]:
    return (int(word), "") if word.isdigit() else (-1, word)


def _bridge() -> Any:
    try:
        import spyx.nir as bridge
    except ImportError as missing:
        raise UserError(str(missing)) from missing
    return bridge


def _said(action: Any) -> Any:
    """The result, or the reason why there is none in the words of the library."""
    try:
        return action()
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UserError(str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # a graph of a stranger can break a promise that no check knows
        raise UserError(f"this graph cannot be used: {type(error).__name__}: {error}") from error
