"""Two JAX primitives, forward and backward, whose lowering picks the kernel of the platform.

The choice falls when a program is lowered, not when it is traced: one trace runs on a CPU and on a GPU, and no kernel
is compiled for a platform that is not used. The operands of a recurrent step end with its weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from spyx.engine import device
from spyx.engine.derivative import types
from spyx.engine.kernels import cpu, pallas, plain_loops
from spyx.engine.kernels.spec import Spec

if TYPE_CHECKING:
    from jax.core import ShapedArray
    from jaxtyping import Array

    from spyx.engine.types import Checkpoints, Leaves, OverTime, PerLane

Kernel = Callable[..., list[jax.Array]]


def forward(spec: Spec, xs: OverTime, ps: PerLane, ss: PerLane, w: Leaves) -> tuple[OverTime, PerLane, Checkpoints]:
    """Outputs, last states, checkpoints."""
    flat = _forward.bind(*xs, *ps, *ss, *w, spec=spec)
    return _split(flat, spec.outputs, spec.n_s, spec.n_s)  # type: ignore[return-value]


def backward(
    spec: Spec, xs: OverTime, ps: PerLane, marks: Checkpoints, g_ys: OverTime, g_ends: PerLane, z: OverTime, w: Leaves
) -> tuple[OverTime, PerLane, PerLane]:
    """Cotangents of inputs, parameters and first states; `z` and `w` are lists, empty for a local step."""
    flat = _backward.bind(*xs, *ps, *marks, *g_ys, *g_ends, *z, *w, spec=spec)
    return _split(flat, spec.inputs, spec.n_p, spec.n_s)  # type: ignore[return-value]


def _split(flat: Sequence[jax.Array], *counts: int) -> tuple[Leaves, ...]:
    values = iter(flat)
    return tuple([next(values) for _ in range(n)] for n in counts)


def _run_forward(kernel: Kernel, *flat: jax.Array, spec: Spec) -> list[jax.Array]:
    r = int(spec.recurrent)
    *groups, w = _split(flat, spec.n_x - r, spec.n_p, spec.n_s, r)
    return kernel(spec, *groups, *w)


def _run_backward(kernel: Kernel, *flat: jax.Array, spec: Spec) -> list[jax.Array]:
    r = int(spec.recurrent)
    *groups, z, w = _split(flat, spec.n_x - r, spec.n_p, spec.n_s, spec.n_y - r, spec.n_s, r, r)
    return kernel(spec, *groups, *z, *w)


def _on_cpu(kernel: Kernel, otherwise: Kernel) -> Kernel:
    """Kernels have one dtype: narrow input and output are cast outside of them."""

    def run(spec: Spec, *groups: Leaves | Array) -> list[jax.Array]:
        if not device.has_compiler():
            return otherwise(spec, *groups)
        wide = jax.tree.map(lambda a: a.astype(spec.dtype), groups)
        results = kernel(spec.as_wide_as_state(), *wide)
        n = spec.outputs if kernel is cpu.forward else spec.inputs
        return [*(a.astype(spec.io) for a in results[:n]), *results[n:]]

    return run


def _new_primitive(
    name: str,
    run: Callable[..., Leaves],
    shapes: Callable[..., list[jax.ShapeDtypeStruct]],
    kernels: dict[str | None, Kernel],
) -> Primitive:
    """A primitive with `kernels` by platform.

    Args:
        name: for people who read the compiled program.
        run: `(kernel, *operands, spec=)`, hands its operands to a kernel.
        shapes: of its results, from the spec and the dimensions of the first operand.
        kernels: by platform, None being all others.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    @primitive.def_abstract_eval
    def _(*avals: ShapedArray, spec: Spec) -> list[ShapedArray]:
        return types(shapes(spec, *avals[0].shape), avals[0])

    @primitive.def_impl
    def _(*flat: jax.Array, spec: Spec) -> Leaves:
        with jax.disable_jit(False):  # there is no other way to run a kernel
            return jax.jit(functools.partial(primitive.bind, spec=spec))(*flat)

    for platform, kernel in kernels.items():
        rule = mlir.lower_fun(functools.partial(run, kernel), multiple_results=True)
        mlir.register_lowering(primitive, rule, platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(
        _more_samples, primitive, functools.partial(run, kernels[None])
    )
    return primitive


def _more_samples(
    primitive: Primitive, plain: Callable[..., Leaves], flat: Leaves, axes: Sequence[int | None], *, spec: Spec
) -> tuple[Leaves, list[int]]:
    """A mapped axis is more samples, unless every one has a weight of its own."""
    shared = 1 if spec.recurrent else 0
    if shared and axes[-1] is not None:
        outs = jax.vmap(functools.partial(plain, spec=spec), list(axes))(*flat)
        return outs, [0] * len(outs)
    size = next(a.shape[d] for a, d in zip(flat, axes, strict=True) if d is not None)

    def fold(a: jax.Array, axis: int | None) -> jax.Array:
        a = jnp.broadcast_to(a[None], (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        a = jnp.moveaxis(a, 0, -3)
        return a.reshape(*a.shape[:-3], -1, a.shape[-1])

    mapped = len(flat) - shared
    outs = primitive.bind(*map(fold, flat[:mapped], axes[:mapped]), *flat[mapped:], spec=spec)
    return [o.reshape(*o.shape[:-2], size, -1, o.shape[-1]) for o in outs], [o.ndim - 2 for o in outs]


_forward = _new_primitive(
    "spyx_kernel_forward",
    _run_forward,
    Spec.forward_shapes,
    {None: plain_loops.forward, "cpu": _on_cpu(cpu.forward, plain_loops.forward), "cuda": pallas.forward},
)
_backward = _new_primitive(
    "spyx_kernel_backward",
    _run_backward,
    Spec.backward_shapes,
    {None: plain_loops.backward, "cpu": _on_cpu(cpu.backward, plain_loops.backward), "cuda": pallas.backward},
)
