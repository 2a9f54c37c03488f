"""The kernels of a local step as a rule: derivatives of the first order are kernels, higher ones are the loop's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.derivative import Changes, Rule, Same, call
from spyx.engine.fused import call as primitives
from spyx.engine.fused.spec import Spec
from spyx.engine.loop import Loop, Step


@dataclass(frozen=True)
class ByKernel(Rule):
    """`(p, xs, s0) -> (outs, s_T)` by a pair of kernels.

    Args:
        step: what the kernels were generated from.
        spec: their specification.
    """

    step: Step
    spec: Spec

    def run_forward(self, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
        """`(outs, s_T)`, and the checkpoints and whatever else the backward kernel reads."""
        raise NotImplementedError

    def run_backward(self, args: tuple[Any, ...], kept: Any, cotangents: Changes) -> tuple[Changes, ...]:
        """Cotangents of the arguments."""
        raise NotImplementedError

    def forward(self, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
        return self.run_forward(p, xs, s0)[0]

    def keep(self, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
        return call(Same(self.run_forward, self._forward_by_loop), p, xs, s0)

    def tangent(self, args: tuple[Any, ...], tangents: tuple[Changes, ...]) -> Changes:
        return self._loop().tangent(args, tangents)

    def backward(self, args: tuple[Any, ...], kept: Any, cotangents: Changes) -> tuple[Changes, ...]:
        return call(Same(self.run_backward, self._backward_by_loop), args, kept, cotangents)

    def _forward_by_loop(self, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
        results, _ = self._loop().keep(p, xs, s0)
        # What the loop's backward pass reads it computes again, so that these have no part in a derivative.
        kept = jax.eval_shape(self.run_forward, p, xs, s0)[1]
        return results, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), kept)

    def _backward_by_loop(self, args: tuple[Any, ...], kept: Any, cotangents: Changes) -> tuple[Changes, ...]:
        loop = self._loop()
        return loop.backward(args, loop.keep(*args)[1], cotangents)

    def _loop(self) -> Loop:
        narrow = self.spec.io != self.spec.dtype
        return Loop(_Narrow(self.step, self.spec.io, self.spec.dtype) if narrow else self.step)


@dataclass(frozen=True)
class _Narrow:
    """A step whose input and output have another dtype than its state."""

    step: Callable[..., Any]
    io: np.dtype
    dtype: np.dtype

    def __call__(self, p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        out, after = self.step(p, jax.tree.map(lambda a: a.astype(self.dtype), x), s)
        return jax.tree.map(lambda a: a.astype(self.io), out), after


@dataclass(frozen=True)
class Fused(ByKernel):
    """The kernels of a local step; their arrays are (time, lanes) and (lanes)."""

    def run_forward(self, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
        x_flat, p_flat = self._flat(p, xs)
        s_leaves, s_tree = jax.tree.flatten(s0)
        ys, ends, marks = primitives.forward(self.spec, x_flat, p_flat, [s.reshape(-1) for s in s_leaves])
        lanes = self.spec.shape
        outs = jax.tree.unflatten(self.spec.out_tree, [y.reshape(-1, *lanes) for y in ys])
        return (outs, jax.tree.unflatten(s_tree, [e.reshape(lanes) for e in ends])), marks

    def run_backward(self, args: tuple[Any, ...], kept: Any, cotangents: Changes) -> tuple[Changes, ...]:
        p, xs, _ = args
        x_flat, p_flat = self._flat(p, xs)
        n, steps, lanes = self.spec.n_y, x_flat[0].shape[0], self.spec.shape
        g_ys, g_ends = [g.reshape(steps, -1) for g in cotangents[:n]], [g.reshape(-1) for g in cotangents[n:]]
        g_xs, g_ps, g_ss = primitives.backward(self.spec, x_flat, p_flat, kept, g_ys, g_ends)
        shapes = [a.shape for a in jax.tree.leaves(p)]
        return (
            [unbroadcast(g.reshape(lanes), shape) for g, shape in zip(g_ps, shapes, strict=True)],
            [g.reshape(steps, *lanes) for g in g_xs],
            [g.reshape(lanes) for g in g_ss],
        )

    def _flat(self, p: Any, xs: Any) -> tuple[Changes, Changes]:
        steps = jax.tree.leaves(xs)[0].shape[0]
        x_flat = [x.reshape(steps, -1) for x in jax.tree.leaves(xs)]
        return x_flat, [jnp.broadcast_to(a, self.spec.shape).reshape(-1) for a in jax.tree.leaves(p)]


def unbroadcast(g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The cotangent of an array of `shape` that was broadcast to that of `g`."""
    full = (1,) * (g.ndim - len(shape)) + shape
    axes = tuple(i for i, n in enumerate(full) if n == 1 and g.shape[i] != 1)
    return g.sum(axes, keepdims=True).reshape(shape)
