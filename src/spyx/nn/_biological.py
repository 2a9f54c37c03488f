"""Neurons in millivolts and milliseconds: Izhikevich's and the adaptive exponential integrate-and-fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.nn._fields import constant
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from spyx.engine.params import Params
    from spyx.engine.types import State, Units


class Izhikevich(Neuron):
    """Izhikevich's neuron: `dv/dt = 0.04 v^2 + 5 v + 140 - u + x`, `du/dt = a (b v - u)`; v in mV, time in ms.

    One forward Euler step of `dt_ms` per time step. Where v' reaches `peak` it spikes, v' becomes c, and u' grows by d.
    No latency. The defaults are a regularly spiking cell of the cortex.

    Shapes:
        x: (batch, *hidden_shape); state `Izhikevich.State(v, u)`, each (batch, *hidden_shape).

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> spikes, _ = nn.run(Izhikevich(1), jnp.full((1, 400, 1), 10.0))  # 200 ms
        >>> 3 < float(spikes.sum()) < 20
        True

    Reference:
        Izhikevich 2003, doi:10.1109/TNN.2003.820440.
    """

    state = dict(v=-65.0, u=-13.0)
    a = constant(0.02, doc="rate of the recovery in 1/ms")
    b = constant(0.2, doc="sensitivity of the recovery to v")
    c = constant(-65.0, doc="v after a spike in mV")
    d = constant(8.0, doc="what a spike adds to the recovery")
    dt_ms = constant(0.5, doc="time per step in ms")
    peak = constant(30.0, doc="v of a spike in mV")

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        v = s.v + p.dt_ms * (0.04 * s.v**2 + 5 * s.v + 140 - s.u + x)
        u = s.u + p.dt_ms * p.a * (p.b * s.v - s.u)
        z = p.spike(v - p.peak)
        return z, s._replace(v=(1 - z) * v + z * p.c, u=u + z * p.d)


class AdEx(Neuron):
    """Adaptive exponential integrate-and-fire, in mV, ms, pA, nS and pF.

    `C dv/dt = -g (v - rest) + g slope exp((v - onset) / slope) - w + x`, `tau_w dw/dt = a (v - rest) - w`. One forward
    Euler step of `dt_ms` per time step. Where v' reaches `peak` it spikes, v' becomes `reset`, and w' grows by b. No
    latency.

    Shapes:
        x, in pA: (batch, *hidden_shape); state `AdEx.State(v, w)`, each (batch, *hidden_shape).

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> spikes, _ = nn.run(AdEx(1), jnp.full((1, 2000, 1), 1000.0))  # 200 ms of 1 nA
        >>> 3 < float(spikes.sum()) < 40
        True

    Reference:
        Brette & Gerstner 2005, doi:10.1152/jn.00686.2005, with its numbers.
    """

    state = dict(v=-70.6, w=0.0)
    capacitance = constant(281.0, doc="C in pF")
    conductance = constant(30.0, doc="g of the leak in nS")
    rest = constant(-70.6, doc="reversal of the leak in mV")
    onset = constant(-50.4, doc="v at which the spike begins in mV")
    slope = constant(2.0, doc="sharpness of the beginning in mV")
    tau_w_ms = constant(144.0, doc="time constant of the adaptation in ms")
    a = constant(4.0, doc="adaptation by the membrane in nS")
    b = constant(80.5, doc="adaptation by a spike in pA")
    reset = constant(-70.6, doc="v after a spike in mV")
    peak = constant(20.0, doc="v of a spike in mV")
    dt_ms = constant(0.1, doc="time per step in ms")

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        upswing = p.slope * jnp.exp((jnp.minimum(s.v, p.peak) - p.onset) / p.slope)
        v = s.v + p.dt_ms / p.capacitance * (p.conductance * (p.rest - s.v + upswing) - s.w + x)
        w = s.w + p.dt_ms / p.tau_w_ms * (p.a * (s.v - p.rest) - s.w)
        z = p.spike(v - p.peak)
        return z, s._replace(v=(1 - z) * v + z * p.reset, w=w + z * p.b)
