"""Fused kernels as neurons see them: whether one can be generated, and what it looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from spyx.engine import fused

if TYPE_CHECKING:
    from spyx.nn.neuron import Neuron


def obstacle(neuron: Neuron, xs: Any) -> str | None:
    """Why mode "fused" cannot run this neuron here, or None: an extra, a platform, or a primitive that is missing.

    Args:
        neuron: any neuron.
        xs: its input (time, batch, *hidden_shape); only shape and dtype matter.
    """
    recurrent = hasattr(neuron, "recurrent_w")
    if not neuron.local and not recurrent:
        return "its units read one another"
    return fused.unavailable(recurrent=recurrent) or fused.obstacle(neuron.step, *_like_run(neuron, xs))


def kernel_source(neuron: Neuron, batch_size: int = 1) -> str:
    """The kernels that mode "fused" generates from a neuron's step for CPUs, forward and backward, as Python.

    The backward kernel computes the states again from the last checkpoint, then runs the step's derivative in reverse.

    Args:
        neuron: local, or recurrent with one call of `p.feedback`.
        batch_size: samples; the kernel is the same for every number.

    Returns:
        What Numba compiles. Arrays are flat (time, lanes), a lane being one unit of one sample; `by_events`
        and `product` are the products of a recurrent neuron, with W and with its transpose.

    Raises:
        ValueError: no kernel can be generated from the step.

    Example:
        >>> from spyx import nn
        >>> source = kernel_source(nn.LI(4, beta=0.5))
        >>> "y0[r + i] = v4" in source
        True
    """
    x = jax.ShapeDtypeStruct((1, batch_size, *neuron.hidden_shape), jnp.float32)
    try:
        return fused.source(neuron.step, *_like_run(neuron, x))
    except fused.Unsupported as reason:
        raise ValueError(
            f"spyx.nn.kernel_source: expected a step of elementwise operations; got {reason}. "
            f"{type(neuron).__name__} runs in mode='layer'."
        ) from reason


def _like_run(neuron: Neuron, xs: Any) -> tuple[Any, Any, Any]:
    """Shapes of `(p, xs, s0)`, as `Neuron.sequence` hands them to the engine."""
    p, s = jax.eval_shape(lambda: (neuron.params().astype(jnp.float32), neuron.initial_state(xs.shape[1])))
    dtype = xs.dtype if jnp.issubdtype(xs.dtype, jnp.floating) else jnp.float32
    return p, jax.ShapeDtypeStruct(xs.shape, dtype), s
