"""Work that is spread over the devices of a mesh: what treats every sample by itself runs on each device's own samples.

Inside `jax.set_mesh(mesh)`, with an automatic axis "batch", XLA splits a program by itself. It cannot look into a
kernel, and it gathers all samples where time and batch are merged into one axis; so a neuron over time, and a product,
are `jax.shard_map`s: each device runs them as if its samples were all there are, and the gradients of parameters are
summed over devices. An axis "units" splits the units of neurons that do not read one another, and the outputs of
products, likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from spyx.engine.derivative import together

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree, Shaped

    from spyx.engine.types import Alive, Inputs, Outputs, Parameters, Shapes, State, Tree

    Leaf: TypeAlias = Shaped[Array, "..."] | jax.ShapeDtypeStruct
    Spread: TypeAlias = Callable[[Tree, Inputs], Outputs]
    """A function of weights and inputs (time, batch, ...), sample by sample."""

BATCH, UNITS = "batch", "units"
"""Names of the axes of a mesh: samples are split over the first, hidden units over the second."""


@dataclass(frozen=True)
class Parts:
    """Into how many parts samples and units are split."""

    samples: int
    units: int = 1

    @property
    def _axes(self) -> frozenset[str]:
        return frozenset({BATCH, UNITS} if self.units > 1 else {BATCH})

    def neuron(self, p: Parameters, s0: State, local: bool) -> SpreadNeuron | str:
        """How a neuron is spread; or in words, why it is not.

        Args:
            p: parameters.
            s0: state before the first step, leaves (batch, *hidden).
            local: no unit reads another one.
        """
        leaves = jax.tree.leaves(s0)
        batch = leaves[0].shape[0]
        if any(jnp.issubdtype(a.dtype, jax.dtypes.extended) or a.dtype == jnp.uint32 for a in jax.tree.leaves((p, s0))):
            return "it draws random numbers, which would be the same on every device"
        if any(a.shape[:1] != (batch,) for a in leaves):
            return "its state is not one for every sample"
        if batch % self.samples:
            return f"{batch} samples over {self.samples} devices"
        hidden = leaves[0].shape[1:]
        same = all(a.shape[1:] == hidden for a in leaves) and all(_per_unit(a, hidden) for a in jax.tree.leaves(p))
        split = self.units > 1 and local and same and hidden and hidden[-1] % self.units == 0
        return SpreadNeuron(self, len(hidden) if split else 0)

    def rows(self, xs: Inputs) -> bool:
        """Whether a function of rows can be spread: inputs (time, batch, ...)."""
        return all(a.shape[1] and a.shape[1] % self.samples == 0 for a in jax.tree.leaves(xs))

    def per_device(
        self, function: Spread, weights: Tree, columns: PyTree[bool], xs: Inputs, out_columns: bool
    ) -> Outputs:
        """`function(weights, xs)` on each device's samples.

        Args:
            function: of weights and inputs (time, batch, ...), sample by sample.
            weights: what all samples share.
            columns: of the structure of `weights`; true where the last axis is that of output units, which may be split
            xs: inputs.
            out_columns: the last axis of outputs is split as those of weights are.
        """
        split = out_columns and self.units > 1

        def of(a: Leaf, own: bool) -> P:
            return P(*[None] * (a.ndim - 1), UNITS) if own and split else P()

        def body(weights: Tree, xs: Inputs) -> Outputs:
            return function(*together(weights, xs))

        rank = max(a.ndim for a in jax.tree.leaves(xs))
        outs = P(None, BATCH, *[None] * (rank - 3), UNITS) if split else P(None, BATCH)
        specs = (jax.tree.map(of, weights, columns), P(None, BATCH))
        return jax.shard_map(body, in_specs=specs, out_specs=outs)(weights, xs)


@dataclass(frozen=True)
class SpreadNeuron:
    """A neuron over time, spread.

    Args:
        parts: of the mesh.
        rank: axes of the units, the last of which is split; 0 where it is not.
    """

    parts: Parts
    rank: int

    @property
    def devices(self) -> int:
        return self.parts.samples * (self.parts.units if self.rank else 1)

    def on_one(self, p: Parameters, xs: Inputs, s0: State) -> tuple[Shapes, Shapes, Shapes]:
        """Shapes and dtypes of what one device gets."""

        def of_units(a: Leaf, split: bool) -> tuple[int, ...]:
            return (*a.shape[:-1], a.shape[-1] // self.parts.units) if split else a.shape

        def smaller(axis: int) -> Callable[[Leaf], jax.ShapeDtypeStruct]:
            def of(a: Leaf) -> jax.ShapeDtypeStruct:
                shape = list(of_units(a, bool(self.rank)))
                shape[axis] //= self.parts.samples
                return jax.ShapeDtypeStruct(tuple(shape), a.dtype)

            return of

        parameters = jax.tree.map(lambda a: jax.ShapeDtypeStruct(of_units(a, self._own(a)), a.dtype), p)
        return parameters, jax.tree.map(smaller(1), xs), jax.tree.map(smaller(0), s0)

    def run(
        self,
        function: Callable[..., tuple[Outputs, State]],
        p: Parameters,
        xs: Inputs,
        s0: State,
        *alive: Alive,
    ) -> tuple[Outputs, State]:
        """`function(p, xs, s0, *alive) -> (outs, s_T)` on each device."""
        units = [*[None] * (self.rank - 1), UNITS] if self.rank else []
        over_time, state = P(None, BATCH, *units), P(BATCH, *units)
        of_p = jax.tree.map(lambda a: P(*[None] * (a.ndim - 1), UNITS) if self._own(a) else P(), p)

        def body(p: Parameters, xs: Inputs, s0: State, *alive: Alive) -> tuple[Outputs, State]:
            p, xs, s0, alive = together(p, xs, s0, alive)
            return function(p, xs, s0, *alive)

        specs = (of_p, over_time, state, *[P(None, BATCH) for _ in alive])
        return jax.shard_map(body, in_specs=specs, out_specs=(over_time, state))(p, xs, s0, *alive)

    def _own(self, a: Leaf) -> bool:
        """Whether a parameter has a value for every unit."""
        return bool(self.rank and a.ndim and a.shape[-1] > 1)


def here() -> Parts | None:
    """The parts that this place of a program is split into; None where it is not, or inside a `shard_map`."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or BATCH not in mesh.axis_names:
        return None
    if any(kind != AxisType.Auto for kind in mesh.axis_types) or math.prod(mesh.axis_sizes) == 1:
        return None
    return Parts(mesh.shape[BATCH], mesh.shape.get(UNITS, 1))


def on_one_device() -> bool:
    """Inside a `shard_map` over all axes of its mesh: what runs here runs on one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and all(kind == AxisType.Manual for kind in mesh.axis_types)


def _per_unit(a: Leaf, hidden: tuple[int, ...]) -> bool:
    """One value, or one per unit."""
    return a.ndim <= len(hidden) and all(n in (1, m) for n, m in zip(a.shape[::-1], hidden[::-1], strict=False))
