"""The kernels' contract as plain JAX loops: what runs where there is no kernel, and what kernels are compared with.

Arrays are (time, samples, units) and (samples, units). Of a recurrent step w is the weight and z the spikes fed back;
both are None for a local one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.engine.kernels import spec as parts
from spyx.engine.kernels.lane_program import evaluate

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.engine.kernels.spec import Spec
    from spyx.engine.types import Checkpoints, Leaves, OverTime, PerLane


def forward(spec: Spec, xs: OverTime, ps: PerLane, ss: PerLane, w: Float[Array, "units units"] | None = None) -> Leaves:
    """Outputs (time, samples, units), last states (samples, units), checkpoints (chunks, samples, units)."""

    def body(s: PerLane, x: PerLane) -> tuple[PerLane, tuple[PerLane, PerLane]]:
        if spec.recurrent:
            (z,) = evaluate(parts.spikes(spec), [*x, jnp.zeros_like(s[0]), *ps, *s])
            x = [*x, z @ w]  # type: ignore[operator]
        after = evaluate(spec.forward, [*x, *ps, *s])
        return after[spec.n_y :], (after[: spec.outputs], s)

    ends, (ys, before) = jax.lax.scan(body, list(ss), list(xs))
    return [*ys, *ends, *(b[:: spec.chunk] for b in before)]


def backward(
    spec: Spec,
    xs: OverTime,
    ps: PerLane,
    marks: Checkpoints,
    g_ys: OverTime,
    g_ends: PerLane,
    z: Float[Array, "time samples units"] | None = None,
    w: Float[Array, "units units"] | None = None,
) -> Leaves:
    """Cotangents of inputs (time, samples, units), parameters and first states (samples, units)."""
    xs = [*xs, z @ w] if spec.recurrent else list(xs)  # type: ignore[operator]

    def again(s: PerLane, at: tuple[Array, PerLane]) -> tuple[PerLane, PerLane]:
        t, x = at
        s = [jnp.where(t % spec.chunk == 0, m[t // spec.chunk], a) for m, a in zip(marks, s, strict=True)]
        return evaluate(spec.advance, [*x, *ps, *s]), s

    steps = jnp.arange(xs[0].shape[0])
    _, before = jax.lax.scan(again, [jnp.zeros_like(g) for g in g_ends], (steps, xs))

    def body(
        carry: tuple[PerLane, PerLane], at: tuple[PerLane, PerLane, PerLane]
    ) -> tuple[tuple[PerLane, PerLane], PerLane]:
        g_s, g_p = carry
        x, s, g_y = at
        if spec.recurrent:
            known = [*x, *ps, *s, *g_y]
            (g_c,) = evaluate(parts.current_cotangent(spec), [*known, jnp.zeros_like(g_s[0]), *g_s])
            g_y = [*g_y, g_c @ w.T]  # type: ignore[union-attr]
        pulled = evaluate(spec.backward, [*x, *ps, *s, *g_y, *g_s])
        g_x, rest = pulled[: spec.inputs], pulled[spec.n_x :]
        return (rest[: spec.n_s], [a + b for a, b in zip(g_p, rest[spec.n_s :], strict=True)]), g_x

    start = (list(g_ends), [jnp.zeros_like(p) for p in ps])
    (g_s, g_p), g_xs = jax.lax.scan(body, start, (xs, before, list(g_ys)), reverse=True)
    return [*g_xs, *g_p, *g_s]
