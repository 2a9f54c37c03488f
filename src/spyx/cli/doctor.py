"""`spyx doctor`: what keeps the network of a run from learning."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console

from spyx.cli.trained import open_trained
from spyx.report import doctor as examine

SAMPLES = 256
"""Of the training part, which is enough to see a layer that never fires."""


def doctor(folder: Path, as_json: bool, console: Console, neuron: str | None = None) -> int:
    """Print what was found in the run in `folder`; returns how many findings there are.

    `neuron` is the user's own class of a run with one.

    Raises:
        UserError: `folder` is no run, or its weights are damaged.
    """
    _, data, model = open_trained(folder, neuron)
    x, y, lengths = data.part("train")
    found = examine(model, (x[:SAMPLES], y[:SAMPLES]), lengths=None if lengths is None else lengths[:SAMPLES])
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        console.print(str(found), markup=False, highlight=False, soft_wrap=True)
    return len(found)
