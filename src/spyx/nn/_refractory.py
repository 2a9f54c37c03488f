"""`Refractory`: any neuron with a refractory period after each of its spikes."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.engine.loop import depends
from spyx.engine.params import Params
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from spyx.axn import Activation
    from spyx.engine.types import State, StateType, Step, Units


@dataclass(frozen=True)
class Resting:
    """The step of a neuron that is silent, and whose membrane stands still, for some steps after a spike.

    Args:
        step: the neuron's own.
        steps: length of the period.
        inner: the type of the neuron's state, a NamedTuple; None where it is a bare array.
        whole: all of the state stands still, not the membrane alone.
    """

    step: Step
    steps: int
    inner: StateType | None
    whole: bool

    def __call__(self, p: Params, x: Units, s: State) -> tuple[Units, State]:
        *before, wait = s
        free = (wait <= 0).astype(x.dtype)
        local = before[0] if self.inner is None else self.inner(*before)
        out, after = self.step(p.replace(spike=lambda u: free * p.spike(u)), x, local)
        v, *others = (after,) if self.inner is None else after
        v = free * v + (1 - free) * before[0]
        if self.whole:
            others = [free * new + (1 - free) * old for new, old in zip(others, before[1:], strict=True)]
        wait = jnp.where(out != 0, jnp.full_like(wait, self.steps), jnp.maximum(wait - 1, 0))
        return out, type(s)(v, *others, wait)


class Refractory(Neuron):
    """A neuron with a refractory period: for some steps after a spike it is silent and its membrane stands still.

    The membrane is the neuron's first state variable; the others, such as a synaptic current or an adaptation, go on.
    Where a spike reaches the membrane only by way of another one, in the step after (cAdLIF, SiLIF, CSiLIF, BRF), all
    of the neuron stands still, so that what the spike does to it is not lost. The state has one variable more, `wait`,
    the steps that are left.

    Args:
        neuron: a local neuron that spikes.
        steps: length of the period in time steps, 1 or more.
        name: stored, for your own use.

    Shapes:
        x (batch, *hidden_shape) -> spikes (batch, *hidden_shape); state as of the neuron, with `wait`.

    Raises:
        TypeError: no neuron.
        ValueError: a neuron whose units read one another, or that does not spike; a period below 1 step.

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
        spikes, self._whole = _look_inside(neuron)
        if not spikes:
            raise ValueError(
                f"spyx.nn.Refractory: expected a neuron that spikes; got {type(neuron).__name__}, whose step calls no "
                "p.spike. Use the neuron as it is."
            )
        self.neuron = neuron
        self.steps = steps
        self.hidden_shape = neuron.hidden_shape
        self.activation = neuron.activation
        self.name = name

    @property
    def step(self) -> Resting:  # type: ignore[override]
        """The step, made of the neuron's own."""
        inner = self.neuron.State if len(self.neuron.state) > 1 else None
        return Resting(self.neuron.step, self.steps, inner, self._whole)

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


def _look_inside(neuron: Neuron) -> tuple[bool, bool]:
    """Does the step spike, and does a spike reach the membrane only in the step after, by another state variable?"""
    p, s = jax.eval_shape(lambda: (neuron.params().astype(jnp.float32), neuron.initial_state(1)))
    unit = jax.ShapeDtypeStruct((1, *neuron.hidden_shape), jnp.float32)
    structure, names = jax.tree.structure(s), range(len(neuron.state))

    def after(variable: int, x: jax.Array, spike: Activation, changed: dict[int, jax.Array]) -> jax.Array:
        """A state variable after a step from zeros, of which some are changed."""
        like, zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (p, s))
        leaves = [changed.get(i, leaf) for i, leaf in enumerate(jax.tree.leaves(zeros))]
        found = neuron.step(like.replace(spike=spike), x, jax.tree.unflatten(structure, leaves))
        return jax.tree.leaves(found)[1 + variable]

    seen: list[jax.Array] = []

    def from_spike(variable: int) -> bool:
        def function(z: jax.Array) -> jax.Array:
            return after(variable, jnp.zeros_like(z), lambda u: (seen.append(u), z)[1], {})

        return depends(function, unit)

    def to_membrane(variable: int) -> bool:
        return depends(lambda v: after(0, jnp.zeros_like(v), neuron.activation, {variable: v}), unit)

    late = not from_spike(0) and any(from_spike(i) and to_membrane(i) for i in names[1:])
    return bool(seen), late


@functools.lru_cache(maxsize=256)
def _with_wait(names: tuple[str, ...]) -> StateType:
    """One type for equal names, so that equal layers are equal."""
    return collections.namedtuple("RefractoryState", (*names, "wait"))  # type: ignore[return-value]
