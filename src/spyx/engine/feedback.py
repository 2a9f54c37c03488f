"""A step whose output is fed back into its input: recurrence is declared by the type of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import jax.numpy as jnp

from spyx.engine.derivative import Changes, inexact, pull
from spyx.engine.params import Params, without

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.engine.types import State, StateType, Step, Units


class Connection(Protocol):
    """From what a layer sends to the current that it receives; hashable, its numbers are entries of `p`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The entries of `p` that are its own."""
        ...

    def __call__(self, p: Params, sent: Units) -> Units:
        """The current (batch, *hidden) for spikes (batch, *hidden)."""
        ...


@dataclass(frozen=True)
class Dense:
    """`sent @ weight`, contracted over all hidden axes; `weight[i, j]` leads from unit i to unit j.

    Args:
        name: the entry of `p` that holds the weight, of shape hidden + hidden.
    """

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def __call__(self, p: Params, sent: Units) -> Units:
        weight = getattr(p, self.name)
        return jnp.tensordot(sent, weight, axes=weight.ndim // 2)


@dataclass(frozen=True)
class Carried:
    """How the state holds what is sent at the next step: the local state, and one variable more.

    Args:
        inner: the type of the local state, a NamedTuple; None where it is a bare array.
        outer: the type of the whole state, a NamedTuple with what is sent as its last entry.
    """

    inner: StateType | None
    outer: StateType

    def split(self, s: State) -> tuple[State, Units]:
        *local, sent = s
        return (local[0] if self.inner is None else self.inner(*local)), sent

    def join(self, local: State, sent: Units) -> State:
        return self.outer(*((local,) if self.inner is None else local), sent)


@dataclass(frozen=True)
class Recurrent:
    """The step `step(p, x + via(p, sent), s)`.

    What is sent is the output of this step where that follows from the state alone, or, with `carried`, the output of
    the step before.

    Args:
        step: the local step, which knows nothing of the recurrence.
        via: the connection.
        carried: where the state holds the output of the step before; None for the output of this step.
    """

    step: Step
    via: Connection
    carried: Carried | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", getattr(self.step, "__qualname__", "step"))

    def __call__(self, p: Params, x: Units, s: State) -> tuple[Units, State]:
        return self.given(p, x, self.via(p, self.sent(p, x, s)), s)

    def sent(self, p: Params, x: Units, s: State) -> Units:
        """What is fed back in this step; `x` matters for its shape and dtype only."""
        if self.carried is not None:
            return self.carried.split(s)[1]
        return self.step(p, jnp.zeros_like(x), s)[0]

    def given(self, p: Params, x: Units, current: Units, s: State) -> tuple[Units, State]:
        """The step with its recurrent current given."""
        if self.carried is None:
            return self.step(p, x + current, s)
        local, _ = self.carried.split(s)
        out, local = self.step(p, x + current, local)
        return out, self.carried.join(local, out)

    def local_parameters(self, p: Params) -> Params:
        """Those that are not the connection's."""
        return without(p, self.via.names)

    def with_extra_current(self, p: Params, local: Params, x: Units, s: State, extra: Units) -> tuple[Units, State]:
        """The step as a function of everything but the connection's parameters; `extra` is added to the current."""
        return self.given(local, x, self.via(p, self.sent(local, x, s)) + extra, s)

    def all_cotangents(
        self, p: Params, local: Changes, sent: Float[Array, "time batch *hidden"], g_current: Changes
    ) -> Changes:
        """Cotangents of all of `p`: those of the local parameters are given, the connection's are one product.

        Args:
            p: all parameters.
            local: cotangents of `local_parameters(p)`.
            sent: what was sent, (time, batch, *hidden).
            g_current: cotangent of the current, of that shape.
        """
        local_p = self.local_parameters(p)
        own = without(p, local_p._names)
        rows = [a.reshape(-1, *a.shape[2:]) for a in (sent, *g_current)]
        (g_own,) = pull(lambda own: self.via(own, rows[0]), (own,), rows[1:])
        found = {**_as_dict(local_p, local), **_as_dict(own, g_own)}
        return [g for name in sorted(found) for g in found[name]]


def _as_dict(p: Params, changes: Changes) -> dict[str, Changes]:
    """One list of derivatives per entry."""
    rest = iter(changes)
    return {name: [next(rest) for _ in inexact(getattr(p, name))[0]] for name in p._names}
