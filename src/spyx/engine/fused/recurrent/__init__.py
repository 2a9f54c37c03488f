"""Fused kernels of recurrent neurons: a step that calls `p.feedback` once is two lane programs around one product.

The forward pass is event-driven: it adds the rows of W that spikes ask for. The backward pass has a dense product per
step, with W's transpose; the gradient of W is one product over all of time, after the kernel.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from spyx.engine import events
from spyx.engine.adjoint import adjoint
from spyx.engine.fused.recurrent import call, cpu, fed
from spyx.engine.fused.recurrent.fed import fed_spec as fed_spec
from spyx.engine.fused.recurrent.fed import is_recurrent as is_recurrent
from spyx.engine.fused.recurrent.fed import without_weight
from spyx.engine.fused.spec import Spec
from spyx.engine.scan import Step


def recurrent(step: Step, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
    """`scan` of a step that `fed_spec` accepts, as one kernel forward and one backward."""
    spec = fed_spec(step, p, xs, s0)
    x_leaves, (s_leaves, s_tree) = jax.tree.leaves(xs), jax.tree.flatten(s0)
    io, steps, shape = x_leaves[0].dtype, x_leaves[0].shape[0], spec.shape
    if 0 in (steps, *shape):
        return adjoint(step, p, jax.tree.map(lambda x: x.astype(spec.dtype), xs), s0)
    batch, units = shape[0], math.prod(shape[1:])
    x_flat = [x.astype(spec.dtype).reshape(steps, batch, units) for x in x_leaves]
    p_flat = [jnp.broadcast_to(a, shape).reshape(batch, units) for a in jax.tree.leaves(without_weight(p))]
    s_flat = [s.reshape(batch, units) for s in s_leaves]
    answer: Any = _recurrent(spec, x_flat, p_flat, s_flat, p.recurrent_w.reshape(units, units))
    ys, ends = answer
    outs = jax.tree.unflatten(spec.out_tree.children()[0], [y.astype(io).reshape(steps, *shape) for y in ys])
    return outs, jax.tree.unflatten(s_tree, [e.reshape(shape) for e in ends])


def recurrent_source(spec: Spec) -> str:
    """The generated CPU kernels, forward and backward, as Python."""
    return f"{cpu.forward_source(spec)}\n{cpu.backward_source(spec)}"


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrent(spec: Spec, xs: Any, ps: Any, ss: Any, w: jax.Array) -> tuple[Any, Any]:
    return _forward(spec, xs, ps, ss, w)[0]


def _forward(spec: Spec, xs: Any, ps: Any, ss: Any, w: jax.Array) -> tuple[Any, Any]:
    ys, ends, marks = call.forward(spec, xs, ps, ss, w)
    return (ys[: spec.n_y - 1], ends), (xs, ps, marks, ys[fed.spikes_at(spec)], w)


def _backward(spec: Spec, kept: Any, cotangents: Any) -> tuple[Any, Any, Any, Any]:
    xs, ps, marks, spikes, w = kept
    g_ys, g_ends = cotangents
    g_xs, g_ps, g_ss = call.backward(spec, xs, ps, marks, spikes, g_ys, g_ends, w)
    return g_xs[: spec.n_x - 1], g_ps, g_ss, _weight_gradient(spikes, g_xs[fed.current_at(spec)])


def _weight_gradient(spikes: jax.Array, g_current: jax.Array) -> jax.Array:
    """One product over time and batch."""
    units = spikes.shape[-1]
    return events.outer(spikes.reshape(-1, units), g_current.reshape(-1, units))


_recurrent.defvjp(_forward, _backward)
