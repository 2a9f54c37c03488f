"""The recurrent kernels' contract as plain JAX loops: for platforms without a kernel, and where W is mapped."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from spyx.engine.fused.program import evaluate
from spyx.engine.fused.recurrent import fed
from spyx.engine.fused.spec import Spec


def forward(spec: Spec, xs: Any, ps: Any, ss: Any, w: jax.Array) -> list[jax.Array]:
    """Outputs (time, batch, units), last states (batch, units), checkpoints (chunks, batch, units)."""

    def body(s: list[jax.Array], x: list[jax.Array]) -> Any:
        (z,) = evaluate(fed.spikes(spec), [*x, jnp.zeros_like(s[0]), *ps, *s])
        after = evaluate(spec.forward, [*x, z @ w, *ps, *s])
        return after[spec.n_y :], (after[: fed.kept(fed.spikes_at(spec), spec.n_y)], s)

    ends, (ys, before) = jax.lax.scan(body, list(ss), list(xs))
    return [*ys, *ends, *(b[:: spec.chunk] for b in before)]


def backward(
    spec: Spec, xs: Any, ps: Any, marks: Any, z: jax.Array, g_ys: Any, g_ends: Any, w: jax.Array
) -> list[jax.Array]:
    """Cotangents of inputs (time, batch, units), parameters and first states (batch, units)."""

    def again(s: list[jax.Array], at: Any) -> Any:
        t, x, c = at
        s = [jnp.where(t % spec.chunk == 0, m[t // spec.chunk], a) for m, a in zip(marks, s, strict=True)]
        return evaluate(spec.advance, [*x, c, *ps, *s]), s

    steps, currents = jnp.arange(xs[0].shape[0]), z @ w
    _, before = jax.lax.scan(again, [jnp.zeros_like(g) for g in g_ends], (steps, list(xs), currents))

    def body(carry: Any, at: Any) -> Any:
        g_s, g_p = carry
        x, c, s, g_y = at
        known = [*x, c, *ps, *s, *g_y]
        (g_c,) = evaluate(fed.current_cotangent(spec), [*known, jnp.zeros_like(c), *g_s])
        pulled = evaluate(spec.backward, [*known, g_c @ w.T, *g_s])
        g_x, rest = pulled[: fed.kept(fed.current_at(spec), spec.n_x)], pulled[spec.n_x :]
        return (rest[: spec.n_s], [a + b for a, b in zip(g_p, rest[spec.n_s :], strict=True)]), g_x

    start = (list(g_ends), [jnp.zeros_like(p) for p in ps])
    (g_s, g_p), g_xs = jax.lax.scan(body, start, (list(xs), currents, before, list(g_ys)), reverse=True)
    return [*g_xs, *g_p, *g_s]
