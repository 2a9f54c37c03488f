"""`Refractory`: any neuron with a refractory period after each of its spikes."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.engine.params import Params
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from spyx.engine.types import State, StateType, Step, Units


@dataclass(frozen=True)
class Resting:
    """The step of a neuron that is silent, and whose membrane stands still, for some steps after a spike.

    Args:
        step: the neuron's own.
        steps: length of the period.
        inner: the type of the neuron's state, a NamedTuple; None where it is a bare array.
    """

    step: Step
    steps: int
    inner: StateType | None

    def __call__(self, p: Params, x: Units, s: State) -> tuple[Units, State]:
        *before, wait = s
        free = (wait <= 0).astype(x.dtype)
        local = before[0] if self.inner is None else self.inner(*before)
        out, after = self.step(p.replace(spike=lambda u: free * p.spike(u)), x, local)
        v, *others = (after,) if self.inner is None else after
        v = free * v + (1 - free) * before[0]
        wait = jnp.where(out > 0, jnp.full_like(wait, self.steps), jnp.maximum(wait - 1, 0))
        return out, type(s)(v, *others, wait)


class Refractory(Neuron):
    """A neuron with a refractory period: for some steps after a spike it is silent and its membrane stands still.

    The membrane is the neuron's first state variable; the others, such as a synaptic current or an adaptation, go on.
    The state has one variable more, `wait`, the steps that are left.

    Args:
        neuron: a local neuron that spikes.
        steps: length of the period in time steps, 1 or more.
        name: stored, for your own use.

    Shapes:
        x (batch, *hidden_shape) -> spikes (batch, *hidden_shape); state as of the neuron, with `wait`.

    Raises:
        TypeError: no neuron.
        ValueError: a neuron whose units read one another; a period below 1 step.

    Example:
        >>> from spyx import nn
        >>> layer = Refractory(nn.LIF(1, beta=0.5, dynamics="paper"), steps=2)
        >>> nn.run(layer, jnp.full((1, 7, 1), 3.0))[0].ravel().tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]

    Reference:
        Gerstner et al. 2014, Neuronal Dynamics, section 1.3: an absolute refractory period.
    """

    def __init__(self, neuron: Neuron, steps: int, *, name: str | None = None) -> None:
        if not isinstance(neuron, Neuron):
            raise TypeError(
                f"spyx.nn.Refractory: expected a spyx.nn.Neuron; got {type(neuron).__name__}. Wrap the neuron alone."
            )
        if not neuron.local:
            raise ValueError(
                f"spyx.nn.Refractory: expected a local neuron; got {type(neuron).__name__}. Put it inside: "
                "Recurrent(Refractory(neuron, steps))."
            )
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"spyx.nn.Refractory(steps=): expected an int of at least 1; got {steps!r}. Count steps.")
        self.neuron = neuron
        self.steps = steps
        self.hidden_shape = neuron.hidden_shape
        self.activation = neuron.activation
        self.name = name

    @property
    def step(self) -> Resting:  # type: ignore[override]
        """The step, made of the neuron's own."""
        return Resting(self.neuron.step, self.steps, self.neuron.State if len(self.neuron.state) > 1 else None)

    @property
    def state(self) -> Mapping[str, float]:  # type: ignore[override]
        """Name and resting value of each state variable."""
        return {**self.neuron.state, "wait": 0.0}

    @property
    def State(self) -> StateType:  # type: ignore[override]
        """The NamedTuple of the state."""
        return _with_wait(tuple(self.neuron.state))

    @property
    def _kind(self) -> str:
        return f"Refractory({self.neuron._kind})"

    def params(self) -> Params:
        """Those of the neuron."""
        return self.neuron.params()


@functools.lru_cache(maxsize=256)
def _with_wait(names: tuple[str, ...]) -> StateType:
    """One type for equal names, so that equal layers are equal."""
    return collections.namedtuple("RefractoryState", (*names, "wait"))  # type: ignore[return-value]
