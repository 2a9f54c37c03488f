"""`spyx data list`, `info` and `fetch`: the data sets that the package knows."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from spyx.cli.errors import UserError, pick
from spyx.cli.text import plain, safe

if TYPE_CHECKING:
    from types import ModuleType

    from spyx.data._json import Object

app = typer.Typer(help="The data sets that spyx knows: list them, look at one, fetch one.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Name = Annotated[str, typer.Argument(help="Of a data set, as spyx data list prints it.", metavar="NAME")]


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Print every data set: what it is, and whether its files are fetched, given by you or not needed."""
    from spyx.data.sets import NAMES

    rows = [about(name) for name in NAMES]
    if as_json:
        print(json.dumps(rows))
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        print(f"{row['name']:{width}}  {row['files']:9}  {row['what']}")


@app.command("info")
def info_command(name: Name, as_json: AsJson = False) -> None:
    """Print what a data set is, whom to cite, its licence, its options, and the checksums of its files."""
    from spyx.data.sets import NAMES

    row = about(pick("data set", name, NAMES))
    if as_json:
        print(json.dumps(row))
        return
    for key, value in row.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for inner, text in value.items():
                print(f"  {inner}: {text}")
        elif value:
            print(f"{key}: {value}")


@app.command("fetch")
def fetch_command(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where its files go, for --data.", metavar="FOLDER")],
    mirror: Annotated[
        list[str] | None,
        typer.Option("--mirror", help="Address of a folder with the same files, tried first.", metavar="ADDRESS"),
    ] = None,
) -> None:
    """Fetch the files of a data set, check them against the publisher's checksums and unpack them.

    A transfer that broke goes on where it stopped when the command is given again.
    """
    from spyx.data.sets import NAMES, heidelberg

    name = pick("data set", name, NAMES)
    module = _module(name)
    if not hasattr(module, "CHECKSUMS"):
        able = ", ".join(one for one in NAMES if hasattr(_module(one), "CHECKSUMS"))
        way = "needs no files" if about(name)["files"] == "none" else "has no address that stays; see spyx data info"
        raise UserError(f"the data set {name} {way}. Those that are fetched: {able}.")
    console = Console()
    for file, checksum in module.CHECKSUMS.items():
        with _shown(console, f"{file}.zip") as progress:
            try:
                new = heidelberg.fetch(folder, file, checksum, mirror or [], progress)
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
                raise UserError(f"{file}.zip could not be fetched: {plain(reason)}") from error
        console.print(
            f"{safe(folder / file)}: {'fetched, its checksum is right' if new else 'is there already'}", soft_wrap=True
        )
    console.print(f"spyx train --dataset {name} --data {safe(folder)}", soft_wrap=True)


def about(name: str) -> Object:
    """What is known of a data set."""
    module = _module(name)
    parameters = inspect.signature(module.load).parameters
    sums = getattr(module, "CHECKSUMS", {})
    files = "fetched" if sums else "yours" if "root" in parameters else "none"
    options = {
        key: "needed" if p.default is p.empty else f"default {p.default!r}"
        for key, p in parameters.items()
        if key != "download"
    }
    return {
        "name": name,
        "what": (module.__doc__ or "").strip().partition("\n")[0],
        "files": files,
        "citation": getattr(module, "CITATION", ""),
        "licence": getattr(module, "LICENCE", ""),
        "options": options,
        "checksums": {f"{file}.zip": checksum for file, checksum in sums.items()},
    }


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"spyx.data.sets.{name}")


class _shown:
    """A bar on a terminal, a line for every tenth elsewhere; inside is the function that `download` calls."""

    def __init__(self, console: Console, what: str) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self.console, self.what, self.tenth = console, what, 0
        columns = TextColumn(safe(what)), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, console=console) if console.is_terminal else None
        self.task = self.bar.add_task(what, total=None) if self.bar else None

    def __enter__(self) -> Callable[[int, int | None], None]:
        if self.bar:
            self.bar.start()
        return self.at

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def at(self, done: int, total: int | None) -> None:
        """So many bytes are there."""
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)
        elif total and 10 * done // total > self.tenth:
            self.tenth = 10 * done // total
            self.console.print(f"{safe(self.what)}: {done / 1e6:.1f} of {total / 1e6:.1f} MB", highlight=False)
