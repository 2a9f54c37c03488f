"""Training: `train`, a run that survives; `fit` with any batches; `compile_fit`, one compiled loop; and single steps.

A network is split into its parameters once per run, not once per step, and every update is watched: a loss, a gradient
or a batch that is not a number stops the run with the epoch, the step and the first layer whose state is not finite.
"""

from __future__ import annotations

from spyx.optimize._boards import tensorboard as tensorboard
from spyx.optimize._boards import wandb as wandb
from spyx.optimize._checkpoint import CheckpointError as CheckpointError
from spyx.optimize._compiled import compile_fit as compile_fit
from spyx.optimize._devices import device_mesh as device_mesh
from spyx.optimize._evolution import evolve as evolve
from spyx.optimize._fit import History as History
from spyx.optimize._fit import fit as fit
from spyx.optimize._kinds import hold_delays as hold_delays
from spyx.optimize._kinds import parameter_kinds as parameter_kinds
from spyx.optimize._population import Member as Member
from spyx.optimize._population import Population as Population
from spyx.optimize._population import halving as halving
from spyx.optimize._population import population as population
from spyx.optimize._precision import averaged as averaged
from spyx.optimize._precision import mixed_precision as mixed_precision
from spyx.optimize._processes import Job as Job
from spyx.optimize._processes import join_processes as join_processes
from spyx.optimize._signals import Stopped as Stopped
from spyx.optimize._solver import Solver as Solver
from spyx.optimize._solver import SolverImpl as SolverImpl
from spyx.optimize._solver import backprop as backprop
from spyx.optimize._steps import make_eval_step as make_eval_step
from spyx.optimize._steps import make_train_step as make_train_step
from spyx.optimize._stopping import early_stopping as early_stopping
from spyx.optimize._trainer import Trained as Trained
from spyx.optimize._trainer import train as train

__all__ = [
    "CheckpointError",
    "History",
    "Job",
    "Member",
    "Population",
    "Solver",
    "SolverImpl",
    "Stopped",
    "Trained",
    "averaged",
    "backprop",
    "compile_fit",
    "device_mesh",
    "early_stopping",
    "evolve",
    "fit",
    "halving",
    "hold_delays",
    "join_processes",
    "make_eval_step",
    "make_train_step",
    "mixed_precision",
    "parameter_kinds",
    "population",
    "tensorboard",
    "train",
    "wandb",
]
