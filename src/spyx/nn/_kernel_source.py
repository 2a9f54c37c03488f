"""`kernel_source`: the kernels that mode "fused" generates, to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.engine import fused

if TYPE_CHECKING:
    from spyx.nn._neuron import Neuron


def kernel_source(neuron: Neuron, batch_size: int = 1) -> str:
    """The kernels that mode "fused" generates from a neuron's step for CPUs, forward and backward, as text.

    The backward kernel computes the states again from the last checkpoint, then runs the step's derivative in reverse.

    Args:
        neuron: local, or recurrent with a dense weight.
        batch_size: samples; the kernel is the same for every number.

    Returns:
        The text that is compiled, in a small part of Python. Arrays are flat (time, lanes), a lane being one unit of
        one sample; `by_events` and `product` are the products of a recurrent neuron, with W and with its transpose.

    Raises:
        ValueError: no kernel can be generated from the step.

    Example:
        >>> from spyx import nn
        >>> source = kernel_source(nn.LI(4, beta=0.5))
        >>> "y0[r + i] = v4" in source
        True
    """
    x = jax.ShapeDtypeStruct((1, batch_size, *neuron.hidden_shape), jnp.float32)
    p, s = jax.eval_shape(lambda: (neuron.params().astype(jnp.float32), neuron.initial_state(batch_size)))
    try:
        return fused.source(neuron.step, p, x, s)
    except fused.Unsupported as reason:
        raise ValueError(
            f"spyx.nn.kernel_source: expected a step of elementwise operations; got {reason}. "
            f"{type(neuron).__name__} runs in mode='layer'."
        ) from reason
