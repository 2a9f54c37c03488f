"""Delays, longest delays and widths as `Delayed` is given them, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from spyx.nn._fields import between
from spyx.nn._parameters import draw

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, ArrayLike, Float, Int

    from spyx.nn._fields import Initializer

OWNER = "spyx.nn.Delayed"


def checked_delay(max_delay: int) -> int:
    """The longest delay, a whole number of steps."""
    if not isinstance(max_delay, (int, np.integer)) or isinstance(max_delay, bool):
        raise TypeError(f"{OWNER}(max_delay=): expected a whole number of time steps; got {max_delay!r}. Try 25.")
    if max_delay < 1:
        raise ValueError(f"{OWNER}(max_delay=): expected at least 1 time step; got {max_delay}. Try 25.")
    return int(max_delay)


def positions(
    delays: ArrayLike | Sequence[float] | Initializer | None,
    shape: tuple[int, ...],
    max_delay: int,
    rngs: nnx.Rngs | None,
) -> Float[Array, "*shape"]:
    """Where delays start, in [0, max_delay]: drawn, or as given."""
    if delays is None or callable(delays):
        start: Initializer = between(0.0, float(max_delay)) if delays is None else delays
        return jnp.clip(draw(OWNER, "delays", rngs, start, shape), 0.0, float(max_delay))
    value = jnp.asarray(delays)
    value = value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.float32)
    if value.ndim and value.shape != shape:
        raise ValueError(
            f"{OWNER}(delays=): expected a number or an array of shape {shape}; got shape {value.shape}. "
            "Give one delay for each, or choose another per=."
        )
    known = not isinstance(value, Tracer)
    if known and not bool(jnp.all((value >= 0) & (value <= max_delay))):
        raise ValueError(
            f"{OWNER}(delays=): expected delays from 0 to max_delay={max_delay} steps; got values from "
            f"{float(value.min())} to {float(value.max())}. Raise max_delay."
        )
    return jnp.broadcast_to(value, shape)


def whole(value: Float[Array, "*shape"], *, drawn: bool) -> Int[Array, "*shape"]:
    """Fixed delays: rounded where they were drawn, whole numbers where they were given."""
    steps = jnp.round(value)
    if not drawn and not isinstance(value, Tracer) and not bool(jnp.all(steps == value)):
        raise ValueError(
            f"{OWNER}(delays=): expected whole numbers of steps for kernel='fixed'; got {value.tolist()}. Round them."
        )
    return steps.astype(jnp.int32)


def checked_width(owner: str, width: ArrayLike) -> Float[Array, ""]:
    """The width of kernels as an array."""
    value = jnp.asarray(width, jnp.result_type(float) if not hasattr(width, "dtype") else width.dtype)  # type: ignore[union-attr]
    if value.ndim or (not isinstance(value, Tracer) and not float(value) >= 0):
        raise ValueError(f"{owner}(width=): expected a number of steps, 0 or more; got {width!r}. Try 0.")
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.float32)
