"""A recurrent step made local: the recurrent current becomes one more input, the spikes fed back one more output.

`z = z(p, x, s)`, then `c = z W`, then `out, s' = step(p, x, s, c)`: between two products a recurrent neuron is as
elementwise as any other, so that its lane programs are those of a local neuron with an input and an output more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from spyx.engine.fused.program import Program, Unsupported, select
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

        out, after = self.step(_Weightless(vars(p), {}).replace(feedback=feedback), x, s)
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
    leaves = jax.tree.leaves(s0)
    if not leaves:
        raise Unsupported("a step without input or state")
    dtype, shape, weight = np.dtype(leaves[0].dtype), tuple(leaves[0].shape), p.recurrent_w
    if tuple(weight.shape) != shape[1:] * 2 or weight.dtype != dtype:
        raise Unsupported(f"recurrent_w of shape {tuple(weight.shape)} and dtype {np.dtype(weight.dtype).name}")
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), xs)
    current = jax.ShapeDtypeStruct((jax.tree.leaves(xs)[0].shape[0], *shape), dtype)
    return spec_of(Fed(step), without_weight(p), (inputs, current), s0)


@functools.cache
def spikes(spec: Spec) -> Program:
    """(x, c, p, s) -> z, which c has no part in."""
    return select(spec.forward, [spec.n_y - 1])


@functools.cache
def forward(spec: Spec) -> Program:
    """(x, c, p, s) -> (y, s')."""
    return select(spec.forward, [k for k in range(spec.n_y + spec.n_s) if k != spec.n_y - 1])


@functools.cache
def current_cotangent(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangent of c, which that of z has no part in."""
    return select(spec.backward, [spec.n_x - 1])


@functools.cache
def backward(spec: Spec) -> Program:
    """(x, c, p, s, cotangents of y, z and s') -> cotangents of (x, s, p)."""
    return select(spec.backward, [k for k in range(spec.n_x + spec.n_s + spec.n_p) if k != spec.n_x - 1])


def forward_shapes(spec: Spec, steps: int, batch: int, units: int) -> list[jax.ShapeDtypeStruct]:
    """Of outputs, last states and checkpoints."""
    outs, ends, marks = spec.n_y - 1, spec.n_s, spec.n_s
    leads = [(steps, batch)] * outs + [(batch,)] * ends + [(-(-steps // spec.chunk), batch)] * marks
    return [jax.ShapeDtypeStruct((*lead, units), spec.dtype) for lead in leads]


def backward_shapes(spec: Spec, steps: int, batch: int, units: int) -> list[jax.ShapeDtypeStruct]:
    """Of the cotangents of inputs, parameters and first states, then of the spikes and the cotangent of the current."""
    leads = [(steps, batch)] * (spec.n_x - 1) + [(batch,)] * (spec.n_p + spec.n_s) + [(steps, batch)] * 2
    return [jax.ShapeDtypeStruct((*lead, units), spec.dtype) for lead in leads]
