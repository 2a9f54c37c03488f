"""`spyx compare`: finished runs beside each other, those that differ in their seeds alone as one row."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from spyx.cli.config import Config
from spyx.cli.errors import UserError
from spyx.cli.resume import NO_MATTER
from spyx.cli.runs import METRICS, open_run, read_json
from spyx.cli.text import safe

if TYPE_CHECKING:
    from spyx.cli.values import Setting
    from spyx.data._json import Object

LARGEST_NUMBER = 1e300
"""So that sums over runs are finite."""
NUMBERS = ("test_accuracy", "test_loss", "run_s")


@dataclass(frozen=True)
class Row:
    """Runs of the same settings, with other seeds."""

    settings: dict[str, Setting]
    folders: list[str]
    seeds: list[int]
    numbers: dict[str, list[float]]


def compare(folders: list[Path], console: Console, *, as_json: bool = False) -> list[Row]:
    """Print and return one row for every group of runs, the most accurate first.

    Raises:
        UserError: a folder is no run, or a run is not finished.
    """
    rows: dict[str, Row] = {}
    for folder in dict.fromkeys(folders):
        config = open_run(folder, needs=())
        settings = _flat(config)
        del settings["seed"]
        row = rows.setdefault(json.dumps(settings), Row(settings, [], [], {name: [] for name in NUMBERS}))
        row.folders.append(str(folder))
        row.seeds.append(config.seed)
        for name, value in _numbers(folder).items():
            row.numbers[name].append(value)
    found = sorted(rows.values(), key=lambda row: -statistics.fmean(row.numbers["test_accuracy"]))
    names = [name for name in found[0].settings if len({json.dumps(row.settings[name]) for row in found}) > 1]
    if as_json:
        print(json.dumps([_plain(row, names) for row in found]))
        return found
    table = Table("test accuracy", "test loss", "training", "seeds", *names, "folders", box=None, padding=(0, 2, 0, 0))
    for row in found:
        cells = [_spread(row.numbers["test_accuracy"], "{:.2%}"), _spread(row.numbers["test_loss"], "{:.4f}")]
        cells += [_spread(row.numbers["run_s"], "{:.1f} s"), ", ".join(map(str, row.seeds))]
        table.add_row(*cells, *(safe(row.settings[name]) for name in names), safe(", ".join(row.folders)))
    console.print(table)
    return found


def _flat(config: Config) -> dict[str, Setting]:
    flat: dict[str, Setting] = {}
    for name, value in asdict(config).items():
        if name not in NO_MATTER:
            flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _numbers(folder: Path) -> dict[str, float]:
    path = folder / METRICS
    try:
        result = read_json(path)
        numbers = {name: float(result[name]) for name in NUMBERS}
    except OSError as error:
        raise UserError(f"{folder} is not finished: it has no readable {METRICS}. See spyx train --resume.") from error
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: expected a JSON object with {', '.join(NUMBERS)}.") from error
    if not all(abs(value) < LARGEST_NUMBER for value in numbers.values()):
        raise UserError(f"{path} is damaged: expected finite numbers.")
    return numbers


def _spread(values: list[float], form: str) -> str:
    mean = form.format(statistics.fmean(values))
    return mean if len(values) < 2 else f"{mean} \u00b1 {form.format(statistics.stdev(values))}"


def _plain(row: Row, names: list[str]) -> Object:
    means = {name: statistics.fmean(values) for name, values in row.numbers.items()}
    spread = {name: statistics.stdev(values) for name, values in row.numbers.items() if len(values) > 1}
    differing = {name: row.settings[name] for name in names}
    return {"folders": row.folders, "seeds": row.seeds, "mean": means, "deviation": spread, "settings": differing}
