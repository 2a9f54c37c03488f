"""Recurrent connections with delays: spikes put down one by one where they arrive, and gradients in every mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import delays_oracle as oracle
from spyx import nn, testing

UNITS = 4


def recurrent(per="synapse", kernel="gauss", max_delay=5, dynamics="spyx", scale=1.0):
    w = np.round(16 * scale * np.random.default_rng(1).normal(size=(UNITS, UNITS))) / 16
    connection = nn.Linear(UNITS, UNITS, use_bias=False, rngs=nnx.Rngs(0))
    connection.kernel[...] = jnp.float32(w)
    via = nn.Delayed(connection, max_delay, per, kernel, rngs=nnx.Rngs(1))
    return nn.Recurrent(nn.LIF(UNITS, beta=0.5, dynamics=dynamics), via=via), w


@pytest.mark.parametrize(("per", "max_delay"), [("synapse", 1), ("synapse", 20), ("source", 5)])
def test_rounded_network_against_every_spike(per, max_delay):
    """Weights and inputs are sixteenths and beta is a half: sums of a few steps are exact, and so are the spikes."""
    network, w = recurrent(per, max_delay=max_delay)
    network = nn.rounded(network)
    x = np.float32(np.round(16 * np.random.default_rng(2).normal(0.4, 0.8, (2, 20, UNITS))) / 16)
    steps = np.asarray(network.via.delays[...])
    steps = np.broadcast_to(steps[:, None] if per == "source" else steps, w.shape)
    expected = oracle.recurrent_lif(x, w, steps, 0.5)
    assert 0.1 < expected.mean() < 0.6
    for options in ({}, {"mode": "step", "chunk": 3}):
        np.testing.assert_array_equal(nn.run(network, x, **options)[0], expected)
    pieces = (x[:, :1], x[:, 1:8], x[:, 8:10], x[:, 10:])
    np.testing.assert_array_equal(jnp.concatenate([out for out, _ in nn.stream(network, pieces)], 1), expected)


def test_a_spike_after_the_update_arrives_one_step_later():
    network, w = recurrent(dynamics=nn.Dynamics(spike="after", reset="subtract"))
    network = nn.rounded(network)
    x = np.float32(np.round(16 * np.random.default_rng(2).normal(0.4, 0.8, (2, 20, UNITS))) / 16)
    expected = oracle.recurrent_lif(x, w, np.asarray(network.via.delays[...]), 0.5, same_step=False)
    assert 0.1 < expected.mean() < 0.6
    np.testing.assert_array_equal(nn.run(network, x)[0], expected)


def test_every_unit_hears_itself_later():
    """A `Delayed` of a shape with fixed delays has no weight at all."""
    via = nn.Delayed(2, 3, kernel="fixed", delays=[0, 2])
    found, state = nn.run(nn.Recurrent(nn.IF(2, threshold=0.5), via=via), jnp.zeros((1, 5, 2)).at[0, 0].set(1.0))
    assert found[0].T.tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 1.0]]
    assert state.past.shape == (1, 3, 2)


@pytest.mark.parametrize(("per", "dynamics"), [("target", "paper")])
def test_layer_promises(per, dynamics):
    """The backward pass that stores what was sent once gives the gradients of the one that stores every state."""
    testing.check_layer(recurrent(per, "triangle", 3, dynamics)[0], (UNITS,))


def test_derivatives_of_every_order():
    """Forward mode and a second derivative in float64, against differences of the first one; a smooth spike."""
    with jax.enable_x64(True):
        network, _ = recurrent(scale=0.3)
        network.neuron.activation = jax.nn.sigmoid
        network = nn.Recurrent(network.neuron, via=network.via)
        graphdef, variables = nnx.split(network)
        variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 7, UNITS)))

        def loss(delays, x):
            layer = nnx.merge(graphdef, variables, copy=True)
            layer.via.delays = nn.Delays(delays)
            outs, state = nn.run(layer, x, layer.initial_state(1, jnp.float64))
            return (outs**2).sum() + jnp.sin(state.past).sum()

        d = variables.via.delays[...]
        along = jnp.asarray(np.random.default_rng(1).normal(size=d.shape))
        slope = jax.jit(jax.grad(loss))
        forward = jax.jvp(lambda d: loss(d, x), (d,), (along,))[1]
        difference = (loss(d + 1e-6 * along, x) - loss(d - 1e-6 * along, x)) / 2e-6
        np.testing.assert_allclose(forward, difference, rtol=1e-6)
        np.testing.assert_allclose((slope(d, x) * along).sum(), difference, rtol=1e-6)
        second = jax.jit(lambda d: jax.jvp(lambda d: jax.grad(loss)(d, x), (d,), (along,))[1])(d)
        differences = (slope(d + 1e-6 * along, x) - slope(d - 1e-6 * along, x)) / 2e-6
        np.testing.assert_allclose(second, differences, rtol=1e-5, atol=1e-7)


def test_errors():
    network, _ = recurrent()
    with pytest.raises(ValueError, match=r"past of shape \(2, 5, 4\); got \(2, 4, 4\)"):
        nn.run(network, jnp.ones((2, 3, UNITS)), recurrent(max_delay=4)[0].initial_state(2))
    with pytest.raises(ValueError, match=r"a current of shape \(4,\).*got \(3,\) from Delayed\(Linear\)"):
        nn.Recurrent(nn.LIF(4, beta=0.5), via=nn.Delayed(nn.Linear(4, 3, rngs=nnx.Rngs(0)), 2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="expected a neuron that can run so"):
        nn.run(network, jnp.ones((2, 3, UNITS)), mode="fused")


def test_inside_shard_map():
    """Gradients of what all devices share, from samples that each has for itself."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    network = recurrent("source", "triangle", 3)[0]
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)
    x = 2 * jnp.ones((2, 5, UNITS))

    def loss(params, x):
        return (nn.run(nnx.merge(graphdef, params, rest, copy=True), x)[0] ** 2).sum()

    def shared(params, x):
        return jax.lax.psum(loss(params, x), "data")

    specs = (jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data"))
    mapped = jax.shard_map(shared, mesh=mesh, in_specs=specs, out_specs=specs[0])
    found, expected = (jax.jit(jax.grad(function))(params, x) for function in (mapped, loss))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
