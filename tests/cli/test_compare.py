"""`spyx compare`: tables of finished runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cli.conftest import spyx
from spyx.cli.config import Config


def run(folder, config, accuracy, loss=0.5, run_s=2.0):
    folder.mkdir()
    (folder / "config.toml").write_text(config.to_toml())
    (folder / "metrics.json").write_text(json.dumps({"test_accuracy": accuracy, "test_loss": loss, "run_s": run_s}))
    return folder


@pytest.fixture
def three(tmp_path):
    """Two seeds of one network, on two paths to the same data, and a better network."""
    config = Config(dataset="nmnist", data="/here")
    return [
        run(tmp_path / "a", config, 0.90),
        run(tmp_path / "b[red]", replace(config, seed=1, data="/there"), 0.94),
        run(tmp_path / "c", replace(config, neuron="ALIF", hidden=(8, 8)), 0.95),
    ]


def test_runs_that_differ_in_the_seed_alone_are_one_row(three):
    result = spyx("compare", *three, three[0], "--json")
    assert result.exit_code == 0, result.stderr
    best, other = json.loads(result.stdout)
    assert best["settings"] == {"neuron": "ALIF", "hidden": [8, 8]}
    assert best["mean"]["test_accuracy"] == 0.95
    assert best["deviation"] == {}
    assert other["seeds"] == [0, 1]
    assert other["folders"] == [str(folder) for folder in three[:2]]
    assert other["mean"]["test_accuracy"] == pytest.approx(0.92)
    assert other["deviation"]["test_accuracy"] == pytest.approx(0.02 * 2**0.5)  # of a sample of two


def test_the_table_shows_what_differs(three, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    result = spyx("compare", *three)
    head, first, second = (line for line in result.stdout.splitlines() if line.strip())
    assert head.split() == ["test", "accuracy", "test", "loss", "training", "seeds", "hidden", "neuron", "folders"]
    assert first.split()[0] == "95.00%"
    assert "92.00% \u00b1 2.83%" in second
    assert "0, 1" in second
    assert "b[red]" in second


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not finished: it has no readable metrics.json"),
        ("{}", "metrics.json is damaged: expected a JSON object with"),
        ("[" * 100_000, "metrics.json is damaged"),
        ('{"test_accuracy": NaN, "test_loss": 1, "run_s": 1}', "expected finite numbers"),
    ],
)
def test_runs_without_a_result_are_named(three, content, said):
    path = three[0] / "metrics.json"
    path.unlink() if content is None else path.write_text(content)
    result = spyx("compare", *three)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
    assert str(three[0]) in result.stderr
