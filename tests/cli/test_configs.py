"""The committed settings of the data sets that are read from files, on a few recordings for two epochs."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from cli.conftest import spyx
from spyx.cli import inputs
from spyx.cli.config import make_config
from spyx.cli.tuned import TUNED

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FEW = {
    "nmnist": ("nmnist_small.zip", r".*/?(Train/\d/\d*[05]|Test/\d/\d*5)\.bin"),
    "spoken_digits": ("fsdd.zip", r".*/\d_(jackson|theo)_(0|5|10|11)\.wav"),
}
"""Archive, and which of its files."""


@pytest.fixture(scope="module", params=list(FEW))
def few(request, shared, tmp_path_factory):
    """Name of a data set and a folder with a few of its recordings."""
    archive, pattern = FEW[request.param]
    if not (shared / "data" / archive).is_file():
        pytest.skip(f"no {archive} in the shared test data")
    folder = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(shared / "data" / archive) as opened:
        opened.extractall(folder, [name for name in opened.namelist() if re.fullmatch(pattern, name)])
    return request.param, folder


def run(name: str, folder: Path, *more: object):
    arguments = ("--data", folder, "--cache", folder / "cache", "--epochs", 2, "--batch-size", 20, *more)
    return spyx("train", "--dataset", name, "--config", CONFIGS / f"{name}.toml", *arguments)


def test_a_committed_config_trains_and_scores_again(few, tmp_path):
    name, folder = few
    result = run(name, folder, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["epochs"][-1]["train_loss"] < metrics["epochs"][0]["train_loss"]
    assert list((folder / "cache").glob(f"{name}-test-*.spyx"))
    again = spyx("eval", tmp_path / "run")
    assert f"{metrics['test_accuracy']:.2%}" in again.stdout
    written = make_config(tmp_path / "run" / "config.toml", {})
    committed = make_config(CONFIGS / f"{name}.toml", {})
    assert (written.raster, written.augment) == (committed.raster, committed.augment)
    assert written.steps == {"nmnist": 20, "spoken_digits": 80}[name]


def test_a_held_out_speaker_is_the_test_part(few):
    name, folder = few
    if name != "spoken_digits":
        assert "names no speakers" in run(name, folder, "--hold-out-speaker", "theo").stderr
        return
    assert "a speaker of them" in run(name, folder, "--hold-out-speaker", "nobody").stderr
    given = {"data": str(folder), "cache": str(folder / "cache"), "hold_out_speaker": "theo"}
    found = inputs.load_inputs(make_config(CONFIGS / f"{name}.toml", given))
    assert {part: len(y) for part, y in found.y.items()} == {"train": 30, "validation": 10, "test": 40}
    assert found.x["test"].shape == (40, 80, 64)
    assert found.note.startswith("test is all of theo")


def test_a_data_set_has_settings_of_its_own_and_what_is_given_wins(tmp_path):
    for name, settings in TUNED.items():
        assert name in inputs.datasets()
        found = make_config(None, {"dataset": name.upper()})
        assert {key: getattr(found, key) for key in settings} == settings
    (tmp_path / "a.toml").write_text('dataset = "yinyang"\nepochs = 3\n')
    found = make_config(tmp_path / "a.toml", {"batch_size": 7})
    assert (found.encoder, found.epochs, found.batch_size) == ("direct", 3, 7)
    assert make_config(None, {"dataset": "digits"}).encoder == "auto"
