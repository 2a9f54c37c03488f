"""The plain time loop: `lax.scan` of a step, differentiated by JAX itself. Every other mode is compared with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


@partial(jax.jit, static_argnums=0, inline=True)
def scan(step: Step, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
    """Run `step` over axis 0 of `xs`.

    Args:
        step: `(p, x, s) -> (out, s')`, pure.
        p: parameters, read by every step.
        xs: inputs, time on axis 0.
        s0: state before the first step.

    Returns:
        `(outs, s_T)`: outputs with time on axis 0 and the state after the last step.
    """

    def body(s: Any, x: Any) -> tuple[Any, Any]:
        out, s = step(p, x, s)
        return s, out

    s_end, outs = jax.lax.scan(body, s0, xs)
    return outs, s_end
