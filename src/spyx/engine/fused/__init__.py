"""Fused kernels, forward and backward, generated from a neuron's step.

The step is traced once to a program of elementwise statements per lane (`program`); from it come a Numba kernel for
CPUs (`cpu`), a Pallas kernel for GPUs (`pallas`) and a plain loop for everything else (`loop`). All three share one
contract: the forward pass stores the state of every 16th time step, the backward pass computes the others again.
A recurrent step's kernels (`recurrent`) have two products more in every step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from spyx.engine import derivative, device
from spyx.engine.fused import cpu
from spyx.engine.fused.emit import check_dtypes
from spyx.engine.fused.local import Fused
from spyx.engine.fused.program import Unsupported as Unsupported
from spyx.engine.fused.recurrent import FusedRecurrent, fed_spec, recurrent_source
from spyx.engine.fused.spec import spec_of
from spyx.engine.loop import Step, layer
from spyx.engine.recurrent import Recurrent

__all__ = ["Unsupported", "fused", "kernel", "source", "unavailable"]


def kernel(step: Step, p: Any, xs: Any, s0: Any) -> Fused | FusedRecurrent:
    """The kernels of a run, as a rule for `run`; only shapes and dtypes of the arguments matter.

    Raises:
        Unsupported: no kernel can be generated, for instance for a primitive that the table lacks.
    """
    recurrent = isinstance(step, Recurrent)
    spec = fed_spec(step, p, xs, s0) if recurrent else spec_of(step, p, xs, s0)
    wide = spec.as_wide_as_state() if device.backend() == "cpu" else spec  # what the kernels are generated from
    _ = wide.out_tree  # a step that is no step of this state is refused for that first
    programs = wide.forward, wide.advance, wide.backward  # traced here, cached for the kernels
    if device.backend() == "cpu":
        check_dtypes(*programs)
    return FusedRecurrent(step, spec) if recurrent else Fused(step, spec)


@partial(jax.jit, static_argnums=0)
def run(rule: Fused | FusedRecurrent, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
    """Run kernels over time: `(outs, s_T)`, outputs in the dtype of the input."""
    return derivative.call(rule, p, xs, s0)


def fused(step: Step, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
    """`layer` as one kernel forward and one backward.

    Args:
        step: `(p, x, s) -> (out, s')`, pure and elementwise, or a `Recurrent` of such a step.
        p: parameters, one value or one per unit.
        xs: inputs, time on axis 0, of a floating dtype; bfloat16 and float16 are read as they are.
        s0: state before the first step; float32 or float64, which is also what the kernel computes in.

    Returns:
        `(outs, s_T)`: outputs in the dtype of the input, and the state after the last step.

    Raises:
        Unsupported: no kernel can be generated.
    """
    if any(0 in leaf.shape for leaf in jax.tree.leaves((xs, s0))):
        return layer(step, p, jax.tree.map(lambda x: x.astype(jax.tree.leaves(s0)[0].dtype), xs), s0)
    return run(kernel(step, p, xs, s0), p, xs, s0)


def unavailable(*, recurrent: bool = False) -> str | None:
    """Why this platform has no fused kernels, of local steps or of `recurrent` ones; None if it has."""
    platform = device.backend()
    if platform == "cpu" and not device.has_numba():
        return "Numba is not installed: pip install 'spyx-jax[cpu]'"
    if platform == "gpu" and recurrent:
        return "kernels of recurrent neurons exist for cpu"
    return None if platform in ("cpu", "gpu") else f"kernels exist for cpu and gpu, not for {platform}"


def source(step: Step, p: Any, xs: Any, s0: Any) -> str:
    """The generated CPU kernels, forward and backward, as Python.

    Raises:
        Unsupported: no kernel can be generated.
    """
    if isinstance(step, Recurrent):
        return recurrent_source(fed_spec(step, p, xs, s0))
    spec = spec_of(step, p, xs, s0).as_wide_as_state()
    return f"{cpu.forward_source(spec)}\n{cpu.backward_source(spec)}"
