"""The kernels' contract as plain JAX loops: what runs where there is no kernel, and what kernels are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from spyx.engine.fused.program import evaluate

if TYPE_CHECKING:
    from spyx.engine.fused.spec import Spec


def forward(spec: Spec, xs: Any, ps: Any, ss: Any) -> list[jax.Array]:
    """Outputs (time, lanes), last states (lanes), checkpoints (chunks, lanes)."""

    def body(s: list[jax.Array], x: list[jax.Array]) -> Any:
        after = evaluate(spec.forward, [*x, *ps, *s])
        return after[spec.n_y :], (after[: spec.n_y], s)

    ends, (ys, before) = jax.lax.scan(body, list(ss), list(xs))
    return [*ys, *ends, *(b[:: spec.chunk] for b in before)]


def backward(spec: Spec, xs: Any, ps: Any, marks: Any, g_ys: Any, g_ends: Any) -> list[jax.Array]:
    """Cotangents of inputs (time, lanes), parameters (lanes) and first states (lanes)."""

    def again(s: list[jax.Array], at: Any) -> Any:
        t, x = at
        s = [jnp.where(t % spec.chunk == 0, m[t // spec.chunk], a) for m, a in zip(marks, s, strict=True)]
        return evaluate(spec.advance, [*x, *ps, *s]), s

    steps = jnp.arange(xs[0].shape[0])
    blank = [jnp.zeros_like(g) for g in g_ends]
    _, before = jax.lax.scan(again, blank, (steps, list(xs)))

    def body(carry: Any, at: Any) -> Any:
        g_s, g_p = carry
        x, s, g_y = at
        pulled = evaluate(spec.backward, [*x, *ps, *s, *g_y, *g_s])
        g_x, rest = pulled[: spec.n_x], pulled[spec.n_x :]
        return (rest[: spec.n_s], [a + b for a, b in zip(g_p, rest[spec.n_s :], strict=True)]), g_x

    start = (list(g_ends), [jnp.zeros_like(p) for p in ps])
    (g_s, g_p), g_xs = jax.lax.scan(body, start, (list(xs), before, list(g_ys)), reverse=True)
    return [*g_xs, *g_p, *g_s]
