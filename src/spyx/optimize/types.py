"""What goes through a training, by name. For annotations alone: import it under `TYPE_CHECKING`, it loads jaxtyping.

Axes have the same names everywhere: `batches` (of an epoch), `batch` (the samples of one), `members` (of a population),
`...` for whatever follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int, Integer, PRNGKeyArray, PyTree, Real, Shaped

from spyx.nn._mask_arguments import Lengths
from spyx.optimize._solver import Solver, SolverImpl

M = TypeVar("M", bound=nnx.Module)
T = TypeVar("T")

Trainable: TypeAlias = PyTree[Shaped[Array, "..."]]
"""What a solver changes: the `nnx.Param`s of a network, as `nnx.split` returns them, or any tree of arrays."""

Rest: TypeAlias = PyTree[Shaped[Array, "..."]]
"""What else a network holds: BatchNorm's averages, Dropout's counters, what is fixed."""

Variables: TypeAlias = tuple[Trainable, Rest]
"""All arrays of a network."""

SolverState: TypeAlias = PyTree[Shaped[Array, "..."]]
"""What a solver carries from step to step: the parameters, and what it keeps for itself, such as momentum."""

Optimiser: TypeAlias = optax.GradientTransformation | Solver
"""An Optax optimiser, with any schedule, clipping or accumulation in it, or a `Solver`."""

# One callable stands for a Solver and for a function of settings: a lambda of settings is otherwise taken for a Solver.
OptimiserOf: TypeAlias = optax.GradientTransformation | Callable[..., Optimiser | SolverImpl]
"""An `Optimiser`, or a function of settings, by name, that returns one."""

OneBatch: TypeAlias = tuple[PyTree[Shaped[ArrayLike, "batch ..."]], ...]
"""The arguments of a loss after the model, such as `(x, y)`. `spyx.data.Batch` and `SequenceBatch` are such tuples."""

ParameterLoss: TypeAlias = Callable[[Trainable, OneBatch], Float[Array, ""]]
"""`(params, batch) -> loss`: what a solver makes small."""

BatchLike: TypeAlias = PyTree[Shaped[ArrayLike, "batch ..."]]
"""A `OneBatch`; or anything else, which is the one argument of a loss after the model."""

AllBatches: TypeAlias = tuple[PyTree[Shaped[ArrayLike, "batches batch ..."]], ...]
"""The batches of an epoch: each array of a `OneBatch`, with an axis of batches before."""

AllLengths: TypeAlias = Integer[ArrayLike, "batches batch"] | Sequence[Sequence[int]]
"""How many steps of each sample are its own."""

Order: TypeAlias = Int[Array, "batches batch"]
"""Which sample of an epoch, counted over all batches, is where."""

Loss: TypeAlias = Callable[..., Float[Array, ""]]
"""`(model, *batch) -> loss`, one number; or a loss of `spyx.fn`, `(traces, targets) -> loss`."""

Scores: TypeAlias = PyTree[Float[Array, ""]]
"""What a metric returns: one number, or a dictionary or another tree of numbers."""

Metric: TypeAlias = Callable[..., Scores]
"""`(model, *batch) -> number`, or a tree of numbers; or a metric of `spyx.fn`, of which the score is taken."""

EvalFn: TypeAlias = Callable[..., tuple[Float[Array, ""], Float[Array, ""]]]
"""`(model, *batch) -> (accuracy, loss)`."""

Numbers: TypeAlias = dict[str, float]
"""What was measured, by name: `train_loss`, `eval_acc`."""

Curves: TypeAlias = dict[str, PyTree[Float[Array, " epochs"]]]
"""What was measured in every epoch, by name."""

Epoch: TypeAlias = int | Int[ArrayLike, ""]
"""The number of an epoch, counted from 0; an array where it is traced."""

StopWhen: TypeAlias = Callable[[list[Numbers]], bool]
"""`(history) -> bool`, asked after each epoch, such as `early_stopping(...)`."""

OnEpochStart: TypeAlias = Callable[[Int[Array, ""], M], object]
"""`(epoch, model)`: sets in place what is not trained. It is compiled, and the epoch is traced."""

OnEpochEnd: TypeAlias = Callable[[int, Numbers], object]
"""`(epoch, numbers of this epoch)`, after each epoch; what it returns is not used."""

OnStep: TypeAlias = Callable[[int, int, float], object]
"""`(epoch, step, loss)`, now and then; what it returns is not used."""

OnSignal: TypeAlias = Callable[[int], object]
"""`(number of the signal)`; what it returns is not used."""

Notify: TypeAlias = Callable[[str], object]
"""Is given a line for people to read; what it returns is not used."""

Static: TypeAlias = tuple[nnx.GraphDef, Optimiser, Loss, Metric | None, str]
"""What programs are compiled for: a network's structure, solver, loss, metric, and the public name of errors."""

Unbuilt: TypeAlias = tuple[nnx.GraphDef, OptimiserOf, Loss, Metric | None, str]
"""`Static` of a population, before a function of settings has made the solver of one member."""

Settings: TypeAlias = dict[str, float]
"""The values of a member of a population, by name."""

Hyper: TypeAlias = Mapping[str, Sequence[float] | Real[np.ndarray, " values"]] | Sequence[Mapping[str, float]]
"""Values by the name of the setting, for every combination; or a list of settings."""

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | float | bool | None"
"""What JSON can hold."""

Info: TypeAlias = dict[str, Any]
"""The numbers of a checkpoint, as its JSON holds them: whoever reads one checks every value."""

Seeded: TypeAlias = tuple[int, Settings]
"""What a member of a population is made of: its seed and its settings."""

MemberState: TypeAlias = tuple[Trainable, Rest, PRNGKeyArray, dict[str, Shaped[Array, ""]]]
"""`(params, rest, key, settings of the solver)` of a member before training.

Of a group, every array has an axis of members before; of a group of one it has not.
"""


class TrainStep(Protocol):
    """`step(model, optimizer, *batch, lengths=None) -> loss`: one update of model and optimiser, in place."""

    def __call__(
        self,
        model: nnx.Module,
        optimizer: nnx.Optimizer,
        *batch: BatchLike,
        lengths: Lengths | None = None,
    ) -> Float[Array, ""]: ...


class EvalStep(Protocol):
    """`step(model, *batch, lengths=None) -> scores`; the model stays as it is."""

    def __call__(
        self,
        model: nnx.Module,
        *batch: BatchLike,
        lengths: Lengths | None = None,
    ) -> Scores: ...


class Wait(Protocol):
    """Waits until the device has computed arrays, and returns them."""

    def __call__(self, arrays: T, /) -> T: ...


class Finding(Protocol):
    """What a doctor has found, as text, and what tells it from others."""

    @property
    def what(self) -> str: ...

    @property
    def where(self) -> str: ...


class Doctor(Protocol):
    """`(model, batch, *, loss | objective, history) -> findings`, as `spyx.report.doctor`.

    It is given `loss`, where that is one of `spyx.fn`, or `objective`, `(model, *batch) -> loss`.
    """

    def __call__(
        self,
        model: nnx.Module,
        batch: OneBatch,
        /,
        *,
        loss: Loss = ...,
        objective: Loss = ...,
        history: Sequence[Mapping[str, float]],
    ) -> Iterable[Finding]: ...
