"""`spyx energy`: what a finished run costs on its test part."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console

from spyx import nn
from spyx.cli.errors import UserError
from spyx.cli.trained import open_trained
from spyx.report import MODELS, cost
from spyx.report import energy as of_cost


def energy(
    folder: Path, models: list[str], samples: int, as_json: bool, console: Console, neuron: str | None = None
) -> None:
    """Print operations and estimated energy of the run in `folder`, beside those of a quantised network.

    `neuron` is the user's own class of a run with one.

    Raises:
        UserError: `folder` is no run, or its weights are damaged; an unknown model; no samples.
    """
    chosen = models or list(MODELS)
    unknown = [name for name in chosen if name not in MODELS]
    if unknown:
        raise UserError(f"--model: expected one of {', '.join(MODELS)}; got {unknown[0]}.")
    if samples < 1:
        raise UserError(f"--samples: expected 1 or more; got {samples}.")
    _, data, model = open_trained(folder, neuron)
    x, _, lengths = data.part("test")
    found = cost(nn.rounded(model), x[:samples], lengths=None if lengths is None else lengths[:samples])
    estimates = [of_cost(found, name) for name in chosen]
    if as_json:
        typer.echo(json.dumps({**found.as_dict(), "Energy": [estimate.as_dict() for estimate in estimates]}, indent=2))
        return
    console.print(str(found), markup=False, highlight=False, soft_wrap=True)
    for estimate in estimates:
        console.print(f"\n{estimate}", markup=False, highlight=False, soft_wrap=True)
    console.print("\nEstimates from counts and prices of operations, not measurements.", markup=False, soft_wrap=True)
