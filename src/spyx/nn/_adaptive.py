"""Leaky neurons with a second variable that adapts: adLIF in two discretisations, cAdLIF, SiLIF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.nn._dynamics import detached
from spyx.nn._fields import between, constant, decay, per_unit
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from jaxtyping import Array

    from spyx.engine.params import Params
    from spyx.engine.types import State, Units


class adLIF(Neuron):
    """Adaptive LIF with coupled membrane and adaptation, discretised by the symplectic Euler method (SE-adLIF).

    `u = alpha u + (1 - alpha) (x - w)`, `z = H(u - threshold)`, `u' = u (1 - z)` with the z of the reset detached,
    `w' = beta w + (1 - beta) q (a u' + b z)`; `alpha = exp(-1 / tau_u)`, `beta = exp(-1 / tau_w)`. The adaptation reads
    the new membrane, which keeps its oscillations stable. No latency.

    Shapes:
        x: (batch, *hidden_shape); state `adLIF.State(u, w)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> from flax import nnx
        >>> layer = adLIF(3, rngs=nnx.Rngs(0))
        >>> z, s = layer(jnp.full((1, 3), 30.0), layer.initial_state(1))
        >>> z.tolist(), s.u.tolist()
        ([[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]])

    Reference:
        Baronig et al. 2025, arXiv:2408.07517, with its initialisation. The paper's network is
        `Recurrent(adLIF(...))` with an orthogonal weight and the surrogate `axn.exponential()`.
    """

    state = dict(u=0.0, w=0.0)
    affine = "given_spikes"
    tau_u = per_unit(between(5.0, 25.0), low=5.0, high=25.0, by="unit", doc="membrane time constant in steps")
    tau_w = per_unit(between(60.0, 300.0), low=60.0, high=300.0, by="unit", doc="adaptation time constant in steps")
    a = per_unit(between(0.0, 1.0), low=0.0, high=1.0, doc="coupling of the membrane to the adaptation")
    b = per_unit(between(0.0, 2.0), low=0.0, high=2.0, doc="what a spike adds to the adaptation")
    q = constant(120.0, doc="scale of the adaptation")
    threshold = constant(1.0, doc="firing threshold")

    @staticmethod
    def derive(p: Params) -> dict[str, Array]:
        return dict(alpha=jnp.exp(-1 / p.tau_u), beta=jnp.exp(-1 / p.tau_w))

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        u = p.alpha * s.u + (1 - p.alpha) * (x - s.w)
        z = p.spike(u - p.threshold)
        u = u * (1 - detached(z))
        return z, s._replace(u=u, w=p.beta * s.w + (1 - p.beta) * p.q * (p.a * u + p.b * z))


class EFadLIF(adLIF):
    """Adaptive LIF with coupled membrane and adaptation, discretised by the forward Euler method (EF-adLIF).

    `u = alpha u + (1 - alpha) (x - w)`, `z' = H(u - threshold)`, `u' = u (1 - z')` with the z of the reset detached,
    `w' = beta w + (1 - beta) q (a u_before + b z_before)`: membrane and spike of the step before, where `adLIF` takes
    those of this step. No latency.

    Shapes:
        x: (batch, *hidden_shape); state `EFadLIF.State(u, w, z)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> from flax import nnx
        >>> layer = EFadLIF(1, rngs=nnx.Rngs(0))
        >>> z, s = layer(jnp.full((1, 1), 30.0), layer.initial_state(1))
        >>> z.item(), s.w.item()
        (1.0, 0.0)

    Reference:
        Baronig et al. 2025, arXiv:2408.07517, which compares the two; q is 60 here and 120 there.
    """

    state = dict(u=0.0, w=0.0, z=0.0)
    q = constant(60.0, doc="scale of the adaptation")

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        u = p.alpha * s.u + (1 - p.alpha) * (x - s.w)
        z = p.spike(u - p.threshold)
        w = p.beta * s.w + (1 - p.beta) * p.q * (p.a * s.u + p.b * s.z)
        return z, s._replace(u=u * (1 - detached(z)), w=w, z=z)


class cAdLIF(Neuron):
    """Constrained adaptive LIF: `w' = beta w + a u + b z`, `u' = alpha (u - z) + (1 - alpha) (x - w')`.

    `z' = H(u' - threshold)`; u and z on the right are those of the step before, so a reset takes 1 away inside the
    leak. With learned delays in the connection before it, it is the paper's d-cAdLIF. No latency.

    Shapes:
        x: (batch, *hidden_shape); state `cAdLIF.State(u, w, z)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> layer = cAdLIF(1, alpha=0.5, beta=0.97, a=0.0, b=1.0)
        >>> z, s = layer(jnp.array([[4.0]]), layer.initial_state(1))
        >>> z, s = layer(jnp.array([[0.0]]), s)
        >>> z.item(), s.u.item(), s.w.item()
        (0.0, 0.0, 1.0)

    Reference:
        Deckers et al. 2024, doi:10.3389/fnins.2024.1360300, with its ranges and its initialisation.
    """

    state = dict(u=0.0, w=0.0, z=0.0)
    affine = "given_spikes"
    alpha = decay(between(0.36, 0.96), low=0.36, high=0.96, doc="membrane decay per step")
    beta = decay(between(0.96, 0.99), low=0.96, high=0.99, doc="adaptation decay per step")
    a = per_unit(between(0.0, 1.0), low=0.0, high=1.0, doc="coupling of the membrane to the adaptation")
    b = per_unit(between(0.0, 2.0), low=0.0, high=2.0, doc="what a spike adds to the adaptation")
    threshold = constant(1.0, doc="firing threshold")

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        w = p.beta * s.w + p.a * s.u + p.b * s.z
        u = p.alpha * (s.u - s.z) + (1 - p.alpha) * (x - w)
        z = p.spike(u - p.threshold)
        return z, s._replace(u=u, w=w, z=z)


class SiLIF(Neuron):
    """LIF in the parameters of a state-space model: the equations of `cAdLIF` with decays that share a time step.

    `alpha = exp(-exp(log_rate_u + log_dt))`, `beta = exp(-exp(log_rate_w + log_dt))`; `w' = beta w + a u + b z`,
    `u' = alpha (u - z) + (1 - alpha) (x - w')`, `z' = H(u' - threshold)`. No latency.

    Shapes:
        x: (batch, *hidden_shape); state `SiLIF.State(u, w, z)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> from flax import nnx
        >>> layer = SiLIF(4, rngs=nnx.Rngs(0))
        >>> alpha = layer.params().alpha  # between exp(-1) and exp(-0.04)
        >>> bool(((alpha > 0.367) & (alpha < 0.961)).all())
        True

    Reference:
        Fabre et al. 2025, arXiv:2506.06374, with its initialisation; its surrogate is `axn.boxcar(1.0, 1.0)`. The
        paper starts from a random state, here it is 0.
    """

    state = dict(u=0.0, w=0.0, z=0.0)
    affine = "given_spikes"
    log_dt = per_unit(math.log(0.004), doc="logarithm of the time step in s")
    log_rate_u = per_unit(between(math.log(10.0), math.log(250.0)), doc="logarithm of the membrane's rate in 1/s")
    log_rate_w = per_unit(between(math.log(2.5), math.log(10.0)), doc="logarithm of the adaptation's rate in 1/s")
    a = per_unit(between(0.0, 1.0), low=0.0, high=1.0, doc="coupling of the membrane to the adaptation")
    b = per_unit(between(0.0, 2.0), low=0.0, high=2.0, doc="what a spike adds to the adaptation")
    threshold = constant(1.0, doc="firing threshold")
    step = staticmethod(cAdLIF.step)

    @staticmethod
    def derive(p: Params) -> dict[str, Array]:
        rates = dict(alpha=p.log_rate_u, beta=p.log_rate_w)
        return {name: jnp.exp(-jnp.exp(rate + p.log_dt)) for name, rate in rates.items()}
