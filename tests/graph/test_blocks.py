"""Blocks, the order in which a graph runs, its picture and its words."""

from __future__ import annotations

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graph.networks import BATCH, STEPS, WIDTH, layer, linear, spikes
from spyx import graph, nn
from spyx.graph._layout import layout
from spyx.graph._schedule import Edge, components


def test_feed_forward_is_sequential():
    layers = [linear(0), layer("lif", 0), jnp.tanh, layer("li", 0)]
    net, same = graph.feed_forward(*layers), nn.Sequential(*layers)
    np.testing.assert_array_equal(nn.run(net, spikes())[0], nn.run(same, spikes())[0])
    assert list(net.initial_state(1).nodes) == ["linear_0", "lif_1", "tanh_2", "li_3"]
    with pytest.raises(ValueError, match="feed_forward: expected at least one layer"):
        graph.feed_forward()


def test_a_residual_shortcut_waits_for_the_spikes_of_its_chain():
    block = graph.residual(layer("lif", 0), delay=1, shortcut=linear(1))
    x = spikes()
    chain, _ = nn.run(layer("lif", 0), x)
    shortcut = linear(1)(x)
    np.testing.assert_allclose(nn.run(block, x)[0][:, 1:], chain[:, 1:] + shortcut[:, :-1], atol=1e-6)


def test_parallel_branches_meet_as_told():
    branches = (layer("li", 0), nn.Sequential(linear(0), layer("li", 0)))
    a, b = (nn.run(branch, spikes())[0] for branch in branches)
    np.testing.assert_allclose(nn.run(graph.parallel(*branches), spikes())[0], jnp.concatenate([a, b], -1), atol=1e-6)
    both = nn.run(graph.parallel(*branches, merge="list"), spikes())[0]
    np.testing.assert_allclose(both[1], b, atol=1e-6)
    with pytest.raises(ValueError, match="parallel: expected at least one branch"):
        graph.parallel()


@pytest.mark.parametrize(("features", "stride", "shape"), [(2, 1, (4, 4, 2)), (3, 2, (2, 2, 3))])
def test_a_spiking_resnet_block_trains(features, stride, shape):
    block = graph.spiking_resnet_block((4, 4, 2), features, stride=stride, rngs=nnx.Rngs(0))
    assert ("shortcut" in block.nodes) == (features != 2)
    x = spikes(0, (BATCH, STEPS, 4, 4, 2))
    gradient = nnx.grad(lambda block: jnp.sum(nn.run(block, x)[0]))(block)
    assert nn.run(block, x)[0].shape == (BATCH, STEPS, *shape)
    assert float(jnp.abs(gradient["nodes"]["conv1"]["kernel"][...]).max()) > 0


def test_components_come_in_order_and_a_thousand_layers_are_fine():
    names = [f"n{i}" for i in range(1500)]
    edges = [Edge(a, b) for a, b in zip(names[:-1], names[1:], strict=True)]
    found = components(names[::-1], [*edges, Edge("n7", "n3", 1)])
    assert [c.members for c in found if c.cyclic] == [("n3", "n4", "n5", "n6", "n7")]
    assert [name for c in found for name in c.members] == names


def picture() -> graph.Graph:
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "lif", 1), ("lif", "back", 2), ("back", "fc", 1)]
    nodes = {"fc": linear(0), "lif": layer("lif", 0), "back": linear(1), "out": layer("li", 0)}
    return graph.Graph(nodes, [*edges, ("lif", "out"), ("fc", "out", 12), ("out", "output")], merge="sum")


def test_repr_names_layers_inputs_delays_and_what_is_stepped():
    assert repr(picture()) == str(picture()) == "\n".join(
        [
            "Graph(4 nodes, 8 edges)",
            "  fc      Linear(3 → 3)  <- sum: input, back (+1)",
            "  lif     LIF(3)         <- sum: fc, lif (+1)",
            "  back    Linear(3 → 3)  <- lif (+2)",
            "  out     LI(3)          <- sum: lif, fc (+12)",
            "  output                 <- out",
            "  stepped: {fc, lif, back}",
        ]
    )  # fmt: skip


def test_no_two_boxes_or_ways_share_a_place():
    where = layout(picture()._plan)
    places = [*where.boxes.values(), *(point for way in where.ways.values() for point in way)]
    assert len(set(places)) == len(places)
    assert all(place[1] >= 0 for place in places)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_draw_writes_a_picture_with_every_name_and_delay(ending, tmp_path):
    figure = picture().draw(tmp_path / f"net.{ending}")
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"input", "output", "fc", "lif", "back", "out", "+1", "+2", "+12", "sum", "LIF(3)"} <= texts
    assert (tmp_path / f"net.{ending}").stat().st_size > 3000
    assert WIDTH == 3


def test_draw_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'spyx-jax\[plot\]'"):
        picture().draw()
