"""How several signals become the one input of a node."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from spyx.graph.types import Signal, Spec

MERGES = ("concatenate", "sum", "mean", "list")
"""Names of the merges: on the feature (last) axis, added up, averaged, or handed over as a list."""


def merge(how: str, signals: Sequence[Signal]) -> Signal:
    """One input out of `signals`; works on one time step and on all of time, because it never looks at axis 0."""
    if how == "list":
        return list(signals)
    if len(signals) == 1:
        return signals[0]
    problem = conflict(how, signals)
    if problem:
        raise ValueError(problem)
    signals = _of_one_dtype(signals)
    if how == "concatenate":
        return jnp.concatenate(signals, axis=-1)
    total = reduce(jnp.add, signals)
    return total / len(signals) if how == "mean" else total


def conflict(how: str, signals: Sequence[Signal | Spec]) -> str | None:
    """Why these signals, or their shapes, cannot merge; None if they can."""
    if how == "list" or len(signals) == 1:
        return None
    if not all(hasattr(signal, "shape") for signal in signals):
        return f"trees of arrays cannot merge by {how}, only as a list"
    shapes = [signal.shape for signal in signals]
    floats = sorted({str(s.dtype) for s in signals if jnp.issubdtype(s.dtype, jnp.floating)})
    if len(floats) > 1:
        return f"dtypes {' and '.join(floats)} cannot merge by {how}, cast one of them"
    if how == "concatenate":
        fits = min(map(len, shapes)) > 1 and len({shape[:-1] for shape in shapes}) == 1
    else:
        fits = len(set(shapes)) == 1
    return None if fits else f"shapes {' and '.join(text(shape) for shape in shapes)} cannot merge by {how}"


def text(shape: Sequence[int]) -> str:
    """A shape of one step, with its first axis called batch."""
    return "(" + ", ".join(map(str, ("batch", *shape[1:]))) + ")"


def _of_one_dtype(signals: Sequence[jax.Array]) -> list[jax.Array]:
    # Spikes travel as uint8 or bool: they join the others' floating dtype, and their sum must not overflow.
    dtype = next((s.dtype for s in signals if jnp.issubdtype(s.dtype, jnp.floating)), jnp.float32)
    return [s.astype(dtype) if s.dtype in (jnp.uint8, jnp.bool_) else s for s in signals]
