"""Random graphs: what `observe` sees of every node equals a loop of Python over time, in every mode, with gradients."""

from __future__ import annotations

import datetime
import os
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import graph, nn

SEED = int(os.environ.get("SPYX_DIFFERENTIAL_SEED") or datetime.date.today().toordinal())
BATCH, STEPS, UNITS = 2, 7, 3
MODES = ("auto", "layer", "step")


class Scaled:
    """A layer of somebody else's, with the two methods and nothing more."""

    def initial_state(self, batch_size):
        return jnp.zeros((batch_size, UNITS))

    def __call__(self, x, state):
        state = 0.5 * state + 0.25 * x
        return jnp.sin(state), state


def halved(x):
    return 0.5 * x


class Drawn:
    """A graph and the same thing in plain Python.

    Args:
        kinds: layer by node.
        edges: (source, target, delay); a target's inputs merge in this order.
        merges: by node and output.
    """

    def __init__(self, seed):
        draw = random.Random(seed)
        count = draw.randint(3, 6)
        names = [f"n{i}" for i in range(count)]
        edges = []
        for i, name in enumerate(names):
            sources = draw.sample(["input", *names[:i]], draw.randint(1, min(2, i + 1)))
            edges += [(s, name, draw.choice([0, 0, 0, 1, 3])) for s in sources]
        for _ in range(draw.randint(0, 2)):  # back, which takes time
            target = draw.randrange(count)
            edges.append((names[draw.randrange(target, count)], names[target], draw.choice([1, 2, 4])))
        told = {source for source, _, _ in edges}
        ends = [name for name in names if name not in told] or [names[-1]]
        edges += [(name, "output", draw.choice([0, 0, 2])) for name in ends]
        draw.shuffle(edges)
        self.edges, self.order = [*dict.fromkeys(edges)], names
        self.edges = [e for i, e in enumerate(self.edges) if e[:2] not in [f[:2] for f in self.edges[:i]]]
        self.merges, layers = {"output": draw.choice(["sum", "mean"])}, {}
        for number, name in enumerate(names):
            incoming = sum(target == name for _, target, _ in self.edges)
            self.merges[name] = draw.choice(["sum", "mean", "concatenate"])
            if self.merges[name] == "concatenate":
                layers[name] = nnx.Linear(incoming * UNITS, UNITS, rngs=nnx.Rngs(number))
            else:
                kinds = [
                    nn.LIF(UNITS, beta=0.8, threshold=0.4),
                    nn.ALIF(UNITS, beta=0.9, gamma=0.7, threshold=0.3),
                    nn.RLIF(UNITS, beta=0.8, threshold=0.4, rngs=nnx.Rngs(number)),
                    nn.LI(UNITS),
                    halved,
                    Scaled(),
                ]
                layers[name] = draw.choice(kinds)
        self.layers = layers
        shuffled = draw.sample(names, count)  # the order of declaration is not that of execution
        self.net = graph.Graph({n: layers[n] for n in shuffled}, self.edges, self.merges)

    def loop(self, layers, x):
        """`(outputs (batch, time, ...), every node's outputs, every node's states after each step)`."""
        signals = {"input": x, **{name: [] for name in self.order}}
        states = {n: [layer.initial_state(BATCH)] for n, layer in layers.items() if hasattr(layer, "initial_state")}
        outs = []
        for t in range(STEPS):

            def arriving(target, t=t):
                found = []
                for source, end, delay in self.edges:
                    if end == target:
                        past = t - delay
                        silence = jnp.zeros((BATCH, UNITS))
                        value = x[:, past] if source == "input" else signals[source][past] if past >= 0 else None
                        found.append(silence if past < 0 else value)
                if len(found) == 1:
                    return found[0]
                if self.merges[target] == "concatenate":
                    return jnp.concatenate(found, axis=-1)
                total = sum(found[1:], found[0])
                return total / len(found) if self.merges[target] == "mean" else total

            for name in self.order:
                if name in states:
                    out, state = layers[name](arriving(name), states[name][-1])
                    states[name].append(state)
                else:
                    out = layers[name](arriving(name))
                signals[name].append(out)
            outs.append(arriving("output"))
        stack = {name: jnp.stack(signals[name], 1) for name in self.order}
        return (
            jnp.stack(outs, 1),
            stack,
            {n: jax.tree.map(lambda *a: jnp.stack(a, 1), *s[1:]) for n, s in states.items()},
        )


def _named(state):
    return state._asdict() if hasattr(state, "_asdict") else {"v": state}


@pytest.mark.parametrize("number", range(6))
def test_random_graphs(number):
    print(f"SPYX_DIFFERENTIAL_SEED={SEED}")
    drawn = Drawn(1000 * SEED + number)
    x = jnp.asarray(np.random.default_rng(SEED).normal(0.5, 1.0, (BATCH, STEPS, UNITS)), jnp.float32)
    outs, signals, states = drawn.loop(drawn.layers, x)
    expected = {**signals}
    for name, state in states.items():
        named = {"state": state} if isinstance(drawn.layers[name], Scaled) else _named(state)
        expected.update({f"{name}.{key}": value for key, value in named.items()})

    graphdef, weights, rest = nnx.split(drawn.net, nnx.Param, ...)

    def plain(weights, x):
        net = nnx.merge(graphdef, weights, rest, copy=True)
        layers = {n: net.nodes[n] if n in net.nodes else drawn.layers[n] for n in drawn.order}
        return drawn.loop(layers, x)[0].sum()

    gradients = jax.grad(plain, (0, 1))(weights, x)
    for mode in MODES:
        got, _, seen = nn.observe(drawn.net, x, what=("outputs", "state"), mode=mode)
        _close(got, outs, f"{mode}: the output")
        assert set(seen) == set(expected), f"{mode}: observed"
        for path, value in expected.items():
            _close(seen[path], value, f"{mode}: {path}")

        def loss(weights, x, mode=mode):
            return nn.run(nnx.merge(graphdef, weights, rest, copy=True), x, mode=mode)[0].sum()

        found = jax.grad(loss, (0, 1))(weights, x)
        jax.tree.map(lambda a, b, mode=mode: _close(a, b, f"{mode}: a gradient"), found, gradients)


def _close(got, expected, what):
    assert got.shape == expected.shape, what
    scale = 1 + float(jnp.max(jnp.abs(expected)))
    assert float(jnp.max(jnp.abs(got - expected))) <= 2e-4 * scale, f"SPYX_DIFFERENTIAL_SEED={SEED}: {what}"


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_of_two_methods_in_both_containers(mode):
    """A third party's class inside `Sequential` and `Graph`, in value and gradient."""
    x = jnp.asarray(np.random.default_rng(3).normal(size=(BATCH, STEPS, UNITS)), jnp.float32)
    edges = [("input", "theirs"), ("theirs", "lif"), ("lif", "output"), ("theirs", "output", 2)]
    nodes = {"lif": nn.LIF(UNITS, beta=0.8, threshold=0.2), "theirs": Scaled()}
    nets = nn.Sequential(Scaled(), nn.LIF(UNITS, beta=0.8, threshold=0.2)), graph.Graph(nodes, edges, "sum")

    def loop(x, merged):
        theirs, lif = Scaled(), nn.LIF(UNITS, beta=0.8, threshold=0.2)
        s, v, first, outs = theirs.initial_state(BATCH), lif.initial_state(BATCH), [], []
        for t in range(STEPS):
            y, s = theirs(x[:, t], s)
            z, v = lif(y, v)
            first.append(y)
            outs.append(z + first[t - 2] if merged and t >= 2 else z)
        return jnp.stack(outs, 1)

    weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
    for net, merged in zip(nets, (False, True), strict=True):
        _close(nn.run(net, x, mode=mode)[0], loop(x, merged), mode)

        def loss(x, net=net):
            return (weights * nn.run(net, x, mode=mode)[0]).sum()

        def expected(x, merged=merged):
            return (weights * loop(x, merged)).sum()

        _close(jax.grad(loss)(x), jax.grad(expected)(x), f"{mode}: gradient")
