"""The engine: how time is executed. Pure JAX; every function takes `(step, p, xs, s0)` and knows no neuron by name.

`step(p, x, s) -> (out, s')` is one time step, `p` a `Params`, `xs` has time on axis 0, `s0` is the state before.
Every mode returns `(outs, s_T)` and gives the same answer.
"""

from __future__ import annotations

from spyx.engine.adjoint import adjoint as adjoint
from spyx.engine.params import Params as Params
from spyx.engine.scan import scan as scan

__all__ = ["MODES", "Params", "adjoint", "scan"]

MODES = {"scan": scan, "layer": adjoint}
"""How one neuron runs over time, by the mode's name."""
