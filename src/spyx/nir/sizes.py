"""The shape of what a NIR node answers, for every node type of NIR 1.0.8 (channels first)."""

from __future__ import annotations

from typing import Any

import numpy as np

import nir
from spyx.nir.flat import Identity
from spyx.nir.layout import Shape

PER_UNIT = {
    nir.I: ("r",),
    nir.IF: ("r", "v_threshold", "v_reset"),
    nir.LI: ("tau", "r", "v_leak"),
    nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    nir.CubaLI: ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    nir.CubaLIF: ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    nir.Scale: ("scale",),
    nir.Threshold: ("threshold",),
    nir.Delay: ("delay",),
}
"""Nodes that work unit by unit, and their arrays; the first one has the node's shape."""


def own_shape(node: Any) -> Shape | None:
    """The shape of its input that a node itself knows; None for a node that takes any."""
    if type(node) in PER_UNIT:
        return np.shape(getattr(node, PER_UNIT[type(node)][0]))
    if isinstance(node, (nir.Affine, nir.Linear)):
        return (int(node.weight.shape[-1]),)
    if isinstance(node, (nir.Input, nir.Flatten)) and node.input_type["input"] is not None:
        return shape_tuple(node.input_type["input"])
    if isinstance(node, nir.Output) and node.output_type["output"] is not None:
        return shape_tuple(node.output_type["output"])
    if isinstance(node, (nir.Conv1d, nir.Conv2d)) and node.input_shape is not None:
        return (int(node.weight.shape[1]) * int(node.groups), *per_axis(node.input_shape, node.weight.ndim - 2))
    return None


def answer_shape(node: Any, shape: Shape) -> Shape:
    """The shape that a node answers to input of `shape`; ValueError with the reason when it cannot take that."""
    own = node.shape if isinstance(node, Identity) else own_shape(node)
    if own is not None and own != shape:
        raise ValueError(f"takes the shape {own}, but {shape} comes in")
    if isinstance(node, (nir.Affine, nir.Linear)):
        return (int(node.weight.shape[0]),)
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return _convolved(node, shape)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        return _pooled(node, shape)
    if isinstance(node, nir.Flatten):
        return flattened_shape(shape, *flattened_axes(node, shape))
    return shape


def flattened_axes(node: Any, shape: Shape) -> tuple[int, int]:
    """First and last axis that a `Flatten` merges."""
    rank = len(shape)
    first, last = (int(n) + rank if int(n) < 0 else int(n) for n in (node.start_dim, node.end_dim))
    if not 0 <= first <= last < rank:
        raise ValueError(f"flattens the axes {int(node.start_dim)} to {int(node.end_dim)} of {shape}")
    return first, last


def flattened_shape(shape: Shape, first: int, last: int) -> Shape:
    """A shape with the axes from `first` to `last` merged."""
    return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


def paddings(node: Any) -> list[tuple[int, int]]:
    """Padding before and after every spatial axis of a convolution."""
    space = node.weight.ndim - 2
    if isinstance(node.padding, str):
        if node.padding == "valid":
            return [(0, 0)] * space
        if any(n != 1 for n in per_axis(node.stride, space)):
            raise ValueError("pads 'same' with a stride: NIR says only for stride 1 what that means")
        spans = [d * (k - 1) for d, k in zip(per_axis(node.dilation, space), node.weight.shape[2:], strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(n, n) for n in per_axis(node.padding, space)]


def pool_paddings(node: Any) -> list[tuple[int, int]]:
    """Padding before and after both axes of a pool: NIR's number for both ends, or the pairs that Spyx 1.0 meant."""
    if np.shape(node.padding) == (2, 2):
        return [(int(low), int(high)) for low, high in node.padding]
    return [(n, n) for n in per_axis(node.padding, 2)]


def per_axis(value: Any, axes: int) -> tuple[int, ...]:
    """One number per axis out of a number or a sequence."""
    numbers = [int(n) for n in np.ravel(value)]
    if len(numbers) not in (1, axes):
        raise ValueError(f"has {len(numbers)} sizes for {axes} axes")
    return tuple(numbers * axes if len(numbers) == 1 else numbers)


def shape_tuple(value: Any) -> Shape:
    """A shape as a tuple of ints."""
    return tuple(int(n) for n in np.ravel(value))


def _convolved(node: Any, shape: Shape) -> Shape:
    space = node.weight.ndim - 2
    if len(shape) != space + 1:
        raise ValueError(f"takes (channels, {'length' if space == 1 else 'height, width'}), but {shape} comes in")
    channels = int(node.weight.shape[1]) * int(node.groups)
    if shape[0] != channels:
        raise ValueError(f"takes {channels} channels, but {shape} comes in")
    sizes = []
    for n, (low, high), k, d, s in zip(
        shape[1:],
        paddings(node),
        node.weight.shape[2:],
        per_axis(node.dilation, space),
        per_axis(node.stride, space),
        strict=True,
    ):
        sizes.append((n + low + high - d * (k - 1) - 1) // s + 1)
    return _positive((int(node.weight.shape[0]), *sizes), shape)


def _pooled(node: Any, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ValueError(f"takes (channels, height, width), but {shape} comes in")
    kernel, stride = per_axis(node.kernel_size, 2), per_axis(node.stride, 2)
    ends = pool_paddings(node)
    sizes = [(n + sum(e) - k) // s + 1 for n, k, s, e in zip(shape[1:], kernel, stride, ends, strict=True)]
    return _positive((shape[0], *sizes), shape)


def _positive(answer: Shape, shape: Shape) -> Shape:
    if min(answer) < 1:
        raise ValueError(f"leaves nothing of {shape}: its window is larger than the input")
    return answer
