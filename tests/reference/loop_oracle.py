"""The plain loop: `lax.scan` of a step, differentiated by JAX itself, and a loop without one."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def scan(step, p, xs, s0):
    """First derivatives are right; JAX forgets a surrogate's rule before the second."""

    def body(s, x):
        out, s = step(p, x, s)
        return s, out

    end, outs = jax.lax.scan(body, s0, xs)
    return outs, end


def unrolled(step, p, xs, s0):
    """Step after step in Python: right at every order."""
    outs, s = [], s0
    for t in range(jax.tree.leaves(xs)[0].shape[0]):
        out, s = step(p, jax.tree.map(lambda a, t=t: a[t], xs), s)
        outs.append(out)
    return jax.tree.map(lambda *a: jnp.stack(a), *outs), s
