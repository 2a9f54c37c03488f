"""Changes that the doctor applies by itself, and `spyx.nn.calibrate`, which most of them stand on."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from report.test_doctor import BROKEN, CLASSES, INPUTS, data, dead_convolution, linear, network
from spyx import graph, nn, report

TREATED = ("huge_threshold", "swapped_axes", "pinned_decay", "label_leak", "dead_convolution")


@pytest.mark.parametrize("name", TREATED)
def test_a_change_is_applied_and_measured_again(name):
    broken = next(build for build in BROKEN if build.__name__ == name)
    model, batch = broken()
    before = [np.asarray(a) for a in jax.tree.leaves(nnx.state(model, nnx.Param))]
    found = report.treat(model, batch)
    first = found.changes[0]
    assert (first.finding.what, first.finding.where) == BROKEN[broken]
    assert first.gone, str(found)
    assert first.number not in ("", first.finding.number)
    assert not [finding for finding in found.left if finding.what == first.finding.what]
    after = [np.asarray(a) for a in jax.tree.leaves(nnx.state(model, nnx.Param))]
    assert all((a == b).all() for a, b in zip(before, after, strict=True)), "the network that was given has changed"
    assert f"Now: {first.number}" in str(found)


def test_what_cannot_be_changed_is_left():
    model, (x, y) = network(), data()
    found = report.treat(model, (np.zeros_like(x), y))
    assert not found.changes
    assert found.left[0].what == "empty input"
    assert "nothing to treat" in str(found)
    assert str(report.treat(model, (x, y))).startswith("nothing to treat\nnothing found")


def rates(model, x, *paths):
    return [float((values != 0).mean()) for values in nn.observe(model, x, where=paths)[2].values()]


def test_calibration_brings_every_layer_to_the_rate():
    x = data()[0]
    net = nn.Sequential(
        linear(INPUTS, 16, 1e-6), nn.LIF(16, beta=0.9), linear(16, 16, 1e5), nn.RLIF(16, beta=0.8, rngs=nnx.Rngs(0)),
        linear(16, CLASSES), nn.LI(CLASSES, beta=0.9),
    )  # fmt: skip
    readout = np.asarray(net.layers[4].kernel[...])
    assert nn.calibrate(net, x, rate=0.2) is net
    for rate in rates(net, x, "1", "3"):
        assert 0.2 / 1.5 <= rate <= 0.2 * 1.5
    np.testing.assert_array_equal(net.layers[4].kernel[...], readout)


def test_calibration_follows_the_edges_of_a_graph():
    nodes = {
        "b": linear(16, 16, 1e-4, 1), "late": nn.LIF(16, beta=0.9), "a": linear(INPUTS, 16, 1e-4),
        "early": nn.LIF(16, beta=0.9), "out": nn.LI(16, beta=0.9),
    }  # fmt: skip
    edges = [("input", "a"), ("a", "early"), ("early", "b", 1), ("b", "late"), ("late", "out"), ("out", "output")]
    net, x = graph.Graph(nodes, edges, input_shape=INPUTS), data()[0]
    nn.calibrate(net, x)
    assert all(0.1 / 1.5 <= rate <= 0.1 * 1.5 for rate in rates(net, x, "early", "late"))


def test_calibration_says_what_it_cannot_do():
    x = data()[0]
    with pytest.raises(ValueError, match=r"rate=\): expected spikes per unit and step in \(0, 1\); got 1.5"):
        nn.calibrate(network(), x, rate=1.5)
    with pytest.raises(TypeError, match="expected a network with weights in front of its neurons; got LIF"):
        nn.calibrate(nn.LIF(INPUTS, beta=0.9), x)
    with pytest.raises(ValueError, match="expected a spiking layer with weights in front of it; got none"):
        nn.calibrate(nn.Sequential(nn.IF(INPUTS), linear(INPUTS, 3), nn.LI(3)), x)
    net, (frames, _) = dead_convolution()
    before = np.asarray(net.layers[0].kernel[...])
    with pytest.raises(ValueError, match="got 0 in 1 LIF at best"):
        nn.calibrate(net, frames)
    np.testing.assert_array_equal(net.layers[0].kernel[...], before)
