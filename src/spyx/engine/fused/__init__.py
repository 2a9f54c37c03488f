"""Fused kernels, forward and backward, generated from a neuron's step.

The step is traced once to a program of elementwise statements per lane (`program`); from it come a Numba kernel for
CPUs (`cpu`), a Pallas kernel for GPUs (`pallas`) and a plain loop for everything else (`loop`). All three share one
contract: the forward pass keeps the state of every 16th time step, the backward pass computes the others again.
A recurrent neuron's kernels (`recurrent`) have two products more in every step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from spyx.engine import compiler
from spyx.engine.adjoint import adjoint
from spyx.engine.fused import call, cpu
from spyx.engine.fused.program import Unsupported as Unsupported
from spyx.engine.fused.recurrent import fed_spec, is_recurrent, recurrent, recurrent_source
from spyx.engine.fused.spec import Spec, spec_of
from spyx.engine.scan import Step

__all__ = ["Unsupported", "fused", "obstacle", "source", "unavailable"]


@partial(jax.jit, static_argnums=0)
def fused(step: Step, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
    """`scan` as one kernel forward and one backward; same answer.

    Runs `adjoint` where no kernel can be generated; `obstacle` says why.

    Args:
        step: `(p, x, s) -> (out, s')`, pure and elementwise; units read one another through `p.feedback` alone.
        p: parameters, one value or one per unit.
        xs: inputs, time on axis 0; bfloat16 and float16 are read as they are.
        s0: state before the first step; float32 or float64, which is also what the kernel computes in.

    Returns:
        `(outs, s_T)`: outputs in the dtype of a floating input, and the state after the last step.
    """
    if obstacle(step, p, xs, s0) is not None:
        return adjoint(step, p, xs, s0)
    if is_recurrent(p):
        return recurrent(step, p, xs, s0)
    spec = spec_of(step, p, xs, s0)
    steps, lanes = jax.tree.leaves(xs)[0].shape[0], spec.shape
    if 0 in (steps, *lanes):
        return adjoint(step, p, jax.tree.map(lambda x: x.astype(spec.dtype), xs), s0)
    x_flat = [x.reshape(steps, -1) for x in jax.tree.leaves(xs)]
    p_flat = [jnp.broadcast_to(a, lanes).reshape(-1) for a in jax.tree.leaves(p)]
    s_leaves, s_tree = jax.tree.flatten(s0)
    answer: Any = _fused(spec, x_flat, p_flat, [s.reshape(-1) for s in s_leaves])
    ys, ends = answer
    outs = jax.tree.unflatten(spec.out_tree, [y.reshape(steps, *lanes) for y in ys])
    return outs, jax.tree.unflatten(s_tree, [e.reshape(lanes) for e in ends])


def obstacle(step: Step, p: Any, xs: Any, s0: Any) -> str | None:
    """Why no kernel can be generated, for instance a primitive that the table lacks; None if one can.

    Only shapes and dtypes of the arguments matter.
    """
    try:
        spec = (fed_spec if is_recurrent(p) else spec_of)(step, p, xs, s0)
        _ = spec.backward, spec.advance  # traced here, cached for the kernels
    except Unsupported as reason:
        return str(reason)
    return None


def unavailable(*, recurrent: bool = False) -> str | None:
    """Why this platform has no fused kernels, of local neurons or of `recurrent` ones; None if it has."""
    platform = jax.default_backend()
    if platform == "cpu" and not compiler.has_numba():
        return "Numba is not installed: pip install 'spyx-jax[cpu]'"
    if platform == "gpu" and recurrent:
        return "kernels of recurrent neurons exist for cpu"
    return None if platform in ("cpu", "gpu") else f"kernels exist for cpu and gpu, not for {platform}"


def source(step: Step, p: Any, xs: Any, s0: Any) -> str:
    """The generated CPU kernels, forward and backward, as Python.

    Raises:
        Unsupported: no kernel can be generated.
    """
    if is_recurrent(p):
        return recurrent_source(fed_spec(step, p, xs, s0))
    spec = spec_of(step, p, xs, s0).as_wide_as_state()
    return f"{cpu.forward_source(spec)}\n{cpu.backward_source(spec)}"


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(spec: Spec, xs: Any, ps: Any, ss: Any) -> tuple[Any, Any]:
    ys, ends, _ = call.forward(spec, xs, ps, ss)
    return ys, ends


def _forward(spec: Spec, xs: Any, ps: Any, ss: Any) -> tuple[Any, Any]:
    ys, ends, marks = call.forward(spec, xs, ps, ss)
    return (ys, ends), (xs, ps, marks)


def _backward(spec: Spec, kept: Any, cotangents: Any) -> tuple[Any, Any, Any]:
    return call.backward(spec, *kept, *cotangents)


_fused.defvjp(_forward, _backward)
