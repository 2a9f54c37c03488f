"""`spyx eval`: measure a part of the data again with the weights of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from spyx.cli import inputs
from spyx.cli.errors import pick
from spyx.cli.runs import BEST, WEIGHTS
from spyx.cli.score import score
from spyx.cli.trained import open_trained


def evaluate(
    folder: Path,
    console: Console,
    neuron: str | None = None,
    *,
    part: str = "test",
    best: bool = False,
    as_json: bool = False,
) -> float:
    """Print and return the accuracy of the run in `folder`.

    Args:
        folder: of the run.
        console: where it is printed.
        neuron: the user's own class of a run with one.
        part: of the data: train, validation or test.
        best: the weights of the epoch that was best on the validation part, in place of the last.
        as_json: one object with all numbers, and nothing else.

    Raises:
        UserError: `folder` is no run, or its weights are damaged.
    """
    part = pick("part", part, inputs.PARTS)
    weights = BEST if best else WEIGHTS
    config, samples, model = open_trained(folder, neuron, weights)
    result = score(config, model, *samples.part(part))
    if as_json:
        numbers = {"accuracy": result["acc"], "loss": result["loss"], "samples": len(samples.y[part])}
        print(json.dumps({"run": str(folder), "weights": weights, "dataset": config.dataset, "part": part} | numbers))
    else:
        console.print(f"{config.dataset}, {len(samples.y[part])} {part} samples")
        width = len(part) + len(" accuracy  ")
        console.print(f"{f'{part} accuracy':{width}}[bold green]{result['acc']:.2%}[/]", highlight=False)
        console.print(f"{f'{part} loss':{width}}{result['loss']:.4f}")
    return result["acc"]
