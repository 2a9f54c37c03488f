"""Every node of NIR 1.0.8 in spyx against the float64 reference; branches, cycles, sub-graphs, several ends."""

from __future__ import annotations

import numpy as np
import pytest

from reference.nir_graphs import DT, UNITS, fields, graph_of, spikes
from spyx import nn

nir = pytest.importorskip("nir")
from spyx.nir import check, forget, from_nir, rule, simulate, to_nir  # noqa: E402

RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.normal(0, 0.7, shape).astype(np.float32)


def lif(seed=0, units=UNITS):
    p = fields("LIF", np.random.default_rng(seed))
    return nir.LIF(**{name: np.resize(value, units) for name, value in p.items()})


def conv2d(**change):
    known = dict(
        input_shape=(6, 5),
        weight=weights(3, 2, 3, 2),
        stride=(2, 1),
        padding=(1, 0),
        dilation=(1, 2),
        groups=1,
        bias=weights(3),
    )
    return nir.Conv2d(**{**known, **change})


PAIR = np.array([2, 2])
CASES = {
    "affine": (graph_of(nir.Affine(weights(3, UNITS), weights(3)), answer=(3,)), (UNITS,)),
    "linear": (graph_of(nir.Linear(weights(3, UNITS)), answer=(3,)), (UNITS,)),
    "scale": (graph_of(nir.Scale(weights(UNITS))), (UNITS,)),
    "threshold": (graph_of(nir.Scale(weights(UNITS)), nir.Threshold(weights(UNITS))), (UNITS,)),
    "delay": (graph_of(nir.Delay(np.full(UNITS, 3 * DT))), (UNITS,)),
    "delays": (graph_of(nir.Delay(np.array([2, 0, 5, 1]) * DT), lif()), (UNITS,)),
    "conv1d": (graph_of(nir.Conv1d(7, weights(4, 1, 3), 2, 1, 1, 2, weights(4)), shape=(2, 7), answer=(4, 4)), (2, 7)),
    "same": (graph_of(nir.Conv1d(7, weights(4, 2, 4), 1, "same", 1, 1, weights(4)), shape=(2, 7), answer=(4, 7)), (2, 7)),  # noqa: E501
    "conv2d": (graph_of(conv2d(), shape=(2, 6, 5), answer=(3, 3, 3)), (2, 6, 5)),
    "sum pool": (graph_of(nir.SumPool2d(PAIR, PAIR, np.array([1, 0])), shape=(2, 6, 5), answer=(2, 4, 2)), (2, 6, 5)),
    "average": (graph_of(nir.AvgPool2d(PAIR, PAIR, np.array([1, 1])), shape=(2, 6, 5), answer=(2, 4, 3)), (2, 6, 5)),
    "flatten": (
        graph_of(conv2d(), nir.Flatten({"input": np.array([3, 3, 3])}, 0, -1), shape=(2, 6, 5), answer=(27,)),
        (2, 6, 5),
    ),
    "flatten, then weights": (
        graph_of(
            conv2d(), nir.Flatten({"input": np.array([3, 3, 3])}, 0, -1), nir.Scale(weights(27)),
            nir.Affine(weights(4, 27), weights(4)), lif(), shape=(2, 6, 5), answer=(4,),
        ),
        (2, 6, 5),
    ),
    "flatten some": (
        graph_of(conv2d(), nir.Flatten({"input": np.array([3, 3, 3])}, 1, 2), shape=(2, 6, 5), answer=(3, 9)),
        (2, 6, 5),
    ),
    "no map": (
        graph_of(nir.Scale(weights(2, 3)), nir.Flatten({"input": np.array([2, 3])}, 0, -1), shape=(2, 3), answer=(6,)),
        (2, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_node(name):
    graph, _ = CASES[name]
    found = check(graph, DT, steps=12, others=False)
    assert found.difference is None
    assert found.compared >= 2
    again = check(to_nir(found.model, DT), DT, steps=12, others=False)
    assert again.difference is None


def test_maps_come_in_and_go_out_channels_last():
    graph, shape = CASES["conv2d"]
    x = spikes(0, shape, 5)
    expected = simulate(graph, x, DT)["output"]
    out, _ = nn.run(from_nir(graph, DT), np.moveaxis(x, 1, -1)[None])
    np.testing.assert_allclose(np.moveaxis(np.asarray(out[0]), -1, 1), expected, atol=1e-5)


def test_axes_that_no_convolution_touches_stay():
    graph, shape = CASES["no map"]
    x = spikes(0, shape, 5)
    np.testing.assert_allclose(nn.run(from_nir(graph, DT), x[None])[0][0], simulate(graph, x, DT)["output"], atol=1e-6)


def recurrent(weight, bias, *, nested: bool, seed: int = 5):
    core, back = lif(seed), nir.Affine(weight, bias)
    ends = {"input": nir.Input({"input": np.array([UNITS])}), "output": nir.Output({"output": np.array([UNITS])})}
    if not nested:
        edges = [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
        return nir.NIRGraph({**ends, "lif": core, "w": back}, edges, type_check=False)
    inner = nir.NIRGraph(
        {**ends, "lif": core, "w": back},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
        type_check=False,
    )
    return nir.NIRGraph({**ends, "rnn": inner}, [("input", "rnn"), ("rnn", "output")], type_check=False)


@pytest.mark.parametrize("spike", ["post", "pre"])
def test_both_spellings_of_recurrence_are_one_network(spike):
    weight, bias = weights(UNITS, UNITS), weights(UNITS)
    x = spikes(1)
    flat, nested = (recurrent(weight, bias, nested=n) for n in (False, True))
    answers = [np.asarray(nn.run(from_nir(g, DT, spike=spike), x[None])[0][0]) for g in (flat, nested)]
    np.testing.assert_array_equal(*answers)
    assert answers[0].mean() > 0.02
    # One step later through the loop, by hand: spikes of the step before, their matrix, its bias.
    p = {name: np.asarray(value) for name, value in vars(lif(5)).items() if isinstance(value, np.ndarray)}
    v, z, expected = np.zeros(UNITS), np.zeros(UNITS), []
    for now in x:
        v = v + DT / p["tau"] * (p["v_leak"] - v + p["r"] * (now + weight @ z + bias))
        z = (v > p["v_threshold"]).astype(float)
        v = np.where(z > 0, p["v_reset"], v)
        expected.append(z)
    late = int(spike == "pre")
    np.testing.assert_array_equal(answers[0][late:], np.stack(expected)[: len(x) - late])


def test_branches_and_several_ends():
    nodes = {
        "left": nir.Input({"input": np.array([UNITS])}),
        "right": nir.Input({"input": np.array([3])}),
        "up": nir.Linear(weights(UNITS, 3)),
        "lif": lif(1),
        "li": nir.LI(**fields("LI", np.random.default_rng(2))),
        "spikes": nir.Output({"output": np.array([UNITS])}),
        "trace": nir.Output({"output": np.array([UNITS])}),
    }
    edges = [("left", "lif"), ("right", "up"), ("up", "lif"), ("lif", "li"), ("left", "li"), ("lif", "spikes"),
             ("li", "trace"), ("up", "trace")]  # fmt: skip
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    x = {"left": spikes(0), "right": spikes(1, (3,))}
    expected = simulate(graph, x, DT)
    out, _ = nn.run(from_nir(graph, DT), {name: value[None] for name, value in x.items()})
    assert set(out) == {"spikes", "trace"}
    for name, value in out.items():
        np.testing.assert_allclose(value[0], expected[name], atol=1e-5)
    again = to_nir(from_nir(graph, DT), DT)
    assert check(again, others=False).difference is None


def test_a_way_past_a_subgraph_and_through_it_is_two_ways():
    ends = {"input": nir.Input({"input": np.array([UNITS])}), "output": nir.Output({"output": np.array([UNITS])})}
    inner = nir.NIRGraph(
        {**ends, "lif": lif()}, [("input", "lif"), ("lif", "output"), ("input", "output")], type_check=False
    )
    graph = nir.NIRGraph(
        {**ends, "sub": inner, "li": nir.LI(**fields("LI", np.random.default_rng(2)))},
        [("input", "sub"), ("sub", "li"), ("input", "li"), ("li", "output")],
        type_check=False,
    )
    found = check(graph, DT, others=False)
    assert found.difference is None
    x = spikes(0)
    straight = simulate(graph, x, DT)
    by_hand = graph_of(nir.LI(**fields("LI", np.random.default_rng(2))))
    twice = simulate(by_hand, 2 * x + straight["sub.lif"], DT)
    np.testing.assert_allclose(straight["output"], twice["output"], atol=1e-12)
    assert check(to_nir(found.model, DT), others=False).difference is None


def test_delays_need_whole_steps():
    graph = graph_of(nir.Delay(np.full(UNITS, 2.5 * DT)))
    with pytest.raises(ValueError, match=r"node 'n0' \(Delay\): a delay of 0.0025 is 2.5 steps of dt = 0.001"):
        from_nir(graph, DT)


def test_rules_of_the_user():
    class Doubled(nn.LI):
        """Its own class, so that no rule of the house fits."""

    graph_maker = nn.Sequential(Doubled(UNITS, beta=0.5))
    with pytest.raises(ValueError, match="teach it one with spyx.nir.rule"):
        to_nir(graph_maker, DT)
    tau = np.full(UNITS, 2 * DT)
    ours = rule(
        Doubled,
        nir.LI,
        save=lambda layer, site: nir.LI(tau, tau / DT, 0 * tau),
        load=lambda node, site: Doubled(site.shape, beta=0.5),
    )
    try:
        assert type(from_nir(to_nir(graph_maker, DT)).nodes["doubled_0"]) is Doubled
    finally:
        forget(ours)
    with pytest.raises(TypeError, match="spyx.nir.rule: expected classes"):
        rule(Doubled(1), nir.LI)
    with pytest.raises(ValueError, match=r"spyx.nir.rule\(kind=\)"):
        rule(Doubled, nir.LI, kind="odd")
