"""The GPU kernels: the same lane programs inside two Pallas kernels, lowered through Triton.

A kernel instance owns a block of lanes and keeps their state in registers over all of time. Time goes in chunks that
are unrolled: a chunk's loads do not wait for its states, and in the backward pass its states stay in registers as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from spyx.engine.kernels.lane_program import evaluate

if TYPE_CHECKING:
    from jax import Ref

    from spyx.engine.kernels.spec import Spec
    from spyx.engine.types import Checkpoints, Leaves, OverTime, PerLane

T = TypeVar("T")
Index = int | jax.Array

LARGEST_BLOCK = 128
"""Lanes of one kernel instance: one per thread of four warps. The loop over time is a chain of dependent operations,
so what hides memory latency is many small instances, not large ones."""


def block_size(lanes: int) -> int:
    """The largest power of two that fits, up to `LARGEST_BLOCK`."""
    return min(LARGEST_BLOCK, 1 << (lanes.bit_length() - 1))


def on_lanes(kernel: Callable[..., Leaves]) -> Callable[..., Leaves]:
    """The kernel for arrays (time, samples, units) and (samples, units), whose lanes it sees side by side."""

    @functools.wraps(kernel)
    def run(spec: Spec, *groups: Leaves, **options: bool) -> Leaves:
        shape = groups[0][0].shape[1:]
        flat = [[a.reshape(*a.shape[: a.ndim - len(shape)], -1) for a in group] for group in groups]
        return [a.reshape(*a.shape[:-1], *shape) for a in kernel(spec, *flat, **options)]

    return run


@on_lanes
def forward(spec: Spec, xs: OverTime, ps: PerLane, ss: PerLane, *, interpret: bool = False) -> Leaves:
    """Outputs (time, lanes), last states (lanes), checkpoints (chunks, lanes)."""
    steps, lanes = xs[0].shape

    def kernel(*refs: Ref) -> None:
        x, p, s, y, end, mark = _split(refs, spec.n_x, spec.n_p, spec.n_s, spec.n_y, spec.n_s, spec.n_s)
        own = _own_lanes(lanes)
        parameters = [r[own] for r in p]

        def chunk(number: Index, state: Leaves, size: int) -> Leaves:
            for r, v in zip(mark, state, strict=True):
                r[number, own] = v
            begin = number * spec.chunk
            inputs = [[r[begin + j, own] for r in x] for j in range(size)]
            for j in range(size):
                results = evaluate(spec.forward, [*inputs[j], *parameters, *state])
                for r, v in zip(y, results[: spec.n_y], strict=True):
                    r[begin + j, own] = v
                state = results[spec.n_y :]
            return state

        for r, v in zip(end, _forwards(chunk, [r[own] for r in s], steps, spec.chunk), strict=True):
            r[own] = v

    return _call(kernel, f"spyx_{spec.name}_forward", lanes, spec.forward_shapes(steps, lanes), interpret)(
        *xs, *ps, *ss
    )


@on_lanes
def backward(
    spec: Spec,
    xs: OverTime,
    ps: PerLane,
    marks: Checkpoints,
    g_ys: OverTime,
    g_ends: PerLane,
    *,
    interpret: bool = False,
) -> Leaves:
    """Cotangents of inputs (time, lanes), parameters (lanes) and first states (lanes)."""
    steps, lanes = xs[0].shape

    def kernel(*refs: Ref) -> None:
        counts = (spec.n_x, spec.n_p, spec.n_s, spec.n_y, spec.n_s, spec.n_x, spec.n_p, spec.n_s)
        x, p, mark, g_y, g_end, g_x, g_p, g_s = _split(refs, *counts)
        own = _own_lanes(lanes)
        parameters = [r[own] for r in p]

        def chunk(number: Index, carry: Leaves, size: int) -> Leaves:
            g_state, sums = carry[: spec.n_s], carry[spec.n_s :]
            begin = number * spec.chunk
            inputs = [[r[begin + j, own] for r in x] for j in range(size)]
            g_outs = [[r[begin + j, own] for r in g_y] for j in range(size)]
            states = [[r[number, own] for r in mark]]
            for j in range(size - 1):
                states.append(evaluate(spec.advance, [*inputs[j], *parameters, *states[j]]))
            for j in reversed(range(size)):
                pulled = evaluate(spec.backward, [*inputs[j], *parameters, *states[j], *g_outs[j], *g_state])
                g_in, g_state, more = _split(pulled, spec.n_x, spec.n_s, spec.n_p)
                sums = [a + b for a, b in zip(sums, more, strict=True)]
                for r, v in zip(g_x, g_in, strict=True):
                    r[begin + j, own] = v
            return [*g_state, *sums]

        carry = [*(r[own] for r in g_end), *(jnp.zeros_like(v) for v in parameters)]
        for r, v in zip([*g_s, *g_p], _backwards(chunk, carry, steps, spec.chunk), strict=True):
            r[own] = v

    return _call(kernel, f"spyx_{spec.name}_backward", lanes, spec.backward_shapes(steps, lanes), interpret)(
        *xs, *ps, *marks, *g_ys, *g_ends
    )


def _own_lanes(lanes: int) -> pl.Slice | slice:
    """The last block moves back until it fits: lanes that two instances own get the same values from both."""
    block = block_size(lanes)
    return pl.ds(jnp.minimum(pl.program_id(0) * block, lanes - block), block)


def _forwards(chunk: Callable[..., Leaves], carry: Leaves, steps: int, size: int) -> Leaves:
    whole, rest = divmod(steps, size)
    if whole:
        carry = jax.lax.fori_loop(0, whole, lambda c, s: chunk(c, s, size), carry)
    return chunk(whole, carry, rest) if rest else carry


def _backwards(chunk: Callable[..., Leaves], carry: Leaves, steps: int, size: int) -> Leaves:
    whole, rest = divmod(steps, size)
    carry = chunk(whole, carry, rest) if rest else carry
    if whole:
        carry = jax.lax.fori_loop(0, whole, lambda c, s: chunk(whole - 1 - c, s, size), carry)
    return carry


def _split(values: Sequence[T], *counts: int) -> list[list[T]]:
    rest = iter(values)
    return [[next(rest) for _ in range(n)] for n in counts]


def _call(
    kernel: Callable[..., None], name: str, lanes: int, shapes: list[jax.ShapeDtypeStruct], interpret: bool
) -> Callable[..., Leaves]:
    from jax.experimental.pallas import triton

    block = block_size(lanes)
    return pl.pallas_call(
        kernel,
        out_shape=shapes,
        grid=(pl.cdiv(lanes, block),),
        compiler_params=triton.CompilerParams(num_warps=max(1, block // 32), num_stages=1),
        interpret=interpret,
        name=name,
    )
