"""Limits, ties and containers of the NIR bridge: exactly at a limit, just beyond it, and what is inside what."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import nir_network
from reference.nir_graphs import DT, UNITS, fields, graph_of, spikes
from spyx import nn
from spyx.graph import Graph, GraphStructure, StatefulModel

nir = pytest.importorskip("nir")
from spyx.nir import NIRLIF, Target, check, from_nir, portable, quantise, read, report, simulate, to_nir, write  # noqa: E402
from spyx.nir._check import first_difference  # noqa: E402

ONE = np.ones(UNITS)


@pytest.mark.parametrize(("steps", "fits"), [(2.0009, True), (2.002, False), (1.95, False), (0.0, True)])
def test_a_delay_is_a_whole_number_of_steps_to_a_thousandth(steps, fits):
    graph = graph_of(nir.Delay(steps * DT * ONE))
    if fits:
        out, _ = nn.run(from_nir(graph, DT), jnp.asarray(spikes())[None])
        late = np.concatenate([np.zeros((round(steps), UNITS)), spikes()])[: len(spikes())]
        np.testing.assert_array_equal(out[0], late)
    else:
        with pytest.raises(ValueError, match="not a whole number"):
            from_nir(graph, DT)


def test_thresholds_of_zero_are_written_and_never_spike_several_times():
    node = to_nir(nn.LIF(UNITS, beta=0.5, threshold=0.0), DT).nodes["lif_0"]
    assert node.v_threshold.tolist() == [0.0] * UNITS
    zero = nir.IF(ONE, 0 * ONE, 0 * ONE)
    with pytest.raises(ValueError, match="v_threshold must be above 0"):
        from_nir(graph_of(zero), DT, multi_spike=True)
    assert from_nir(graph_of(zero), DT).nodes["n0"].multi_spike is False


@pytest.mark.parametrize(("decay", "fits"), [(0.0, False), (0.25, True)])
def test_a_leak_that_takes_everything_leaves_nothing_to_subtract_from(decay, fits):
    tau = DT / (1 - decay) * ONE
    node = nir.LIF(tau, tau / DT, 0 * ONE, 0.9 * ONE, 0 * ONE, metadata={"reset": "subtract after leak"})
    if fits:
        assert check(graph_of(node), DT, others=False).difference is None
    else:
        with pytest.raises(ValueError, match="the leak takes everything"):
            from_nir(graph_of(node), DT)


def test_a_neuron_is_exported_at_its_own_time_step():
    model = from_nir(graph_of(nir.LIF(**fields("LIF", np.random.default_rng(0)))), DT)
    with pytest.raises(ValueError, match=r"runs at dt = 0.001, not at 0.002: export with its own dt"):
        to_nir(model, 2 * DT)
    assert to_nir(model, DT * (1 + 1e-8)).metadata["dt"] == DT * (1 + 1e-8)


@pytest.mark.parametrize(
    "choice", [{"multi_spike": True}, {"v_min": -0.5}, {"spike": "post"}, {"integration": "exponential"}]
)
def test_what_our_neurons_cannot_do_is_read_as_nirs(choice):
    """The layer that the file names is taken only while it means the same."""
    graph = to_nir(nn.Sequential(nn.IF(UNITS, threshold=0.5), nn.LIF(UNITS, beta=0.5, threshold=0.5)), DT)
    for node in (graph.nodes["if_0"], graph.nodes["lif_1"]):
        node.metadata |= choice
    model = from_nir(graph)
    assert [type(layer).__name__ for layer in model.nodes.values()] == ["NIRIF", "NIRLIF"]
    assert check(graph, others=False, steps=20).difference is None


@pytest.mark.parametrize("bits", [4, 6])
def test_a_decay_near_one_stays_below_it(bits):
    graph = to_nir(nn.LIF(3, beta=jnp.array([0.999, 0.5, 0.001])), DT)
    node = quantise(graph, decays=f"int{bits}").nodes["lif_0"]
    np.testing.assert_allclose(1 - DT / node.tau, [1 - 2.0**-bits, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(node.r * DT / node.tau, 1)
    assert "beta" not in node.metadata


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_decay_in_a_narrow_float_stays_below_one(precision):
    node = quantise(to_nir(nn.LIF(2, beta=jnp.array([0.9999, 0.3])), DT), decays=precision).nodes["lif_0"]
    expected = 0.3 if precision == "bfloat16" else float(np.float16(0.3))
    np.testing.assert_allclose(1 - DT / node.tau, [1 - 2.0**-8, expected], rtol=3e-3 if precision[0] == "b" else 1e-6)


def test_a_gain_moves_only_into_weights_that_feed_nobody_else():
    p = fields("LIF", np.random.default_rng(0))
    weights = nir.Linear(np.random.default_rng(1).normal(size=(UNITS, UNITS)))
    ends = {"input": nir.Input({"input": np.array([UNITS])}), "output": nir.Output({"output": np.array([UNITS])})}
    chain = [("input", "w"), ("w", "n"), ("n", "output")]
    alone = nir.NIRGraph({**ends, "w": weights, "n": nir.LIF(**p)}, chain, type_check=False)
    assert portable(alone).nodes["n"].r.tolist() == [1.0] * UNITS
    np.testing.assert_allclose(portable(alone).nodes["w"].weight, weights.weight * p["r"][:, None])
    shared = nir.NIRGraph({**ends, "w": weights, "n": nir.LIF(**p)}, [*chain, ("w", "output")], type_check=False)
    np.testing.assert_array_equal(portable(shared).nodes["n"].r, p["r"])
    np.testing.assert_array_equal(portable(shared).nodes["w"].weight, weights.weight)


@pytest.mark.parametrize(("gain", "moves"), [("channels", True), ("places", False)])
def test_a_gain_of_a_map_moves_if_it_is_one_per_channel(gain, moves):
    r = np.array([2.0, 3.0])[:, None, None] * np.ones((2, 3, 3)) if gain == "channels" else np.ones((2, 3, 3))
    if gain == "places":
        r = r + np.arange(9.0).reshape(3, 3)  # alike in both channels, and different within one
    conv = nir.Conv2d((3, 3), np.random.default_rng(0).normal(size=(2, 1, 1, 1)), 1, 0, 1, 1, np.ones(2))
    neuron = nir.LI(4 * DT * np.ones((2, 3, 3)), r, 0 * r)
    graph = graph_of(conv, neuron, shape=(1, 3, 3), answer=(2, 3, 3))
    after = portable(graph)
    assert bool(np.all(after.nodes["n1"].r == 1)) is moves
    x = spikes(0, (1, 3, 3), 5)
    np.testing.assert_allclose(simulate(after, x, DT)["output"], simulate(graph, x, DT)["output"], atol=1e-9)


def test_a_chip_that_is_just_large_enough():
    chip = Target(
        "chip", ("Conv2d", "SumPool2d", "Linear"), weight_bits=None, kernel=3, pools=(2,), inputs=18, outputs=8
    )

    def lines(size, kernel=3, pool=2, channels=2):
        weight, pad = np.ones((channels, 2, kernel, kernel)), kernel // 2
        conv = nir.Conv2d((size, size), weight, 1, pad, 1, 1, np.zeros(channels))
        pooled = nir.SumPool2d(np.array([pool, pool]), np.array([1, 1]), np.array([0, 0]))
        side = size - pool + 1
        graph = graph_of(conv, pooled, shape=(2, size, size), answer=(channels, side, side))
        return report(graph, chip)

    assert lines(3) == []
    assert lines(4) == ["the graph: chip has 18 inputs, here 32", "the graph: chip has 8 outputs, here 18"]
    assert lines(3, kernel=5) == ["n0: chip has square kernels up to 3, here 5x5"]
    assert lines(3, pool=3) == ["n1: chip pools squares of 2, here 3x3"]


def test_the_first_difference_is_the_earliest_step_then_the_first_node():
    expected = {"late": np.zeros((6, 2, 2)), "early": np.zeros((6, 3)), "unknown": np.ones((6, 1))}
    got = {"late": np.zeros((6, 2, 2)), "early": np.zeros((6, 3))}
    assert first_difference(expected, got) is None
    got["late"][2, 1, 0], got["late"][4] = 5.0, 7.0
    got["early"][2, 2], got["early"][3] = 6.0, 8.0
    found = first_difference(expected, got)
    assert (found.node, found.step, found.expected, found.got) == ("late", 2, 0.0, 5.0)
    got["late"][2, 1, 0] = 1.5e-4  # more than rounding of numbers near 0, less than of large ones
    assert first_difference(expected, got).node == "late"
    expected["late"][5], got["late"][5], got["late"][4] = 9.0, 9.0, 0.0
    assert first_difference(expected, got).node == "early"


def test_the_trial_of_check_spikes(monkeypatch):
    """A neuron that is deaf is told from one that is not: the trial's input is not silent."""
    step = NIRLIF.step
    monkeypatch.setattr(NIRLIF, "step", staticmethod(lambda p, x, v: step(p, 0 * x, v)))
    node = nir.LIF(**{**fields("LIF", np.random.default_rng(0)), "v_leak": 0 * ONE})
    assert check(graph_of(node), DT, others=False).difference is not None


def layer(seed):
    return nnx.Linear(UNITS, UNITS, rngs=nnx.Rngs(seed))


def lif(beta=0.5):
    return nn.LIF(UNITS, beta=beta, threshold=0.3)


def container(where):
    """A container inside a graph, with delays before, inside and behind it, a way around, and a loop."""
    inner = Graph(
        {"a": layer(0), "b": lif()},
        [("input", "a", 1), ("a", "b"), ("b", "b", 2), ("b", "output", 1), ("input", "output", 2)],
        merge="sum",
    )
    if where == "inside":
        edges = [("input", "net", 1), ("net", "c", 2), ("input", "c"), ("c", "output")]
    elif where == "sequential":
        inner = nn.Sequential(layer(0), lif())
        edges = [("input", "net", 1), ("net", "c", 2), ("c", "net", 1), ("net", "output"), ("c", "output", 1)]
    else:
        edges = [("input", "net"), ("net", "c"), ("c", "output"), ("net", "output", 3)]
    return Graph({"net": inner, "c": nn.LI(UNITS, beta=0.6)}, edges, merge="sum", input_shape=UNITS)


@pytest.mark.parametrize("where", ["inside", "sequential", "twice"])
def test_what_is_inside_a_container_keeps_its_delays(where):
    own = container(where)
    x = np.random.default_rng(0).normal(0.4, 0.8, (16, UNITS)).astype(np.float32)
    expected, _ = nn.run(own, jnp.asarray(x)[None])
    graph = to_nir(own, DT)
    np.testing.assert_allclose(simulate(graph, x)["output"], expected[0], atol=1e-4)
    np.testing.assert_allclose(nn.run(from_nir(graph), jnp.asarray(x)[None])[0], expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1


def test_a_numbered_graph_with_a_loop_around_one_layer():
    struct = GraphStructure(3, ((0,), (), (0,)), ((), (0, 1, 2), (1,)), merge="sum")
    model = StatefulModel(struct, [layer(0), lif(), layer(1)])
    x = np.random.default_rng(0).normal(0.4, 0.8, (12, UNITS)).astype(np.float32)
    # NIR has nothing before the first step, where a layer without state has its bias
    model.layers[2].bias[...] = jnp.zeros(UNITS)
    expected, _ = nn.run(model, jnp.asarray(x)[None])
    np.testing.assert_allclose(simulate(to_nir(model, DT), x)["output"], expected[0], atol=1e-4)


def test_two_maps_that_meet_flattened_keep_nirs_order():
    """Their orders here differ, so neither can be permuted away: the units that meet are those that meet in NIR."""
    rng = np.random.default_rng(0)
    left = nir.Conv2d((3, 2), rng.normal(size=(2, 1, 1, 1)), 1, 0, 1, 1, np.zeros(2))
    right = nir.SumPool2d(np.array([1, 2]), np.array([1, 1]), np.array([0, 0]))
    ends = {"input": nir.Input({"input": np.array([1, 3, 2])}), "output": nir.Output({"output": np.array([5])})}
    wide = nir.Conv2d((3, 2), rng.normal(size=(4, 1, 1, 1)), 1, 0, 1, 1, np.zeros(4))
    nodes = {
        "left": left, "right": wide, "pool": right,
        "flat": nir.Flatten({"input": np.array([2, 3, 2])}, 0, -1),
        "other": nir.Flatten({"input": np.array([4, 3, 1])}, 0, -1), "scale": nir.Scale(np.arange(1.0, 13)),
        "w": nir.Linear(rng.normal(size=(5, 12))),
    }  # fmt: skip
    edges = [("input", "left"), ("left", "flat"), ("flat", "scale"), ("input", "right"), ("right", "pool")]
    edges += [("pool", "other"), ("other", "scale"), ("scale", "w"), ("w", "output")]
    graph = nir.NIRGraph({**ends, **nodes}, edges, type_check=False)
    x = rng.normal(size=(3, 1, 3, 2)).astype(np.float32)
    expected = nir_network.run(graph, {"input": x}, DT)["output"]
    model = from_nir(graph, DT)
    out, _ = nn.run(model, jnp.moveaxis(jnp.asarray(x), 1, -1)[None])
    np.testing.assert_allclose(out[0], expected, atol=1e-5)
    np.testing.assert_allclose(simulate(to_nir(model, DT), x)["output"], expected, atol=1e-5)


def test_units_behind_a_flattened_map_that_is_not_square():
    """Every unit with a decay and a threshold of its own, a recurrent matrix, and weights behind it: all permuted."""
    rngs, units = nnx.Rngs(0), 4 * 2 * 3
    beta = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.9, units), jnp.float32)
    recurrent = nn.RLIF(
        units,
        beta=beta,
        threshold=jnp.linspace(0.2, 0.8, units),
        recurrent_init=nnx.initializers.normal(0.3),
        rngs=rngs,
    )
    own = nn.Sequential(
        nn.Conv(2, 3, (2, 2), padding="VALID", rngs=rngs), nn.Flatten(), recurrent, nnx.Linear(units, 3, rngs=rngs)
    )
    graph = to_nir(own, DT, input_shape=(5, 3, 2))
    x = np.random.default_rng(1).normal(0.5, 1, (12, 2, 5, 3)).astype(np.float32)
    expected, _ = nn.run(own, np.moveaxis(x, 1, -1)[None])
    np.testing.assert_allclose(simulate(graph, x)["output"], expected[0], atol=1e-4)
    np.testing.assert_array_equal(nn.run(from_nir(graph), np.moveaxis(x, 1, -1)[None])[0], expected)
    channels_first = np.moveaxis(np.arange(units).reshape(4, 2, 3), -1, 0).ravel()
    np.testing.assert_allclose(1 - DT / graph.nodes["rlif_2"].tau, np.asarray(beta)[channels_first], rtol=1e-5)


@pytest.mark.parametrize(
    ("stride", "padding", "said"), [(1, "SAME", "same"), (1, [(0, 1), (1, 2)], "same"), (1, 2, (2, 2))]
)
def test_windows_of_even_sides_pad_more_behind(stride, padding, said):
    own = nn.Sequential(nn.Conv(2, 3, (2, 4), strides=stride, padding=padding, rngs=nnx.Rngs(0)))
    graph = to_nir(own, DT, input_shape=(6, 5, 2))
    node = graph.nodes["conv_0"]
    assert node.padding == said if isinstance(said, str) else tuple(node.padding) == said
    x = np.random.default_rng(0).normal(size=(2, 2, 6, 5)).astype(np.float32)
    expected = nir_network.run(graph, {"input": x}, DT)["output"]
    for model in (own, from_nir(graph)):
        out, _ = nn.run(model, np.moveaxis(x, 1, -1)[None])
        np.testing.assert_allclose(np.moveaxis(np.asarray(out[0]), -1, 1), expected, atol=1e-5)


@pytest.mark.parametrize(("stride", "padding"), [(1, [(1, 0), (2, 1)]), (2, [(0, 1), (1, 2)]), (1, "CIRCULAR")])
def test_padding_that_nir_cannot_say(stride, padding):
    own = nn.Sequential(nn.Conv(2, 3, (2, 4), strides=stride, padding=padding, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"node 'conv_0' \(Conv\): pads"):
        to_nir(own, DT, input_shape=(6, 5, 2))


def test_weights_from_a_flattened_map_to_itself_are_permuted_on_both_sides():
    rngs, units = nnx.Rngs(0), 12
    back = nnx.Linear(units, units, bias_init=nnx.initializers.normal(0.5), rngs=rngs)
    conv, out = nn.Conv(2, 3, (1, 1), rngs=rngs), nnx.Linear(units, 3, rngs=rngs)
    nodes = {"conv": conv, "flat": nn.Flatten(), "li": nn.LI(units, beta=0.5), "back": back, "out": out}
    edges = [("input", "conv"), ("conv", "flat"), ("flat", "li"), ("li", "back"), ("back", "li", 2), ("li", "out")]
    graph = to_nir(Graph(nodes, [*edges, ("out", "output")], merge="sum", input_shape=(2, 2, 2)), DT)
    x = np.random.default_rng(1).normal(size=(6, 2, 2, 2)).astype(np.float32)
    current = x @ np.asarray(conv.kernel[...])[0, 0] + np.asarray(conv.bias[...])
    v, expected = [], []
    for t in range(6):  # nothing arrives before the first step
        late = v[t - 2] @ np.asarray(back.kernel[...]) + np.asarray(back.bias[...]) if t >= 2 else 0.0
        v.append(0.5 * (v[-1] if v else 0.0) + current[t].reshape(-1) + late)
        expected.append(v[-1] @ np.asarray(out.kernel[...]))
    np.testing.assert_allclose(simulate(graph, np.moveaxis(x, -1, 1))["output"], expected, atol=1e-4)
    np.testing.assert_allclose(nn.run(from_nir(graph), x[None])[0][0], expected, atol=1e-4)


def test_what_a_file_may_ask_for_is_counted_over_all_of_it(tmp_path):
    graph = graph_of(nir.Scale(np.ones(1000)), nir.Scale(np.ones(1000)), shape=(1000,), answer=(1000,))
    path = tmp_path / "model.nir"
    write(path, graph)
    assert sorted(read(path, max_array_bytes=8000, max_total_bytes=20_000).nodes) == ["input", "n0", "n1", "output"]
    with pytest.raises(ValueError, match="over the limit"):
        read(path, max_array_bytes=8000, max_total_bytes=15_000)
    with pytest.raises(ValueError, match="over the limit"):
        read(path, max_array_bytes=7999)
    assert len(read(path, max_nodes=4).nodes) == 4
    with pytest.raises(ValueError, match="one node too many"):
        read(path, max_nodes=3)


@pytest.mark.parametrize(("outputs", "groups", "fits"), [(6, 3, True), (4, 3, False), (3, 2, False)])
def test_groups_divide_the_channels_of_the_answer(outputs, groups, fits):
    conv = nir.Conv2d((3, 3), np.ones((outputs, 2, 1, 1)), 1, 0, 1, groups, np.zeros(outputs))
    graph = graph_of(conv, shape=(2 * groups, 3, 3), answer=(outputs, 3, 3))
    if fits:
        x = np.random.default_rng(0).normal(size=(2, 2 * groups, 3, 3)).astype(np.float32)
        out, _ = nn.run(from_nir(graph, DT), np.moveaxis(x, 1, -1)[None])
        expected = nir_network.run(graph, {"input": x}, DT)["output"]
        np.testing.assert_allclose(np.moveaxis(np.asarray(out[0]), -1, 1), expected, atol=1e-5)
    else:
        with pytest.raises(ValueError, match=f"groups is {groups}: it divides the {outputs} channels"):
            from_nir(graph, DT)


def test_spyx1_s_call_takes_its_own_time_step():
    graph = graph_of(nir.LI(**fields("LI", np.random.default_rng(0))))
    x = spikes(1)
    model, outs = from_nir(graph, jnp.asarray(x)[:, None], DT)
    np.testing.assert_allclose(outs[:, 0], simulate(graph, x, DT)["output"], atol=1e-5)
    assert model.nodes["n0"].dt == DT
    longer = graph_of(nir.LI(4 * ONE, ONE, 0 * ONE))
    model, (outs, states) = from_nir(longer, jnp.asarray(x)[:, None], return_all_states=True)
    assert model.nodes["n0"].dt == 1
    np.testing.assert_allclose(outs[:, 0], simulate(longer, x, 1)["output"], atol=1e-5)
    np.testing.assert_allclose(states.nodes["n0"], outs, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: nn.LIF(3, 0.9, dynamics="paper"), "only Spyx's own dynamics are written"),
        (lambda: nn.RLIF(3, 0.9, dynamics="snntorch", rngs=nnx.Rngs(0)), "only Spyx's own dynamics are written"),
        (lambda: nn.PLIF(3), "PLIF"),
        (lambda: nn.CSiLIF(3, rngs=nnx.Rngs(0)), "CSiLIF"),
        (lambda: nn.Refractory(nn.LIF(3, 0.9), 2), "Refractory"),
    ],
)
def test_neurons_that_nir_has_no_words_for_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        to_nir(nn.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), layer()), dt=1e-3, input_shape=(3,))


@pytest.mark.parametrize("by", ["sigmoid", "exp", "unit", "clip"])
def test_a_decay_that_is_stored_in_another_form_is_written_as_it_is_used(by):
    beta = nn.decay(0.85, low=0.8, high=0.9, by=by)
    net = nn.Sequential(nn.LIF(3, beta, threshold=nn.positive(0.7)), nn.LI(3, nn.decay(0.9, by="exp")))
    back = from_nir(to_nir(net, dt=1e-3, input_shape=(3,)))
    x = np.random.default_rng(0).normal(0.4, 1.0, (2, 20, 3)).astype(np.float32)
    np.testing.assert_allclose(nn.run(back, x)[0], nn.run(net, x)[0], rtol=1e-5, atol=1e-5)


def test_the_gates_of_a_sub_graph_go_in_one_order():
    """Of a gate that cannot be contracted the name is the same in every process, whatever its hash seed."""
    shape = np.array([2])
    inner = nir.NIRGraph(
        {"i": nir.Input({"input": shape}), "o": nir.Output({"output": shape})}, [("i", "o")], type_check=False
    )
    ends = {"input": nir.Input({"input": shape}), "output": nir.Output({"output": shape})}
    edges = [("input", "s"), ("s", "s"), ("s", "output")]
    graph = nir.NIRGraph({**ends, "s": inner}, edges, type_check=False)
    assert list(from_nir(graph, DT).nodes) == ["s.o"]
