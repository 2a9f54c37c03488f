"""Two JAX primitives, forward and backward, for recurrent kernels; the weight is the last operand."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from spyx.engine import device
from spyx.engine.fused.call import new_primitive
from spyx.engine.fused.recurrent import cpu, fed, loop
from spyx.engine.fused.spec import Spec


def forward(spec: Spec, xs: Any, ps: Any, ss: Any, w: jax.Array) -> tuple[Any, Any, Any]:
    """Outputs, last states, checkpoints."""
    flat = _forward.bind(*xs, *ps, *ss, w, spec=spec)
    return _split(flat, fed.kept(fed.spikes_at(spec), spec.n_y), spec.n_s, spec.n_s)


def backward(spec: Spec, xs: Any, ps: Any, marks: Any, z: Any, g_ys: Any, g_ends: Any, w: jax.Array) -> Any:
    """Cotangents of inputs, parameters and first states."""
    flat = _backward.bind(*xs, *ps, *marks, z, *g_ys, *g_ends, w, spec=spec)
    return _split(flat, fed.kept(fed.current_at(spec), spec.n_x), spec.n_p, spec.n_s)


def _split(flat: Any, *counts: int) -> Any:
    values = iter(flat)
    return tuple([next(values) for _ in range(n)] for n in counts)


def _run_forward(kernel: Any, *flat: jax.Array, spec: Spec) -> list[jax.Array]:
    return kernel(spec, *_split(flat[:-1], spec.n_x - 1, spec.n_p, spec.n_s), flat[-1])


def _run_backward(kernel: Any, *flat: jax.Array, spec: Spec) -> list[jax.Array]:
    counts = (spec.n_x - 1, spec.n_p, spec.n_s, 1, spec.n_y - 1, spec.n_s)
    xs, ps, marks, (z,), g_ys, g_ends = _split(flat[:-1], *counts)
    return kernel(spec, xs, ps, marks, z, g_ys, g_ends, flat[-1])


def _more_samples(run: Any, primitive: Primitive, flat: Any, axes: Any, *, spec: Spec) -> tuple[Any, Any]:
    """A mapped axis is more samples, unless every one has a weight of its own."""
    if axes[-1] is not None:
        outs = jax.vmap(functools.partial(run, spec=spec), list(axes))(*flat)
        return outs, [0] * len(outs)
    size = next(a.shape[d] for a, d in zip(flat, axes, strict=True) if d is not None)

    def fold(a: jax.Array, axis: int | None) -> jax.Array:
        a = jnp.broadcast_to(a[None], (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        a = jnp.moveaxis(a, 0, -3)
        return a.reshape(*a.shape[:-3], -1, a.shape[-1])

    outs = primitive.bind(*map(fold, flat[:-1], axes[:-1]), flat[-1], spec=spec)
    return [o.reshape(*o.shape[:-2], size, -1, o.shape[-1]) for o in outs], [o.ndim - 2 for o in outs]


def _cpu(kernel: Any, otherwise: Any) -> Any:
    return lambda *arguments: (kernel if device.has_numba() else otherwise)(*arguments)


_forward = new_primitive(
    "spyx_recurrent_forward",
    _run_forward,
    fed.forward_shapes,
    {None: loop.forward, "cpu": _cpu(cpu.forward, loop.forward)},
    functools.partial(_more_samples, functools.partial(_run_forward, loop.forward)),
)
_backward = new_primitive(
    "spyx_recurrent_backward",
    _run_backward,
    fed.backward_shapes,
    {None: loop.backward, "cpu": _cpu(cpu.backward, loop.backward)},
    functools.partial(_more_samples, functools.partial(_run_backward, loop.backward)),
)
