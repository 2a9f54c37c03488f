"""What a kernel is generated for: a step, its dtypes and its lane shape; and the lane programs it needs.

A recurrent step is `z = z(p, x, s)`, then `c = z W`, then `out, s' = step(p, x, s, c)`: between two products it is as
elementwise as any other. So its lane programs are those of a local step with one more input, the current c, and one
more output, the spikes z, each the last of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.feedback import Dense, Recurrent
from spyx.engine.jit_cache import cache
from spyx.engine.kernels.lane_program import Operand, Program, Unsupported, select, trace
from spyx.engine.params import Params

if TYPE_CHECKING:
    from spyx.engine.types import Inputs, Parameters, State, Step, Structure, Units

CHUNK = 16
"""Time steps between two checkpoints: stored states are 1/16 of a full trace, and a chunk's fit in the cache."""

SPECS = 256
"""Specifications whose programs and sources are cached: enough for a network, bounded where classes come and go."""


@dataclass(frozen=True)
class Spec:
    """One neuron's step, made flat: lists of arrays (time, samples, units) and (samples, units).

    Every lane of a local step is a sample of one unit. A sample of a recurrent step has all units.

    Args:
        step: `(p, x, s) -> (out, s')`; a `WithCurrent` for a recurrent step.
        tree: structure of `(x, p, s)`; parameters, state and input are its leaves, in this order.
        shape: lanes, as the step sees them: (batch, *hidden).
        n_x: arrays of input.
        n_s: arrays of state.
        p_shapes: of the parameters as the step is given them; kernels read one value per lane.
        dtype: of state and parameters, and of the arithmetic.
        io: of input and output.
        chunk: time steps between two checkpoints.
    """

    step: Step
    tree: Structure
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
        return re.sub(r"[^A-Za-z0-9_]", "_", name.rsplit("<locals>.", 1)[-1])[:60]

    @property
    def recurrent(self) -> bool:
        return isinstance(self.step, WithCurrent)

    @property
    def n_p(self) -> int:
        return len(self.p_shapes)

    @property
    def n_y(self) -> int:
        return self.out_tree.num_leaves

    @property
    def out_tree(self) -> Structure:
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

    @property
    def spikes_at(self) -> int:
        """Which output is the spikes fed back: one of the neuron's own, or one more at the end, `n_y - 1`."""
        return _first_like_last(self.forward.outputs[: self.n_y])

    @property
    def current_at(self) -> int:
        """Which input has the current's cotangent: one that it is added to, or itself at the end, `n_x - 1`."""
        return _first_like_last(self.backward.outputs[: self.n_x])

    @property
    def outputs(self) -> int:
        """Outputs that a kernel writes: spikes fed back that are an output as well are written once."""
        return self.n_y - (self.recurrent and self.spikes_at < self.n_y - 1)

    @property
    def inputs(self) -> int:
        """Inputs whose cotangents a kernel writes: the current's may be that of another one as well."""
        return self.n_x - (self.recurrent and self.current_at < self.n_x - 1)

    def as_wide_as_state(self) -> Spec:
        """The same step for input and output in the dtype of the state."""
        return replace(self, io=self.dtype)

    def forward_shapes(self, steps: int, *lanes: int) -> list[jax.ShapeDtypeStruct]:
        """Of outputs (number `spikes_at` is what was fed back), last states and checkpoints."""
        outs = [jax.ShapeDtypeStruct((steps, *lanes), self.io)] * self.outputs
        ends = [jax.ShapeDtypeStruct(lanes, self.dtype)] * self.n_s
        return [*outs, *ends, *[jax.ShapeDtypeStruct((-(-steps // self.chunk), *lanes), self.dtype)] * self.n_s]

    def backward_shapes(self, steps: int, *lanes: int) -> list[jax.ShapeDtypeStruct]:
        """Of the cotangents of inputs (number `current_at` is the current's), parameters and first states."""
        inputs = [jax.ShapeDtypeStruct((steps, *lanes), self.io)] * self.inputs
        return [*inputs, *[jax.ShapeDtypeStruct(lanes, self.dtype)] * (self.n_p + self.n_s)]

    def run_step(self, *leaves: jax.Array) -> list[jax.Array]:
        """One step on flat lists: inputs and outputs in `io`, everything else in `dtype`."""
        xs = [a.astype(self.dtype) for a in leaves[: self.n_x]]
        x, p, s = jax.tree.unflatten(self.tree, [*xs, *leaves[self.n_x :]])
        out, after = self.step(p, x, s)
        return [*(y.astype(self.io) for y in jax.tree.leaves(out)), *jax.tree.leaves(after)]

    @property
    def dtypes(self) -> list[np.dtype]:
        return [self.io] * self.n_x + [self.dtype] * (self.n_p + self.n_s)


@dataclass(frozen=True)
class WithCurrent:
    """A recurrent step as a local one: `((out, sent), s')` from the input `(x, current)`."""

    step: Recurrent

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", vars(self.step)["__qualname__"])

    def __call__(self, p: Params, x: tuple[Units, Units], s: State) -> tuple[tuple[Units, Units], State]:
        own, current = x
        out, after = self.step.given(p, own, current, s)
        # Where the output itself is sent it follows from the state alone: one array for both.
        return (out, out if self.step.carried is None else self.step.sent(p, own, s)), after


def spec_of(step: Step, p: Parameters, xs: Inputs, s0: State) -> Spec:
    """The spec of a run.

    Raises:
        Unsupported: its arrays are not lanes, or not of floating dtypes; or the step is recurrent by more than one
            product with a dense weight.
    """
    if isinstance(step, Recurrent):
        return _recurrent_spec(step, p, xs, s0)
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


def _recurrent_spec(step: Recurrent, p: Params, xs: Inputs, s0: State) -> Spec:
    leaves, x_leaves = jax.tree.leaves(s0), jax.tree.leaves(xs)
    if not isinstance(step.via, Dense):
        raise Unsupported("a connection that is not a dense weight")
    if not leaves or len(x_leaves) != 1:
        raise Unsupported("a step without state, or whose input is not one array")
    if not jnp.issubdtype(x_leaves[0].dtype, jnp.floating):
        raise Unsupported(f"input of dtype {np.dtype(x_leaves[0].dtype).name}")
    dtype, shape, weight = np.dtype(leaves[0].dtype), tuple(leaves[0].shape), getattr(p, step.via.name)
    if tuple(weight.shape) != shape[1:] * 2 or weight.dtype != dtype:
        raise Unsupported(f"a recurrent weight of shape {tuple(weight.shape)} and dtype {np.dtype(weight.dtype).name}")
    x = jax.ShapeDtypeStruct(x_leaves[0].shape, dtype)
    return spec_of(WithCurrent(step), step.local_parameters(p), (x, x), s0)


@cache(SPECS)
def _out_tree(spec: Spec) -> Structure:
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


@cache(SPECS)
def _forward(spec: Spec) -> Program:
    return trace(spec.run_step, spec.shape, spec.dtypes)


@cache(SPECS)
def _advance(spec: Spec) -> Program:
    return select(spec.forward, range(spec.n_y, spec.n_y + spec.n_s))


@cache(SPECS)
def _backward(spec: Spec) -> Program:
    n = spec.n_x + spec.n_p + spec.n_s

    def pull(*leaves: jax.Array) -> list[jax.Array]:
        grads = jax.vjp(spec.run_step, *leaves[:n])[1](list(leaves[n:]))
        first, last = spec.n_x, spec.n_x + spec.n_p
        return [*grads[:first], *grads[last:], *grads[first:last]]

    cotangents = [spec.io] * spec.n_y + [spec.dtype] * spec.n_s
    return trace(pull, spec.shape, [*spec.dtypes, *cotangents])


def _first_like_last(values: Sequence[Operand]) -> int:
    return next(k for k, a in enumerate(values) if a is values[-1] or (isinstance(a, int) and a == values[-1]))


@cache(SPECS)
def spikes(spec: Spec) -> Program:
    """(x, c, p, s) -> z, which c has no part in."""
    return select(spec.forward, [spec.n_y - 1])


@cache(SPECS)
def after_spikes(spec: Spec) -> Program:
    """(x, c, p, s) -> (y but the spikes, s')."""
    known = (spec.n_y - 1, spec.spikes_at)
    return select(spec.forward, [k for k in range(spec.n_y + spec.n_s) if k not in known])


@cache(SPECS)
def current_cotangent(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangent of c, which that of z has no part in."""
    return select(spec.backward, [spec.n_x - 1])


@cache(SPECS)
def after_current(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangents of (x but what has that of c, s, p)."""
    known = (spec.n_x - 1, spec.current_at)
    return select(spec.backward, [k for k in range(spec.n_x + spec.n_s + spec.n_p) if k not in known])
