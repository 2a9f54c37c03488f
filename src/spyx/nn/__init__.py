"""Neurons and layers, and `run`, which carries them through time."""

from __future__ import annotations

from spyx.engine.plan import MODES as MODES
from spyx.engine.plan import Plan as Plan
from spyx.nn.adaptive import EFadLIF as EFadLIF
from spyx.nn.adaptive import SiLIF as SiLIF
from spyx.nn.adaptive import adLIF as adLIF
from spyx.nn.adaptive import cAdLIF as cAdLIF
from spyx.nn.biological import AdEx as AdEx
from spyx.nn.biological import Izhikevich as Izhikevich
from spyx.nn.calibrate import calibrate as calibrate
from spyx.nn.delayed import Delayed as Delayed
from spyx.nn.delayed import Delays as Delays
from spyx.nn.delayed import Width as Width
from spyx.nn.delayed import rounded as rounded
from spyx.nn.delayed import set_width as set_width
from spyx.nn.delayed import shrinking as shrinking
from spyx.nn.dynamics import Dynamics as Dynamics
from spyx.nn.dynamics import detached as detached
from spyx.nn.equinox_layer import EquinoxLayer as EquinoxLayer
from spyx.nn.execution import Execution as Execution
from spyx.nn.fields import between as between
from spyx.nn.fields import constant as constant
from spyx.nn.fields import decay as decay
from spyx.nn.fields import per_unit as per_unit
from spyx.nn.fields import positive as positive
from spyx.nn.gated import DHLIF as DHLIF
from spyx.nn.gated import GLIF as GLIF
from spyx.nn.gated import PLIF as PLIF
from spyx.nn.gated import TCLIF as TCLIF
from spyx.nn.gated import Dendrites as Dendrites
from spyx.nn.integrate_and_fire import ALIF as ALIF
from spyx.nn.integrate_and_fire import IF as IF
from spyx.nn.integrate_and_fire import LI as LI
from spyx.nn.integrate_and_fire import LIF as LIF
from spyx.nn.integrate_and_fire import CuBaLIF as CuBaLIF
from spyx.nn.kernel_source import kernel_source as kernel_source
from spyx.nn.layer import Layer as Layer
from spyx.nn.linear_and_conv import Conv as Conv
from spyx.nn.linear_and_conv import Linear as Linear
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
from spyx.nn.recurrent import Recurrent as Recurrent
from spyx.nn.refractory import Refractory as Refractory
from spyx.nn.rotating import BRF as BRF
from spyx.nn.rotating import CSiLIF as CSiLIF
from spyx.nn.run import explain as explain
from spyx.nn.run import observe as observe
from spyx.nn.run import run as run
from spyx.nn.sequential import Flatten as Flatten
from spyx.nn.sequential import Sequential as Sequential
from spyx.nn.sequential import Unflatten as Unflatten
from spyx.nn.sigma_delta import SigmaDelta as SigmaDelta
from spyx.nn.stepper import Stepper as Stepper
from spyx.nn.stepper import stepper as stepper
from spyx.nn.stream import stream as stream

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
