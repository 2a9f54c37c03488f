"""`record` sees the network as it answers after training: no noise, the running means, and nothing changed by it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import data, fn, graph, nn, report


def network():
    rngs = nnx.Rngs(0)
    norm = nnx.BatchNorm(3, use_scale=False, use_bias=False, rngs=rngs)
    norm.mean[...], norm.var[...] = jnp.array([0.5, -1.0, 0.0]), jnp.array([4.0, 1.0, 0.25])
    return nn.Sequential(norm, nnx.Dropout(0.5, rngs=rngs), nn.LIF(3, beta=0.5, threshold=0.8), nn.LI(3, beta=0.75))


def numbers(model):
    """Every array of the model, the counter of Dropout's keys included."""
    return [
        np.asarray(a) for a in jax.tree.leaves(nnx.state(model)) if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    ]


def test_record_uses_the_running_means_and_drops_nothing():
    model, x = network(), np.random.default_rng(0).normal(0.5, 2, (2, 8, 3)).astype(np.float32)
    before = numbers(model)
    found = report.record(model, jnp.asarray(x))

    current = (x - [0.5, -1.0, 0.0]) / np.sqrt(np.array([4.0, 1.0, 0.25]) + 1e-5)
    v, trace, spikes, traces = np.zeros((2, 3)), np.zeros((2, 3)), [], []
    for t in range(8):
        z = (v > 0.8).astype(float)
        v = 0.5 * v + current[:, t] - 0.8 * z
        trace = 0.75 * trace + z
        spikes.append(z)
        traces.append(trace)
    assert [(a.name, a.spiking) for a in found.values()] == [("2 LIF", True), ("3 LI", False)]
    np.testing.assert_array_equal(found["2"]["spikes"], np.stack(spikes, 1))
    np.testing.assert_allclose(found["3"]["spikes"], np.stack(traces, 1), rtol=1e-5, atol=1e-5)
    assert found["2"].rate == np.mean(spikes) > 0

    jax.tree.map(np.testing.assert_array_equal, numbers(model), before)
    assert not model.layers[0].use_running_average
    assert not model.layers[1].deterministic


def test_silence_is_of_a_neuron_in_every_sample_and_step():
    outputs = np.zeros((2, 3, 2, 2))
    outputs[1, 2, 0, 1] = outputs[0, 0, 1, 0] = -1.0
    activity = report.LayerRecord("0 LI", {"spikes": outputs})
    assert activity.silent == 0.5
    assert activity.rate == -2 / 24


X, Y = (np.random.default_rng(1).random((7, 6, 3)) < 0.5).astype(np.float32), np.arange(7) % 2
LENGTHS = np.array([6, 2, 5, 6, 1, 3, 4])


def small():
    rngs = nnx.Rngs(0)
    first, last = nn.Linear(3, 4, rngs=rngs), nn.Linear(4, 2, rngs=rngs)
    return nn.Sequential(first, nn.LIF(4, beta=0.5, threshold=0.3), last, nn.LI(2, beta=0.5))


def cyclic():
    rngs = nnx.Rngs(0)
    nodes = {
        "w": nn.Linear(3, 4, rngs=rngs), "a": nn.LIF(4, beta=0.5, threshold=0.3), "back": nn.Linear(4, 4, rngs=rngs),
        "r": nn.Linear(4, 2, rngs=rngs), "out": nn.LI(2, beta=0.5),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "a"), ("a", "back"), ("back", "a", 1), ("a", "r"), ("r", "out"), ("out", "output")]
    return graph.Graph(nodes, edges, input_shape=3, merge={"a": "sum"})


def test_statistics_and_rates_are_those_of_the_arrays_in_batches():
    what = ("spikes", "membrane")
    whole = report.record(small(), X, what=what)
    found = report.record(small(), X, what=(*what, "rates"), statistics=True, batch_size=3)
    assert list(found) == ["1", "3"]
    for path, layer in whole.items():
        np.testing.assert_allclose(found[path]["rates"], layer["spikes"].mean(0), rtol=1e-5, atol=1e-6)
        assert (found[path].rate, found[path].silent) == (pytest.approx(layer.rate, rel=1e-5), layer.silent)
        for name in what:
            numbers, values = found[path][name], layer[name]
            assert numbers.mean.shape == values.shape[2:]
            np.testing.assert_allclose(numbers.mean, values.mean((0, 1)), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(numbers.std, values.std((0, 1)), rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(numbers.low, values.min((0, 1)))
            np.testing.assert_array_equal(numbers.high, values.max((0, 1)))
            np.testing.assert_allclose(numbers.over_time, values.mean((0, 2)), rtol=1e-5, atol=1e-6)


def test_chosen_steps_units_and_layers_of_a_stream():
    whole = report.record(small(), X, where=("0", "1"))
    found = report.record(small(), (X[:4], X[4:]), where=("0", "1"), every=2, units={"1": [3, 0]})
    assert found.steps.tolist() == [0, 2, 4]
    assert found.samples == 7
    np.testing.assert_array_equal(found["1"]["spikes"], whole["1"]["spikes"][:, ::2, [3, 0]])
    np.testing.assert_allclose(found["0"]["spikes"], whole["0"]["spikes"][:, ::2], rtol=1e-6, atol=1e-6)
    loader = data.Loader(data.Split(X, Y), 4)
    np.testing.assert_array_equal(report.record(small(), loader)["1"]["spikes"], whole["1"]["spikes"])


@pytest.mark.parametrize("build", [small, cyclic])
def test_the_gradient_is_that_of_what_a_layer_is_given(build):
    """The chain rule gives the gradient of the weights before it; a cycle adds what comes back."""
    net, loss = build(), fn.integral_crossentropy()
    neuron, first = ("1", net.layers[0]) if build is small else ("a", net.nodes["w"])
    got = report.record(net, X, what="gradient", y=Y, batch_size=4)[neuron]["gradient"]

    def of(kernel):
        copy = nnx.clone(net)
        (copy.layers[0] if build is small else copy.nodes["w"]).kernel[...] = kernel
        return loss(nn.run(copy, X, mode="layer")[0], Y)

    expected = jax.grad(of)(first.kernel[...])
    np.testing.assert_allclose(np.einsum("bti,bto->io", X, got) / len(X), expected, rtol=1e-3, atol=1e-5)
    assert np.abs(got).max() > 0


@pytest.mark.parametrize("build", [small, cyclic])
def test_rates_of_samples_of_unequal_length(build):
    found = report.record(build(), X, what=("rates", "spikes"), lengths=LENGTHS)
    layer = found["1" if build is small else "a"]
    alive = np.arange(6) < LENGTHS[:, None]
    expected = (layer["spikes"] * alive[..., None]).sum(0) / alive.sum(0)[:, None]
    np.testing.assert_allclose(layer["rates"], expected, rtol=1e-5, atol=1e-6)


def test_what_record_refuses():
    for options, words in (
        ({"what": "gradient"}, r"what='gradient'\): expected labels"),
        ({"where": "9"}, r"where=\): expected layers of the network, 0, 1, 2, 3"),
        ({"every": 0}, r"every=\): expected a whole number, 1 or more; got 0"),
        ({"units": 0}, r"units=\): expected a number of units"),
        ({"units": {"7": [0]}}, r"units=\): expected paths"),
        ({"what": "w"}, "expected what= and where= to name something"),
    ):
        with pytest.raises(ValueError, match=words):
            report.record(small(), X, **options)
    with pytest.raises(ValueError, match="expected samples; got none"):
        report.record(small(), [])
    with pytest.raises(ValueError, match=r"added=\): expected paths of layers"):
        nn.observe(small(), X, added={"9": X})
    with pytest.raises(KeyError, match="expected one of spikes"):
        report.record(small(), X)["1"]["membrane"]
