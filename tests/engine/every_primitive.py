"""A step that calls every primitive of the kernels' table, in its value or in its derivative."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

ANYWHERE = (
    jnp.abs,
    jnp.sign,
    jnp.square,
    jnp.exp,
    jnp.exp2,
    jnp.expm1,
    jnp.tanh,
    jnp.sin,
    jnp.cos,
    jnp.tan,
    jnp.sinh,
    jnp.cosh,
    jnp.arctan,
    lax.logistic,
    lambda a: a**5,
    lambda a: jnp.floor(a) * a + jnp.ceil(a),
    lambda a: jnp.arctan2(a, 2 + a),
    lambda a: jnp.where(jnp.isfinite(a) & (a != 1) | ~(a == 2), a, 1.0),
    lambda a: jnp.where((a <= 0) ^ (a >= 1), a, jnp.where(a < 0, 2.0, a)),
    lambda a: lax.clamp(jnp.asarray(-1, a.dtype), a, jnp.asarray(1, a.dtype)),
    lambda a: jnp.maximum(a, 0.5) - jnp.minimum(a, -0.5),
)
POSITIVE = (jnp.sqrt, lax.rsqrt, jnp.log, jnp.log1p, lambda a: a**-3, lambda a: a**a)
WITHIN_ONE = (jnp.arcsin, jnp.arccos)


def step(p, x, s):
    small = jnp.where(jnp.abs(s) < 0.9, s, 0.5)
    out = sum(f(s) for f in ANYWHERE) + sum(f(0.1 + jnp.abs(s)) for f in POSITIVE) + sum(f(small) for f in WITHIN_ONE)
    return out, jnp.where(x > 0, 0.9, -0.9) * s / 1.01 - x
