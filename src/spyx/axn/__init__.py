"""Surrogate-gradient activations: a spike forward, a slope backward.

Every factory returns a `Surrogate`: a frozen dataclass, equal by value, hashable and picklable, so a network whose
layers were given two equal surrogates is traced once. The input is the membrane with its threshold already
subtracted. A new surrogate is its slope and nothing else:

    @surrogate
    def fast_sigmoid(x, k=10.0):
        return 1 / (1 + k * jnp.abs(x)) ** 2
"""

from __future__ import annotations

from spyx.axn._slopes import arctan as arctan
from spyx.axn._slopes import boxcar as boxcar
from spyx.axn._slopes import custom as custom
from spyx.axn._slopes import double_gaussian as double_gaussian
from spyx.axn._slopes import exponential as exponential
from spyx.axn._slopes import piecewise as piecewise
from spyx.axn._slopes import sigmoid as sigmoid
from spyx.axn._slopes import straight_through as straight_through
from spyx.axn._slopes import superspike as superspike
from spyx.axn._slopes import tanh as tanh
from spyx.axn._slopes import triangular as triangular
from spyx.axn._snnax import piecewise_surrogate as piecewise_surrogate
from spyx.axn._snnax import sigmoid_surrogate as sigmoid_surrogate
from spyx.axn._snnax import superspike_surrogate as superspike_surrogate
from spyx.axn._surrogate import Activation as Activation
from spyx.axn._surrogate import Surrogate as Surrogate
from spyx.axn._surrogate import heaviside as heaviside
from spyx.axn._surrogate import heaviside_closed as heaviside_closed
from spyx.axn._surrogate import surrogate as surrogate

__all__ = [
    "Activation",
    "Surrogate",
    "arctan",
    "boxcar",
    "custom",
    "double_gaussian",
    "exponential",
    "heaviside",
    "heaviside_closed",
    "piecewise",
    "piecewise_surrogate",
    "sigmoid",
    "sigmoid_surrogate",
    "straight_through",
    "superspike",
    "superspike_surrogate",
    "surrogate",
    "tanh",
    "triangular",
]
