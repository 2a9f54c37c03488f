"""A recurrent step made local: the recurrent current becomes one more input, the spikes fed back one more output.

`z = z(p, x, s)`, then `c = z W`, then `out, s' = step(p, x, s, c)`: between two products a recurrent neuron is as
elementwise as any other, so that its lane programs are those of a local neuron with an input and an output more.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.fused.program import Operand, Program, Unsupported, select
from spyx.engine.fused.spec import SPECS, Spec, spec_of
from spyx.engine.params import Params
from spyx.engine.recurrent import Dense, Recurrent


@dataclass(frozen=True)
class Fed:
    """`((out, sent), s')` from the local parameters, the input `(x, current)` and the state."""

    step: Recurrent

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", vars(self.step)["__qualname__"])

    def __call__(self, p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        x, current = x
        out, after = self.step.given(p, x, current, s)
        # Where the output itself is sent it follows from the state alone: one array for both.
        return (out, out if self.step.carried is None else self.step.sent(p, x, s)), after


def fed_spec(step: Recurrent, p: Params, xs: Any, s0: Any) -> Spec:
    """The spec of a recurrent run: of `Fed(step)`, whose last input is the current and last output what is sent.

    Raises:
        Unsupported: the step is more than lane programs around one product with a dense weight.
    """
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
    return spec_of(Fed(step), step.local_parameters(p), (x, x), s0)


@functools.lru_cache(maxsize=SPECS)
def spikes_at(spec: Spec) -> int:
    """Which output is the spikes fed back: one of the neuron's own, or one more at the end, `n_y - 1`."""
    return _first_of_last(spec.forward.outputs[: spec.n_y])


@functools.lru_cache(maxsize=SPECS)
def current_at(spec: Spec) -> int:
    """Which input has the current's cotangent: one that it is added to, or itself at the end, `n_x - 1`."""
    return _first_of_last(spec.backward.outputs[: spec.n_x])


def _first_of_last(values: Sequence[Operand]) -> int:
    return next(k for k, a in enumerate(values) if a is values[-1] or (isinstance(a, int) and a == values[-1]))


def kept(at: int, count: int) -> int:
    """How many of `count` arrays a kernel writes: the last only where no other one is the same."""
    return count if at == count - 1 else count - 1


@functools.lru_cache(maxsize=SPECS)
def spikes(spec: Spec) -> Program:
    """(x, c, p, s) -> z, which c has no part in."""
    return select(spec.forward, [spec.n_y - 1])


@functools.lru_cache(maxsize=SPECS)
def forward(spec: Spec) -> Program:
    """(x, c, p, s) -> (y but the spikes, s')."""
    known = (spec.n_y - 1, spikes_at(spec))
    return select(spec.forward, [k for k in range(spec.n_y + spec.n_s) if k not in known])


@functools.lru_cache(maxsize=SPECS)
def current_cotangent(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangent of c, which that of z has no part in."""
    return select(spec.backward, [spec.n_x - 1])


@functools.lru_cache(maxsize=SPECS)
def backward(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangents of (x but what has that of c, s, p)."""
    known = (spec.n_x - 1, current_at(spec))
    return select(spec.backward, [k for k in range(spec.n_x + spec.n_s + spec.n_p) if k not in known])


def forward_shapes(spec: Spec, steps: int, batch: int, units: int) -> list[jax.ShapeDtypeStruct]:
    """Of outputs (number `spikes_at` is what was fed back), last states and checkpoints."""
    outs, ends, marks = kept(spikes_at(spec), spec.n_y), spec.n_s, spec.n_s
    leads = [(steps, batch)] * outs + [(batch,)] * ends + [(-(-steps // spec.chunk), batch)] * marks
    return [jax.ShapeDtypeStruct((*lead, units), spec.dtype) for lead in leads]


def backward_shapes(spec: Spec, steps: int, batch: int, units: int) -> list[jax.ShapeDtypeStruct]:
    """Of the cotangents of inputs (number `current_at` is the current's), parameters and first states."""
    inputs, others = kept(current_at(spec), spec.n_x), spec.n_p + spec.n_s
    leads = [(steps, batch)] * inputs + [(batch,)] * others
    return [jax.ShapeDtypeStruct((*lead, units), spec.dtype) for lead in leads]
