"""`record` sees the network as it answers after training: no noise, the running means, and nothing changed by it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn, report


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
    activities = report.record(model, jnp.asarray(x))

    current = (x - [0.5, -1.0, 0.0]) / np.sqrt(np.array([4.0, 1.0, 0.25]) + 1e-5)
    v, trace, spikes, traces = np.zeros((2, 3)), np.zeros((2, 3)), [], []
    for t in range(8):
        z = (v > 0.8).astype(float)
        v = 0.5 * v + current[:, t] - 0.8 * z
        trace = 0.75 * trace + z
        spikes.append(z)
        traces.append(trace)
    assert [(a.name, a.spikes) for a in activities] == [("2 LIF", True), ("3 LI", False)]
    np.testing.assert_array_equal(activities[0].outputs, np.stack(spikes, 1))
    np.testing.assert_allclose(activities[1].outputs, np.stack(traces, 1), rtol=1e-5, atol=1e-5)
    assert 0 < activities[0].rate < 1
    assert activities[0].rate == np.mean(spikes)

    jax.tree.map(np.testing.assert_array_equal, numbers(model), before)
    assert not model.layers[0].use_running_average
    assert not model.layers[1].deterministic


def test_silence_is_of_a_neuron_in_every_sample_and_step():
    outputs = np.zeros((2, 3, 2, 2))
    outputs[1, 2, 0, 1] = outputs[0, 0, 1, 0] = -1.0
    activity = report.Activity("0 LI", outputs, spikes=False)
    assert activity.silent == 0.5
    assert activity.rate == -2 / 24
