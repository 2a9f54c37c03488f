"""`spyx compare --page`: runs beside each other as one HTML file."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from spyx.cli.compare import LARGEST_NUMBER, Row
from spyx.cli.errors import UserError
from spyx.cli.runs import METRICS, read_json
from spyx.cli.text import safe
from spyx.report._page import content as of
from spyx.report._page.jsonable import number, plain, text
from spyx.report._page.writer import save_page

if TYPE_CHECKING:
    from spyx.data._json import Object

CURVES = {
    "train_loss": ("Training loss", "cross-entropy (nats)"),
    "eval_loss": ("Validation loss", "cross-entropy (nats)"),
    "eval_acc": ("Accuracy", "validation samples right (%)"),
}
MOST = 64
"""Rows that are drawn."""


def write_comparison(rows: list[Row], file: Path, console: Console) -> Path:
    """Write the page of the rows that `compare` returned.

    Args:
        rows: groups of runs, the most accurate first.
        file: a name that `check_name` takes.
        console: where the name of the file is printed.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        save_page(file, comparison(rows))
    except OSError as error:
        raise UserError(f"--page: cannot write {file}: {error.strerror or error}.") from error
    console.print(f"page  {safe(file)}", highlight=False, soft_wrap=True)
    return file


def check_name(file: Path) -> None:
    """Refuse a name that does not end in .html, and a file that is there, before anything is read.

    Raises:
        UserError: one of these.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--page: expected a name that ends in .html; got {file}.")
    if os.path.lexists(file):
        raise UserError(f"--page: {file} exists already and is not overwritten. Name another.")


def comparison(rows: list[Row]) -> Object:
    """The content of the page."""
    shown = rows[:MOST]
    names = [name for name in rows[0].settings if len({json.dumps(row.settings[name]) for row in rows}) > 1]
    labels = _labels(shown, names)
    histories = [[_history(Path(folder)) for folder in row.folders] for row in shown]
    charts = [
        chart
        for key, (title, unit) in CURVES.items()
        if (chart := _chart(key, title, unit, labels, histories)) is not None
    ]
    left = f" The {len(rows) - MOST} least accurate rows are not shown." if len(rows) > MOST else ""
    return {
        "format": of.FORMAT,
        "kind": "compare",
        "title": f"{sum(len(row.folders) for row in rows)} runs",
        "subtitle": f"{len(rows)} different settings",
        "written": of.now(),
        "about": "The most accurate first. Runs that differ in the seed alone are one row: mean, standard deviation. "
        f"Bands in the curves reach from the smallest to the largest value.{left}",
        "groups": [_group(row, label, names) for row, label in zip(shown, labels, strict=True)],
        "differing": [text(name) for name in names],
        "charts": charts,
        "versions": [],
    }


def _labels(rows: list[Row], names: list[str]) -> list[str]:
    """What tells a row from the others: the settings that differ, or its folder."""
    found = []
    for row in rows:
        words = [f"{name} {plain(row.settings[name])}" for name in names[:4]]
        found.append(text(", ".join(words) or Path(row.folders[0]).name))
    return [label if found.count(label) == 1 else f"{label} ({n})" for n, label in enumerate(found, 1)]


def _group(row: Row, label: str, names: list[str]) -> Object:
    def spread(name: str, scale: float = 1.0) -> Object:
        values = [scale * value for value in row.numbers[name]]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return {"mean": number(statistics.fmean(values)), "deviation": number(deviation), "count": len(values)}

    return {
        "name": label,
        "folders": [text(folder) for folder in row.folders],
        "seeds": row.seeds,
        "settings": {name: plain(row.settings[name]) for name in names},
        "accuracy": spread("test_accuracy", 100.0),
        "loss": spread("test_loss"),
        "seconds": spread("run_s"),
    }


def _chart(
    key: str, title: str, unit: str, labels: list[str], histories: list[list[list[dict[str, float]]]]
) -> Object | None:
    """One line for every row: the mean over its runs, with the smallest and the largest value; None without any."""
    longest = max((len(history) for row in histories for history in row), default=0)
    epochs, scale = of.thinned(longest), 100.0 if key == "eval_acc" else 1.0
    series = []
    for label, row in zip(labels, histories, strict=True):
        columns = [[scale * h[i][key] for h in row if i < len(h) and key in h[i]] for i in epochs]
        finite = [[value for value in column if abs(value) < LARGEST_NUMBER] for column in columns]
        if any(finite):
            series.append(
                {
                    "name": label,
                    "values": [number(statistics.fmean(c)) if c else "NaN" for c in finite],
                    "low": [number(min(c)) if c else "NaN" for c in finite],
                    "high": [number(max(c)) if c else "NaN" for c in finite],
                }
            )
    return {"title": title, "unit": unit, "epochs": [i + 1 for i in epochs], "series": series} if series else None


def _history(folder: Path) -> list[dict[str, float]]:
    """The epochs in metrics.json; none where it has no such list."""
    try:
        epochs = read_json(folder / METRICS).get("epochs", [])
        return [{str(name): float(value) for name, value in epoch.items()} for epoch in epochs]
    except (OSError, ArithmeticError, ValueError, TypeError, AttributeError, RecursionError):
        return []
