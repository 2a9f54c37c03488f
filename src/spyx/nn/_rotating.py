"""Neurons whose membrane is a rotation, a complex number held as two real variables: C-SiLIF and balanced RF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.nn._fields import between, constant, per_unit
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from jaxtyping import Array

    from spyx.engine.params import Params
    from spyx.engine.types import State, Units


def log_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """drawn log-uniformly from [0.01, 0.5)"""  # noqa: D403
    return jax.random.uniform(key, shape, jnp.float32, math.log(0.01), math.log(0.5))


class CSiLIF(Neuron):
    """LIF with a complex membrane `u = x + j y`: `u' = alpha (u - z / 2) + b input`, `z' = H(2 x' - threshold)`.

    `alpha = exp(exp(log_dt) (-exp(log_rate) + j omega))`; z on the right is that of the step before. The state is pairs
    of real variables, so it runs in every mode. No latency.

    Shapes:
        input: (batch, *hidden_shape); state `CSiLIF.State(x, y, z)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> layer = CSiLIF(1, log_dt=0.0, log_rate=-50.0, omega=math.pi / 2, b=1.0)  # a quarter turn per step
        >>> z, s = layer(jnp.array([[0.25]]), layer.initial_state(1))
        >>> z, s = layer(jnp.array([[0.0]]), s)
        >>> round(abs(s.x.item()), 4), round(s.y.item(), 4)
        (0.0, 0.25)

    Reference:
        Fabre et al. 2025, arXiv:2506.06374, with its initialisation for SHD (its smallest time step varies with the
        data); its surrogate is `axn.boxcar(1.0, 1.0)`. The paper starts from a random state, here it is 0.
    """

    state = dict(x=0.0, y=0.0, z=0.0)
    affine = "given_spikes"
    log_dt = per_unit(log_uniform, doc="logarithm of the time step")
    log_rate = per_unit(math.log(0.5), doc="logarithm of the damping per time")
    omega = per_unit(math.pi, doc="rotation in radians per time")
    b = per_unit(between(0.0, 1.0), doc="gain of the input")
    threshold = constant(1.0, doc="firing threshold")

    @staticmethod
    def derive(p: Params) -> dict[str, Array]:
        dt = jnp.exp(p.log_dt)
        size = jnp.exp(-dt * jnp.exp(p.log_rate))
        return dict(real=size * jnp.cos(dt * p.omega), imaginary=size * jnp.sin(dt * p.omega))

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        u = s.x - 0.5 * s.z
        real = p.real * u - p.imaginary * s.y + p.b * x
        z = p.spike(2 * real - p.threshold)
        return z, s._replace(x=real, y=p.imaginary * u + p.real * s.y, z=z)


class BRF(Neuron):
    """Balanced resonate-and-fire: an oscillator with a refractory period that cannot diverge.

    `b = p(omega) - |b_offset| - q`, `u' = u + dt (b u - omega v + input)`, `v' = v + dt (omega u + b v)`,
    `z = H(u' - threshold - q)`, `q' = 0.9 q + z`. With the damping `p(omega) = (sqrt(1 - (dt omega)^2) - 1) / dt` alone
    the discrete oscillation would neither grow nor decay. No reset, no latency.

    Shapes:
        input: (batch, *hidden_shape); state `BRF.State(u, v, q)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> layer = BRF(1, omega=10.0, b_offset=1.0)
        >>> z, s = layer(jnp.array([[150.0]]), layer.initial_state(1))
        >>> z.item(), round(s.u.item(), 3), s.q.item()
        (1.0, 1.5, 1.0)

    Reference:
        Higuchi et al. 2024, ICML, arXiv:2402.14603, with its initialisation for SHD: `omega=between(5, 10)`,
        `b_offset=between(2, 3)`. For ECG it is (3, 5) and (0.1, 1), for permuted sequential MNIST (15, 85) and
        (0.1, 1). Its surrogate is `axn.double_gaussian()`. Above an omega of 1 / dt, 100, p stays at -1 / dt.
    """

    state = dict(u=0.0, v=0.0, q=0.0)
    omega = per_unit(between(5.0, 10.0), doc="angular frequency in radians per time")
    b_offset = per_unit(between(2.0, 3.0), doc="damping beyond the balance")
    dt = constant(0.01, doc="time per step")
    threshold = constant(1.0, doc="firing threshold")

    @staticmethod
    def derive(p: Params) -> dict[str, Array]:
        turn = jnp.minimum((p.dt * p.omega) ** 2, 1 - 1e-6)
        return dict(speed=jnp.abs(p.omega), balance=(jnp.sqrt(1 - turn) - 1) / p.dt - jnp.abs(p.b_offset))

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        b = p.balance - s.q
        u = s.u + p.dt * (b * s.u - p.speed * s.v + x)
        v = s.v + p.dt * (p.speed * s.u + b * s.v)
        z = p.spike(u - p.threshold - s.q)
        return z, s._replace(u=u, v=v, q=0.9 * s.q + z)
