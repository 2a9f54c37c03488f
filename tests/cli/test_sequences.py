"""`spyx train` on labels per step and on samples of unequal length."""

from __future__ import annotations

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from cli.conftest import spyx
from spyx import data, nn
from spyx.cli import inputs, make_network, runs
from spyx.cli import score as scoring
from spyx.cli.config import Config

RANDOM = np.random.default_rng(0)
SHORT = ("--epochs", 1, "--hidden", 8)


def numbers(folder):
    return json.loads((folder / "metrics.json").read_text())


def outputs(config, samples, folder, part):
    model = make_network.make_network(config, samples.x[part].shape[-1], samples.classes)
    runs.load_weights(folder, model)
    return np.asarray(nn.run(model, samples.x[part].astype(jnp.float32))[0])


def test_qtdb_is_scored_at_every_labelled_step(shared, tmp_path):
    """The accuracy is that of the steps that the files label, counted by hand; the record says so."""
    root = shared / "data" / "qtdb_ecg"
    folder = tmp_path / "ecg"
    result = spyx("train", *SHORT, "--dataset", "qtdb_ecg", "--data", root, "--batch-size", 278, "--output", folder)
    assert result.exit_code == 0, result.stderr
    found = numbers(folder)
    assert found["labels"] == "one per step; 19056 of 183441 test steps have none and are left out"
    assert "59420 of 723356 train steps have none and are left out" in result.stdout
    config = runs.open_run(folder)
    assert config.encoder == "direct"
    samples = inputs.load_inputs(config)
    truth = data.load("qtdb_ecg", root=root, unlabelled=-1).test.y
    answers = outputs(config, samples, folder, "test").argmax(-1)
    labelled = truth >= 0
    np.testing.assert_allclose(found["test_accuracy"], (answers == truth)[labelled].mean(), rtol=1e-6)
    again = spyx("eval", folder)
    assert f"{found['test_accuracy']:.2%}" in again.stdout


@pytest.fixture
def unequal(monkeypatch):
    """A data set of lists: 300 samples of 3 to 8 steps, more than fit in one batch of an evaluation."""

    def split():
        y = RANDOM.integers(0, 2, 300).astype(np.int32)
        lengths = RANDOM.integers(3, 9, 300)
        x = [
            (RANDOM.random((n, 4)) < (0.2 + 0.5 * label)).astype(np.uint8) for n, label in zip(lengths, y, strict=True)
        ]
        return data.Split(x, y)

    parts = [split() for _ in range(3)]
    dataset = data.Dataset("yinyang", *parts, num_classes=2, citation="", licence="", split_note="as drawn")
    monkeypatch.setattr(data, "load", lambda name, **options: dataset)
    return dataset


def test_samples_of_unequal_length_are_scored_over_their_own_steps(unequal, tmp_path):
    (tmp_path / "a.toml").write_text(
        'dataset = "yinyang"\nencoder = "auto"\nreadout = "mean"\nsmoothing = 0.0\nseed = 1\n'
    )
    folder = tmp_path / "run"
    result = spyx("train", *SHORT, "--config", tmp_path / "a.toml", "--batch-size", 300, "--output", folder)
    assert result.exit_code == 0, result.stderr
    config, found = runs.open_run(folder), numbers(folder)
    samples = inputs.load_inputs(config)
    assert samples.x["test"].shape == (300, 8, 4)
    right, losses = [], []
    for traces, sample, label in zip(
        outputs(config, samples, folder, "test"), unequal.test.x, unequal.test.y, strict=True
    ):
        logits = traces[: len(sample)].mean(0)
        right.append(logits.argmax() == label)
        losses.append(np.log(np.exp(logits - logits[label]).sum()))
    np.testing.assert_allclose(found["test_accuracy"], np.mean(right), rtol=1e-6)
    np.testing.assert_allclose(found["test_loss"], np.mean(losses), rtol=1e-4)


def test_a_loss_of_a_batch_leaves_padding_out(unequal):
    """What training makes small is the mean over samples, each over its own steps."""
    config = Config(dataset="yinyang", smoothing=0.0)
    samples = inputs.load_inputs(config)
    model = make_network.make_network(config, 4, 2)
    lengths = samples.lengths["train"][:3]
    loss = scoring.make_loss(config)
    together = loss(model, samples.x["train"][:3], samples.y["train"][:3], lengths)
    alone = [
        loss(model, samples.x["train"][i : i + 1, :n], samples.y["train"][i : i + 1]) for i, n in enumerate(lengths)
    ]
    np.testing.assert_allclose(together, np.mean(alone), rtol=1e-5)


# A neuron of one's own

MINE = """
from spyx import nn

class Slow(nn.Neuron):
    state = dict(v=0.0)
    beta: float = 0.99

    @staticmethod
    def step(p, x, s):
        z = p.spike(s - 1.0)
        return z, p.beta * s + x - z

class Broken(Slow):
    def __init__(self, hidden_shape):
        raise RuntimeError("no luck today")

class Other:
    pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the user's with modules of their own, from which nothing is importable afterwards."""
    import sys

    before = set(sys.modules)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "wrong.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import there_is_no_such_module\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("mine", "wrong", "lacking"):
            del sys.modules[name]


def test_a_neuron_of_ones_own_is_trained_and_scored_again(here):
    result = spyx("train", *SHORT, "--steps", 4, "--batch-size", 629, "--neuron", "mine:Slow")
    assert result.exit_code == 0, result.stderr
    (folder,) = (here / "runs").iterdir()
    assert folder.name.endswith("-digits-Slow")
    assert "1 Slow" in numbers(folder)["firing_rate"]
    refused = spyx("eval", folder)
    assert refused.exit_code == 2
    assert "names 'mine:Slow', a neuron of your own, and settings load no code by themselves" in refused.stderr
    again = spyx("eval", folder, "--neuron", "mine:Slow")
    assert again.exit_code == 0, again.stderr
    assert re.search(r"test accuracy\s+([\d.]+%)", again.stdout)[1] in result.stdout
    other = spyx("eval", folder, "--neuron", "LIF")
    assert "was trained with 'mine:Slow'; got 'LIF'" in other.stderr


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        ("nowhere:Slow", "--neuron: there is no module nowhere in "),
        ("mine.deep:Slow", "--neuron: there is no module mine.deep in "),
        ("lacking:Slow", "--neuron: importing lacking fails: No module named 'there_is_no_such_module'"),
        ("wrong:Slow", "--neuron: importing wrong fails: ZeroDivisionError: division by zero"),
        ("mine:Slwo", "--neuron: Slwo is not there in the module mine. Did you mean Slow? It has: Slow, Broken."),
        ("mine:Other", "--neuron: Other is no class of neurons in the module mine. It has: Slow, Broken."),
        ("mine:Broken", "--neuron: mine:Broken(1) fails: RuntimeError: no luck today"),
        ("mine:", "--neuron: expected MODULE:CLASS, such as mine:MyNeuron; got 'mine:'"),
        ("../mine:Slow", "--neuron: expected MODULE:CLASS, such as mine:MyNeuron; got '../mine:Slow'"),
    ],
)
def test_a_neuron_of_ones_own_that_is_not_there_is_one_line(here, neuron, message):
    result = spyx("train", "--neuron", neuron)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (here / "runs").exists()


def test_settings_of_a_stranger_load_no_code(here):
    (here / "a.toml").write_text('neuron = "wrong:Slow"\n')
    result = spyx("train", "--config", "a.toml")
    assert result.exit_code == 2
    assert "a.toml names 'wrong:Slow', a neuron of your own, and settings load no code by themselves" in result.stderr
    assert "ZeroDivisionError" in spyx("train", "--config", "a.toml", "--neuron", "wrong:Slow").stderr
