"""What a kernel is generated for: a step, its dtypes and its lane shape; and the three lane programs it needs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.fused.program import Program, Unsupported, trace

CHUNK = 16
"""Time steps between two checkpoints: stored states are 1/16 of a full trace, and a chunk's fit in the cache."""

SPECS = 256
"""Specifications whose programs and sources are kept: enough for a network, bounded where classes come and go."""


@dataclass(frozen=True)
class Spec:
    """One neuron's step, made flat: lists of arrays (time, lanes) and (lanes).

    Args:
        step: `(p, x, s) -> (out, s')`.
        tree: structure of `(x, p, s)`; parameters, state and input are its leaves, in this order.
        shape: lanes, as the step sees them: (batch, *hidden).
        n_x: arrays of input.
        n_s: arrays of state.
        p_shapes: of the parameters as the step is given them; kernels read one value per lane.
        dtype: of state and parameters, and of the arithmetic.
        io: of input and output.
        chunk: time steps between two checkpoints.
    """

    step: Callable[..., Any]
    tree: Any
    shape: tuple[int, ...]
    n_x: int
    n_s: int
    p_shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype
    io: np.dtype
    chunk: int = CHUNK

    @property
    def name(self) -> str:
        """For people who read the kernel; it becomes part of its source, so nothing but letters and digits is left."""
        name = str(getattr(self.step, "__qualname__", "step")).replace(".step", "")
        return re.sub(r"\W", "_", name.rsplit("<locals>.", 1)[-1])[:60]

    @property
    def n_p(self) -> int:
        return len(self.p_shapes)

    @property
    def n_y(self) -> int:
        return self.out_tree.num_leaves

    @property
    def out_tree(self) -> Any:
        """Structure of the step's output."""
        return _out_tree(self)

    @property
    def forward(self) -> Program:
        """(x, p, s) -> (y, s')."""
        return _forward(self)

    @property
    def advance(self) -> Program:
        """(x, p, s) -> s'."""
        return _advance(self)

    @property
    def backward(self) -> Program:
        """(x, p, s, cotangents of y and s') -> cotangents of (x, s, p)."""
        return _backward(self)

    def as_wide_as_state(self) -> Spec:
        """The same step for input and output in the dtype of the state."""
        return replace(self, io=self.dtype)

    def forward_shapes(self, steps: int, lanes: int) -> list[jax.ShapeDtypeStruct]:
        """Of outputs, last states and checkpoints."""
        outs = [jax.ShapeDtypeStruct((steps, lanes), self.io)] * self.n_y
        ends = [jax.ShapeDtypeStruct((lanes,), self.dtype)] * self.n_s
        return [*outs, *ends, *[jax.ShapeDtypeStruct((-(-steps // self.chunk), lanes), self.dtype)] * self.n_s]

    def backward_shapes(self, steps: int, lanes: int) -> list[jax.ShapeDtypeStruct]:
        """Of the cotangents of inputs, parameters and first states."""
        inputs = [jax.ShapeDtypeStruct((steps, lanes), self.io)] * self.n_x
        return [*inputs, *[jax.ShapeDtypeStruct((lanes,), self.dtype)] * (self.n_p + self.n_s)]

    def run_step(self, *leaves: jax.Array) -> list[jax.Array]:
        """One step on flat lists: inputs and outputs in `io`, everything else in `dtype`."""
        xs = [a.astype(self.dtype) for a in leaves[: self.n_x]]
        x, p, s = jax.tree.unflatten(self.tree, [*xs, *leaves[self.n_x :]])
        out, after = self.step(p, x, s)
        return [*(y.astype(self.io) for y in jax.tree.leaves(out)), *jax.tree.leaves(after)]

    @property
    def dtypes(self) -> list[np.dtype]:
        return [self.io] * self.n_x + [self.dtype] * (self.n_p + self.n_s)


def spec_of(step: Any, p: Any, xs: Any, s0: Any) -> Spec:
    """The spec of a run.

    Raises:
        Unsupported: its arrays are not lanes, or not of floating dtypes.
    """
    x_leaves, p_leaves, s_leaves = (jax.tree.leaves(t) for t in (xs, p, s0))
    dtypes = {np.dtype(a.dtype) for a in (*p_leaves, *s_leaves)}
    if not s_leaves or not x_leaves:
        raise Unsupported("a step without input or state")
    dtype, io = np.dtype(s_leaves[0].dtype), np.dtype(x_leaves[0].dtype)
    if dtypes != {dtype} or dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise Unsupported(f"state or parameters of dtype {', '.join(sorted(d.name for d in dtypes))}")
    if any(np.dtype(a.dtype) != io or not jnp.issubdtype(a.dtype, jnp.floating) for a in x_leaves):
        raise Unsupported(f"input of dtype {io.name}")
    shape = tuple(s_leaves[0].shape)
    if any(a.shape != shape for a in s_leaves) or any(a.shape[1:] != shape for a in x_leaves):
        raise Unsupported("input and state of different shapes")
    for a in p_leaves:
        if len(a.shape) > len(shape) or any(n not in (1, m) for n, m in zip(a.shape[::-1], shape[::-1], strict=False)):
            raise Unsupported(f"a parameter of shape {tuple(a.shape)}, which is not one value per unit")
    tree = jax.tree.structure((jax.tree.map(lambda _: 0, xs), p, s0))
    return Spec(step, tree, shape, len(x_leaves), len(s_leaves), tuple(tuple(a.shape) for a in p_leaves), dtype, io)


@functools.lru_cache(maxsize=SPECS)
def _out_tree(spec: Spec) -> Any:
    shapes = [spec.shape] * spec.n_x + list(spec.p_shapes) + [spec.shape] * spec.n_s
    x, p, s = jax.tree.unflatten(spec.tree, [jax.ShapeDtypeStruct(shape, spec.dtype) for shape in shapes])
    out, after = jax.eval_shape(spec.step, p, x, s)
    if jax.tree.structure(after) != jax.tree.structure(s):
        raise Unsupported("a step whose new state has another structure")
    if any(a.dtype != spec.dtype for a in jax.tree.leaves((out, after))):
        raise Unsupported("a step that changes the dtype of its state, or of its output")
    if any(a.shape != spec.shape for a in jax.tree.leaves((out, after))):
        raise Unsupported(f"a step whose output or new state is not of shape {spec.shape}")
    return jax.tree.structure(out)


@functools.lru_cache(maxsize=SPECS)
def _forward(spec: Spec) -> Program:
    return trace(spec.run_step, spec.shape, spec.dtypes)


@functools.lru_cache(maxsize=SPECS)
def _advance(spec: Spec) -> Program:
    outs = spec.n_y
    return trace(lambda *leaves: spec.run_step(*leaves)[outs:], spec.shape, spec.dtypes)


@functools.lru_cache(maxsize=SPECS)
def _backward(spec: Spec) -> Program:
    n = spec.n_x + spec.n_p + spec.n_s

    def pull(*leaves: jax.Array) -> list[jax.Array]:
        grads = jax.vjp(spec.run_step, *leaves[:n])[1](list(leaves[n:]))
        first, last = spec.n_x, spec.n_x + spec.n_p
        return [*grads[:first], *grads[last:], *grads[first:last]]

    cotangents = [spec.io] * spec.n_y + [spec.dtype] * spec.n_s
    return trace(pull, spec.shape, [*spec.dtypes, *cotangents])
