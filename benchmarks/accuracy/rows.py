"""Rows of the study, as `rows.toml` and the files of settings name them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SETTINGS = HERE / "settings"


@dataclass(frozen=True)
class Data:
    """A data set of the study.

    Args:
        name: its heading's key in `rows.toml`.
        title: in words.
        file: what `--data` takes, inside the folder that the study is given; empty where no files are needed.
        needs: what that folder has to hold, in words, where the data are not at hand; else empty.
        simple: what a simple method reaches, in words.
        published: what is published, in words.
        bar: mean test accuracy that the study aims at, or None.
        test: what the test part is.
    """

    name: str
    title: str
    file: str = ""
    needs: str = ""
    simple: str = "-"
    published: str = "-"
    bar: float | None = None
    test: str = ""


@dataclass(frozen=True)
class Row:
    """A model on a data set.

    Args:
        name: of its file of settings, and of its folder of runs.
        data: the data set.
        model: in words.
        neuron: `module:Class`, where it is none of the library's.
        folds: speakers, each held out in turn; empty where there is one test part.
        seeds: how many the page is made of.
        kind: "spiking", "baseline" or "ablation".
        of: the row that an ablation is compared with.
        note: what differs, in words.
    """

    name: str
    data: Data
    model: str
    neuron: str = ""
    folds: tuple[str, ...] = ()
    seeds: int = 5
    kind: str = "spiking"
    of: str = ""
    note: str = ""

    @property
    def settings(self) -> Path:
        """The file that `spyx train --config` is given."""
        return SETTINGS / f"{self.name}.toml"

    def command(self, seed: int, fold: str, data: Path | None, cache: Path | None, output: Path) -> list[str]:
        """The arguments of `spyx` for one run."""
        words = ["train", "--config", str(self.settings), "--seed", str(seed), "--output", str(output)]
        words += ["--neuron", self.neuron] if self.neuron else []
        words += ["--data", str(data / self.data.file)] if data is not None and self.data.file else []
        words += ["--cache", str(cache)] if cache is not None else []
        return words + (["--hold-out-speaker", fold] if fold else [])

    def runs(self, seeds: int | None = None, first: int = 0) -> list[tuple[int, str]]:
        """Seed and fold of every run."""
        count = self.seeds if seeds is None else seeds
        return [(seed, fold) for seed in range(first, first + count) for fold in self.folds or ("",)]


def read(file: Path = HERE / "rows.toml") -> dict[str, Row]:
    """All rows by name.

    Raises:
        ValueError: a row whose data set, settings or compared row are not there.
    """
    written: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    sets = {name: Data(name, **values) for name, values in written["data"].items()}
    rows: dict[str, Row] = {}
    for values in written["row"]:
        if values["data"] not in sets:
            raise ValueError(f"{file.name}: expected a data set among {', '.join(sets)}; got {values['data']!r}.")
        row = Row(**{**values, "data": sets[values["data"]], "folds": tuple(values.get("folds", ()))})
        if row.name in rows or not row.settings.is_file():
            raise ValueError(f"{file.name}: expected one row and one file of settings for {row.name}.")
        if row.of and row.of not in rows:
            raise ValueError(f"{file.name}: expected {row.name} to follow {row.of}, which it is compared with.")
        rows[row.name] = row
    return rows
