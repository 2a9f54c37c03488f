"""The plain loop over time, differentiated by JAX itself: what the modes of the engine are measured against."""

from __future__ import annotations

from typing import Any

import jax

from spyx import engine


def scan(step: Any, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
    """`(outs, s_T)` by `lax.scan`."""

    def body(s: Any, x: Any) -> tuple[Any, Any]:
        out, s = step(p, x, s)
        return s, out

    end, outs = jax.lax.scan(body, s0, xs)
    return outs, end


MODES = {**engine.MODES, "scan": scan}
"""The modes of the engine, and the plain loop."""
