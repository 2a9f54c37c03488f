"""Corners of a graph: rings that go round, spikes as integers, orders against brute force, what a structure says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graph.networks import BATCH, STEPS, WIDTH, layer, linear, spikes
from spyx import graph, nn
from spyx.graph._layout import layout
from spyx.graph._schedule import Edge, components, first_cycle, instant_cycles, reachable, strongly_connected


def same(x):
    return x


@pytest.mark.parametrize(("delays", "cuts"), [((3, 1), (1, 3)), ((2, 5), (2, 4)), ((1, 1), (7, 0))])
def test_a_ring_goes_round_wherever_time_is_cut(delays, cuts):
    """Two delays of one source, whichever comes first: the longer one decides what is kept."""
    names = ("a", "b")
    edges = [("input", name, delay) for name, delay in zip(names, delays, strict=True)]
    net = graph.Graph(dict.fromkeys(names, same), [*edges, ("a", "output"), ("b", "output")], merge="concatenate")
    x = np.asarray(spikes(0, (BATCH, 11, WIDTH)))
    late = [np.concatenate([np.zeros((BATCH, d, WIDTH)), x], 1)[:, :11] for d in delays]
    state, outs, first = net.state_for(jnp.asarray(x[:, 0])), [], 0
    for length in (*cuts, 11 - sum(cuts)):
        out, state = nn.run(net, jnp.asarray(x[:, first : first + length]), state)
        outs.append(out)
        first += length
    np.testing.assert_array_equal(np.concatenate(outs, 1), np.concatenate(late, -1))
    stepped, end = nn.run(net, jnp.asarray(x), mode="step")
    np.testing.assert_array_equal(stepped, np.concatenate(late, -1))
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(end), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert state.past["input"].past.shape == (BATCH, max(delays), WIDTH)


@pytest.mark.parametrize(("how", "expected"), [("sum", [200, 400, 600, 600]), ("mean", [200 / 3, 400 / 3, 200, 200])])
def test_spikes_that_travel_as_integers_do_not_overflow(how, expected):
    """Three of them: a mean is over all, and 400 does not fit into what they came in."""
    edges = [("input", "a"), ("input", "a", 1), ("input", "a", 2), ("a", "output")]
    net = graph.Graph({"a": same}, edges, merge=how)
    out, _ = nn.run(net, jnp.full((1, 4, 1), 200, jnp.uint8))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out[0, :, 0], expected, rtol=1e-6)
    truths, _ = nn.run(net, jnp.ones((1, 4, 1), bool))
    np.testing.assert_allclose(truths, out / 200, rtol=1e-6)


def test_integers_join_the_floats_they_meet():
    nodes = {"spike": lambda x: (x > 0).astype(jnp.uint8), "half": lambda x: 0.5 * x}
    edges = [e for n in nodes for e in (("input", n), (n, "output"))]
    for how, expected in (("sum", [2.0, -0.5]), ("concatenate", [1.0, 0.0, 1.0, -0.5])):
        out, _ = nn.run(graph.Graph(nodes, edges, merge=how), jnp.array([[[2.0, -1.0]]]))
        assert out[0, 0].tolist() == expected


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_half_precision_goes_around_a_cycle(dtype):
    """In its own dtype, or in that of what comes before the cycle."""
    nodes = {"cast": lambda x: x.astype(dtype), "a": nn.LIF(WIDTH, beta=0.9), "b": nn.LIF(WIDTH, beta=0.8)}
    edges = [("input", "cast"), ("cast", "a"), ("b", "a", 1), ("a", "b"), ("b", "output")]
    net = graph.Graph(nodes, edges, merge="sum")
    x = spikes().astype(jnp.bfloat16)
    found, _ = nn.run(net, x)
    assert found.dtype == dtype
    nodes["cast"] = lambda x: x
    expected, _ = nn.run(graph.Graph(nodes, edges, merge="sum"), x.astype(jnp.float32))
    np.testing.assert_array_equal(found.astype(jnp.float32), expected)


def test_numbers_without_features_do_not_concatenate():
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    net = graph.Graph({"a": lambda x: x.sum(-1), "b": lambda x: x.max(-1)}, edges)
    with pytest.raises(ValueError, match=r"shapes \(batch\) and \(batch\) cannot merge by concatenate"):
        net(jnp.ones((2, 3)), net.initial_state(2))


def brute_force(names, edges):
    """Groups of nodes that reach one another, by the powers of the adjacency matrix."""
    reach = np.eye(len(names), dtype=bool)
    place = {name: k for k, name in enumerate(names)}
    for edge in edges:
        reach[place[edge.source], place[edge.target]] = True
    for k in range(len(names)):
        reach |= reach[:, [k]] & reach[[k]]
    return place, reach


@pytest.mark.parametrize("seed", range(40))
def test_components_are_those_of_brute_force_in_an_order_that_runs(seed):
    rng = np.random.default_rng(seed)
    names = [f"n{k}" for k in rng.permutation(7)]
    pairs = {(str(a), str(b)) for a, b in rng.choice(names, (rng.integers(3, 16), 2))}
    edges = [Edge(a, b, int(rng.integers(0, 3))) for a, b in sorted(pairs)]
    place, reach = brute_force(names, edges)
    groups = {frozenset(m for m in names if reach[place[n], place[m]] and reach[place[m], place[n]]) for n in names}
    found = strongly_connected(names, edges)
    assert {frozenset(group) for group in found} == groups
    order = {name: k for k, group in enumerate(found) for name in group}
    assert all(order[e.source] <= order[e.target] for e in edges)
    assert reachable([names[0]], edges) == {m for m in names if reach[place[names[0]], place[m]]}

    instant = [e for e in edges if not e.delay]
    place, reach = brute_force(names, instant)
    loops = {e.source for e in instant if e.source == e.target}
    cyclic = {frozenset(m for m in names if reach[place[n], place[m]] and reach[place[m], place[n]]) for n in names}
    assert {frozenset(c) for c in instant_cycles(names, edges)} == {c for c in cyclic if len(c) > 1 or c & loops}
    ring = first_cycle(names[:1], [edge for edge in edges if not edge.delay])
    assert bool(ring) == bool(instant_cycles(names, edges))
    pairs = {edge[:2] for edge in edges if not edge.delay}
    assert pairs.issuperset(zip(ring, [*ring[1:], *ring[:1]], strict=True))
    if not instant_cycles(names, edges):
        listed = components(names, edges)
        assert [c.cyclic for c in listed] == [
            len(c.members) > 1 or any(e.source == e.target == c.members[0] for e in edges) for c in listed
        ]
        step = {name: k for k, name in enumerate(n for c in listed for n in c.members)}
        assert all(step[e.source] < step[e.target] for e in instant)


def test_a_loop_needs_a_delay_even_around_one_node():
    with pytest.raises(ValueError, match="the cycle through a has no delay"):
        graph.Graph({"a": same}, [("input", "a"), ("a", "a"), ("a", "output")], merge="sum")
    for delay in (-1, True, 1.0):
        with pytest.raises(ValueError, match="a delay is a whole number of time steps, 0 or more"):
            graph.Graph({"a": same}, [("input", "a"), ("a", "output", delay)])


def test_a_layer_names_its_own_merge_unless_the_graph_does():
    def first(x):
        return x[0] if isinstance(x, list) else x

    first.merge = "list"
    edges = [("input", "a"), ("input", "a", 1), ("a", "output")]
    assert graph.Graph({"a": first}, edges).merges["a"] == "list"
    assert graph.Graph({"a": first}, edges, merge="sum").merges == {"a": "list", "output": "sum"}
    assert graph.Graph({"a": first}, edges, merge={"a": "sum"}).merges["a"] == "sum"
    struct = graph.GraphStructure(2, ((0,), (0,)), ((), (0,)), merge="sum")
    assert [struct.merge_of(1, one) for one in (None, same, first)] == ["sum", "sum", "list"]
    told = graph.GraphStructure(2, ((0,), (0,)), ((), (0,)), merge={1: "mean"})
    assert [told.merge_of(k, first) for k in (0, 1)] == ["list", "mean"]


def test_feedback_is_to_a_layer_itself_or_to_an_earlier_one():
    struct = graph.GraphStructure(3, ((0,), (), (1,)), ((0, 2), (0, 1), (1,)))
    assert struct.feedback == ((0, 0), (2, 0), (1, 1))
    assert struct.num_inputs == 2
    chain = graph.GraphStructure(2, ((0,), ()), ((0,), (0,)), merge="sum")
    out, state = nn.run(graph.StatefulModel(chain, [same, lambda x: 2 * x]), jnp.ones((1, 4, 1)))
    assert out[0, :, 0].tolist() == [2.0, 4.0, 6.0, 8.0]  # the first layer sums up its input
    assert {j: kept.tolist() for j, kept in state.outputs.items()} == {0: [[4.0]]}


@pytest.mark.parametrize(("shape", "stride"), [((5, 4, 2), 2), ((4, 5, 3), 1)])
def test_the_shortcut_of_a_resnet_block_meets_the_second_neuron_a_step_late(shape, stride):
    block = graph.spiking_resnet_block(shape, 3, stride=stride, rngs=nnx.Rngs(0))
    (last,) = (e for e in block.edges if e[1] == "spike2" and e[0] != "norm2")
    assert last == (("norm", "spike2", 1) if stride == 2 else ("input", "spike2", 1))
    assert block.merges["spike2"] == "sum"
    expected = (-(-shape[0] // stride), -(-shape[1] // stride), 3)
    assert block.nodes["spike1"].hidden_shape == block.nodes["spike2"].hidden_shape == expected
    assert [n.kernel_size for n in (block.nodes["conv1"], block.nodes["conv2"])] == [(3, 3), (3, 3)]


@pytest.mark.parametrize("delay", [0, 2])
def test_a_shortcut_waits_with_a_layer_on_it_or_without(delay):
    x = np.asarray(spikes())
    late = np.concatenate([np.zeros((BATCH, delay, WIDTH)), x], 1)[:, :STEPS]
    for shortcut, scale in ((None, 1.0), (lambda x: 3 * x, 3.0)):
        block = graph.residual(lambda x: 0.5 * x, shortcut=shortcut, delay=delay)
        np.testing.assert_allclose(nn.run(block, jnp.asarray(x))[0], 0.5 * x + scale * late, atol=1e-5)


def test_what_is_made_for_a_state_teaches_no_batchnorm():
    norm = nnx.BatchNorm(WIDTH, rngs=nnx.Rngs(0))
    struct = graph.GraphStructure(2, ((0,), ()), ((1,), (0,)))
    model = graph.StatefulModel(struct, [linear(0, 2 * WIDTH), norm])
    model.state_for(jnp.ones((BATCH, WIDTH)))
    graph.init_states([linear(0, 2 * WIDTH), norm], struct, BATCH, (WIDTH,))
    assert norm.mean[...].tolist() == [0.0] * WIDTH
    assert norm.var[...].tolist() == [1.0] * WIDTH


def test_loops_that_overlap_have_lanes_of_their_own_and_others_share():
    names = ["a", "b", "c", "d"]
    path = list(zip(["input", *names], [*names, "output"], strict=True))
    back = [("b", "a", 1), ("d", "c", 1), ("c", "a", 1), ("d", "a", 2)]
    net = graph.Graph({n: layer("tanh", 0) for n in names}, [*path, *back], merge="sum")
    where = layout(net._plan)
    lanes = {tuple(edge[:2]): lane for edge, lane in where.lanes.items()}
    assert lanes == {("b", "a"): 0, ("d", "c"): 0, ("c", "a"): 1, ("d", "a"): 2}
    assert [where.boxes[n][0] for n in ("input", *names, "output")] == [0, 1, 2, 3, 4, 5]


def test_a_long_chain_goes_on_below_and_never_inside_a_loop():
    def bands(count, back=()):
        names = [f"n{k}" for k in range(count)]
        path = list(zip(["input", *names], [*names, "output"], strict=True))
        net = graph.Graph({n: layer("tanh", 0) for n in names}, [*path, *back], merge="sum")
        return layout(net._plan).bands, net

    assert bands(6)[0] == (0,)
    assert bands(7)[0] == (0, 5)
    assert bands(7, [("n6", "n0", 1)])[0] == (0,)  # the loop joins columns 1 to 7: only the input could stand alone
    assert bands(14)[0] == (0, 8)
    starts, net = bands(14, [("n8", "n5", 1), ("n0", "n9")])
    assert starts == (0, 6, 12)
    figure = net.draw()
    boxes = [patch.get_bbox() for patch in figure.axes[0].patches if type(patch).__name__ == "FancyBboxPatch"]
    assert len(boxes) == 16
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert len({round(box.y0, 3) for box in boxes}) >= len(starts)
    assert figure.get_size_inches()[0] < 25


def test_a_width_is_guessed_from_a_layer_that_sees_the_input_alone():
    """Of a layer whose input is merged, the width says nothing about one of the parts."""
    nodes = {"a": linear(0, 2 * WIDTH, WIDTH)}
    alone = graph.Graph(nodes, [("input", "a", 1), ("a", "output")])
    assert alone.initial_state(BATCH).past["input"].past.shape == (BATCH, 1, 2 * WIDTH)
    merged = graph.Graph(nodes, [("input", "a"), ("a", "a", 1), ("a", "output")])
    with pytest.raises(ValueError, match="got no shape for a"):
        merged.initial_state(BATCH)
    assert merged.state_for(jnp.ones((1, WIDTH))).past["a"].past.shape == (1, 1, WIDTH)


def test_a_chain_fed_back_into_itself_takes_what_its_first_layer_takes():
    """Its input is known in part until its output is."""
    chains = {
        "product": nn.Sequential(nn.Sequential(linear(0, 2 * WIDTH, WIDTH)), nn.LIF(WIDTH, beta=0.9)),
        "neuron": nn.Sequential(nn.LIF(2 * WIDTH, beta=0.9), linear(0, 2 * WIDTH, WIDTH)),
    }
    for chain in chains.values():
        net = graph.Graph({"a": chain}, [("input", "a"), ("a", "a", 1), ("a", "output")], input_shape=WIDTH)
        x = jnp.ones((BATCH, 3, WIDTH))
        out, state = nn.run(net, x)
        assert out.shape == (BATCH, 3, WIDTH)
        first = chain(jnp.concatenate([x[:, 0], 0 * x[:, 0]], -1), chain.initial_state(BATCH))[0]
        np.testing.assert_allclose(out[:, 0], first, atol=1e-6)
