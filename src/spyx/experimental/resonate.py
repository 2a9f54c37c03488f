"""Resonate-and-fire: a neuron that answers to a frequency, with its reset and without."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx

from spyx.axn import Activation
from spyx.nn import Neuron
from spyx.nn.parameters import Shape, constant, decay, draw, parameter


class ResonateFire(Neuron):
    """Resonate and fire: a damped rotation that fires when it comes up far enough.

    `x' + j y' = beta exp(j omega) (x + j y) + input`, `z = H(y' - threshold)`; a spike puts the state to
    `x' = 0, y' = threshold`. No latency: the spike answers this step's input, though an impulse takes about a quarter
    of a period, `pi / (2 omega)` steps, to come up. `run(mode="fixed_point")` solves it in parallel over time.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        omega: rotation per step in radians. None: one trainable value per unit, drawn from [0, pi / 2). A number: one
            trainable value. An array: trainable, broadcast to the units. `Fixed(value)`: not trained.
        beta: damping, the factor per step in [0, 1]; likewise, None draws around 0.5. Default 0.95.
        threshold: firing threshold on y; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        rngs: needed when `omega` or `beta` is None.
        name: stored, for your own use.

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

    def __init__(
        self,
        hidden_shape: Shape,
        omega: Any = None,
        beta: Any = 0.95,
        threshold: Any = 1.0,
        activation: Activation | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, activation, name=name)
        who = f"spyx.experimental.{type(self).__name__}"
        if omega is None:
            omega = draw(who, "omega", rngs, nnx.initializers.uniform(math.pi / 2), self.hidden_shape)
        self.omega = parameter(who, "omega", omega, self.hidden_shape)
        self.beta = decay(who, "beta", beta, self.hidden_shape, rngs)
        self.threshold = constant(who, "threshold", threshold, self.hidden_shape)

    @staticmethod
    def rotate(p: Any, u: Any, s: Any) -> tuple[Any, Any]:
        """One step of the damped rotation, before anything fires: `(x, y)`."""
        cos, sin = p.beta * jnp.cos(p.omega), p.beta * jnp.sin(p.omega)
        return cos * s.x - sin * s.y + u, sin * s.x + cos * s.y

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        real, imaginary = ResonateFire.rotate(p, x, s)
        z = p.spike(imaginary - p.threshold)
        return z, s._replace(x=(1 - z) * real, y=(1 - z) * imaginary + z * p.threshold)


class AssociativeResonateFire(ResonateFire):
    """Resonate and fire without reset, which needs no time loop.

    `x' + j y' = beta exp(j omega) (x + j y) + input`, `z = H(y' - threshold)`. No latency. Nothing happens to the state
    when it fires, so it fires for as long as y is above the threshold, and `run(mode="parallel")` solves all of time at
    once.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        omega: rotation per step in radians; None, number, array or `Fixed`, as in `ResonateFire`.
        beta: damping, the factor per step in [0, 1]; likewise. Default 0.95.
        threshold: firing threshold on y; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        rngs: needed when `omega` or `beta` is None.
        name: stored, for your own use.

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
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        real, imaginary = ResonateFire.rotate(p, x, s)
        return p.spike(imaginary - p.threshold), s._replace(x=real, y=imaginary)
