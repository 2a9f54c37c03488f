"""An SNNAX network brought over: the same layers, the same graph, the same numbers, with or without its delays.

SNNAX itself is not needed. There, the network below reads

    layers = [eqx.nn.Linear(...), LIF([alpha, beta]), eqx.nn.Linear(...), LIF([alpha, beta])]
    structure = GraphStructure(4, ((0,), (), (), ()), ..., ((), (0,), (1,), (2,)))
    model = StatefulModel(structure, layers)
    states, outs = model(model.init_state((inputs,), key), x, key)

Run it with `python examples/convert_snnax.py`.
"""

from __future__ import annotations

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

from spyx import axn, graph, nn

INPUTS, HIDDEN, OUTPUTS = 6, 16, 3
BATCH, STEPS = 4, 40


def at_least_half(x: jax.Array) -> jax.Array:
    """SNNAX keeps its decays in [0.5, 1]."""
    return jnp.clip(x, 0.5, 1.0)


class SnnaxLIF(nn.Neuron):
    """SNNAX's `LIF([alpha, beta])`: inputs scaled by one minus the decay, a reset to 0 that passes no gradient."""

    state = dict(mem=0.0, syn=0.0, spk=0.0)

    def __init__(self, hidden_shape: Any, alpha: float = 0.95, beta: float = 0.85, threshold: float = 1.0) -> None:
        super().__init__(hidden_shape, axn.superspike_surrogate(10.0))
        self.alpha = nnx.Param(jnp.float32(alpha), constraint=at_least_half)
        self.beta = nnx.Param(jnp.float32(beta), constraint=at_least_half)
        self.threshold = threshold

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        """One time step; the membrane reads the synapse before this step's input reaches it."""
        mem = s.mem - jax.lax.stop_gradient(s.mem * s.spk)
        mem = p.alpha * mem + (1 - p.alpha) * s.syn
        syn = p.beta * s.syn + (1 - p.beta) * x
        z = p.spike(mem - p.threshold)
        return z, SnnaxLIF.State(mem, syn, z)


def layers() -> list[Any]:
    """Equinox layers stay what they are."""
    first, second = jax.random.split(jax.random.key(0))
    return [
        eqx.nn.Linear(INPUTS, HIDDEN, use_bias=False, key=first),
        SnnaxLIF(HIDDEN, threshold=0.1),
        eqx.nn.Linear(HIDDEN, OUTPUTS, use_bias=False, key=second),
        SnnaxLIF(OUTPUTS, threshold=0.02),
    ]


def main() -> str:
    """Run the network straight through, delayed, and as a graph with named nodes."""
    structure = graph.GraphStructure(4, ((0,), (), (), ()), ((), (0,), (1,), (2,)))
    x = (jax.random.uniform(jax.random.key(1), (BATCH, STEPS, INPUTS)) < 0.4).astype(jnp.float32) * 4

    # What SNNAX documents: every layer sees what the layer before it answers at the same step.
    documented, _ = nn.run(graph.StatefulModel(structure, layers()), x)

    # What SNNAX computes: a layer sees what the layer before it answered one step ago, three edges, three steps.
    computed, _ = nn.run(graph.StatefulModel(structure, layers(), graph.debug_forward_fn), x)
    if not jnp.array_equal(computed[:, 3:], documented[:, :-3]):
        raise RuntimeError("a chain of four layers answers three steps late, and otherwise the same")

    # The same with names, where a delay is written on its edge.
    fc1, lif1, fc2, lif2 = layers()
    named = graph.Graph(
        nodes={"fc1": fc1, "lif1": lif1, "fc2": fc2, "lif2": lif2},
        edges=[("input", "fc1"), ("fc1", "lif1", 1), ("lif1", "fc2", 1), ("fc2", "lif2", 1), ("lif2", "output")],
    )
    if not jnp.array_equal(nn.run(named, x)[0], computed):
        raise RuntimeError("a delay of one step on every edge is SNNAX's network")

    return (
        f"{named}\n"
        f"spikes straight through: {int(documented.sum())}, first at step {first_spike(documented)}\n"
        f"spikes delayed as in SNNAX: {int(computed.sum())}, first at step {first_spike(computed)}\n"
    )


def first_spike(spikes: jax.Array) -> int:
    """The first step at which any neuron of any sample fires."""
    return int(jnp.argmax(spikes.any((0, 2))))


if __name__ == "__main__":
    sys.stdout.write(main())
