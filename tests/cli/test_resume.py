"""A run that was stopped: what it says, what is in its folder, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time

import pytest

from cli.conftest import spyx
from spyx.cli import progress, runs, seeds
from spyx.cli import train as training
from spyx.optimize import _checkpoint
from spyx.report._page.document import read_content

SHORT = ("--epochs", 4, "--hidden", 8, "--steps", 4, "--batch-size", 629, "--encoder", "rate")


@pytest.fixture(autouse=True, scope="module")
def _no_pictures():
    """They take longer than the runs, and so does the page of a run that is finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_plot", lambda *_: None)
        patch.setattr(training.page, "finish", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert spyx("train", *SHORT, "--output", folder).exit_code == 0
    return folder


def stopping(number, times=1):
    """`Shown.step` that sends signals in the third epoch."""
    step = progress.Shown.step

    def stop(self, epoch, *given):
        step(self, epoch, *given)
        if epoch == 2:
            for _ in range(times):
                signal.raise_signal(number)

    return stop


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run that Ctrl-C has stopped, and what the command said."""
    folder = tmp_path_factory.mktemp("half") / "a run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.Shown, "step", stopping(signal.SIGINT))
        result = spyx("train", *SHORT, "--output", folder)
    return folder, result


@pytest.fixture
def copy(half, tmp_path):
    """A copy of the stopped run."""
    return shutil.copytree(half[0], tmp_path / "copy")


def test_ctrl_c_says_how_to_go_on_and_the_end_is_the_same(half, whole, copy):
    folder, result = half
    assert result.exit_code == 130
    asked, said = result.stderr.splitlines()
    assert asked == "spyx: interrupted: finishing this step and saving. Ctrl-C again stops at once."
    command = f"spyx train --resume '{folder}'"
    assert re.fullmatch(rf"spyx: interrupted in epoch 3 of 4, after step \d, and saved. Go on with: {command}", said)
    assert (folder / "metrics.csv").read_text().count("\n") == 3  # two epochs and the names
    assert not (folder / "weights.safetensors").exists()
    again = spyx("train", "--resume", copy)
    assert again.exit_code == 0, again.stderr
    assert "resumed after 2 of 4 epochs" in again.stdout
    for name in ("weights.safetensors", "best.safetensors", "metrics.csv", "config.toml"):
        assert (copy / name).read_bytes() == (whole / name).read_bytes(), name
    rows = [set((run / "layers.csv").read_text().splitlines()) for run in (copy, whole)]  # when they are taken varies
    assert {row for row in rows[0] & rows[1] if row.startswith("4,")}
    assert {row for row in rows[0] & rows[1] if row.startswith("1,")}
    results = [json.loads((run / "metrics.json").read_text()) for run in (copy, whole)]
    assert results[0]["test_accuracy"] == results[1]["test_accuracy"]
    assert spyx("eval", copy).exit_code == 0


def test_a_stopped_run_has_a_page(half):
    content = read_content((half[0] / "report.html").read_text(encoding="utf-8"))
    assert content["status"] == "stopped"
    assert "Go on with: spyx train --resume" in content["note"]
    assert content["curves"]["epochs"] == [1, 2]
    assert content["layers"]["epochs"][0] == 1
    assert content["versions"]


def test_eval_of_parts_of_the_best_epoch_and_for_programs(whole):
    metrics = json.loads((whole / "metrics.json").read_text())
    found = json.loads(spyx("eval", whole, "--json").stdout)
    assert found["accuracy"] == metrics["test_accuracy"]
    assert (found["samples"], found["weights"]) == (359, "weights.safetensors")
    best = json.loads(spyx("eval", whole, "--json", "--best", "--part", "validation").stdout)
    accuracies = [epoch["eval_acc"] for epoch in metrics["epochs"]]
    assert best["accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
    scores = [(epoch["eval_acc"], -epoch["eval_loss"]) for epoch in metrics["epochs"]]
    assert metrics["best_epoch"] == scores.index(max(scores)) + 1
    refused(spyx("eval", whole, "--part", "all"), "unknown part 'all'")


def refused(result, *words):
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


def test_a_second_ctrl_c_and_sigterm(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(progress.Shown, "step", stopping(signal.SIGINT, times=2))
        result = spyx("train", *SHORT, "--output", tmp_path / "a")
    assert result.exit_code == 130
    assert "interrupted at once. " in result.stderr
    assert f"spyx train --resume {tmp_path / 'a'}" in result.stderr
    with monkeypatch.context() as patch:
        patch.setattr(progress.Shown, "step", stopping(signal.SIGTERM))
        result = spyx("train", *SHORT, "--output", tmp_path / "b")
    assert result.exit_code == 143
    assert "terminated in epoch 3 of 4" in result.stderr


def test_what_cannot_be_resumed_is_one_line(whole, copy, tmp_path):
    refused(spyx("train", "--resume", whole), "is finished. Look at it with: spyx eval")
    refused(spyx("train", "--resume", tmp_path / "none"), "is not a run")
    refused(spyx("train", "--resume", copy, "--seed", 1), "expected no other option", "got --seed.")
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("seed = 0", "seed = 1"))
    refused(spyx("train", "--resume", copy), "--resume: expected the same settings", "got seed=1 in place of 0")
    (copy / "config.toml").write_text(text.replace("hidden = [8]", "hidden = [9]"))
    refused(spyx("train", "--resume", copy), "--resume: expected a checkpoint of this network", "(8,) in place of")
    (copy / "config.toml").write_text(text)
    with _checkpoint.Checkpoints(copy / "checkpoints", 2, "here").locked():
        refused(spyx("train", "--resume", copy), f"in which process {os.getpid()} trains")
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").write_text("")
    refused(spyx("train", "--resume", copy), "--resume: expected a folder that can be written")


def test_a_damaged_checkpoint_is_named_and_the_end_is_the_same(whole, copy):
    names = sorted(path.name for path in (copy / "checkpoints").glob("0*"))
    for name in names:
        (copy / "checkpoints" / name / "info.json").write_text("{}")
    result = spyx("train", "--resume", copy)
    assert result.exit_code == 0, result.stderr
    said = result.stdout.replace("\n", "")
    assert names
    for name in names:
        assert f"{name} is damaged and is passed over: info.json has another SHA-256" in said
    assert (copy / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_weights_that_could_not_be_written_are_written_by_a_resumed_run(whole, copy, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "weights.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_weights", full)
        result = spyx("train", "--resume", copy)
    refused(result, "weights.safetensors: No space left on device. Make room, then: spyx train --resume")
    with monkeypatch.context() as patch:
        patch.setattr(progress.Shown, "step", lambda *_: pytest.fail("trained again"))
        assert spyx("train", "--resume", copy).exit_code == 0
    assert (copy / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_seeds_one_after_the_other_go_on_where_they_were_stopped(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(progress.Shown, "step", stopping(signal.SIGTERM))
        result = spyx("train", *SHORT, "--seeds", "0,1", "--output", tmp_path / "runs")
    assert result.exit_code == 143
    assert f"Go on with: spyx train --resume {tmp_path / 'runs'}\n" in result.stderr
    (tmp_path / "runs/seed-1/metrics.json").write_text("{}")  # as if it were finished
    with monkeypatch.context() as patch:
        patch.setattr(seeds, "compare", lambda *_: None)
        again = spyx("train", "--resume", tmp_path / "runs")
    assert again.exit_code == 0, again.stderr
    assert "resumed after 2 of 4 epochs" in again.stdout
    assert (tmp_path / "runs/seed-0/weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    result = spyx("train", "--batch-size", 1259, "--output", tmp_path / "run")
    refused(result, "--batch-size: expected at most 1258, the samples of the training part; got 1259.")
    assert not (tmp_path / "run").exists()


class Lines:
    """A console without a terminal."""

    is_terminal = False

    def __init__(self):
        self.said = []

    def print(self, line, **_):
        self.said.append(line)


def test_lines_where_there_is_no_terminal(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_now", lambda: "12:00:00")
    console = Lines()
    shown = progress.Shown(console, epochs=400, steps=10)
    shown.start([])
    for epoch in range(400):
        now[0] += 1.0
        shown.step(epoch, 10, 0.5)
        shown.epoch(epoch, {"train_loss": 0.25, "eval_acc": 0.875})
    assert len(console.said) == 81
    assert console.said[0] == "12:00:00  epoch 5.0 of 400  10.0 steps/s  6:35 left  loss 0.500  validation 87.5%"
    assert console.said[-1] == "12:00:00  epoch 400.0 of 400  10.0 steps/s  0:00 left  loss 0.250  validation 87.5%"


def test_a_resumed_run_counts_its_own_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    console = Lines()
    shown = progress.Shown(console, epochs=4, steps=10)
    shown.start([{}, {}])
    for done in (1, 6):
        now[0] += 5.0
        shown.step(2, done, 0.5)
    assert console.said[0] == "resumed after 2 of 4 epochs"
    assert "epoch 2.6 of 4  1.0 steps/s  0:14 left" in console.said[-1]


def test_work_without_a_terminal_is_told_every_few_seconds(monkeypatch):
    monkeypatch.setattr(progress, "LINE_S", 0.01)
    console = Lines()
    with progress.working(console, "loading [/]"):
        while not console.said:
            time.sleep(0.01)
    assert r"loading \[/]: 0 s" in console.said[0]


def test_a_row_of_metrics_is_written_after_each_epoch(tmp_path):
    row = {"train_loss": 1.5, "eval_acc": 0.5, "eval_loss": 2.5}
    runs.save_epochs(tmp_path, [row])
    runs.add_epoch(tmp_path, 2, row)
    first = (tmp_path / "metrics.csv").read_bytes()
    assert first.splitlines() == [b"epoch,train_loss,eval_loss,eval_acc", b"1,1.5,2.5,0.5", b"2,1.5,2.5,0.5"]
    runs.save_epochs(tmp_path, [row, row])
    assert (tmp_path / "metrics.csv").read_bytes() == first


def test_a_folder_in_the_place_of_a_file_is_named_as_that_file(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(OSError) as fault:
        runs.save_text(tmp_path, "metrics.json", "{}")
    assert fault.value.filename == str(tmp_path / "metrics.json")
