"""`observe`: outputs and states of every layer, in any container and mode, without changing the network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import experimental, graph, nn, report
from spyx.optimize._diagnose import first_bad_layer

X = 0.8 * jax.random.normal(jax.random.key(0), (2, 9, 3)) + 0.3
MODES = ["auto", "layer", "step"]


def lif(x, beta=0.9):
    """Output and membrane after every step, by hand."""
    v, outs, states = np.zeros_like(x[:, 0]), [], []
    for t in range(x.shape[1]):
        z = (v > 1).astype(x.dtype)
        v = beta * v + x[:, t] - z
        outs.append(z)
        states.append(v)
    return np.stack(outs, 1), np.stack(states, 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_chain_with_a_nested_chain(mode):
    linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    inner = nn.Sequential(nn.LIF(3, beta=0.9), nn.ALIF(3, beta=0.9, gamma=0.5))
    net = nn.Sequential(linear, inner, nn.LI(3, beta=0.5))
    outs, state, seen = nn.observe(net, X, what=("outputs", "state"), mode=mode)
    expected, end = nn.run(net, X, mode=mode)
    np.testing.assert_array_equal(outs, expected)
    assert set(seen) == {"0", "1", "1.0", "1.0.v", "1.1", "1.1.v", "1.1.a", "2", "2.v"}
    np.testing.assert_allclose(seen["0"], linear(X), atol=1e-6)
    spikes, membrane = lif(np.asarray(seen["0"]))
    np.testing.assert_array_equal(seen["1.0"], spikes)
    np.testing.assert_allclose(seen["1.0.v"], membrane, atol=1e-5)
    np.testing.assert_array_equal(seen["1"], seen["1.1"])
    np.testing.assert_allclose(seen["1.1.a"][:, -1], end[1][1].a, atol=1e-6)
    np.testing.assert_allclose(state[2], seen["2.v"][:, -1], atol=1e-6)
    time_major = nn.observe(net, X.swapaxes(0, 1), what="membrane", mode=mode, time_axis=0)[2]
    np.testing.assert_allclose(time_major["2.v"].swapaxes(0, 1), seen["2.v"], atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [("a", "b", "c", "out"), ("out", "c", "b", "a"), ("b", "out", "a", "c")])
def test_a_graph_with_branches_delays_and_feedback(mode, order):
    nodes = {"a": nn.LIF(3, beta=0.9), "b": nn.IF(3), "c": nn.LIF(3, beta=0.5), "out": nn.LI(3, beta=0.8)}
    edges = [("input", "a"), ("input", "b", 2), ("a", "c"), ("b", "c"), ("c", "c", 1), ("c", "out"), ("out", "output")]
    net = graph.Graph({name: nodes[name] for name in order}, edges, merge="sum")
    outs, _, seen = nn.observe(net, X, what=("outputs", "membrane"), mode=mode)
    np.testing.assert_allclose(outs, nn.run(net, X, mode=mode)[0], atol=1e-6)

    a, _ = lif(np.asarray(X))
    delayed = np.concatenate([np.zeros((2, 2, 3), np.float32), np.asarray(X)[:, :-2]], 1)
    b, b_membrane = lif(delayed, 1.0)
    v, c, before = np.zeros((2, 3), np.float32), [], np.zeros((2, 3), np.float32)
    for t in range(9):
        z = (v > 1).astype(np.float32)
        v = 0.5 * v + a[:, t] + b[:, t] + before - z
        before = z
        c.append(z)
    np.testing.assert_array_equal(seen["a"], a)
    np.testing.assert_array_equal(seen["b"], b)
    np.testing.assert_allclose(seen["b.v"], b_membrane, atol=1e-5)
    np.testing.assert_array_equal(seen["c"], np.stack(c, 1))
    np.testing.assert_array_equal(seen["c.v"][:, -1], v)
    assert set(seen) == {n for name in nodes for n in (name, f"{name}.v")}


def test_two_parallel_nodes_are_reported_by_their_names():
    net = graph.Graph(
        {"left": nn.IF(1), "right": nn.IF(1), "out": nn.LI(2, beta=0.5)},
        [("input", "left"), ("input", "right"), ("left", "out"), ("right", "out"), ("out", "output")],
    )
    activities = {a.name: a.rate for a in report.record(net, jnp.full((1, 8, 1), 0.5)).values()}
    assert activities["left IF"] == activities["right IF"] == 0.375


@pytest.mark.parametrize("reverse", [False, True])
def test_the_first_layer_that_is_not_finite_is_named_in_a_graph(reverse):
    nodes = {"good": nn.LI(3, beta=0.5), "bad": lambda x: x / 0.0, "after": nn.LI(3, beta=0.5)}
    nodes = dict(reversed(nodes.items())) if reverse else nodes
    edges = [("input", "good"), ("input", "bad"), ("good", "after"), ("bad", "after"), ("after", "output")]
    net = graph.Graph(nodes, edges, merge="sum")
    if reverse:  # all fail at the same time step: the one that is listed first
        assert first_bad_layer(net, (X,)) == "layer after (LI)"
    else:
        assert first_bad_layer(net, (X,)) == "layer bad (<lambda>)"


def test_layers_of_other_kinds_show_their_state_by_name():
    class Counter:
        def initial_state(self, batch_size):
            return {"count": jnp.zeros((batch_size, 3), jnp.int32)}

        def __call__(self, x, state):
            state = {"count": state["count"] + 1}
            return x, state

    net = nn.Sequential(Counter(), nn.ActivityRegularization(3), experimental.SlidingPSN(3, order=2), nn.LI(3, 0.5))
    for mode in MODES:
        seen = nn.observe(net, X, what="state", mode=mode)[2]
        assert seen["0.count"][0, :, 0].tolist() == list(range(1, 10))
        np.testing.assert_allclose(seen["1.state"], jnp.cumsum(X, 1), atol=1e-5)
        np.testing.assert_allclose(seen["2.state"][:, :, 0], X, atol=1e-6)


def test_what_and_where_choose():
    net = nn.Sequential(nn.LIF(3, beta=0.9), nn.CuBaLIF(3, alpha=0.5, beta=0.9), nn.LI(3, beta=0.5))
    assert set(nn.observe(net, X, what=("current", "spikes"), where=("1", "2"))[2]) == {"1", "1.i", "2"}
    only_neurons_that_spike = nn.observe(net, X, where=lambda path, layer: not isinstance(layer, nn.LI))[2]
    assert set(only_neurons_that_spike) == {"0", "1"}
    assert nn.observe(net, X, what=())[2] == {}
    with pytest.raises(ValueError, match=r"^spyx\.nn\.observe: expected what= and where= to name something"):
        nn.observe(net, X, what="potential")


def test_with_nothing_asked_for_the_program_is_that_of_run():
    net = nn.Sequential(nn.LIF(3, beta=0.9), nn.LI(3, beta=0.5))
    texts = [
        jax.jit(f).lower(X).as_text() for f in (lambda x: nn.run(net, x)[0], lambda x: nn.observe(net, x, what=())[0])
    ]
    assert texts[0].count("stablehlo") == texts[1].count("stablehlo")


def test_gradients_flow_through_what_is_seen():
    net = nn.Sequential(nn.LIF(3, beta=0.9), nn.LI(3, beta=0.5))
    slope = jax.grad(lambda x: nn.observe(net, x, what="membrane")[2]["1.v"].sum())(X)
    expected = jax.grad(lambda x: nn.run(net, x)[0].sum())(X)
    np.testing.assert_allclose(slope, expected, atol=1e-6)
