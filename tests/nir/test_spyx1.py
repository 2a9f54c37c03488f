"""Files and calls of Spyx 1.0: graphs in the shape that its exporter wrote, and its two signatures."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn

nir = pytest.importorskip("nir")
from spyx.nir import from_nir, to_nir, write  # noqa: E402

BETA = np.array([0.3, 0.8, 0.95], np.float32)
ALPHA = np.array([0.2, 0.5, 0.9], np.float32)


def old_node(kind: str, dt: float):
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    if kind == "LIF":
        return nir.LIF(tau=dt / (1 - BETA), r=BETA, v_leak=zero, v_threshold=one)
    if kind == "IF":
        return nir.IF(r=one, v_threshold=one)
    return nir.CubaLIF(tau_syn=dt / (1 - ALPHA), tau_mem=dt / (1 - BETA), r=BETA, v_leak=zero, v_threshold=one)


def old_file(dt: float, *nodes) -> nir.NIRGraph:
    named = {f"layer_{k}": node for k, node in enumerate(nodes)}
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    path = ["input", *named, "output"]
    return nir.NIRGraph({**ends, **named}, list(zip(path[:-1], path[1:], strict=True)), type_check=False)


def recurrent(core: nir.ir.node.NIRNode, weight: np.ndarray) -> nir.NIRGraph:
    """The sub-graph of a recurrent layer: its input is wired into the matrix."""
    shape = np.array([3])
    nodes = {
        "layer_1.lif": core,
        "layer_1.w_rec": nir.Linear(weight.T),
        "layer_1.input": nir.Input({"input": shape}),
        "layer_1.output": nir.Output({"output": shape}),
    }
    edges = [
        ("layer_1.input", "layer_1.w_rec"),
        ("layer_1.w_rec", "layer_1.lif"),
        ("layer_1.lif", "layer_1.w_rec"),
        ("layer_1.lif", "layer_1.output"),
    ]
    return nir.NIRGraph(nodes, edges, type_check=False)


def drive(model, seed=0):
    x = np.random.default_rng(seed).normal(0.4, 0.6, (2, 30, 3)).astype(np.float32)
    return np.asarray(nn.run(model, x)[0])


@pytest.mark.parametrize("dt", [1.0, 1e-3])
@pytest.mark.parametrize("saved", [False, True])
def test_NIR_files_of_spyx1_have_the_gain_that_was_meant(dt, saved, tmp_path):
    weight = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    graph = old_file(dt, nir.Linear(weight), old_node("LIF", dt), old_node("CubaLIF", dt), old_node("IF", dt))
    if saved:
        nir.write(tmp_path / "old.nir", graph)
        graph = tmp_path / "old.nir"
    with pytest.warns(UserWarning, match=r"Spyx 1.0 wrote this graph \(r = beta\)"):
        model = from_nir(graph, dt)
    layer = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(weight.T)
    own = nn.Sequential(layer, nn.LIF(3, beta=BETA), nn.CuBaLIF(3, alpha=ALPHA, beta=BETA), nn.IF(3))
    np.testing.assert_array_equal(np.asarray(model.nodes["layer_1"].beta[...]), BETA)
    np.testing.assert_allclose(np.asarray(model.nodes["layer_2"].alpha[...]), ALPHA, rtol=1e-6)
    np.testing.assert_array_equal(drive(model), drive(own))


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "IF"])
def test_its_recurrent_layers_take_their_input_at_the_neuron(kind):
    weight = np.random.default_rng(2).normal(0, 0.5, (3, 3)).astype(np.float32)
    graph = old_file(1.0, old_node("LIF", 1.0), recurrent(old_node(kind, 1.0), weight))
    with pytest.warns(UserWarning, match="Spyx 1.0"):
        model = from_nir(graph, 1.0)
    start = {"recurrent_init": lambda *_: jnp.asarray(weight), "rngs": nnx.Rngs(0)}
    own = {
        "LIF": lambda: nn.RLIF(3, beta=BETA, **start),
        "CubaLIF": lambda: nn.RCuBaLIF(3, alpha=ALPHA, beta=BETA, **start),
        "IF": lambda: nn.RIF(3, **start),
    }[kind]()
    np.testing.assert_array_equal(drive(model), drive(nn.Sequential(nn.LIF(3, beta=BETA), own)))


def test_r_as_it_stands_when_asked():
    model = from_nir(old_file(1.0, old_node("LIF", 1.0)), 1.0, written_by="nir")
    assert type(model.nodes["layer_0"]).__name__ == "NIRLIF"


@pytest.mark.parametrize(
    "change",
    [
        lambda node: setattr(node, "r", np.array([0.3, 0.8, 0.9], np.float32)),
        lambda node: setattr(node, "v_leak", np.full(3, 0.1, np.float32)),
        lambda node: setattr(node, "metadata", {"note": "mine"}),
    ],
)
def test_other_files_are_left_alone(change):
    node = old_node("LIF", 1.0)
    change(node)
    model = from_nir(old_file(1.0, node), 1.0)
    assert type(model.nodes["layer_0"]).__name__ == "NIRLIF"


def test_call_signatures_of_spyx1(tmp_path):
    rngs = nnx.Rngs(0)
    own = nn.Sequential(nn.Conv(2, 3, (3, 3), rngs=rngs), nn.IF((4, 5, 3)), nn.Flatten(), nnx.Linear(60, 2, rngs=rngs))
    shapes = {"input": np.array([2, 4, 5])}, {"output": np.array([2])}
    graph = to_nir(own, *shapes, dt=1)
    assert graph.nodes["input"].input_type["input"].tolist() == [2, 4, 5]
    write(tmp_path / "model.nir", graph)
    x = (np.random.default_rng(0).random((6, 3, 4, 5, 2)) < 0.5).astype(np.float32)
    model, outs = from_nir(graph, x, 1)
    np.testing.assert_array_equal(outs, nn.run(own, x, time_axis=0)[0])
    model, (outs, states) = from_nir(graph, input_data=x, dt=1, return_all_states=True, rngs=nnx.Rngs(1))
    assert outs.shape == (6, 3, 2)
    assert states.nodes["if_1"].shape == (6, 3, 4, 5, 3)
    with pytest.raises(ValueError, match=r"spyx.nir.to_nir\(output_shape=\): expected the shapes of the model's"):
        to_nir(own, shapes[0], {"output": np.array([3])}, 1)
    with pytest.raises(TypeError, match="the rest by name"):
        from_nir(graph, 1.0, 2.0)


def test_what_it_left_out_is_said():
    weight = nir.Linear(np.ones((3, 3), np.float32))
    graph = old_file(1.0, weight, old_node("LIF", 1.0), weight)
    names = {"layer_1": "layer_2", "layer_2": "layer_3"}
    gap = nir.NIRGraph(
        {names.get(name, name): node for name, node in graph.nodes.items()},
        [(names.get(a, a), names.get(b, b)) for a, b in graph.edges],
        type_check=False,
    )
    with pytest.warns(UserWarning, match=r"It left out layer 1, .* It left out a readout \(LI\) at the end"):
        from_nir(gap)
    with pytest.raises(ValueError, match=r"spyx.nir.from_nir\(written_by='spyx1'\): expected a chain of nodes"):
        from_nir(nir.NIRGraph({**graph.nodes, "more": weight}, graph.edges, type_check=False), written_by="spyx1")
