"""spyx to NIR to spyx: the same parameters bit by bit, the same spikes, also through a file."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import nir_network
from reference.nir_random import random_node
from spyx import nn
from spyx.graph import Graph, residual

nir = pytest.importorskip("nir")
from spyx.nir import check, from_nir, simulate, to_nir, write  # noqa: E402
from spyx.nir._rules.nir_nodes import Pass  # noqa: E402
from spyx.nir._rules.table import RULES  # noqa: E402

DT, WIDTH = 1e-3, 4
KINDS = ("linear", "affine", "IF", "LIF", "CuBaLIF", "LI", "RIF", "RLIF", "RCuBaLIF")
decays = st.one_of(st.none(), st.floats(0, 1, width=32), st.just("units"), st.just("fixed"))


def layer(kind: str, decay, threshold: float, rngs: nnx.Rngs):
    if kind in ("linear", "affine"):
        return nnx.Linear(WIDTH, WIDTH, use_bias=kind == "affine", rngs=rngs)
    value = decay
    if decay == "units":
        value = jnp.asarray(np.random.default_rng(1).random(WIDTH), jnp.float32)
    if decay == "fixed":
        value = nn.Fixed(0.75)
    names = {"IF": (), "RIF": ()}.get(kind, ("alpha", "beta") if "Cu" in kind else ("beta",))
    more = {} if kind == "LI" else {"threshold": threshold}
    if kind.startswith("R"):
        more["recurrent_init"] = nnx.initializers.normal(0.5)
    if kind != "IF":
        more["rngs"] = rngs
    return getattr(nn, kind)(WIDTH, **dict.fromkeys(names, value), **more)


def arrays(model) -> dict[str, np.ndarray]:
    """Parameter by node and name, whatever the container."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(model)):
        words = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        words = [w.rpartition("_")[2] if w[-1].isdigit() else w for w in words]
        found[tuple(w for w in words if w not in ("layers", "nodes", "value"))] = np.asarray(leaf)
    return found


def same_parameters(a, b):
    a, b = arrays(a), arrays(b)
    assert len(a) == len(b)
    for (_, left), (_, right) in zip(sorted(a.items()), sorted(b.items()), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def same_answers(a, b, shape=(WIDTH,), steps=15):
    x = np.random.default_rng(0).normal(0.4, 0.8, (2, steps, *shape)).astype(np.float32)
    left, right = nn.run(a, x)[0], nn.run(b, x)[0]
    jax.tree.map(np.testing.assert_array_equal, left, right)


@settings(max_examples=12, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    decay=decays,
    threshold=st.floats(0.25, 2, width=32),
    seed=st.integers(0, 9),
)
def test_chains(kinds, decay, threshold, seed, tmp_path_factory):
    rngs = nnx.Rngs(seed)
    layers = [layer(kind, decay, threshold, rngs) for kind in kinds]
    own = Graph(
        {f"n{k}": one for k, one in enumerate(layers)},
        [("input", "n0"), *((f"n{k}", f"n{k + 1}") for k in range(len(layers) - 1)), (f"n{len(layers) - 1}", "output")],
    )
    path = tmp_path_factory.mktemp("nir") / "model.nir"
    write(path, to_nir(own, DT))
    nir.read(path)
    back = from_nir(path)
    assert [type(n) for n in back.nodes.values()] == [type(own.nodes[n]) for n in back.nodes]
    same_parameters(own, back)
    same_answers(own, back)


@settings(max_examples=8, deadline=None)
@given(
    delays=st.tuples(*[st.integers(0, 2)] * 3),
    loop=st.integers(1, 3),
    middle=st.sampled_from(["LIF", "LI", "affine"]),
    seed=st.integers(0, 9),
)
def test_branches_cycles_and_delays(delays, loop, middle, seed):
    rngs = nnx.Rngs(seed)
    nodes = {
        "a": layer("affine", None, 1.0, rngs),
        "b": layer(middle, 0.5, 0.5, rngs),
        "back": layer("affine", None, 1.0, rngs),
        "c": layer("CuBaLIF", 0.5, 0.5, rngs),
    }
    edges = [
        ("input", "a", delays[0]),
        ("a", "b"),
        ("b", "back"),
        ("back", "b", loop),
        ("a", "c", delays[1]),
        ("b", "c"),
        ("input", "c", delays[2]),
        ("c", "output"),
        ("b", "other"),
    ]
    own = Graph(nodes, edges, merge="sum", outputs=("output", "other"), input_shape=WIDTH)
    graph = to_nir(own, DT)
    back = from_nir(graph)
    same_answers(own, back)
    x = np.random.default_rng(0).normal(0.4, 0.8, (1, 15, WIDTH)).astype(np.float32)
    answers, reference = nn.run(own, x)[0], simulate(graph, x[0])
    for name in ("output", "other"):
        np.testing.assert_allclose(answers[name][0], reference[name], rtol=1e-4, atol=1e-4)  # an unstable loop grows


def maps(rngs):
    conv = nn.Conv(2, 3, (3, 3), strides=2, padding="VALID", rngs=rngs)
    return {
        "strided": (conv, nn.LIF((4, 4, 3), beta=jnp.linspace(0.1, 0.9, 48).reshape(4, 4, 3), threshold=0.3)),
        "pooled": (conv, nn.SumPool(2, 2, "VALID"), nn.Flatten(), nnx.Linear(12, 4, rngs=rngs), nn.LI(4)),
        "same pool": (conv, nn.SumPool(3, 1, "SAME"), nn.Flatten(), nn.RLIF(48, threshold=0.5, rngs=rngs)),
        "no bias": (nnx.Conv(2, 3, (3, 3), use_bias=False, rngs=rngs), nn.IF((9, 9, 3))),
        "groups": (nn.Conv(2, 4, (3, 1), kernel_dilation=2, feature_group_count=2, rngs=rngs), nn.Flatten()),
    }


@pytest.mark.parametrize("case", ["strided", "pooled", "same pool", "no bias", "groups"])
def test_maps_change_their_axes_and_nothing_else(case, tmp_path):
    own = nn.Sequential(*maps(nnx.Rngs(0))[case])
    graph = to_nir(own, DT, input_shape=(9, 9, 2))
    assert graph.nodes["input"].input_type["input"].tolist() == [2, 9, 9]
    write(tmp_path / "model.nir", graph)
    back = from_nir(tmp_path / "model.nir")
    same_parameters(own, back)
    same_answers(own, back, (9, 9, 2))
    assert check(graph, others=False, steps=20).difference is None


def test_one_axis_of_space():
    own = nn.Sequential(nnx.Conv(2, 3, (3,), rngs=nnx.Rngs(0)), nn.LIF((7, 3), beta=0.5, threshold=0.3))
    graph = to_nir(own, DT, input_shape=(7, 2))
    assert type(graph.nodes["conv_0"]) is nir.Conv1d
    same_answers(own, from_nir(graph), (7, 2))
    assert check(graph, others=False, steps=20).difference is None


def test_containers_inside_containers():
    rngs = nnx.Rngs(0)
    inner = nn.Sequential(nnx.Linear(WIDTH, WIDTH, rngs=rngs), nn.LIF(WIDTH, beta=0.5, threshold=0.2))
    own = nn.Sequential(inner, residual(nn.Sequential(nnx.Linear(WIDTH, WIDTH, rngs=rngs)), delay=1), nn.LI(WIDTH))
    graph = to_nir(own, DT)
    same_answers(own, from_nir(graph))
    assert check(graph, others=False).difference is None


def test_a_graph_read_and_written_again_is_the_same():
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 2, (7, 3)).astype(np.float32)
    node = nir.CubaLIF(*values[:6], w_in=values[6])
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    graph = nir.NIRGraph({**ends, "n": node}, [("input", "n"), ("n", "output")], type_check=False)
    again = to_nir(from_nir(graph, 0.1, integration="exponential", reset="subtract"), 0.1)
    for name in ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"):
        np.testing.assert_array_equal(getattr(again.nodes["n"], name), getattr(node, name))
    assert (again.metadata["integration"], again.metadata["reset"]) == ("exponential", "subtract")


NODES = {
    (4,): ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Scale", "Threshold", "Delay"),
    (2, 6, 5): ("SumPool2d", "AvgPool2d", "Flatten", "Conv2d"),
    (3, 5): ("Conv1d",),
}


CASES = [(kind, shape) for shape, kinds in NODES.items() for kind in kinds]


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_every_node_is_written_as_it_was_read(kind, shape, tmp_path):
    first = from_nir(graph_around(kind, shape), DT)
    write(tmp_path / "model.nir", to_nir(first, DT))
    second = from_nir(tmp_path / "model.nir")
    same_parameters(first, second)
    if kind in ("LIF", "Delay", "AvgPool2d", "Flatten"):
        last = (*shape[1:], shape[0]) if "2d" in kind else shape
        same_answers(first, second, last)


def graph_around(kind, shape):
    rng = np.random.default_rng(2)
    node = random_node(rng, kind, shape, DT)
    if kind == "Flatten":
        node = nir.Flatten({"input": np.array(shape)}, 1, 2)
    if kind.endswith("Pool2d"):
        node = getattr(nir, kind)(np.array([3, 2]), np.array([2, 1]), np.array([1, 0]))
    answer = nir_network.node(node, np.zeros(shape), {}, DT).shape
    ends = {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array(answer)})}
    return nir.NIRGraph({**ends, "n": node}, [("input", "n"), ("n", "output")], type_check=False)


def test_every_layer_that_can_be_written_is_tried_here():
    own = [nn.IF, nn.LIF, nn.LI, nn.CuBaLIF, nn.RIF, nn.RLIF, nn.RCuBaLIF, nn.SumPool, nn.Flatten, nn.Conv, nnx.Conv]
    read = {
        type(from_nir(graph_around(kind, shape), DT).nodes["n"]) for shape, kinds in NODES.items() for kind in kinds
    }
    written = {rule.layer for rule in RULES if rule.layer is not None and rule.save is not None}
    assert written - read - {*own, nnx.Linear, nn.Linear} == {Pass}  # an edge takes its place


def test_what_a_chip_does_survives_the_way_back(tmp_path):
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([3])})}
    node = nir.IF(np.ones(3), np.ones(3), np.zeros(3))
    graph = nir.NIRGraph({**ends, "n": node}, [("input", "n"), ("n", "output")], type_check=False)
    speck = from_nir(graph, 1.0, reset="subtract", multi_spike=True, v_min=-1.0)
    write(tmp_path / "speck.nir", to_nir(speck, 1.0))
    back = from_nir(tmp_path / "speck.nir")
    same_answers(speck, back, (3,))
    x = np.array([[[3.5, -5.0, 1.0]]], np.float32)
    out, state = nn.run(back, x)
    assert out.tolist() == [[[3.0, 0.0, 0.0]]]
    assert state.nodes["n"].tolist() == [[0.5, -1.0, 1.0]]


def test_an_edited_file_is_read_by_its_equations():
    graph = to_nir(nn.Sequential(nn.LIF(WIDTH, beta=0.5)), DT)
    graph.nodes["lif_0"].tau = graph.nodes["lif_0"].tau * 2
    back = from_nir(graph)
    assert type(back.nodes["lif_0"]).__name__ == "NIRLIF"
    assert check(graph, others=False).difference is None


def test_merges_that_nir_does_not_have_are_refused():
    net = Graph(
        {"a": nn.IF(2), "b": nn.IF(2), "c": nn.IF(4)},
        [
            ("input", "a"),
            ("input", "b"),
            ("a", "c"),
            ("b", "c"),
            ("c", "output"),
        ],
    )
    with pytest.raises(ValueError, match=r"node 'c': merges a, b by 'concatenate', but NIR adds what meets"):
        to_nir(net, DT)


def test_both_linear_layers_are_written_alike():
    nodes = []
    for kind in (nnx.Linear, nn.Linear):
        graph_of = to_nir(nn.Sequential(kind(3, 2, rngs=nnx.Rngs(0)), nn.LIF(2, beta=0.5)), DT)
        nodes.append(next(node for node in graph_of.nodes.values() if isinstance(node, nir.Affine)))
    np.testing.assert_array_equal(nodes[0].weight, nodes[1].weight)
