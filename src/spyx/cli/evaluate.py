"""`spyx eval`: measure a part of the data again with the weights of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from spyx.cli import inputs
from spyx.cli.errors import pick
from spyx.cli.runs import BEST, WEIGHTS
from spyx.cli.score import confusion, score
from spyx.cli.trained import open_trained

if TYPE_CHECKING:
    from jaxtyping import Integer

MOST_CLASSES = 12


def evaluate(
    folder: Path,
    console: Console,
    neuron: str | None = None,
    *,
    dataset: str | None = None,
    part: str = "test",
    best: bool = False,
    as_json: bool = False,
) -> float:
    """Print and return the accuracy of the run in `folder`.

    Args:
        folder: of the run.
        console: where it is printed.
        neuron: the user's own class of a run with one.
        dataset: the user's own function of a run with one.
        part: of the data: train, validation or test.
        best: the weights of the epoch that was best on the validation part, in place of the last.
        as_json: one object with all numbers, and nothing else.

    Raises:
        UserError: `folder` is no run, or its weights are damaged.
    """
    part = pick("part", part, inputs.PARTS)
    weights = BEST if best else WEIGHTS
    config, samples, model = open_trained(folder, neuron, weights, dataset)
    result = score(config, model, *samples.part(part))
    table = confusion(config, model, *samples.part(part), classes=samples.classes)
    if as_json:
        numbers = {"accuracy": result["acc"], "loss": result["loss"], "samples": len(samples.y[part])}
        numbers["confusion"] = table.tolist()
        print(json.dumps({"run": str(folder), "weights": weights, "dataset": config.dataset, "part": part} | numbers))
    else:
        console.print(f"{config.dataset}, {len(samples.y[part])} {part} samples")
        width = len(part) + len(" accuracy  ")
        console.print(f"{f'{part} accuracy':{width}}[bold green]{result['acc']:.2%}[/]", highlight=False)
        console.print(f"{f'{part} loss':{width}}{result['loss']:.4f}")
        small = len(table) <= MOST_CLASSES
        console.print("\nlabels in rows, predictions in columns" if small else "\nmost frequent mistakes")
        console.print(_shown(table))
    return result["acc"]


def _shown(table: Integer[np.ndarray, "classes classes"]) -> Table:
    """The confusion matrix; of many classes, the pairs that are mistaken most often."""
    if len(table) <= MOST_CLASSES:
        shown = Table("class", *map(str, range(len(table))), box=None)
        for label, row in enumerate(table):
            cells = [
                f"[bold]{count}[/]" if label == prediction else str(count or ".")
                for prediction, count in enumerate(row)
            ]
            shown.add_row(str(label), *cells)
        return shown
    shown = Table("label", "prediction", "samples", box=None)
    mistakes = np.where(np.eye(len(table), dtype=bool), 0, table)
    for place in np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CLASSES]:
        label, prediction = np.unravel_index(place, table.shape)
        if mistakes[label, prediction]:
            shown.add_row(str(label), str(prediction), str(mistakes[label, prediction]))
    return shown
