"""Layers of every origin in one graph, trained together by one optimizer."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from graph.networks import BATCH, STEPS, WIDTH, linear, spikes
from spyx import fn, graph, nn


def mixed() -> graph.Graph:
    nodes = {
        "flax": linear(0, WIDTH, 4),
        "lif": nn.LIF(4, rngs=nnx.Rngs(0)),
        "equinox": eqx.nn.Linear(4, 4, key=jax.random.key(0)),
        "function": jnp.tanh,
        "count": nn.ActivityRegularization(4),
        "out": nn.LI(4),
    }
    edges = [("input", "flax"), ("flax", "lif"), ("lif", "count"), ("lif", "equinox", 1), ("equinox", "function")]
    edges += [("function", "lif"), ("count", "out"), ("flax", "out"), ("out", "output")]
    return graph.Graph(nodes, edges, merge="sum")


def test_every_kind_of_layer_is_trained_by_one_optimizer():
    net, x = mixed(), spikes()
    optimizer = nnx.Optimizer(net, optax.sgd(0.05), wrt=nnx.Param)
    start = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))]

    @nnx.jit
    def train(net, optimizer):
        def loss(net):
            return jnp.mean((nn.run(net, x)[0] - 1) ** 2)

        value, gradients = nnx.value_and_grad(loss)(net)
        optimizer.update(net, gradients)
        return value

    losses = [float(train(net, optimizer)) for _ in range(5)]
    assert losses[-1] < 0.9 * losses[0]
    end = jax.tree.leaves(nnx.state(net, nnx.Param))
    assert len(start) == 6
    assert all(np.abs(np.asarray(after) - before).max() > 0 for after, before in zip(end, start, strict=True))


def test_a_regulariser_finds_the_counts_inside_a_graph():
    net = mixed()
    _, state = nn.run(net, spikes())
    (count,) = fn.spike_counts(net, state)
    assert count.shape == (BATCH, 4)
    assert 0 < float(count.max()) <= STEPS


def test_equal_graphs_share_one_trace():
    traces = []

    @jax.jit
    def run(net, x):
        traces.append(1)
        return nn.run(net, x)[0]

    def make():
        nodes = {"fc": linear(0), "lif": nn.LIF(WIDTH, beta=0.9)}
        return graph.Graph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "lif", 1), ("lif", "output")], merge="sum")

    run(make(), spikes())
    run(make(), spikes())
    assert len(traces) == 1
