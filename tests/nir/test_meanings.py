"""Who decides how a node runs (the caller, the node, the graph), and what takes a step: against its own integrator."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import nir_meanings, nir_network
from reference.nir_graphs import DT, UNITS, fields, graph_of, spikes
from reference.nir_random import random_graph
from spyx import nn

nir = pytest.importorskip("nir")
from spyx.nir import check, from_nir, simulate, to_nir  # noqa: E402

X = 1.4 * spikes(3, steps=16)


def neuron(kind="LIF", seed=0, **metadata):
    return getattr(nir, kind)(**fields(kind, np.random.default_rng(seed)), metadata=metadata)


def matrix(seed=0):
    return nir.Linear(np.random.default_rng(seed).normal(0.6, 0.8, (UNITS, UNITS)))


def graph(nodes, edges, **metadata):
    ends = {"input": nir.Input({"input": np.array([UNITS])}), "output": nir.Output({"output": np.array([UNITS])})}
    return nir.NIRGraph({**ends, **nodes}, edges, metadata=metadata, type_check=False)


def assert_runs_as(built, meanings, late_edges=(), **chosen):
    """The reference and spyx, both against the integrator of the tests; what each node sends, and the output."""
    expected = nir_meanings.run(built, {"input": X}, DT, meanings, late_edges)
    simulated = simulate(built, X, **chosen)
    for name, values in expected.items():
        np.testing.assert_allclose(simulated[name], values, atol=1e-9, err_msg=name)
    out, _ = nn.run(from_nir(built, **chosen), jnp.asarray(X)[None])
    np.testing.assert_allclose(out[0], expected["output"], atol=1e-4)
    assert 0.02 < np.mean(expected["output"] != 0) < 1


CHAIN = [("input", "a"), ("a", "w"), ("w", "b"), ("b", "output")]
GRAPH = {"integration": "exponential", "reset": "zero", "spike": "post"}


@pytest.mark.parametrize(
    ("own", "chosen", "found"),
    [
        ({}, {}, {}),
        ({"reset": "subtract"}, {}, {"reset": "subtract"}),
        ({"spike": "pre"}, {}, {"spike": "pre"}),
        ({"integration": "euler"}, {}, {"integration": "euler"}),
        ({"spike": "pre", "reset": "nir"}, {"spike": "post"}, {"reset": "nir"}),
        ({"reset": "subtract"}, {"reset": "nir"}, {"reset": "nir"}),
        ({"reset": "nir"}, {"integration": "euler"}, {"reset": "nir", "integration": "euler"}),
        ({"reset": "subtract after leak"}, {"reset": "subtract"}, {"reset": "subtract after leak"}),
        ({"reset": "subtract after leak"}, {"reset": "zero"}, {}),
        ({"v_min": -0.1, "reset": "subtract"}, {}, {"v_min": -0.1, "reset": "subtract"}),
    ],
    ids=str,
)
def test_the_caller_then_the_node_then_the_graph(own, chosen, found):
    built = graph({"a": neuron(seed=1, **own), "w": matrix(), "b": neuron("CubaLIF", 2)}, CHAIN, dt=DT, **GRAPH)
    rest = {**GRAPH, **chosen}
    a, b = {**rest, **found}, dict(rest)
    if b["reset"] == "subtract after leak":
        b["reset"] = "subtract"
    assert_runs_as(built, {"a": a, "b": b}, **chosen)


LOOP = [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")]


def delay(*steps):
    return nir.Delay(np.resize(np.array(steps), UNITS) * DT)


@pytest.mark.parametrize("spike", ["post", "pre"])
@pytest.mark.parametrize(
    ("between", "late"),
    [
        (None, True),
        ((0,), True),
        ((1,), False),
        ((2, 0, 1, 3), True),  # one unit does not wait, so the cycle has no time of its own
        ((3, 1, 2, 1), False),
    ],
    ids=str,
)
def test_a_cycle_takes_one_step_unless_it_has_time_of_its_own(between, late, spike):
    """A neuron that answers late, or a delay in which every unit waits, is time; nothing else is added then."""
    nodes, edges = {"a": neuron(seed=1, spike=spike), "w": matrix(1)}, LOOP
    if between is not None:
        nodes["d"] = delay(*between)
        edges = [("input", "a"), ("a", "w"), ("w", "d"), ("d", "a"), ("a", "output")]
    built = graph(nodes, edges, dt=DT)
    closing = [("a", "w")] if late and spike == "post" else []
    assert_runs_as(built, {"a": {"spike": spike}}, closing)


def test_the_last_neuron_of_a_cycle_answers_late():
    nodes = {"a": neuron(seed=1), "b": neuron("LIF", 2), "w": matrix(2), "back": matrix(3)}
    edges = [("input", "a"), ("a", "w"), ("w", "b"), ("b", "back"), ("back", "a"), ("b", "output")]
    assert_runs_as(graph(nodes, edges, dt=DT), {}, [("b", "back")])
    chain = [*edges[:-1], ("a", "output")]
    assert_runs_as(graph({**nodes, "a": neuron(seed=1, spike="pre")}, chain, dt=DT), {"a": {"spike": "pre"}})


@pytest.mark.parametrize("seed", [0, 3, 7, 14, 15])
def test_random_graphs_whose_neurons_differ(seed):
    """Every neuron with a reset and a timing of its own; 14 and 15 delay all units of a node alike."""
    rng = np.random.default_rng(seed)
    dt = float(rng.choice([1e-3, 1e-4, 0.5]))
    built, shape, late = random_graph(rng, 4, dt)
    nodes = [n for name, n in built.nodes.items() if type(n).__name__ in nir_meanings.NEURONS]
    if any(isinstance(n, nir.NIRGraph) for n in built.nodes.values()):
        pytest.skip("a sub-graph")
    for node in nodes:
        node.metadata = {
            "reset": str(rng.choice(["nir", "zero", "subtract"])),
            "spike": str(rng.choice(["pre", "post"])),
        }
    meanings = {name: dict(n.metadata) for name, n in built.nodes.items() if n in nodes and hasattr(n, "v_threshold")}
    late = {edge for edge in late if meanings.get(edge[0], {}).get("spike") != "pre"}
    x = (rng.random((12, *shape)) < 0.5).astype(np.float32)
    expected, got = nir_meanings.run(built, {"input": x}, dt, meanings, late), simulate(built, x, dt)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=1e-9 * (1 + np.abs(values).max()), err_msg=name)
    again = simulate(to_nir(from_nir(built, dt), dt), x)
    for name in built.outputs:
        np.testing.assert_allclose(again[name], expected[name], atol=1e-4 * (1 + np.abs(expected[name]).max()))


def test_a_delay_of_all_units_is_written_and_read_as_that_many_steps(tmp_path):
    seeds = {14: 1, 15: 3}
    for seed, steps in seeds.items():
        rng = np.random.default_rng(seed)
        dt = float(rng.choice([1e-3, 1e-4, 0.5]))
        built, shape, late = random_graph(rng, 4, dt)
        found = [n for n in built.nodes.values() if isinstance(n, nir.Delay) and not np.ptp(n.delay)]
        assert {round(float(n.delay.max()) / dt) for n in found} >= {steps}
        model = from_nir(built, dt)
        assert steps in {edge[2] for edge in model.edges}
        x = (rng.random((12, *shape)) < 0.5).astype(np.float32)
        expected, again = nir_network.run(built, {"input": x}, dt, late), simulate(to_nir(model, dt), x)
        for name, values in expected.items():
            np.testing.assert_allclose(again[name], values, atol=1e-4 * (1 + np.abs(values).max()))


@pytest.mark.parametrize("reset", ["nir", "zero", "subtract"])
def test_several_spikes_count_the_thresholds_that_the_membrane_is_above(reset):
    """Exactly at a multiple, and just beside it: a threshold that is reached is not yet crossed."""
    one = np.ones(UNITS)
    node = nir.IF(one, 0.5 * one, np.array([0.0, 0.0, -0.25, 0.25]))
    x = np.array([0.5, 0.75, 1.0, 1.0625, 1.5, 2.0, 2.25, -1.0, 4.0, 0.5])[:, None] * np.ones(UNITS)
    for v_min in (None, -0.5):
        choice = dict(reset=reset, multi_spike=True, **({} if v_min is None else {"v_min": v_min}))
        expected = nir_meanings.run(graph_of(node), {"input": x}, 1.0, {"n0": choice})
        assert expected["n0"][:4, 0].max() == 2.0
        np.testing.assert_array_equal(simulate(graph_of(node), x, 1.0, **choice)["n0"], expected["n0"])
        out, _ = nn.run(from_nir(graph_of(node), 1.0, **choice), jnp.asarray(x, jnp.float32)[None])
        np.testing.assert_array_equal(out[0], expected["n0"])


@pytest.mark.parametrize("dt", [1e-3, 1e-4, 0.3])
def test_an_input_gain_never_rounds_above_one(dt):
    """Whatever order a reader multiplies in: an input of exactly the threshold must not cross it."""
    units = 3000
    beta = np.random.default_rng(0).uniform(0.0, 1.0, units).astype(np.float32)
    beta[:4] = 0.0, 1.0, 0.5, np.float32(1) - np.float32(2**-24)
    for layer in (nn.LIF(units, beta=beta), nn.CuBaLIF(units, alpha=beta, beta=beta), nn.LI(units, beta=beta)):
        node = to_nir(layer, dt).nodes[f"{type(layer).__name__.lower()}_0"]
        pairs = [(getattr(node, "tau", getattr(node, "tau_mem", None)), node.r)]
        pairs += [(node.tau_syn, node.w_in)] if hasattr(node, "tau_syn") else []
        for tau, gain in pairs:
            for product in (dt / tau * gain, dt * gain / tau):
                assert (product <= 1).all()
                np.testing.assert_allclose(product, 1, rtol=1e-15)
            np.testing.assert_allclose(1 - dt / tau, beta, rtol=1e-6, atol=1e-12)
    naive = (tau / dt) * (dt / tau)
    assert (naive > 1).any()  # the numbers above are such that it matters


@pytest.mark.parametrize("padding", [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_a_pool_whose_padding_was_edited_is_read_by_its_padding(padding):
    """The word "same" beside a node is believed only while its numbers are those of "SAME"."""
    kept = nn.Sequential(nn.Conv(2, 2, (1, 1), rngs=nnx.Rngs(0)), nn.SumPool(3, 1, "SAME"))
    built = to_nir(kept, DT, input_shape=(6, 5, 2))
    node = built.nodes["sumpool_1"]
    before = tuple(np.ravel(node.padding).tolist())
    node.padding = np.array(padding)
    x = np.random.default_rng(0).normal(size=(2, 2, 6, 5)).astype(np.float32)
    map_ = nir_network.node(built.nodes["conv_0"], x[0], {}, DT)
    expected = nir_network.node(node, map_, {}, DT)
    node.output_type = {"output": np.array(expected.shape)}
    built.nodes["output"] = nir.Output({"output": np.array(expected.shape)})
    read = from_nir(built)
    out, _ = nn.run(read, np.moveaxis(x, 1, -1)[None])
    np.testing.assert_allclose(np.moveaxis(np.asarray(out[0, 0]), -1, 0), expected, atol=1e-5)
    assert isinstance(read.nodes["sumpool_1"], nn.SumPool) is (padding == before or not any(padding))
    assert check(built, others=False, steps=3).difference is None
