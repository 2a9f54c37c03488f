"""Edges with a `nn.Delayed`: spikes put down one by one where they arrive, gradients, pictures and NIR."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import delays_oracle as oracle
from spyx import graph, nn, optimize, saving

TIME, SIZES = 12, {"a": 4, "b": 4, "output": 2}


def in_double(a):
    return a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a


def connection(inputs, outputs, seed):
    """Weights are sixteenths and decays a half: sums of a few steps are exact, in whatever order they are taken."""
    layer = nn.Linear(inputs, outputs, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.round(16 * jax.random.normal(jax.random.key(seed), (inputs, outputs))) / 16
    return layer


def network(per, kernel, max_delay, activation=None):
    """Forward, feedback and self-connection, each with delays; two of the edges wait some steps beside them."""
    nodes = {name: nn.LIF(4, beta=0.5, threshold=0.5) for name in ("a", "b")}
    for neuron in nodes.values():
        neuron.activation = activation or neuron.activation
    delayed = [
        nn.Delayed(inner, max_delay, per, kernel, width=0.8, rngs=nnx.Rngs(seed))
        for seed, inner in enumerate((connection(3, 4, 1), 4, connection(4, 4, 2), connection(4, 2, 3)))
    ]
    loop = nn.Delayed(4, 2, kernel="fixed", delays=[0, 1, 2, 1])
    edges = [
        ("input", "a", delayed[0]),
        ("a", "b", delayed[1]),
        ("b", "a", 2, delayed[2]),
        ("b", "b", 1, loop),
        ("b", "output", delayed[3]),
    ]
    return graph.Graph(nodes, edges, merge="sum")


def connections(net, lags, delays=None):
    """What the oracle takes: every edge with its weights by lag."""
    found = []
    for name, lag in (("input->a", 0), ("a->b", 0), ("b->a", 2), ("b->b", 1), ("b->output", 0)):
        layer = net.nodes[name]
        d = np.asarray(layer.delays[...]) if delays is None or name not in delays else delays[name]
        w = np.asarray(layer.connection.kernel[...], np.float64) if layer._has_product else np.eye(4)
        if layer.kernel == "fixed":
            taps = 1.0 * (np.arange(lags).reshape(-1, *(1,) * d.ndim) == d)
        else:
            taps = oracle.weight_of_lag(layer.kernel, lags, d, float(layer.width[...]))
        taps = taps[:, :, None] if layer.per == "source" else taps[:, None] if layer.per == "target" else taps
        found.append((*name.split("->"), lag, taps * w))
    return found


@pytest.mark.parametrize(("per", "max_delay"), [("synapse", 1), ("source", 4), ("target", TIME)])
def test_rounded_graph_delivers_every_spike(per, max_delay):
    """All of time at once, and in pieces shorter than the delays."""
    net = nn.rounded(network(per, "gauss", max_delay))
    x = np.float32(np.random.default_rng(0).random((2, TIME, 3)) < 0.6)
    sent = oracle.lif_graph(x, SIZES, connections(net, max_delay + 3), 0.5, threshold=0.5)
    assert 0.1 < sent["a"].mean() < 0.8
    assert 0.1 < sent["b"].mean() < 0.8
    np.testing.assert_array_equal(nn.run(net, x)[0], sent["output"])
    pieces = (x[:, :5], x[:, 5:7], x[:, 7:])
    np.testing.assert_array_equal(jnp.concatenate([out for out, _ in nn.stream(net, pieces)], 1), sent["output"])


@pytest.mark.parametrize(("per", "kernel"), [("synapse", "gauss"), ("source", "triangle"), ("target", "gauss")])
def test_values_and_gradients(per, kernel):
    """float64, spikes of a smooth kind: the sums written out, and their central differences along one direction."""
    rng = np.random.default_rng(1)
    x = rng.normal(1.0, 1.0, (1, 7, 3))
    net = network(per, kernel, 3, jax.nn.sigmoid)
    rest_state = net.state_for(jnp.float32(x[:, 0]))
    structure, variables = nnx.split(net)
    with jax.enable_x64(True):
        net = nnx.merge(structure, jax.tree.map(in_double, variables))
        structure, learned, rest = nnx.split(net, nn.Delays, ...)
        zeros = jax.tree.map(in_double, rest_state)

        @jax.jit
        def ours(learned):
            return (nn.run(nnx.merge(structure, learned, rest, copy=True), x, zeros)[0] ** 2).sum()

        value, slopes = jax.value_and_grad(ours)(learned)
        slopes = {name: np.asarray(leaf["delays"][...]) for name, leaf in slopes["nodes"].items()}
        start = {name: np.asarray(net.nodes[name].delays[...]) for name in slopes}
    assert sorted(slopes) == ["a->b", "b->a", "b->output", "input->a"]

    def written_out(delays):
        found = connections(net, 4, delays)
        return (oracle.lif_graph(x, SIZES, found, 0.5, lambda v: 1 / (1 + np.exp(-v)), 0.5)["output"] ** 2).sum()

    np.testing.assert_allclose(value, written_out(start), rtol=1e-9)
    for name, slope in slopes.items():
        along = rng.normal(size=slope.shape)
        there, back = (written_out({**start, name: start[name] + h * along}) for h in (1e-6, -1e-6))
        assert there != back
        np.testing.assert_allclose((slope * along).sum(), (there - back) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_delay_is_learned_on_an_edge():
    """The one number that the answer depends on: the target comes three steps after the input."""
    net = graph.Graph(
        {"sum": lambda x: x},
        [("input", "sum", 1, nn.Delayed(1, 5, delays=0.5, width=1.0)), ("sum", "output")],
        input_shape=1,
    )
    x = jnp.zeros((1, 8, 1)).at[0, 1].set(1.0)
    target = jnp.roll(x, 3, 1)
    tx = optimize.parameter_kinds(nnx.state(net, nnx.Param))
    assert jax.tree.leaves(tx) == ["delays"]
    structure, learned, rest = nnx.split(net, nn.Delays, ...)

    @jax.jit
    def better(learned):
        def loss(learned):
            return ((nn.run(nnx.merge(structure, learned, rest, copy=True), x)[0] - target) ** 2).sum()

        return optimize.hold_delays(jax.tree.map(lambda d, g: d - g, learned, jax.grad(loss)(learned)))

    for _ in range(30):
        learned = better(learned)
    nnx.update(net, learned)
    final = nn.rounded(net)
    assert final.nodes["input->sum"].delays[...].tolist() == [2]
    np.testing.assert_array_equal(nn.run(final, x)[0], target)


def test_pictures_show_delays_on_edges():
    pytest.importorskip("matplotlib")
    net = network("source", "gauss", 4)
    nn.set_width(net, 0.5)
    net.nodes["a->b"].delays[...] = jnp.array([0.5, 1.0, 3.25, 2.0])
    texts = {text.get_text() for text in net.draw().axes[0].texts}
    assert {"a", "b", "+0.5–3.2", "+1–3"} <= texts
    assert not any("->" in text for text in texts)
    texts = {text.get_text() for text in nn.rounded(net).draw().axes[0].texts}
    steps = np.asarray(nn.rounded(net).nodes["b->a"].delays[...]) + 2
    assert {"+0–3", f"Linear\n+{steps.min()}–{steps.max()}"} <= texts
    assert "  a->b       Delayed(4, +0.5–3.2)" in repr(net)


def test_a_saved_graph_has_the_same_edges(tmp_path):
    net = network("synapse", "gauss", 4)
    saving.save(tmp_path / "net.safetensors", net)
    again = saving.load(tmp_path / "net.safetensors")
    assert again._plan == net._plan
    assert "a->b" in again._plan.passed
    x = jnp.ones((1, 9, 3))
    np.testing.assert_array_equal(nn.run(again, x)[0], nn.run(net, x)[0])


def test_problems():
    late = nn.Delayed(4, 3, kernel="fixed", delays=1)
    ends = [("input", "a"), ("a", "output")]
    for edge, message in (
        (("a", "a", late), r"cycle through a has no delay.* as \(source, target, 1, nn.Delayed"),
        (("a", "c", 2, late), r"edge \('a', 'c', 2, nn.Delayed\): unknown node 'c'"),
        (("a", "a", late, 2), r"edge \('a', 'a', Delayed, 2\): write \(source, target\), then a delay"),
        (("a", "a", nnx.Linear(4, 4, rngs=nnx.Rngs(0))), r"'a', Linear\): a delay is a whole number .* an nn.Delayed"),
        (("a", "a", 1, nn.Delayed(3, 2, rngs=nnx.Rngs(0))), r"'a->a' \(?.*cannot take input of shape \(batch, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            graph.Graph({"a": nn.LIF(4, beta=0.5)}, [*ends, edge], merge="sum", input_shape=4)


def test_two_connections_between_the_same_nodes():
    """Each has its own name, and the same graph is made of the nodes and edges that one lists."""
    late = [nn.Delayed(2, 3, kernel="fixed", delays=d) for d in (1, 3)]
    net = graph.Graph({"a": lambda x: x}, [*(("input", "a", d) for d in late), ("a", "output")], merge="sum")
    x = jnp.zeros((1, 5, 2)).at[0, 0].set(1.0)
    assert nn.run(net, x)[0][0, :, 0].tolist() == [0, 1, 0, 1, 0]
    assert list(net.nodes) == ["a", "input->a", "input->a (2)"]
    again = graph.Graph(dict(net.nodes), net.edges, net.merges)
    assert again._plan == net._plan


def test_through_nir_and_back():
    pytest.importorskip("nir")
    from spyx.nir import from_nir, to_nir

    learned = network("synapse", "gauss", 4)
    with pytest.raises(ValueError, match=r"got 4 problems(.|\n)*'b->a' \(Delayed\): its delays are still learned"):
        to_nir(learned, dt=1.0, input_shape=3)
    net = nn.rounded(learned)
    x = jnp.float32(np.random.default_rng(0).random((2, TIME, 3)) < 0.6)
    outs = nn.run(net, x)[0]
    assert outs.any()
    np.testing.assert_array_equal(nn.run(from_nir(to_nir(net, dt=1.0, input_shape=3)), x)[0], outs)
