"""The CPU kernels of a step as calls inside jit: their sources compiled, their work shared out on XLA's threads."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax

from spyx.engine.kernels import kernel_functions, xla_call
from spyx.engine.kernels.lane_source import backward_source, forward_source
from spyx.engine.kernels.language import Kernel, parse
from spyx.engine.kernels.spec import Spec

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.engine.types import Checkpoints, Leaves, OverTime, PerLane

LANES = xla_call.Share(axis=1, smallest=64, largest=1024)
"""Of a local step: a block's state fits the first-level cache and its loop is made of whole vectors."""

SAMPLES = xla_call.Share(axis=1, smallest=4, largest=32)
"""Of a recurrent step: four samples share every row of W that the backward pass loads; the states of 32 stay in the
cache."""


def forward(spec: Spec, xs: OverTime, ps: PerLane, ss: PerLane, *w: Float[Array, "units units"]) -> Leaves:
    """Outputs (time, samples, units), last states (samples, units), checkpoints (chunks, samples, units)."""
    return _call(spec, "forward", forward_source(spec), [*xs, *ps, *ss, *w], spec.forward_shapes(*xs[0].shape))


def backward(
    spec: Spec, xs: OverTime, ps: PerLane, marks: Checkpoints, g_ys: OverTime, g_ends: PerLane, *z_w: Array
) -> Leaves:
    """Cotangents of inputs (time, samples, units), parameters and first states (samples, units)."""
    transposed = [a.T for a in z_w[1:]]
    arrays, shapes = [*xs, *ps, *marks, *g_ys, *g_ends, *z_w, *transposed], spec.backward_shapes(*xs[0].shape)
    return _call(spec, "backward", backward_source(spec), arrays, shapes)


def _call(spec: Spec, name: str, source: str, arrays: Leaves, shapes: list[jax.ShapeDtypeStruct]) -> Leaves:
    share, count = SAMPLES if spec.recurrent else LANES, len(arrays) + len(shapes)
    types = {"real": spec.dtype.name, "spikes": spec.dtype.name}
    target = xla_call.register(name, source, types, share, lambda: _entry(name, source, count))
    return list(jax.ffi.ffi_call(target, shapes)(*arrays))


def _entry(name: str, source: str, pointers: int) -> Kernel:
    """`entry(context, first, last)`: the kernel of a source on the buffers of a context."""
    arguments = ", ".join(f"real_at(c[{xla_call.BUFFERS + 2 * k}])" for k in range(pointers))
    entry = (
        f"def entry(context, first, last):\n    c = int_at(context)\n    size = int_at(c[{xla_call.BUFFERS + 1}])\n"
        f"    {name}(first, last, size[0], size[1], size[2], {arguments})\n    return 0\n"
    )
    return parse(source + entry, functools.partial(_type, name), vars(kernel_functions))["entry"]


def _type(kernel: str, function: str, argument: str) -> str:
    sizes = ("first", "last", "T", "B", "U")
    return "real*" if function == kernel and argument not in sizes else "int"
