"""Small graphs that several tests build, and a loop that runs any graph the plain way."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn

WIDTH, STEPS, BATCH = 3, 7, 2


def spikes(seed: int = 0, shape: tuple[int, ...] = (BATCH, STEPS, WIDTH)) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 2, jnp.float32)


def linear(seed: int, size: int = WIDTH, out: int = WIDTH) -> nnx.Linear:
    return nnx.Linear(size, out, rngs=nnx.Rngs(seed))


def layer(kind: str, seed: int) -> Any:
    return {
        "linear": lambda: linear(seed),
        "lif": lambda: nn.LIF(WIDTH, beta=0.7, threshold=0.6),
        "li": lambda: nn.LI(WIDTH, beta=0.6),
        "tanh": lambda: jnp.tanh,
    }[kind]()


def plain_loop(graph: Any, x: jax.Array) -> jax.Array:
    """One call per node and step, every signal remembered from the start: nothing shared with the code under test."""
    merges = {"sum": lambda v: sum(v[1:], v[0]), "mean": lambda v: sum(v[1:], v[0]) / len(v)}
    merges |= {"concatenate": lambda v: jnp.concatenate(v, -1)}
    states = {n: v.initial_state(x.shape[0]) for n, v in graph.nodes.items() if hasattr(v, "initial_state")}
    names, history, outs = list(graph.nodes), {"input": []}, []
    for t in range(x.shape[1]):
        history["input"].append(x[:, t])
        waiting = [*names, "output"]
        while waiting:
            name = waiting.pop(0)
            sources = [(source, delay) for source, target, delay in graph.edges if target == name]
            if any(delay == 0 and len(history.get(source, [])) <= t for source, delay in sources):
                waiting.append(name)
                continue
            values = []
            for source, delay in sources:
                past = history.get(source, [])
                values.append(past[t - delay] if t >= delay else None)
            known = next((v for v in values if v is not None), jnp.zeros((x.shape[0], WIDTH)))
            values = [jnp.zeros_like(known) if v is None else v for v in values]
            merged = values[0] if len(values) == 1 else merges[graph.merges[name]](values)
            if name == "output":
                outs.append(merged)
            elif name in states:
                out, states[name] = graph.nodes[name](merged, states[name])
                history.setdefault(name, []).append(out)
            else:
                history.setdefault(name, []).append(graph.nodes[name](merged))
    return jnp.stack(outs, 1)
