"""What goes through the engine, by name. For annotations alone: import it under `TYPE_CHECKING`, it loads jaxtyping.

Axes have the same names everywhere: `time`, `batch`, `*hidden` (the units of a neuron, of any rank), `...` for whatever
follows. A pytree whose leaves have these axes is written `PyTree[Shaped[Array, "time batch ..."]]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import jax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Shaped

Tree: TypeAlias = PyTree[Shaped[Array, "..."]]
"""Arrays in any structure: one array, a tuple, a dict, the variables of a module."""

Leaves: TypeAlias = list[Shaped[Array, "..."]]
"""The arrays of a pytree, in its order."""

Shapes: TypeAlias = PyTree[jax.ShapeDtypeStruct]
"""A pytree of which shapes and dtypes matter alone: arrays, or `jax.ShapeDtypeStruct`s."""

Parameters: TypeAlias = PyTree[Shaped[Array, "..."]]
"""What every step reads: a `Params`, or the variables of a module."""

Input: TypeAlias = PyTree[Shaped[Array, "batch ..."]]
"""What a step takes in."""

Output: TypeAlias = PyTree[Shaped[Array, "batch ..."]]
"""What a step returns beside its new state."""

State: TypeAlias = PyTree[Shaped[Array, "batch ..."]]
"""What one step leaves for the next: the bare array of one variable, a NamedTuple of several, a list of a network."""

Inputs: TypeAlias = PyTree[Shaped[Array, "time batch ..."]]
"""Inputs of all steps, time on axis 0."""

Outputs: TypeAlias = PyTree[Shaped[Array, "time batch ..."]]
"""Outputs of all steps, time on axis 0."""

States: TypeAlias = PyTree[Shaped[Array, "time batch ..."]]
"""The state before every step, time on axis 0."""

Step: TypeAlias = Callable[[Parameters, Input, State], tuple[Output, State]]
"""`(p, x, s) -> (out, s')`: one time step."""

Run: TypeAlias = Callable[[Parameters, Inputs, State], tuple[Outputs, State]]
"""`(p, xs, s0) -> (outs, s_T)`: all of time."""

Units: TypeAlias = Float[Array, "batch *hidden"]
"""One number for each unit of each sample: a current, spikes, a state variable."""

Alive: TypeAlias = Bool[Array, "time batch"]
"""Which time steps of which samples count."""

Data: TypeAlias = PyTree[Shaped[ArrayLike, "..."]]
"""What a user hands in: NumPy's arrays, lists and numbers are welcome."""

OverTime: TypeAlias = list[Float[Array, "time samples units"]]
"""Inputs or outputs of a kernel."""

PerLane: TypeAlias = list[Float[Array, "samples units"]]
"""Parameters or states of a kernel, one value per lane."""

Checkpoints: TypeAlias = list[Float[Array, "chunks samples units"]]
"""States that a forward kernel stores for the backward kernel, one for each chunk of time."""


class Structure(Protocol):
    """A pytree without its leaves, `jax.tree_util.PyTreeDef`; it is hashable."""

    @property
    def num_leaves(self) -> int: ...

    def children(self) -> list[Structure]: ...

    def node_data(self) -> tuple[type, object] | None: ...

    def __hash__(self) -> int: ...


class StateType(Protocol):
    """The type of a state of several variables, a NamedTuple."""

    @property
    def _fields(self) -> tuple[str, ...]: ...

    def __call__(self, *variables: Array) -> State: ...
