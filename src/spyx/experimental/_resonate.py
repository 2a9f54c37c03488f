"""Resonate-and-fire: a neuron that responds to a frequency, with its reset and without."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.nn import Neuron, between, constant, decay, per_unit

if TYPE_CHECKING:
    from spyx.engine.params import Params
    from spyx.engine.types import State, Units


class ResonateFire(Neuron):
    """Resonate and fire: a damped rotation that fires when it comes up far enough.

    `x' + j y' = beta exp(j omega) (x + j y) + input`, `z = H(y' - threshold)`; a spike puts the state to
    `x' = 0, y' = threshold`. No latency: the spike uses this step's input, though an impulse takes about a quarter
    of a period, `pi / (2 omega)` steps, to come up. `run(mode="fixed_point")` solves it in parallel over time.

    Shapes:
        input (batch, *hidden_shape); state `State(x, y)`, each (batch, *hidden_shape) -> spikes, state.

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> layer = ResonateFire(1, omega=math.pi / 4, beta=1.0, threshold=0.9)
        >>> impulse = jnp.zeros((1, 5, 1)).at[0, 0].set(1.0)
        >>> nn.run(layer, impulse)[0].ravel().tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0]

    Reference:
        Izhikevich 2001, doi:10.1016/S0893-6080(01)00078-8, with `beta = exp(b dt)`, `omega` times dt, and his reset to
        the point j on the threshold; the rotation of one step is exact.
    """

    state = dict(x=0.0, y=0.0)
    affine = "given_spikes"
    omega = per_unit(between(0.0, math.pi / 2), doc="rotation per step in radians")
    beta = decay(0.95, shared=True, doc="damping, the factor per step")
    threshold = constant(1.0, doc="firing threshold on y")

    @staticmethod
    def rotate(p: Params, u: Units, s: State) -> tuple[Units, Units]:
        """One step of the damped rotation, before anything fires: `(x, y)`."""
        cos, sin = p.beta * jnp.cos(p.omega), p.beta * jnp.sin(p.omega)
        return cos * s.x - sin * s.y + u, sin * s.x + cos * s.y

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        real, imaginary = ResonateFire.rotate(p, x, s)
        z = p.spike(imaginary - p.threshold)
        return z, s._replace(x=(1 - z) * real, y=(1 - z) * imaginary + z * p.threshold)


class AssociativeResonateFire(ResonateFire):
    """Resonate and fire without reset, which needs no time loop.

    `x' + j y' = beta exp(j omega) (x + j y) + input`, `z = H(y' - threshold)`. No latency. Nothing happens to the state
    when it fires, so it fires for as long as y is above the threshold, and `run(mode="parallel")` solves all of time at
    once.

    Shapes:
        input (batch, *hidden_shape); state `State(x, y)`, each (batch, *hidden_shape) -> spikes, state.

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> layer = AssociativeResonateFire(1, omega=math.pi / 4, beta=1.0, threshold=0.5)
        >>> impulse = jnp.zeros((1, 6, 1)).at[0, 0].set(1.0)
        >>> nn.run(layer, impulse, mode="parallel")[0].ravel().tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]

    Reference:
        Izhikevich 2001, doi:10.1016/S0893-6080(01)00078-8, without his reset.
    """

    affine = "always"

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        real, imaginary = ResonateFire.rotate(p, x, s)
        return p.spike(imaginary - p.threshold), s._replace(x=real, y=imaginary)
