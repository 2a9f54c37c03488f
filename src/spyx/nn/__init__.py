"""Neurons and layers, and `run`, which carries them through time."""

from __future__ import annotations

from spyx.engine.plan import MODES as MODES
from spyx.engine.plan import Plan as Plan
from spyx.nn._adaptive import EFadLIF as EFadLIF
from spyx.nn._adaptive import SiLIF as SiLIF
from spyx.nn._adaptive import adLIF as adLIF
from spyx.nn._adaptive import cAdLIF as cAdLIF
from spyx.nn._biological import AdEx as AdEx
from spyx.nn._biological import Izhikevich as Izhikevich
from spyx.nn._calibrate import calibrate as calibrate
from spyx.nn._delayed import Delayed as Delayed
from spyx.nn._delayed import Delays as Delays
from spyx.nn._delayed import Width as Width
from spyx.nn._delayed import rounded as rounded
from spyx.nn._delayed import set_width as set_width
from spyx.nn._delayed import shrinking as shrinking
from spyx.nn._dynamics import Dynamics as Dynamics
from spyx.nn._dynamics import detached as detached
from spyx.nn._equinox_layer import EquinoxLayer as EquinoxLayer
from spyx.nn._execution import Execution as Execution
from spyx.nn._fields import between as between
from spyx.nn._fields import constant as constant
from spyx.nn._fields import decay as decay
from spyx.nn._fields import per_unit as per_unit
from spyx.nn._fields import positive as positive
from spyx.nn._gated import DHLIF as DHLIF
from spyx.nn._gated import GLIF as GLIF
from spyx.nn._gated import PLIF as PLIF
from spyx.nn._gated import TCLIF as TCLIF
from spyx.nn._gated import Dendrites as Dendrites
from spyx.nn._integrate_and_fire import ALIF as ALIF
from spyx.nn._integrate_and_fire import IF as IF
from spyx.nn._integrate_and_fire import LI as LI
from spyx.nn._integrate_and_fire import LIF as LIF
from spyx.nn._integrate_and_fire import CuBaLIF as CuBaLIF
from spyx.nn._kernel_source import kernel_source as kernel_source
from spyx.nn._layer import Layer as Layer
from spyx.nn._linear_and_conv import Conv as Conv
from spyx.nn._linear_and_conv import Linear as Linear
from spyx.nn._neuron import Neuron as Neuron
from spyx.nn._parameters import Constant as Constant
from spyx.nn._parameters import Fixed as Fixed
from spyx.nn._pooling import SumPool as SumPool
from spyx.nn._pooling import sum_pool as sum_pool
from spyx.nn._readout import ActivityRegularization as ActivityRegularization
from spyx.nn._readout import PopulationCode as PopulationCode
from spyx.nn._recurrent import RALIF as RALIF
from spyx.nn._recurrent import RIF as RIF
from spyx.nn._recurrent import RLIF as RLIF
from spyx.nn._recurrent import RCuBaLIF as RCuBaLIF
from spyx.nn._recurrent import Recurrent as Recurrent
from spyx.nn._refractory import Refractory as Refractory
from spyx.nn._rotating import BRF as BRF
from spyx.nn._rotating import CSiLIF as CSiLIF
from spyx.nn._run import explain as explain
from spyx.nn._run import observe as observe
from spyx.nn._run import run as run
from spyx.nn._sequential import Flatten as Flatten
from spyx.nn._sequential import Sequential as Sequential
from spyx.nn._sequential import Unflatten as Unflatten
from spyx.nn._sigma_delta import SigmaDelta as SigmaDelta
from spyx.nn._stepper import Stepper as Stepper
from spyx.nn._stepper import stepper as stepper
from spyx.nn._stream import stream as stream

__all__ = [
    "ALIF",
    "BRF",
    "DHLIF",
    "GLIF",
    "IF",
    "LI",
    "LIF",
    "MODES",
    "PLIF",
    "RALIF",
    "RIF",
    "RLIF",
    "TCLIF",
    "ActivityRegularization",
    "AdEx",
    "CSiLIF",
    "Constant",
    "Conv",
    "CuBaLIF",
    "Delayed",
    "Delays",
    "Dendrites",
    "Dynamics",
    "EFadLIF",
    "EquinoxLayer",
    "Execution",
    "Fixed",
    "Flatten",
    "Izhikevich",
    "Layer",
    "Linear",
    "Neuron",
    "Plan",
    "PopulationCode",
    "RCuBaLIF",
    "Recurrent",
    "Refractory",
    "Sequential",
    "SiLIF",
    "SigmaDelta",
    "Stepper",
    "SumPool",
    "Unflatten",
    "Width",
    "adLIF",
    "between",
    "calibrate",
    "cAdLIF",
    "constant",
    "decay",
    "detached",
    "explain",
    "kernel_source",
    "observe",
    "per_unit",
    "positive",
    "rounded",
    "run",
    "set_width",
    "shrinking",
    "stepper",
    "stream",
    "sum_pool",
]
