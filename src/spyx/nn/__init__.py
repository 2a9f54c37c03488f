"""Neurons and layers, and `run`, which carries them through time."""

from __future__ import annotations

from spyx.nn.convolution import Conv as Conv
from spyx.nn.execution import MODES as MODES
from spyx.nn.execution import Choice as Choice
from spyx.nn.foreign import EquinoxLayer as EquinoxLayer
from spyx.nn.integrate import ALIF as ALIF
from spyx.nn.integrate import IF as IF
from spyx.nn.integrate import LI as LI
from spyx.nn.integrate import LIF as LIF
from spyx.nn.integrate import CuBaLIF as CuBaLIF
from spyx.nn.kernels import kernel_source as kernel_source
from spyx.nn.layer import StatefulLayer as StatefulLayer
from spyx.nn.neuron import Neuron as Neuron
from spyx.nn.parameters import Constant as Constant
from spyx.nn.parameters import Fixed as Fixed
from spyx.nn.pooling import SumPool as SumPool
from spyx.nn.pooling import sum_pool as sum_pool
from spyx.nn.readout import ActivityRegularization as ActivityRegularization
from spyx.nn.readout import PopulationCode as PopulationCode
from spyx.nn.recurrent import RALIF as RALIF
from spyx.nn.recurrent import RIF as RIF
from spyx.nn.recurrent import RLIF as RLIF
from spyx.nn.recurrent import RCuBaLIF as RCuBaLIF
from spyx.nn.run import explain as explain
from spyx.nn.run import run as run
from spyx.nn.sequential import Flatten as Flatten
from spyx.nn.sequential import Sequential as Sequential
from spyx.nn.stream import stream as stream

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "MODES",
    "RALIF",
    "RIF",
    "RLIF",
    "ActivityRegularization",
    "Choice",
    "Constant",
    "Conv",
    "CuBaLIF",
    "EquinoxLayer",
    "Fixed",
    "Flatten",
    "Neuron",
    "PopulationCode",
    "RCuBaLIF",
    "Sequential",
    "StatefulLayer",
    "SumPool",
    "explain",
    "kernel_source",
    "run",
    "stream",
    "sum_pool",
]
