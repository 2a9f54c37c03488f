"""Synapses with whole delays: a spike puts its weights down where they arrive, or a convolution over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.engine import delays as lagged
from spyx.engine.derivative import Changes, Rule, call, push
from spyx.engine.events.choice import by_events, choose
from spyx.engine.kernels.delay_kernels import arrivals

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.types import Tree

DENSITY = 0.4
"""Share of entries that are not zero up to which the kernel is taken; at half of it, it is three times as fast."""


def delayed(
    seen: Float[Array, "past+time batch inputs"],
    w: Float[Array, "inputs outputs"],
    delays: Int[Array, "inputs outputs"],
    lags: int,
) -> Float[Array, "time batch outputs"]:
    """`y[t, j] = sum_i seen[lags - 1 + t - delays[i, j], i] w[i, j]`; where it is differentiated, by the convolution.

    Args:
        seen: (lags - 1 + time, batch, inputs).
        w: (inputs, outputs), of the dtype of seen.
        delays: whole numbers from 0 to lags - 1.
        lags: the longest delay and one more.
    """
    steps = seen.shape[0] - lags + 1
    if not may_skip(steps, lags, seen.shape[1], *w.shape):
        return by_lags(seen, w, delays, lags)
    return call(_Delayed(lags), seen, w, delays)


def may_skip(steps: int, lags: int, batch: int, inputs: int, outputs: int) -> bool:
    """`delayed` may skip zeros, for a product of this size on this machine.

    In less time than the lags take, most of what the kernel puts down arrives too early or too late to be returned.
    """
    return steps >= lags and by_events(steps * lags * batch * inputs * outputs)


def by_lags(seen: Array, w: Array, delays: Array, lags: int) -> Array:
    """One convolution over time, with a kernel that is zero but at each synapse's delay."""
    at = jnp.arange(lags, dtype=delays.dtype)[:, None, None] == delays[None]
    return lagged.dense(seen, jnp.where(at, w[None], jnp.zeros((), w.dtype)), exact=True)


@dataclass(frozen=True)
class _Delayed(Rule):
    """The kernel up to a share of entries that are not zero; nothing but the convolution is differentiated."""

    lags: int

    def forward(self, seen: Array, w: Array, delays: Array) -> Array:
        def events(seen: Array, w: Array, delays: Array) -> Array:
            return arrivals(seen, w, delays, self.lags)

        return choose(self.plain, events, DENSITY, seen, w, delays)

    def plain(self, seen: Array, w: Array, delays: Array) -> Array:
        return by_lags(seen, w, delays, self.lags)

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
        return push(self.plain, args, tangents)
