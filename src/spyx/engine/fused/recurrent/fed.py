"""A recurrent step made local: the recurrent current becomes one more input, the spikes fed back one more output.

`z = z(p, x, s)`, then `c = z W`, then `out, s' = step(p, x, s, c)`: between two products a recurrent neuron is as
elementwise as any other, so that its lane programs are those of a local neuron with an input and an output more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.fused.program import Operand, Program, Unsupported, select
from spyx.engine.fused.spec import Spec, spec_of
from spyx.engine.params import Params


@dataclass(frozen=True)
class Fed:
    """`((out, z), s')` from `p` without its weight, input `(x, c)` and state."""

    step: Callable[..., Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", getattr(self.step, "__qualname__", "step"))

    def __call__(self, p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        fed: list[Any] = []
        x, current = x

        def feedback(spikes: Any) -> Any:
            fed.append(spikes)
            return current

        arrays = {k: getattr(p, k) for k in p._names}
        out, after = self.step(_Weightless(arrays, dict(p._static, feedback=feedback)), x, s)
        if len(fed) != 1:
            raise Unsupported(f"a step with {len(fed)} calls of p.feedback, not one")
        return (out, fed[0]), after


class _Weightless(Params):
    def __getattr__(self, name: str) -> Any:
        if name == "recurrent_w":
            raise Unsupported("a step that reads recurrent_w outside of p.feedback")
        return super().__getattr__(name)


def is_recurrent(p: Any) -> bool:
    """Has the neuron a recurrent weight?"""
    return "recurrent_w" in getattr(p, "_names", ())


def without_weight(p: Params) -> Params:
    """What a lane program reads."""
    return Params({k: getattr(p, k) for k in p._names if k != "recurrent_w"}, dict(p._static))


def fed_spec(step: Any, p: Any, xs: Any, s0: Any) -> Spec:
    """The spec of a recurrent run: of `Fed(step)`, whose last input is the current and last output the spikes.

    Raises:
        Unsupported: the step is more than lane programs around one product with W.
    """
    leaves, x_leaves = jax.tree.leaves(s0), jax.tree.leaves(xs)
    if not leaves or not x_leaves:
        raise Unsupported("a step without input or state")
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in x_leaves):
        raise Unsupported(f"input of dtype {np.dtype(x_leaves[0].dtype).name}")
    dtype, shape, weight = np.dtype(leaves[0].dtype), tuple(leaves[0].shape), p.recurrent_w
    if tuple(weight.shape) != shape[1:] * 2 or weight.dtype != dtype:
        raise Unsupported(f"recurrent_w of shape {tuple(weight.shape)} and dtype {np.dtype(weight.dtype).name}")
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), xs)
    current = jax.ShapeDtypeStruct((x_leaves[0].shape[0], *shape), dtype)
    return spec_of(Fed(step), without_weight(p), (inputs, current), s0)


@functools.cache
def spikes_at(spec: Spec) -> int:
    """Which output is the spikes fed back: one of the neuron's own, or one more at the end, `n_y - 1`."""
    return _first_of_last(spec.forward.outputs[: spec.n_y])


@functools.cache
def current_at(spec: Spec) -> int:
    """Which input has the current's cotangent: one that it is added to, or itself at the end, `n_x - 1`."""
    return _first_of_last(spec.backward.outputs[: spec.n_x])


def _first_of_last(values: Sequence[Operand]) -> int:
    return next(k for k, a in enumerate(values) if a is values[-1] or (isinstance(a, int) and a == values[-1]))


def kept(at: int, count: int) -> int:
    """How many of `count` arrays a kernel writes: the last only where no other one is the same."""
    return count if at == count - 1 else count - 1


@functools.cache
def spikes(spec: Spec) -> Program:
    """(x, c, p, s) -> z, which c has no part in."""
    return select(spec.forward, [spec.n_y - 1])


@functools.cache
def forward(spec: Spec) -> Program:
    """(x, c, p, s) -> (y but the spikes, s')."""
    known = (spec.n_y - 1, spikes_at(spec))
    return select(spec.forward, [k for k in range(spec.n_y + spec.n_s) if k not in known])


@functools.cache
def current_cotangent(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangent of c, which that of z has no part in."""
    return select(spec.backward, [spec.n_x - 1])


@functools.cache
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
