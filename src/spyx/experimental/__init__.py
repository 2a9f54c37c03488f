"""Neurons that need no time loop, and stochastic ones. A module's place is its stability: these may still change.

Every neuron here is one description that the engine runs in parallel over time, and a layer of spyx as well.
"""

from __future__ import annotations

from spyx.experimental._associative import AssociativeLIF as AssociativeLIF
from spyx.experimental._bernoulli import Bernoulli as Bernoulli
from spyx.experimental._bernoulli import refractory_sigmoid_bernoulli as refractory_sigmoid_bernoulli
from spyx.experimental._bernoulli import sigmoid_bernoulli as sigmoid_bernoulli
from spyx.experimental._keys import NoisyState as NoisyState
from spyx.experimental._keys import with_key as with_key
from spyx.experimental._psn import PSN as PSN
from spyx.experimental._psn import MaskedPSN as MaskedPSN
from spyx.experimental._psu import PSU_LIF as PSU_LIF
from spyx.experimental._resonate import AssociativeResonateFire as AssociativeResonateFire
from spyx.experimental._resonate import ResonateFire as ResonateFire
from spyx.experimental._sliding import ChannelPSN as ChannelPSN
from spyx.experimental._sliding import SlidingPSN as SlidingPSN
from spyx.experimental._spsn import SPSN as SPSN
from spyx.experimental._stochastic import StochasticAssociativeCuBaLIF as StochasticAssociativeCuBaLIF
from spyx.experimental._stochastic import StochasticAssociativeLIF as StochasticAssociativeLIF
from spyx.experimental._stochastic import StochasticNeuron as StochasticNeuron

__all__ = [
    "AssociativeLIF",
    "AssociativeResonateFire",
    "Bernoulli",
    "ChannelPSN",
    "MaskedPSN",
    "NoisyState",
    "PSN",
    "PSU_LIF",
    "ResonateFire",
    "SPSN",
    "SlidingPSN",
    "StochasticAssociativeCuBaLIF",
    "StochasticAssociativeLIF",
    "StochasticNeuron",
    "refractory_sigmoid_bernoulli",
    "sigmoid_bernoulli",
    "with_key",
]
