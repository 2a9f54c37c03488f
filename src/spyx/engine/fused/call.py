"""Two JAX primitives, forward and backward, whose lowering picks the kernel of the platform.

The choice falls when a program is lowered, not when it is traced: one trace runs on a CPU and on a GPU, and no kernel
is compiled for a platform that is not used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from spyx.engine import device
from spyx.engine.derivative import types
from spyx.engine.fused import cpu, loop, pallas
from spyx.engine.fused.spec import Spec

Kernel = Callable[..., list[jax.Array]]


def forward(spec: Spec, xs: Any, ps: Any, ss: Any) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """Outputs, last states, checkpoints."""
    flat = _forward.bind(*xs, *ps, *ss, spec=spec)
    y, s = spec.n_y, spec.n_y + spec.n_s
    return flat[:y], flat[y:s], flat[s:]


def backward(spec: Spec, xs: Any, ps: Any, marks: Any, g_ys: Any, g_ends: Any) -> tuple[Any, Any, Any]:
    """Cotangents of inputs, parameters and first states."""
    flat = _backward.bind(*xs, *ps, *marks, *g_ys, *g_ends, spec=spec)
    x, p = spec.n_x, spec.n_x + spec.n_p
    return flat[:x], flat[x:p], flat[p:]


def _split(spec: Spec, flat: Any, *counts: int) -> list[list[jax.Array]]:
    values = iter(flat)
    return [[next(values) for _ in range(n)] for n in counts]


def _run_forward(kernel: Kernel, *flat: jax.Array, spec: Spec) -> list[jax.Array]:
    return kernel(spec, *_split(spec, flat, spec.n_x, spec.n_p, spec.n_s))


def _run_backward(kernel: Kernel, *flat: jax.Array, spec: Spec) -> list[jax.Array]:
    return kernel(spec, *_split(spec, flat, spec.n_x, spec.n_p, spec.n_s, spec.n_y, spec.n_s))


def _in_state_dtype(kernel: Kernel) -> Kernel:
    """Numba has no bfloat16: narrow input and output are cast outside the kernel."""

    def run(spec: Spec, *groups: list[jax.Array]) -> list[jax.Array]:
        wide = [[a.astype(spec.dtype) for a in group] for group in groups]
        results = kernel(spec.as_wide_as_state(), *wide)
        n = spec.n_y if kernel is cpu.forward else spec.n_x
        return [*(a.astype(spec.io) for a in results[:n]), *results[n:]]

    return run


def new_primitive(name: str, run: Any, shapes: Any, kernels: dict[str | None, Kernel], batched: Any) -> Primitive:
    """A primitive with `kernels` by platform.

    Args:
        name: for people who read the compiled program.
        run: `(kernel, *operands, spec=)`, hands its operands to a kernel.
        shapes: of its results, from the spec and the dimensions of the first operand.
        kernels: by platform, None being all others.
        batched: `(primitive, operands, axes, spec=)`, its batching rule.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    @primitive.def_abstract_eval
    def _(*avals: Any, spec: Spec) -> Any:
        return types(shapes(spec, *avals[0].shape), avals[0])

    @primitive.def_impl
    def _(*flat: jax.Array, spec: Spec) -> Any:
        with jax.disable_jit(False):  # there is no other way to run a kernel
            return jax.jit(functools.partial(primitive.bind, spec=spec))(*flat)

    for platform, kernel in kernels.items():
        rule = mlir.lower_fun(functools.partial(run, kernel), multiple_results=True)
        mlir.register_lowering(primitive, rule, platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(batched, primitive)
    return primitive


def _more_lanes(primitive: Primitive, flat: Any, axes: Any, *, spec: Spec) -> tuple[Any, Any]:
    """A mapped axis is only more lanes."""
    size = next(a.shape[d] for a, d in zip(flat, axes, strict=True) if d is not None)

    def fold(a: jax.Array, axis: int | None) -> jax.Array:
        a = jnp.broadcast_to(a[None], (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        a = jnp.moveaxis(a, 0, -2)
        return a.reshape(*a.shape[:-2], -1)

    outs = primitive.bind(*map(fold, flat, axes), spec=spec)
    return [o.reshape(*o.shape[:-1], size, -1) for o in outs], [o.ndim - 1 for o in outs]


def _cpu(kernel: Kernel, otherwise: Kernel) -> Kernel:
    def run(spec: Spec, *groups: Any) -> list[jax.Array]:
        return (_in_state_dtype(kernel) if device.has_numba() else otherwise)(spec, *groups)

    return run


_forward = new_primitive(
    "spyx_fused_forward",
    _run_forward,
    Spec.forward_shapes,
    {None: loop.forward, "cpu": _cpu(cpu.forward, loop.forward), "cuda": pallas.forward},
    _more_lanes,
)
_backward = new_primitive(
    "spyx_fused_backward",
    _run_backward,
    Spec.backward_shapes,
    {None: loop.backward, "cpu": _cpu(cpu.backward, loop.backward), "cuda": pallas.backward},
    _more_lanes,
)
