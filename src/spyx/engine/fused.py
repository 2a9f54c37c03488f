"""Mode "fused": a step's kernels, forward and backward, as a rule.

Derivatives of the first order are kernels, higher ones are the loop's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine import derivative, device, events
from spyx.engine.derivative import Changes, Rule, Same, call
from spyx.engine.feedback import Recurrent
from spyx.engine.jit_cache import jit
from spyx.engine.kernels import kernel_primitives, xla_call
from spyx.engine.kernels.lane_program import Unsupported as Unsupported
from spyx.engine.kernels.lane_source import backward_source, check_dtypes, forward_source
from spyx.engine.kernels.spec import Spec, spec_of
from spyx.engine.loop import Loop, layer

if TYPE_CHECKING:
    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.params import Params
    from spyx.engine.types import (
        Input,
        Inputs,
        Leaves,
        Output,
        Outputs,
        OverTime,
        Parameters,
        PerLane,
        State,
        Step,
        Tree,
    )

__all__ = ["Unsupported", "fused", "kernel", "source", "unavailable"]


def kernel(step: Step, p: Parameters, xs: Inputs, s0: State) -> ByKernel:
    """The kernels of a run, as a rule for `run`; only shapes and dtypes of the arguments matter.

    Raises:
        Unsupported: no kernel can be generated, for instance for a primitive that the table lacks.
    """
    spec = spec_of(step, p, xs, s0)
    wide = spec.as_wide_as_state() if device.backend() == "cpu" else spec  # what the kernels are generated from
    _ = wide.out_tree  # a step that is no step of this state is refused for that first
    programs = wide.forward, wide.advance, wide.backward  # traced here, cached for the kernels
    if device.backend() == "cpu":
        check_dtypes(*programs)
    return ByKernel(step, spec)


@jit(0)
def run(rule: ByKernel, p: Parameters, xs: Inputs, s0: State) -> tuple[Outputs, State]:
    """Run kernels over time: `(outs, s_T)`, outputs in the dtype of the input."""
    return derivative.call(rule, p, xs, s0)


def fused(step: Step, p: Parameters, xs: Inputs, s0: State) -> tuple[Outputs, State]:
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
    if platform == "cpu":
        return xla_call.obstacle() if device.has_compiler() else device.NO_COMPILER
    if platform == "gpu" and recurrent:
        return "kernels of recurrent neurons exist for cpu"
    return None if platform == "gpu" else f"kernels exist for cpu and gpu, not for {platform}"


def source(step: Step, p: Parameters, xs: Inputs, s0: State) -> str:
    """The generated CPU kernels, forward and backward, as text of the kernel language.

    Raises:
        Unsupported: no kernel can be generated.
    """
    spec = spec_of(step, p, xs, s0).as_wide_as_state()
    return f"{forward_source(spec)}\n{backward_source(spec)}"


Stored = tuple[list[jax.Array], list[jax.Array]]
"""What a backward kernel reads beside its arguments: checkpoints, and the spikes of a recurrent step."""


@dataclass(frozen=True)
class ByKernel(Rule):
    """`(p, xs, s0) -> (outs, s_T)` by a pair of kernels.

    The gradient of a recurrent weight is one product over all of time, after the backward kernel.

    Args:
        step: what the kernels were generated from.
        spec: their specification.
    """

    step: Step
    spec: Spec

    def forward(self, p: Parameters, xs: Inputs, s0: State) -> tuple[Outputs, State]:
        return self._run_forward(p, xs, s0)[0]

    def keep(self, p: Parameters, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State], Stored]:
        return call(Same(self._run_forward, self._forward_by_loop), p, xs, s0)

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        return self._loop().tangent(args, tangents)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        return call(Same(self._run_backward, self._backward_by_loop), args, residuals, cotangents)

    def _run_forward(self, p: Parameters, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State], Stored]:
        """`(outs, s_T)`; and what the backward kernel reads: checkpoints, and the spikes fed back."""
        spec, shape = self.spec, self.spec.shape
        s_leaves, s_tree = jax.tree.flatten(s0)
        x_flat, p_flat, w = self._flat(p, xs)
        ys, ends, marks = kernel_primitives.forward(spec, x_flat, p_flat, [s.reshape(self._lanes) for s in s_leaves], w)
        out_tree = spec.out_tree.children()[0] if spec.recurrent else spec.out_tree
        outs = [y.astype(self._io(xs)).reshape(-1, *shape) for y in ys[: out_tree.num_leaves]]
        results = jax.tree.unflatten(out_tree, outs), jax.tree.unflatten(s_tree, [e.reshape(shape) for e in ends])
        return results, (marks, [ys[spec.spikes_at]] if spec.recurrent else [])

    def _run_backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        p, xs, _ = args
        marks, sent = residuals
        spec, shape = self.spec, self.spec.shape
        x_flat, p_flat, w = self._flat(p, xs)
        n, steps = spec.n_y - spec.recurrent, x_flat[0].shape[0]
        g_ys = [g.astype(spec.io).reshape(steps, *self._lanes) for g in cotangents[:n]]
        g_ends = [g.reshape(self._lanes) for g in cotangents[n:]]
        g_xs, g_ps, g_ss = kernel_primitives.backward(spec, x_flat, p_flat, marks, g_ys, g_ends, sent, w)
        local = self._local(p)
        shapes = [a.shape for a in jax.tree.leaves(local)]
        g_p = [_unbroadcast(g.reshape(shape), like) for g, like in zip(g_ps, shapes, strict=True)]
        if isinstance(self.step, Recurrent):
            (name,), units = self.step.via.names, self._lanes[1]
            g_current = g_xs[spec.current_at].reshape(-1, units)
            g_w = events.outer(sent[0].reshape(-1, units), g_current).reshape(getattr(p, name).shape)
            g_p = _in_order(p, local, g_p, name, g_w)
        g_x = [g.astype(self._io(xs)).reshape(steps, *shape) for g in g_xs[: spec.n_x - spec.recurrent]]
        return g_p, g_x, [g.reshape(shape) for g in g_ss]

    @property
    def _lanes(self) -> tuple[int, int]:
        """(samples, units); in a local step every lane is a sample of its own."""
        shape = self.spec.shape
        return (shape[0], math.prod(shape[1:])) if self.spec.recurrent else (math.prod(shape), 1)

    def _local(self, p: Parameters) -> Parameters:
        return self.step.local_parameters(p) if isinstance(self.step, Recurrent) else p

    def _flat(self, p: Parameters, xs: Inputs) -> tuple[OverTime, PerLane, Leaves]:
        x_flat = [x.astype(self.spec.io).reshape(x.shape[0], *self._lanes) for x in jax.tree.leaves(xs)]
        local = jax.tree.leaves(self._local(p))
        p_flat = [jnp.broadcast_to(a, self.spec.shape).reshape(self._lanes) for a in local]
        if not isinstance(self.step, Recurrent):
            return x_flat, p_flat, []
        (name,), units = self.step.via.names, self._lanes[1]
        return x_flat, p_flat, [getattr(p, name).reshape(units, units)]

    def _io(self, xs: Inputs) -> np.dtype:
        return jax.tree.leaves(xs)[0].dtype

    def _forward_by_loop(self, p: Parameters, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State], Stored]:
        results, _ = self._loop().keep(p, xs, s0)
        # A backward kernel may still read these (the tangent of a tangent is transposed by it), and where it is
        # differentiated itself the loop computes them again: they have numbers, and no part in a derivative.
        return results, self._run_forward(*jax.lax.stop_gradient((p, xs, s0)))[1]

    def _backward_by_loop(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        loop = self._loop()
        return loop.backward(args, loop.keep(*args)[1], cotangents)

    def _loop(self) -> Loop:
        narrow = self.spec.io != self.spec.dtype
        return Loop(_Narrow(self.step, self.spec.io, self.spec.dtype) if narrow else self.step)


@dataclass(frozen=True)
class _Narrow:
    """A step whose input and output have another dtype than its state."""

    step: Step
    io: np.dtype
    dtype: np.dtype

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        out, after = self.step(p, jax.tree.map(lambda a: a.astype(self.dtype), x), s)
        return jax.tree.map(lambda a: a.astype(self.io), out), after


def _in_order(p: Params, local: Params, g_local: Changes, name: str, g_weight: jax.Array) -> Changes:
    """Cotangents in the order of all parameters."""
    found = {**dict(zip(local._names, g_local, strict=True)), name: g_weight}
    return [found[name] for name in p._names]


def _unbroadcast(g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The cotangent of an array of `shape` that was broadcast to that of `g`."""
    full = (1,) * (g.ndim - len(shape)) + shape
    axes = tuple(i for i, n in enumerate(full) if n == 1 and g.shape[i] != 1)
    return g.sum(axes, keepdims=True).reshape(shape)
