"""`spyx nir`: check a graph, run it on an input, quantise it, or write the network of a finished run as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from spyx.cli.errors import OneLineErrors, UserError, refuse_nan
from spyx.cli.nir_words import print_json, refuse, warn, worded
from spyx.cli.text import plain, safe

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from jaxtyping import Num

    from spyx.graph import Graph

app = typer.Typer(
    cls=OneLineErrors,
    help="Networks in the Neuromorphic Intermediate Representation: check, run, quantise, convert.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(help="A .nir file.", metavar="FILE", show_default=False)]
Step = Annotated[float | None, typer.Option("--dt", help="Time step; by default what the file says.", metavar="X")]
Integration = Annotated[str | None, typer.Option("--integration", help="euler or exponential.")]
Reset = Annotated[str | None, typer.Option("--reset", help="nir, subtract or zero.")]
Spike = Annotated[str | None, typer.Option("--spike", help="post or pre: within the step, or one step later.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Weights = Annotated[str | None, typer.Option("--weights", help="Precision: int8, float16, ...")]
Decays = Annotated[str | None, typer.Option("--decays", help="Precision: int12, bfloat16, ...")]


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
    as_json: Json = False,
) -> None:
    """Validate a graph, print it, and compare spyx, a float64 reference and other libraries on random spikes.

    Without a time step, in the file or from --dt, the graph is printed and a step is suggested, and nothing is run.
    """
    _bridge()
    from spyx.cli.nir_check import examine, show

    found = examine(file, dt, steps=steps, target=target, integration=integration, reset=reset, spike=spike)
    if draw is not None:
        worded(file, lambda: found.model.draw(draw))
    if as_json:
        print_json(found.as_json())
    else:
        show(found, Console(), draw)
    if found.difference is not None:
        raise typer.Exit(1)


@app.command("run")
def run_command(
    file: File,
    data: Annotated[Path, typer.Option("--input", help="Input (batch, time, *features) as .npy.", metavar="X.npy")],
    dt: Step = None,
    integration: Integration = None,
    reset: Reset = None,
    spike: Spike = None,
    output: Annotated[Path | None, typer.Option("--output", help="File for the output, .npy.", metavar="Y.npy")] = None,
    expect: Annotated[
        Path | None,
        typer.Option("--expect", help="Output to compare with; exit code 1 if it differs.", metavar="Y.npy"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run what looks like a mistake.")] = False,
    as_json: Json = False,
) -> None:
    """Run a graph on an input; maps are channels-last. Prints the spikes, or writes them to a file."""
    bridge, console = _bridge(), Console()
    import numpy as np

    from spyx import nn
    from spyx.cli.nir_check import check_step, first_place

    if output is not None and not output.parent.is_dir():
        raise UserError(f"--output: expected a folder that exists; got {output}. Make it first.")
    graph = worded(file, lambda: bridge.read(file))
    step = worded(file, lambda: check_step(file, graph, dt, integration, force))
    model = worded(file, lambda: bridge.from_nir(graph, step, integration=integration, reset=reset, spike=spike))
    x = _array("--input", data)
    if not force or not np.issubdtype(x.dtype, np.inexact):
        refuse_nan(f"--input, {data}", x)
    elif not np.isfinite(x).all():
        warn(f"--input, {data}: {int((~np.isfinite(x)).sum())} of {x.size} values are not finite.")
    _check_axes(model, x, force)
    out = worded(file, lambda: nn.run(model, x.astype(np.float32))[0])
    outputs = {name: np.asarray(value) for name, value in (out if isinstance(out, dict) else {"output": out}).items()}
    for option, path in (("--output", output), ("--expect", expect)):
        if path is not None and len(outputs) > 1:
            raise UserError(f"{option}: this graph has the outputs {', '.join(outputs)}; a .npy file holds one.")
    if output is not None:
        np.save(output, next(iter(outputs.values())))
    got = next(iter(outputs.values()))
    parting = None if expect is None else first_place(_array("--expect", expect), got)
    if as_json:
        described = {n: {"shape": list(v.shape), "sum": float(v.sum())} for n, v in outputs.items()}
        compared = {} if expect is None else {"expected": str(expect), "difference": parting and parting._asdict()}
        print_json({"file": str(file), "dt": step, "outputs": described, **compared})
    else:
        for name, value in outputs.items():
            console.print(f"{plain(name)}: {value.shape}, sum {float(value.sum()):g}", markup=False)
        if expect is not None and parting is None:
            console.print(f"[bold green]equals[/] {safe(expect)}")
        elif parting is not None:
            console.print(
                f"[bold red]differs from[/] {safe(expect)}: first at step {parting.step}, sample {parting.sample}, "
                f"unit {', '.join(map(str, parting.unit))}: {parting.expected:.6g} expected, {parting.got:.6g} got; "
                f"{parting.values} of {got.size} values differ"
            )
    if parting is not None:
        raise typer.Exit(1)


@app.command("quantise")
def quantise_command(
    file: File,
    output: Annotated[
        Path | None, typer.Option("--output", help="New file; by default FILE-quantised.nir.", metavar="NEW.nir")
    ] = None,
    weights: Weights = None,
    decays: Decays = None,
    dt: Step = None,
) -> None:
    """Put weights and decays of a graph on a grid, and write it as another file."""
    bridge, console = _bridge(), Console()
    from spyx.cli.nir_check import changes
    from spyx.nir._validate import validated

    if weights is None and decays is None:
        raise UserError("expected --weights, --decays or both, such as --weights int8; got neither.")
    new = file.with_name(f"{file.stem}-quantised.nir") if output is None else output
    if output is None and new.exists():
        raise UserError(f"--output: {new} exists already. Name another file, or this one to replace it.")
    graph = worded(file, lambda: bridge.read(file))
    worded(file, lambda: validated(graph, "spyx.nir.quantise"))
    result = worded(file, lambda: bridge.quantise(graph, weights=weights, decays=decays, dt=dt))
    worded(new, lambda: bridge.write(new, result))
    table = Table("node", "array", "largest value", "largest change")
    for row in changes(graph, result):
        table.add_row(*map(safe, row))
    console.print(table)
    console.print(f"{safe(new)}: {len(result.nodes)} nodes")


@app.command("convert")
def convert_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN", show_default=False)],
    file: File,
    dt: Annotated[float, typer.Option("--dt", help="Time step that the time constants are counted in.")] = 1e-3,
    weights: Weights = None,
    decays: Decays = None,
    portable: Annotated[
        bool, typer.Option("--portable", help="Move gains into weights, for libraries that ignore r.")
    ] = False,
) -> None:
    """Write the network of a finished run as a NIR graph."""
    from spyx import nn
    from spyx.cli import make_network
    from spyx.cli.runs import naming_settings, open_run, read_network

    bridge, console = _bridge(), Console()
    config = open_run(run)
    with naming_settings(run):
        make_network.check_names(config)
    if config.layers.conv:
        raise UserError(f"{run} has convolutions, whose frames its weights do not tell. Use spyx.nir.to_nir in Python.")
    model = nn.rounded(read_network(run))
    graph = worded(file, lambda: bridge.to_nir(model, dt))
    graph = bridge.portable(graph) if portable else graph
    graph = worded(file, lambda: bridge.quantise(graph, weights=weights, decays=decays))
    worded(file, lambda: bridge.write(file, graph))
    console.print(f"{safe(file)}: {len(graph.nodes)} nodes, dt {dt:g}")


def _array(option: str, path: Path) -> Num[np.ndarray, "..."]:
    """The array of numbers in a .npy file."""
    import numpy as np

    from spyx.data._decode.numpy_file import array
    from spyx.data._decode.source import Source

    if not path.is_file():
        raise UserError(f"{option}: expected a file; got {path}. Check the path.")
    try:
        found = array(Source(str(path), np.fromfile(path, np.uint8)))
    except (OSError, ValueError) as error:
        raise UserError(f"{option}: expected an array in a .npy file; got {path}. Save it with numpy.save.") from error
    if found.dtype.kind not in "fiub":
        raise UserError(f"{option}: expected numbers; got {found.dtype}.")
    return found


def _check_axes(model: Graph, x: Num[np.ndarray, "samples time *features"], force: bool) -> None:
    """Refuse an input of another shape, and one whose first two axes look swapped."""
    if len(model.inputs) > 1:
        raise UserError(f"--input: this graph has the inputs {', '.join(model.inputs)}; a .npy file holds one.")
    shape = cast("tuple[int, ...]", model.input_shape)
    if x.shape[2:] != shape or x.ndim != 2 + len(shape):
        hint = "Maps are channels-last." if len(shape) > 1 else "Another graph, or other data?"
        if x.ndim == 1 + len(shape) and x.shape[1:] == shape:
            hint = "For one sample, save x[None]."
        wanted = ", ".join(("batch", "time", *map(str, shape)))
        raise UserError(f"--input: expected ({wanted}); got {x.shape}. {hint}")
    if 0 in x.shape:
        raise UserError(f"--input: expected at least one sample and one step; got {x.shape}.")
    if x.shape[1] == 1 and x.shape[0] > 1:
        refuse(
            f"--input: expected (batch, time, ...) with several steps; got {x.shape[0]} samples of one step each. "
            "If these are the steps of one sample, save x.swapaxes(0, 1).",
            force,
        )


def _bridge() -> ModuleType:
    try:
        import spyx.nir as bridge
    except ImportError as missing:
        raise UserError(str(missing)) from missing
    return bridge
