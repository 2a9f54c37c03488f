"""What a graph refuses, and that it says everything at once."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from graph.networks import BATCH, STEPS, WIDTH, layer, linear, spikes
from spyx import graph, nn


def test_every_problem_is_in_one_error():
    nodes = {"a": jnp.tanh, "b": nn.LI(3), "c": nn.LI(4), "d": jnp.sin, "lost": jnp.cos, "fc": linear(0, 5, 4)}
    edges = [("input", "a"), ("a", "b"), ("b", "a"), ("b", "d"), ("c", "d"), ("input", "c"), ("typo", "d")]
    edges += [("lost", "lost", 1), ("d", "output"), ("a",), ("a", "d", -1), ("fc", "input"), ("input", "fc")]
    with pytest.raises(
        ValueError, match=r"^spyx\.graph\.Graph: expected a graph that can run; got \d+ problems"
    ) as error:
        graph.Graph(nodes, edges, merge={"d": "sum", "nobody": "mean", "c": "product"})
    for words in [
        "the cycle through a, b has no delay: give one of its edges a delay of at least 1",
        "edge ('typo', 'd'): unknown node 'typo'",
        "node 'lost' is unreachable",
        "inputs of 'd' (b, c): shapes (batch, 3) and (batch, 4) cannot merge by sum",
        "edge ('a',): write (source, target)",
        "edge ('a', 'd', -1): a delay is a whole number of time steps",
        "edge ('fc', 'input'): 'input' is an input",
        "merge of 'nobody': there is no such node",
        "merge 'product': the merges are concatenate, sum, mean, list",
    ]:
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([("input", "a"), ("a", "a"), ("a", "output")], "the cycle through a has no delay"),
        ([("input", "a")], "output 'output' is unreachable"),
        ([("a", "a", 1), ("a", "output")], "node 'a' is unreachable"),
        ([("a", "output"), ("a", "a", 1)], "input 'input' leads nowhere"),
        ([("input", "a"), ("input", "a"), ("a", "output")], "edge ('input', 'a') is there twice"),
        ([("input", "a"), ("a", "outputs")], "did you mean 'output'?"),
        ([("input", "a"), ("a", "output"), ("output", "a", 1)], "'output' is an output, nothing can start"),
        ([("input", "a", True), ("a", "output")], "a delay is a whole number"),
        (["ia", ("a", "output")], "edge 'ia': write (source, target)"),
    ],
)
def test_structure(edges, words):
    with pytest.raises(ValueError) as error:
        graph.Graph({"a": jnp.tanh}, edges)
    assert words in str(error.value)


def test_widths_that_no_input_can_mend_are_seen_at_construction():
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    with pytest.raises(
        ValueError, match=r"inputs of 'output' \(a, b\): shapes \(..., 3\) and \(..., 5\) cannot merge by sum"
    ):
        graph.Graph({"a": linear(0, 4, 3), "b": linear(0, 4, 5)}, edges, merge="sum")
    assert graph.Graph({"a": linear(0, 4, 3), "b": linear(0, 4, 5)}, edges).merges["output"] == "concatenate"


def test_an_input_shape_is_checked_through_the_whole_graph():
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "out"), ("out", "output")]
    nodes = {"fc": linear(0), "lif": nn.LIF(4, beta=0.9), "out": nn.LI(6)}
    with pytest.raises(ValueError, match=r"node 'fc' cannot take input of shape \(batch, 2\)") as error:
        graph.Graph(nodes, edges, input_shape=2)
    assert "node 'out' cannot take input of shape (batch, 4)" in str(error.value)


def test_a_run_lists_what_does_not_fit():
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    net = graph.Graph({"a": lambda x: x[:, :1], "b": linear(0)}, edges, merge="mean")
    with pytest.raises(ValueError, match="got 2 problems") as error:
        nn.run(net, spikes(0, (BATCH, STEPS, 5)))
    assert "node 'b' cannot take input of shape (batch, 5)" in str(error.value)
    assert "inputs of 'output' (a, b): shapes (batch, 1) and (batch, 3) cannot merge by mean" in str(error.value)


def test_a_width_that_grows_around_a_cycle_is_not_a_shape():
    edges = [("input", "a"), ("a", "a", 1), ("a", "output")]
    net = graph.Graph({"a": jnp.tanh}, edges)
    with pytest.raises(ValueError, match="the shapes around a grow from step to step"):
        nn.run(net, spikes())


def test_a_concatenating_cycle_settles_on_the_width_of_its_layer():
    edges = [("input", "fc"), ("fc", "act"), ("act", "fc", 2), ("act", "output")]
    net = graph.Graph({"fc": linear(0, WIDTH + 4, 4), "act": jnp.tanh}, edges)
    assert nn.run(net, spikes())[0].shape == (BATCH, STEPS, 4)


def test_initial_state_needs_to_know_the_shape_of_what_is_delayed():
    late = [("input", "a", 1), ("a", "output")]
    with pytest.raises(
        ValueError, match=r"Graph\.initial_state: .*got no shape for input\. Construct with input_shape="
    ):
        graph.Graph({"a": jnp.tanh}, late).initial_state(2)
    assert graph.Graph({"a": jnp.tanh}, late, input_shape=(4, 5)).initial_state(2).past["input"].past.shape == (
        2,
        1,
        4,
        5,
    )
    assert graph.Graph({"a": layer("lif", 0)}, late).initial_state(2).past["input"].past.shape == (2, 1, WIDTH)


def test_a_state_of_another_graph_or_input_is_refused():
    net = graph.Graph({"a": jnp.tanh}, [("input", "a", 2), ("a", "output")])
    with pytest.raises(ValueError, match="expected this graph's GraphState, with the nodes a; got list"):
        net(jnp.ones((2, 3)), [None])
    with pytest.raises(ValueError, match=r"state made for signals of shape \(2, 3\); got \(4, 3\)"):
        nn.run(net, jnp.ones((4, 5, 3)), net.state_for(jnp.ones((2, 3))))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (dict(nodes=[jnp.tanh]), TypeError, "expected a dict of name to layer; got list"),
        (dict(nodes={}), ValueError, "expected at least one node"),
        (dict(nodes={0: jnp.tanh}), TypeError, "expected names as keys; got 0"),
        (dict(nodes={"a": 3}), TypeError, r"nodes\['a'\]\): expected a layer or a function; got int"),
        (dict(nodes={"a": nn.LI}), TypeError, "got the class LI. Make an instance"),
        (dict(nodes={"input": jnp.tanh}), ValueError, "the name is reserved"),
        (dict(merge=sum), TypeError, "A merge of your own is a node with merge 'list'"),
        (dict(inputs=()), ValueError, r"Graph\(inputs=\): expected different names; got \(\)"),
        (dict(outputs=("a", "a")), ValueError, r"Graph\(outputs=\): expected different names"),
        (dict(inputs="both", outputs="both"), ValueError, "'both' is both an input and an output"),
        (dict(input_shape=(0,)), ValueError, r"Graph\(input_shape=\): expected the sizes of one sample"),
    ],
)
def test_arguments(arguments, kind, words):
    usual = dict(nodes={"a": jnp.tanh}, edges=[("input", "a"), ("a", "output")])
    with pytest.raises(kind, match=words):
        graph.Graph(**{**usual, **arguments})
