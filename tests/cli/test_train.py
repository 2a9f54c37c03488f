"""`spyx train` without options, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from safetensors import safe_open

from cli.conftest import spyx
from spyx import load, nn
from spyx.cli import runs
from spyx.cli import train as training
from spyx.cli.config import Config, make_config
from spyx.cli.errors import UserError
from spyx.cli.make_network import make_network
from spyx.cli.make_solver import make_solver
from spyx.cli.score import score
from spyx.cli.trained import open_trained


def test_the_default_run_reads_digits(default_run):
    folder, printed = default_run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test_accuracy"] >= 0.94
    assert metrics["test_samples"] == 359
    assert f"{metrics['test_accuracy']:.2%}" in printed
    assert "What to try next" in printed
    assert "never do" in printed


def test_the_run_folder_is_complete(default_run):
    folder, _ = default_run
    names = {path.name for path in folder.iterdir()}
    figures = {"training.png", "raster.png"}
    weights = {"weights.safetensors", "best.safetensors"}
    tables = {"metrics.csv", "layers.csv", "metrics.json", "record.json", "report.html"}
    assert names == figures | weights | tables | {"config.toml", "checkpoints"}
    for name in figures:
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, Config().epochs + 1))
    assert float(rows[-1]["eval_acc"]) == metrics["epochs"][-1]["eval_acc"]
    assert metrics["compile_s"] > 0 < metrics["run_s"]
    assert set(metrics["firing_rate"]) == {"1 LIF"}
    with safe_open(folder / "weights.safetensors", "np") as weights:
        assert weights.get_tensor("layers.0.kernel").shape == (64, 256)
    assert make_config(folder / "config.toml", {}) == Config(encoder="latency")


def test_eval_gives_the_same_number(default_run):
    folder, printed = default_run
    again = spyx("eval", folder)
    assert again.exit_code == 0
    number = r"test accuracy\s+([\d.]+%)"
    assert re.search(number, again.stdout)[1] == re.search(number, printed)[1]


def test_a_run_is_never_overwritten(default_run):
    folder, _ = default_run
    result = spyx("train", "--output", folder)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "exists already, and a run is never overwritten" in result.stderr


def test_the_trained_network_opens_without_the_run(default_run):
    """`spyx.load` of the weights is the network that is scored."""
    folder, _ = default_run
    config, samples, model = open_trained(folder, None)
    x = samples.x["test"][:32]
    model.eval()
    loaded = load(folder / "weights.safetensors")
    loaded.eval()
    np.testing.assert_array_equal(nn.run(loaded, x)[0], nn.run(model, x)[0])
    assert score(config, loaded, *samples.part("test"))["acc"] > 0.95


def test_damaged_weights_are_refused(default_run, tmp_path):
    folder, _ = default_run
    for name in ("config.toml", "weights.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    spoiled = bytearray((folder / "weights.safetensors").read_bytes())
    spoiled[-1000] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(spoiled)
    result = spyx("eval", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "weights.safetensors is damaged: it has contents that do not match their SHA-256." in result.stderr


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    model = make_network(Config(hidden=(8,)), 64, 10)
    model.layers[0].kernel[...] = model.layers[0].kernel[...].at[3, 7].set(np.nan)
    with pytest.raises(UserError, match=r"weights.safetensors was not written: .*layers.0.kernel with 1 of 512"):
        runs.save_weights(tmp_path, model)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused(default_run):
    folder, _ = default_run
    other = make_network(Config(hidden=(8,)), 64, 10)
    with pytest.raises(UserError, match="belongs to another network"):
        runs.load_weights(folder, other)


SHORT = ("--epochs", 2, "--hidden", 8, "--steps", 4, "--batch-size", 629)


def test_same_seed_same_numbers_and_the_config_file_runs_again(tmp_path):
    def losses(name, *arguments):
        result = spyx("train", *arguments, "--output", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        return (tmp_path / name / "metrics.csv").read_text()

    first = losses("first", *SHORT, "--encoder", "rate", "--seed", 3)
    assert losses("again", "--config", tmp_path / "first" / "config.toml") == first


def test_a_run_with_a_recurrent_neuron_on_spikes(tmp_path, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "make_solver", lambda *given: asked.append(given[1:]) or make_solver(*given))
    result = spyx("train", *SHORT, "--dataset", "randman", "--neuron", "ralif", "--surrogate", "arctan")
    assert result.exit_code == 0, result.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-randman-RALIF")
    assert asked == [(2 * 13, (20,))]  # 8000 samples in batches of 629: the learning rate falls over the whole run
    assert make_config(folder / "config.toml", {}).encoder == "none"


def test_energy_of_a_run(default_run):
    folder, _ = default_run
    result = spyx("energy", folder, "--samples", 16, "--model", "45nm-int8", "--json")
    assert result.exit_code == 0, result.stderr
    numbers = json.loads(result.stdout)
    assert numbers["Samples"] == 16
    assert 0 < numbers["SynapticOperations"]["Effective_ACs"] < numbers["SynapticOperations"]["Dense"]
    assert [model["model"]["name"] for model in numbers["Energy"]] == ["45nm-int8"]
    text = spyx("energy", folder, "--samples", 16)
    assert "lemaire2022" in text.stdout
    assert "not measurements" in text.stdout
    wrong = spyx("energy", folder, "--model", "loihi")
    assert wrong.exit_code == 2
    assert "--model: expected one of 45nm-fp32" in wrong.stderr


def test_the_doctor_finds_nothing_in_the_default_run(default_run):
    result = spyx("doctor", default_run[0], "--json")
    assert result.exit_code == 0, result.stdout
    assert json.loads(result.stdout) == []


def test_the_doctor_fixes_what_it_can_and_measures_again(tmp_path):
    folder = tmp_path / "run"
    settings = ("--beta", 0.0, "--surrogate", "boxcar:0.0001", "--output", folder)
    result = spyx("train", *SHORT, "--encoder", "rate", *settings)
    assert result.exit_code == 0, result.stderr
    result = spyx("doctor", folder, "--fix", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["findings"][0]["what"] == "surrogate without slope"
    assert found["options"][:2] == ["--surrogate", "superspike:5"]
    change = found["changes"][0]
    assert change["change"] == "--surrogate superspike:5"
    assert change["before"] == found["findings"][0]["number"]
    assert "the slope at its membranes is" in change["after"]
    text = spyx("doctor", folder, "--fix").stdout
    assert f"Train with this: spyx train --config {folder / 'config.toml'} --surrogate superspike:5" in text
