"""Nodes outside every cycle run over all of time, cycles are stepped, and nobody can tell the difference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.networks import BATCH, STEPS, WIDTH, layer, linear, plain_loop, spikes
from spyx import graph, nn


@st.composite
def random_graphs(draw):
    kinds = draw(st.lists(st.sampled_from(["linear", "lif", "li", "tanh"]), min_size=2, max_size=5))
    names = [f"n{i}" for i in range(len(kinds))]
    edges = set()
    for i, name in enumerate(names):
        for source in draw(st.lists(st.sampled_from(["input", *names[:i]]), min_size=1, max_size=2, unique=True)):
            edges.add((source, name, draw(st.integers(0, 2))))
        for target in draw(st.lists(st.sampled_from(names[: i + 1]), max_size=2, unique=True)):
            edges.add((name, target, draw(st.integers(1, 3))))
    for source in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        edges.add((source, "output", draw(st.integers(0, 2))))
    nodes = {name: layer(kind, seed) for seed, (name, kind) in enumerate(zip(names, kinds, strict=True))}
    if not any(source == "input" for source, _, _ in edges):
        edges.add(("input", "n0", 0))
    return graph.Graph(nodes, sorted(edges), merge=draw(st.sampled_from(["sum", "mean"])))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(net=random_graphs(), seed=st.integers(0, 99))
def test_random_graphs_run_as_the_plain_loop_does_with_the_same_gradients(net, seed):
    x = spikes(seed)
    graphdef, weights, rest = nnx.split(net, nnx.Param, ...)

    def loss(weights, x, mode):
        outs, state = nn.run(nnx.merge(graphdef, weights, rest), x, mode=mode)
        return jnp.sum(jnp.sin(outs)), (outs, state)

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    answers = [gradient(weights, x, mode) for mode in ("auto", "step")]
    assert jax.tree.structure(answers[0]) == jax.tree.structure(answers[1])
    for ours, stepped in zip(*map(jax.tree.leaves, answers), strict=True):
        np.testing.assert_allclose(ours, stepped, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers[0][0][1][0], plain_loop(net, x), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def tangled():
    """Skip, branch, feedback, lateral and self connections, delays inside and outside of the cycle."""
    nodes = {name: layer(kind, seed) for seed, (name, kind) in enumerate(
        [("fc", "linear"), ("a", "lif"), ("b", "lif"), ("back", "linear"), ("readout", "li")]
    )}  # fmt: skip
    edges = [("input", "fc"), ("fc", "a"), ("a", "a", 1), ("a", "b"), ("fc", "b", 2), ("b", "back", 3), ("back", "a")]
    edges += [("b", "readout"), ("input", "readout", 1), ("readout", "output")]
    return graph.Graph(nodes, edges, merge="sum")


def test_only_the_cycle_is_stepped(tangled):
    choices = nn.explain(tangled, spikes())
    assert [(choice.layer, choice.mode) for choice in choices] == [
        ("Linear", "layer"),
        ("Cycle", "step"),
        ("LI", "layer"),
    ]
    assert "back, a, b" in choices[1].why


@pytest.mark.parametrize("cut", [1, 4])
def test_chunks_with_carried_state_equal_the_whole(tangled, cut):
    x = spikes()
    whole, end = nn.run(tangled, x)
    first, state = nn.run(tangled, x[:, :cut])
    second, state = nn.run(tangled, x[:, cut:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_one_step_at_a_time_equals_the_whole(tangled):
    x = spikes()
    whole, end = nn.run(tangled, x)
    state = tangled.state_for(x[:, 0])
    step = jax.jit(lambda x, s: tangled(x, s))
    for t in range(STEPS):
        out, state = step(x[:, t], state)
        np.testing.assert_allclose(out, whole[:, t], atol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(end)


def test_no_time_and_no_samples(tangled):
    x = spikes()
    state = tangled.state_for(x[:, 0])
    outs, after = nn.run(tangled, x[:, :0], state)
    assert outs.shape == (BATCH, 0, WIDTH)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True))
    assert nn.run(tangled, x[:0])[0].shape == (0, STEPS, WIDTH)


def test_a_delay_is_a_shift_in_time():
    net = graph.Graph({"same": lambda x: x}, [("input", "same", 2), ("same", "output", 1)])
    x = spikes()
    out, _ = nn.run(net, x)
    np.testing.assert_array_equal(out[:, 3:], x[:, :-3])
    np.testing.assert_array_equal(out[:, :3], 0)


def test_two_delays_between_the_same_nodes_are_two_edges():
    net = graph.Graph(
        {"same": lambda x: x}, [("input", "same"), ("same", "output"), ("same", "output", 2)], merge="sum"
    )
    x = spikes()
    np.testing.assert_allclose(nn.run(net, x)[0][:, 2:], x[:, 2:] + x[:, :-2], atol=1e-6)


def test_several_inputs_and_outputs_by_name():
    nodes = {"left fc": linear(0), "right fc": linear(1, 2), "lif": layer("lif", 0), "readout": layer("li", 0)}
    edges = [("left", "left fc"), ("right", "right fc"), ("left fc", "lif"), ("right fc", "lif")]
    edges += [("lif", "spikes"), ("lif", "readout"), ("readout", "trace")]
    net = graph.Graph(nodes, edges, merge="sum", inputs=("left", "right"), outputs=("spikes", "trace"))
    x = {"left": spikes(), "right": spikes(1, (BATCH, STEPS, 2))}
    out, _ = nn.run(net, x)
    assert {name: signal.shape for name, signal in out.items()} == {
        "spikes": (BATCH, STEPS, WIDTH),
        "trace": (BATCH, STEPS, WIDTH),
    }
    current = net.nodes["left fc"](x["left"]) + net.nodes["right fc"](x["right"])
    np.testing.assert_allclose(out["spikes"], nn.run(layer("lif", 0), current)[0], atol=1e-6)
    with pytest.raises(ValueError, match="expected a dict with the inputs left, right; got one array"):
        nn.run(net, x["left"])


@pytest.mark.parametrize(
    ("how", "expected"), [("concatenate", (4, 6)), ("sum", (4, 3)), ("mean", (4, 3)), ("list", [(4, 3), (4, 3)])]
)
def test_merges(how, expected):
    seen = []

    def spy(x):
        seen.append([a.shape for a in x] if isinstance(x, list) else x.shape)
        return x[0] if isinstance(x, list) else x

    net = graph.Graph({"spy": spy}, [("input", "spy"), ("input", "spy", 1), ("spy", "output")], merge={"spy": how})
    net(jnp.ones((4, 3)), net.state_for(jnp.ones((4, 3))))
    assert seen[-1] == expected


def test_a_layer_may_name_its_own_merge():
    def first(signals):
        return signals[0]

    first.merge = "list"
    net = graph.Graph({"first": first}, [("input", "first"), ("input", "first", 1), ("first", "output")])
    np.testing.assert_array_equal(nn.run(net, spikes())[0], spikes())


def test_spikes_as_bytes_merge_with_currents_and_do_not_overflow():
    many = graph.Graph(
        {"sum": lambda x: x, "fc": linear(0)},
        [("input", "fc"), ("fc", "output"), ("input", "sum"), ("input", "sum", 1), ("sum", "output")],
        merge="sum",
    )
    x = jnp.full((BATCH, STEPS, WIDTH), 200, jnp.uint8)
    out, state = nn.run(many, x)
    assert state.past["input"].past.dtype == jnp.float32  # what comes next may be no bytes
    expected = many.nodes["fc"](jnp.full((BATCH, WIDTH), 200.0)) + 400
    np.testing.assert_allclose(out[:, -1], expected, rtol=1e-6)


def test_what_a_module_changes_on_itself_survives_a_cycle():
    norm = nnx.BatchNorm(WIDTH, momentum=0.5, rngs=nnx.Rngs(0))
    net = graph.Graph(
        {"norm": norm, "lif": layer("lif", 0)},
        [("input", "norm"), ("norm", "lif"), ("lif", "norm", 1), ("lif", "output")],
        merge="sum",
    )
    before = np.asarray(norm.mean[...])
    nn.explain(net, spikes())
    np.testing.assert_array_equal(norm.mean[...], before)
    nn.run(net, spikes())
    assert not np.allclose(norm.mean[...], before)


def test_graphs_nest_and_sit_in_sequential():
    inner = graph.residual(layer("lif", 0), delay=1)
    net = nn.Sequential(linear(0), graph.Graph({"inner": inner}, [("input", "inner"), ("inner", "output", 1)]))
    x = spikes()
    a, state = nn.run(net, x)
    b, _ = nn.run(net, x, mode="step")
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert state[1].nodes["inner"].past["input"].past.shape == (BATCH, 1, WIDTH)


def test_children_pair_layers_with_their_states():
    net = graph.feed_forward(linear(0), layer("lif", 0))
    state = net.initial_state(BATCH)
    assert [s for _, s in net.children(state)][0] is None
    assert net.children(state)[1][1].shape == (BATCH, WIDTH)
