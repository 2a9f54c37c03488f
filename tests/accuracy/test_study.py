"""The study's own files: rows whose settings are read, results that belong to them, a page that is made of them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.accuracy import __main__ as accuracy  # noqa: E402
from benchmarks.accuracy import page, rows, study  # noqa: E402

from spyx.cli import inputs, make_network  # noqa: E402
from spyx.cli.config import make_config  # noqa: E402

ROWS = rows.read()
RESULT = {"test_best": 1.0, "test_last": 1.0, "best_epoch": 1, "epochs": 1}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_settings_of_a_row_are_whole_and_known(row):
    given = {"data": "somewhere" if row.data.file else None, "neuron": row.neuron or None}
    config = make_config(row.settings, given | {"hold_out_speaker": (row.folds or (None,))[0]})
    inputs.check_names(config)
    make_network.check_names(config)
    assert row.data.test


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_results_are_those_of_the_committed_settings(row):
    runs = page.read(page.RESULTS, row.name)
    assert all(run["settings_sha256"] == study.digest(row.settings) for run in runs)
    assert len({(run["seed"], run["fold"]) for run in runs}) == len(runs)
    for run in runs:  # the epoch is one that is best on the validation part, whatever the test part says
        assert run["validation"][run["best_epoch"] - 1] == max(run["validation"])
        assert len(run["validation"]) == run["epochs"]


def test_the_page_is_made_of_the_results():
    assert (page.DOCS / "index.md").read_text(encoding="utf-8") == page.text(ROWS, page.RESULTS)


def test_rows_without_data_are_no_results_and_have_their_command():
    there, command = (
        [row for row in ROWS.values() if row.data.needs],
        "python -m benchmarks.accuracy run {} --data FOLDER",
    )
    absent = page._not_at_hand(ROWS, {})
    assert {row.data.name for row in there} == {"shd", "ssc", "dvs_gesture", "cifar10_dvs"}
    assert [line for line in absent.split("\n") if re.search(r"\d %|\d\.\d", line)] == []
    assert "None of these rows was trained" in absent
    pages = [absent, (REPOSITORY / "docs" / "how-to" / "event-data.md").read_text(encoding="utf-8")]
    for text in pages:
        assert re.findall(r"benchmarks\.accuracy run (\S+)", text) == [row.name for row in there]
        assert all(command.format(row.name) in text for row in there)
    assert page._not_at_hand(ROWS, {row.name: [] for row in there}) == ""


def test_rows_without_data_run_by_name_alone(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(study, "run", lambda row, *rest, **how: ran.append((row.name, how["data"])) or RESULT)
    monkeypatch.setattr(sys, "argv", ["accuracy", "run", "shd-adlif", "--data", str(tmp_path), "--seeds", "1"])
    accuracy.main()
    assert ran == [("shd-adlif", tmp_path)]
    ran.clear()
    monkeypatch.setattr(sys, "argv", ["accuracy", "run", "--data", str(tmp_path), "--seeds", "1"])
    accuracy.main()
    assert {name for name, _ in ran} == {name for name, row in ROWS.items() if not row.data.needs}


def test_a_seed_without_all_its_folds_does_not_count():
    runs = [{"seed": s, "fold": f, "test": s + (f == "b")} for s, f in ((0, "a"), (0, "b"), (1, "a"))]
    assert page.by_seed(runs, "test") == [0.5]


def test_a_row_is_run_measured_resumed_and_collected(tmp_path, monkeypatch):
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "tiny.toml").write_text('dataset = "yinyang"\nencoder = "direct"\nsteps = 3\nhidden = 8\nepochs = 2\n')
    (tmp_path / "rows.toml").write_text(
        '[data.yinyang]\ntitle = "t"\nbar = 0.999\ntest = "x"\n[[row]]\nname = "tiny"\ndata = "yinyang"\nmodel = "m"\n'
    )
    monkeypatch.setattr(rows, "SETTINGS", settings)
    known = rows.read(tmp_path / "rows.toml")
    found = study.run(known["tiny"], 7, "", runs=tmp_path / "runs", data=None, cache=None)
    assert found["samples"]["test"] == 1000
    assert found["parameters"] == 4 * 8 + 8 + 1 + 8 * 3 + 3 + 1  # weights, biases, a decay for each layer
    assert 0.3 < found["test_best"] < 1
    assert page.collect(known["tiny"], tmp_path / "runs", tmp_path / "results") == 1
    text = page.text(known, tmp_path / "results")
    assert re.search(r"\| t \| m \| 1 \| \d+\.\d\d % \| .* 99\.9 %: not reached, fewer than 5 seeds \|", text)
    monkeypatch.setattr(study.subprocess, "run", None)  # what is finished is read
    assert study.run(known["tiny"], 7, "", runs=tmp_path / "runs", data=None, cache=None) == json.loads(
        (tmp_path / "runs" / "tiny" / "seed-7" / "result.json").read_text()
    )


def test_rows_that_lack_settings_or_data_are_refused(tmp_path):
    (tmp_path / "rows.toml").write_text('[data.a]\ntitle = "t"\n[[row]]\nname = "none"\ndata = "a"\nmodel = "m"\n')
    with pytest.raises(ValueError, match="expected one row and one file of settings for none"):
        rows.read(tmp_path / "rows.toml")
    (tmp_path / "rows.toml").write_text('[data.a]\ntitle = "t"\n[[row]]\nname = "none"\ndata = "b"\nmodel = "m"\n')
    with pytest.raises(ValueError, match="expected a data set among a; got 'b'"):
        rows.read(tmp_path / "rows.toml")
