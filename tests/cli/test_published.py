"""Settings of data sets that are not at hand, end to end on a few files of the published layout."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.accuracy import rows  # noqa: E402
from tests.data.published import WRITERS  # noqa: E402

from cli.conftest import spyx  # noqa: E402
from spyx.cli.config import make_config  # noqa: E402

ROWS = {name: row for name, row in rows.read().items() if row.data.needs}
FILES = {
    "config.toml", "record.json", "metrics.csv", "metrics.json", "weights.safetensors", "best.safetensors",
    "training.png", "checkpoints",
}  # fmt: skip
"""Of a run, but for its page, which `conftest` leaves out."""


def test_every_data_set_that_is_not_at_hand_has_rows():
    assert {row.data.name for row in ROWS.values()} == set(WRITERS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_settings_of_papers_run_end_to_end(row, tmp_path):
    """The command of the study, with layers of a few units and one epoch."""
    files, small = tmp_path / "files", tmp_path / "small.toml"
    files.mkdir()
    WRITERS[row.data.name](files)
    whole = make_config(row.settings, {})
    words = row.command(0, "", files, tmp_path / "cache", tmp_path / "run")
    if whole.layers.conv:  # the command line has no option for it
        few = [2] * len(whole.layers.conv)
        small.write_text(re.sub(r"(?m)^conv = .*$", f"conv = {few}", row.settings.read_text(encoding="utf-8")))
        words[words.index("--config") + 1] = str(small)
    if whole.hidden:
        words += ["--hidden", ",".join("4" for _ in whole.hidden)]
    trained = spyx(*words, "--epochs", 1, "--batch-size", 2)
    assert trained.exit_code == 0, trained.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["epochs"][0]["train_loss"] < 10
    again = spyx("eval", tmp_path / "run", "--json")
    assert again.exit_code == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["accuracy"], found["loss"]) == (metrics["test_accuracy"], metrics["test_loss"])
    written = make_config(tmp_path / "run" / "config.toml", {})
    for name in ("dataset", "encoder", "neuron", "dynamics", "surrogate", "delays", "loss", "raster", "augment"):
        assert getattr(written, name) == getattr(whole, name), name
