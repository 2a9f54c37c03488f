"""Operations and energy, against counts by hand: every product of every step, one after the other."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import graph, nn, report

STEPS, SAMPLES = 6, 3


def spikes(*shape, share=0.3):
    return (np.random.default_rng(0).random(shape) < share).astype(np.float32)


def by_hand(x, kernel):
    """Effective and dense products of a dense layer, per sample."""
    effective = 0
    for row in np.asarray(x).reshape(-1, x.shape[-1]):
        effective += sum(int(kernel[i, j] != 0) for i in np.flatnonzero(row) for j in range(kernel.shape[1]))
    return effective / len(x), x.shape[1] * kernel.size


def pruned(linear):
    kept = np.random.default_rng(1).random(linear.kernel.shape) < 0.5
    linear.kernel[...] = jnp.where(kept, linear.kernel[...], 0.0)
    return linear


def of(found, name):
    return next(layer for layer in found.layers if layer.name == name)


def test_dense_layers_and_neurons():
    rngs = nnx.Rngs(0)
    net = nn.Sequential(
        pruned(nn.Linear(5, 4, rngs=rngs)), nn.LIF(4, beta=0.9, threshold=0.3), nn.Linear(4, 2, rngs=rngs)
    )
    x = spikes(SAMPLES, STEPS, 5)
    found = report.cost(net, x, batch_size=2)
    _, _, seen = nn.observe(net, x, what=("outputs", "v"))
    first, second = of(found, "0"), of(found, "2")
    assert (first.effective_acs, first.dense) == by_hand(x, net.layers[0].kernel)
    assert (second.effective_acs, second.dense) == by_hand(seen["1"], net.layers[2].kernel)
    assert first.zeros == (net.layers[0].kernel[...] == 0).sum() > 0
    neuron, v = of(found, "1"), np.asarray(seen["1.v"])
    assert neuron.updates == neuron.outputs == STEPS * 4
    assert neuron.active == seen["1"].sum() / SAMPLES > 0
    assert neuron.membrane_updates == 4 + (v[:, 1:] != v[:, :-1]).sum() / SAMPLES
    numbers = found.as_dict()
    assert numbers["SynapticOperations"]["Effective_ACs"] == found.total("effective_acs")
    assert numbers["ActivationSparsity"] == pytest.approx(1 - float(seen["1"].mean()))
    assert numbers["ConnectionSparsity"] == first.zeros / 28
    assert numbers["Parameters"] == 5 * 4 + 4 + 1 + 4 * 2 + 2


@pytest.mark.parametrize(("strides", "padding", "groups"), [(1, "SAME", 1), (2, "VALID", 1), (1, "VALID", 2)])
def test_convolutions(strides, padding, groups):
    conv = nnx.Conv(2, 4, (3, 3), strides=strides, padding=padding, feature_group_count=groups, rngs=nnx.Rngs(0))
    x = spikes(2, 3, 5, 5, 2)
    found = of(report.cost(nn.Sequential(conv, nn.IF(conv(x[:, 0]).shape[1:])), x), "0")
    out = conv(x[:, 0]).shape[1:]
    before = (1, 1) if padding == "SAME" else (0, 0)
    effective = dense = 0
    for b, t, i, j, c, m, n, k in np.ndindex(2, 3, *out, 3, 3, 2 // groups):
        source = (i * strides + m - before[0], j * strides + n - before[1], k + (2 // groups) * (c // (4 // groups)))
        if 0 <= source[0] < 5 and 0 <= source[1] < 5:
            dense += 1
            effective += x[b, t][source] != 0
    assert (found.effective_acs, found.dense) == (effective / 2, dense / 2)


@pytest.mark.parametrize("dynamics", ["spyx", "paper"])
def test_recurrent_connections_count_what_is_sent(dynamics):
    net = nn.RLIF(4, beta=0.9, threshold=0.5, dynamics=dynamics, rngs=nnx.Rngs(0))
    x = 3 * spikes(SAMPLES, STEPS, 4)
    outs = np.asarray(nn.run(net, x)[0])
    sent = outs if dynamics == "spyx" else outs[:, :-1]  # what is sent by the last step arrives after it
    found = of(report.cost(net, x), "0.recurrent")
    assert found.effective_acs == sent.sum() / SAMPLES * 4 > 0
    assert found.dense == STEPS * 16
    masked = nn.Recurrent(nn.IF(4, threshold=0.5), via=pruned(nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(0))))
    outs = np.asarray(nn.run(masked, x)[0])
    assert of(report.cost(masked, x), "0.recurrent").effective == by_hand(outs, masked.via.kernel)[0]


def test_a_spike_with_a_delay_is_counted_when_it_is_sent():
    rngs = nnx.Rngs(0)
    first = nn.rounded(nn.Delayed(pruned(nn.Linear(5, 4, rngs=rngs)), 3, rngs=rngs))
    back = nn.Recurrent(
        nn.IF(4, threshold=0.3), via=nn.Delayed(nn.Linear(4, 4, use_bias=False, rngs=rngs), 2, rngs=rngs)
    )
    net, x = nn.Sequential(first, back), spikes(SAMPLES, STEPS, 5)
    found, outs = report.cost(net, x), np.asarray(nn.run(net, x)[0])
    assert not found.not_counted
    assert of(found, "0").effective_acs == by_hand(x, first.connection.kernel)[0] > 0
    assert of(found, "1.recurrent").effective_acs == by_hand(outs, back.via.connection.kernel)[0] > 0


def test_a_graph_counts_merged_inputs_and_graded_ones_are_macs():
    rngs = nnx.Rngs(0)
    nodes = {"a": nn.IF(3, threshold=0.5), "b": nn.IF(3), "w": nn.Linear(3, 2, rngs=rngs), "out": nn.LI(2, beta=0.5)}
    edges = [("input", "a"), ("a", "b", 1), ("a", "w"), ("b", "w"), ("w", "out"), ("out", "output")]
    net = graph.Graph(nodes, edges, input_shape=3, merge={"w": "sum"})
    x = spikes(SAMPLES, STEPS, 3, share=0.6)
    _, _, seen = nn.observe(net, x, what=("inputs", "outputs"))
    merged = np.asarray(seen["w.inputs"])
    assert merged.max() == 2
    assert (merged[:, 1:] == seen["a"][:, 1:] + seen["b"][:, 1:]).all()
    found = of(report.cost(net, x), "w")
    assert (found.effective_macs, found.effective_acs) == (by_hand(merged, net.nodes["w"].kernel)[0], 0)


def test_samples_of_unequal_length_are_counted_to_their_end():
    net = nn.Sequential(nn.Linear(5, 4, rngs=nnx.Rngs(0)), nn.RLIF(4, beta=0.9, threshold=0.3, rngs=nnx.Rngs(1)))
    x, lengths = spikes(SAMPLES, STEPS, 5), np.array([6, 2, 4])
    found = report.cost(net, x, lengths=lengths)
    alone = [report.cost(net, x[b : b + 1, :n]) for b, n in enumerate(lengths)]
    for what in ("dense", "effective_acs", "updates", "membrane_updates", "active"):
        assert found.total(what) == pytest.approx(np.mean([part.total(what) for part in alone]))
    assert found.steps == 4
    parts = report.cost(net, (x[b : b + 1] for b in range(SAMPLES)))
    assert parts.as_dict() == report.cost(net, x).as_dict()


def test_what_is_not_known_is_named():
    net = nn.Sequential(nnx.LayerNorm(4, rngs=nnx.Rngs(0)), nn.IF(4))
    found = report.cost(net, spikes(1, 2, 4))
    assert found.not_counted == ("0 LayerNorm",)
    assert "not counted" in str(found)
    with pytest.raises(TypeError, match=r"expected an array or an iterable of arrays; got str"):
        report.cost(net, "samples")
    with pytest.raises(ValueError, match=r"expected samples \(samples, time, ...\); got shape \(0, 2, 4\)"):
        report.cost(net, np.zeros((0, 2, 4)))
    with pytest.raises(ValueError, match="got an empty iterable"):
        report.cost(net, [])


def test_energy_by_hand():
    net = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.IF(3))
    found = report.cost(net, jnp.zeros((1, 7, 4)).at[0, 2, :2].set(1.0))
    simple = report.energy(found)
    assert simple.parts["accumulate"] == pytest.approx(6 * 0.9)
    assert simple.parts["update"] == pytest.approx(7 * 3 * 4.6)
    assert simple.bits == 3
    assert simple.twin["multiply"] == pytest.approx(12 * (0.9 + 3.7 * 3 / 32))
    assert simple.twin["update"] == pytest.approx(3 * 4.6)
    memory = report.energy(found, "45nm-fp32-memory")
    assert memory.parts["weights"] == pytest.approx(6 * 4 * 24.96)
    assert memory.parts["states"] == pytest.approx(7 * 3 * 2 * 4 * 24.96)
    assert memory.parts["activations"] == pytest.approx(7 * 3 * 2 / 8 * 24.96)
    dear = replace(report.MODELS["45nm-fp32"], add_pj=10.0)
    assert report.energy(found, dear).parts["accumulate"] == 60
    with pytest.raises(ValueError, match="expected one of 45nm-fp32, .*; got 'loihi'"):
        report.energy(found, "loihi")


def test_at_the_break_even_rate_both_cost_the_same():
    rngs = nnx.Rngs(0)
    net = nn.Sequential(nn.Linear(40, 30, rngs=rngs), nn.LIF(30, beta=0.9, threshold=0.3), nn.Linear(30, 20, rngs=rngs))
    found = report.cost(net, spikes(4, STEPS, 40))
    for name in report.MODELS:
        now = report.energy(found, name)
        factor = now.break_even / found.input_rate
        moved = tuple(replace(a, effective_acs=a.effective_acs * factor) for a in found.layers)
        assert found.total("effective_macs") == 0
        even = report.energy(replace(found, layers=moved), name)
        assert even.total == pytest.approx(even.twin_total)
        assert even.rate == pytest.approx(now.break_even)


def test_a_price_of_memory_grows_with_its_size():
    model = report.MODELS["lemaire2022"]
    assert model.price_of_byte(100) == 2.5
    assert model.price_of_byte(8192) == 2.5
    assert model.price_of_byte((8192 + 32768) / 2) == pytest.approx(3.75)
    assert model.price_of_byte(2 * 2**20) > 25
    assert math.isfinite(model.price_of_byte(1e12))


def test_counting_leaves_the_network_as_it_is():
    net = nn.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.IF(3))
    before = [np.asarray(a) for a in jax.tree.leaves(nnx.state(net, nnx.Param))]
    report.cost(net, spikes(2, 3, 4))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(nnx.state(net, nnx.Param)), before, strict=True))
    assert not net.layers[0].deterministic
