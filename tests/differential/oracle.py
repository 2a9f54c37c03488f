"""What a run must give, without the engine: a loop of Python over one step at a time, differentiated by plain JAX.

Nothing here is compiled and no `lax.scan` is used. Surrogates of the library are replaced by a `jax.custom_jvp` of
their two functions, so that the library's own primitives have no part in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from spyx.axn import Surrogate
from spyx.engine.params import Params
from spyx.nn import Neuron


@functools.cache
def plain(activation: Any) -> Callable[[Any], Any]:
    """A spike function without the library's primitive."""
    if not isinstance(activation, Surrogate):
        return activation

    @jax.custom_jvp
    def spike(u: Any) -> Any:
        return activation.forward(u)

    @spike.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (u,), (t,) = primals, tangents
        return spike(u), activation.slope(u) * t

    return spike


def compute_dtype(state: Any) -> Any:
    return next(a.dtype for a in jax.tree.leaves(state) if jnp.issubdtype(a.dtype, jnp.floating))


def run(
    layer: Any,
    step: Any,
    x: Any,
    state: Any,
    heard: list[Any] | None = None,
    truncate: int = 0,
    alive: Any = None,
) -> tuple[Any, Any]:
    """`(outputs, last state)` for `x` (batch, time, ...), the loop written out.

    Args:
        layer: the layer.
        step: `step(p, x, s)`; None is that of the layer, a neuron.
        x: input.
        state: state before the first step.
        heard: a list that takes what every spike function was called with, or None.
        truncate: let no gradient pass between every so many steps, and none to the first state; 0 lets it.
        alive: (batch, time), the steps that count; None for all. A sample is run alone, without the others.
    """
    if alive is not None:
        return _each_alone(functools.partial(run, layer, step, truncate=truncate), x, state, alive)
    dtype = compute_dtype(state)
    spike = plain(layer.activation)

    def listening(u: Any) -> Any:
        if heard is not None:
            heard.append(u)
        return spike(u)

    p = layer.params().astype(dtype) if isinstance(layer, Neuron) else Params({}, {})
    p = p.replace(spike=listening)
    step = type(layer).step if step is None else step
    outs = []
    for t in range(x.shape[1]):
        if truncate and t % truncate == 0:
            state = jax.lax.stop_gradient(state)
        out, state = step(p, x[:, t].astype(dtype), state)
        outs.append(out.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else out)
    return jnp.stack(outs, axis=1), state


def _each_alone(run: Callable[..., Any], x: Any, state: Any, alive: Any) -> tuple[Any, Any]:
    """Every sample on the steps that count alone; zeros in between."""
    found = []
    for b, steps in enumerate(alive):
        start = jax.tree.map(lambda a, b=b: a[b : b + 1], state)
        outs, end = run(x[b : b + 1, steps], start)
        full = jnp.zeros((1, x.shape[1], *outs.shape[2:]), outs.dtype).at[:, steps].set(outs)
        found.append((full, end))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)
