"""`spyx zoo`: the trained networks that ship with spyx: list them, score them again, write them as NIR graphs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from spyx.cli.errors import OneLineErrors, UserError
from spyx.cli.text import safe

if TYPE_CHECKING:
    from spyx.cli.config import Config
    from spyx.zoo._shelf import Card, Trained

app = typer.Typer(
    cls=OneLineErrors,
    help="Trained networks that ship with spyx: list, score again, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="A network of spyx zoo list.", metavar="NAME", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
DIGITS = 6
"""Of an accuracy: means of float32 differ behind them, a single prediction does not."""


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """Print every network: its data, its score, its size."""
    from spyx import zoo

    try:
        cards = [zoo.card(name) for name in zoo.names()]
    except ValueError as error:
        raise UserError(str(error)) from error
    if as_json:
        print(json.dumps(cards))
        return
    table = Table("name", "data", "test accuracy", "parameters", "KiB", "licence of the data", box=None)
    for card in cards:
        cells = card["name"], card["data"]["name"], f"{card['score']['test_accuracy']:.2%}"
        sizes = f"{card['cost']['Parameters']:,}", f"{card['weights']['bytes'] / 1024:.0f}"
        table.add_row(*map(safe, (*cells, *sizes, card["data"]["licence"])))
    Console().print(table)


@app.command("eval")
def eval_command(
    name: Name,
    data: Annotated[Path | None, typer.Option("--data", help="Files of its data set.", metavar="FOLDER")] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Where frames are kept.", metavar="FOLDER")] = None,
    as_json: Json = False,
) -> None:
    """Score a network on its test part again, beside the score of its card. Exit status 1 where they differ."""
    import spyx
    from spyx.cli import inputs
    from spyx.cli.score import score

    spyx.compilation_cache()
    trained = _known(name)
    config = settings_of(trained.card, data, cache)
    inputs.check_names(config)
    samples = inputs.load_inputs(config)
    found, told = score(config, trained.model, *samples.part("test")), trained.card["score"]
    accuracy = round(found["acc"], DIGITS)
    same = accuracy == told["test_accuracy"]
    if as_json:
        numbers = {"test_accuracy": accuracy, "test_loss": found["loss"], "card": told["test_accuracy"]}
        print(json.dumps({"name": name, "samples": len(samples.y["test"]), "same": same} | numbers))
    else:
        console = Console()
        console.print(f"{safe(name)}, {len(samples.y['test'])} test samples", highlight=False)
        console.print(f"test accuracy  {accuracy:.4%}\nof its card    {told['test_accuracy']:.4%}", highlight=False)
    if not same:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    name: Name,
    file: Annotated[Path, typer.Argument(help="New .nir file.", metavar="FILE", show_default=False)],
    dt: Annotated[float, typer.Option("--dt", help="Time step that the time constants are counted in.")] = 1e-3,
) -> None:
    """Write a network as a NIR graph; one with a layer that NIR has no node for is refused."""
    try:
        import spyx.nir as bridge
    except ImportError as missing:
        raise UserError(str(missing)) from missing
    if file.exists():
        raise UserError(f"{file} exists already. Name another file.")
    trained = _known(name)
    try:
        graph = bridge.to_nir(trained.model, dt)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} cannot be written as a NIR graph: {error}") from error
    bridge.write(file, graph)
    Console().print(f"{safe(file)}: {len(graph.nodes)} nodes, dt {dt:g}")


def _known(name: str) -> Trained:
    from spyx import zoo

    try:
        return zoo.load(name)
    except ValueError as error:
        raise UserError(str(error).replace("spyx.zoo: ", "NAME: ")) from error


def settings_of(card: Card, data: Path | None, cache: Path | None) -> Config:
    """The settings that a network was trained with, and where its data are.

    Args:
        card: of the network.
        data: files of the data set.
        cache: for frames.
    """
    from spyx.cli.config import make_config

    given = {"data": None if data is None else str(data), "cache": None if cache is None else str(cache)}
    return make_config(None, tomllib.loads(card["settings"]) | {k: v for k, v in given.items() if v is not None})
