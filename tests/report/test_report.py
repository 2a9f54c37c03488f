"""Recorded activity and the figures drawn from it."""

from __future__ import annotations

import builtins

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn, report


def network() -> nn.Sequential:
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nnx.Linear(3, 4, rngs=rngs),
        nnx.Dropout(0.5, rngs=rngs),
        nn.LIF(4, beta=0.5),
        nnx.Linear(4, 2, rngs=rngs),
        nn.LI(2),
    )


def test_record_equals_run_and_leaves_the_model_alone():
    model, x = network(), jnp.asarray(np.random.default_rng(0).random((2, 6, 3)), jnp.float32)
    count = int(model.layers[1].rngs.count[...])
    recording = report.record(model, x)
    assert [(a.name, a.spiking, a["spikes"].shape) for a in recording.values()] == [
        ("2 LIF", True, (2, 6, 4)),
        ("4 LI", False, (2, 6, 2)),
    ]
    assert int(model.layers[1].rngs.count[...]) == count
    assert not model.layers[1].deterministic
    model.eval()
    np.testing.assert_allclose(recording["4"]["spikes"], nn.run(model, x)[0], rtol=1e-5, atol=1e-6)


def test_rate_and_silence_of_known_spikes():
    spikes = np.zeros((2, 5, 4))
    spikes[0, 1, 2] = spikes[1, :, 0] = 1
    activity = report.LayerRecord("1 LIF", {"spikes": spikes})
    assert activity.rate == pytest.approx(6 / 40)
    assert activity.silent == 0.5


def test_record_needs_layers():
    with pytest.raises(TypeError, match=r"record: expected a container of layers; got LIF"):
        report.record(nn.LIF(3, beta=0.5), jnp.ones((1, 2, 3)))


def test_figures_say_what_they_show(tmp_path):
    history = [{"train_loss": 1.0 / n, "eval_loss": 1.1 / n, "eval_acc": 1 - 0.5 / n} for n in range(1, 6)]
    figure = report.plot_history(history, title="a run", test_accuracy=0.875)
    loss, accuracy = figure.axes
    assert figure.get_suptitle() == "a run"
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert accuracy.lines[1].get_label() == "test, after the last epoch: 87.5 %"
    assert (loss.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy (%)")
    figure.savefig(tmp_path / "history.png")

    x, model = jnp.ones((2, 6, 3)), network()
    figure = report.plot_sample(x, report.record(model, x), sample=1, title="one sample", step_ms=2.0)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "input\nchannel (index)",
        "2 LIF\nneuron (index)",
        "4 LI\nmembrane\n(input units)",
    ]
    assert figure.axes[-1].get_xlabel() == "time (ms)"
    assert figure.axes[-1].get_xlim() == (-1.0, 11.0)
    figure.savefig(tmp_path / "raster.png")
    for name in ("history.png", "raster.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_plot_errors(monkeypatch):
    with pytest.raises(ValueError, match="plot_history: expected at least one epoch; got none"):
        report.plot_history([])
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'spyx-jax\[plot\]'"):
        report.plot_history([{"train_loss": 1.0}])
