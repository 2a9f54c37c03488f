"""Callbacks for TensorBoard and Weights & Biases; each is tried where its package is installed."""

from __future__ import annotations

import importlib.util
import json
import struct
import types

import pytest

from spyx import optimize

ROWS = [{"train_loss": 1.5, "eval_acc": 0.25}, {"train_loss": 0.5, "eval_acc": 0.75}]


def records(file):
    """The payloads of a file of TFRecords."""
    content, found = file.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        found.append(content[12 : 12 + size])
        content = content[16 + size :]
    return found


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    note = optimize.tensorboard(tmp_path, tag="mine")
    for epoch, row in enumerate(ROWS):
        note(epoch, row)
        (file,) = tmp_path.iterdir()
        seen = {}
        for record in records(file):  # complete after every epoch
            event = Event.FromString(record)
            seen |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        assert len(seen) == 2 * (epoch + 1)
    assert seen == {(n, f"mine/{name}"): value for n, row in enumerate(ROWS) for name, value in row.items()}


def test_wandb_gets_every_number(tmp_path, monkeypatch):
    logged = []
    run = types.SimpleNamespace(log=lambda numbers, step, commit: commit and logged.append((step, numbers)))
    began = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: began.append(options) or run
    monkeypatch.setitem(__import__("sys").modules, "wandb", fake)
    note = optimize.wandb("spikes", settings={"seed": 3}, mode="offline")
    assert began == []
    for epoch, row in enumerate(ROWS):
        note(epoch, row)
    assert began == [{"project": "spikes", "config": {"seed": 3}, "mode": "offline"}]
    assert logged == list(enumerate(ROWS))


def test_wandb_itself_offline(tmp_path):
    wandb = pytest.importorskip("wandb")
    note = optimize.wandb("spikes", settings={"seed": 3}, mode="offline", dir=str(tmp_path))
    for epoch, row in enumerate(ROWS):
        note(epoch, row)
    run = wandb.run
    assert run.summary["eval_acc"] == 0.75
    assert run.config["seed"] == 3
    run.finish()
    assert list(tmp_path.rglob("*.wandb"))
    assert json.dumps(dict(run.config)) == '{"seed": 3}'


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_extra_is_named(name, package, monkeypatch):
    if importlib.util.find_spec(package):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=rf"spyx.optimize.{name}: expected {package}.*spyx-jax\[{name}\]"):
        getattr(optimize, name)("x")
