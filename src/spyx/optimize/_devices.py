"""Where the arrays of a training run are: on one device, or over those of a mesh, also one of several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from spyx.engine.over_devices import BATCH, UNITS, here

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

    from spyx.optimize.types import AllBatches, OneBatch

T = TypeVar("T")
"""A tree of arrays, which stays one of the same structure."""

A = TypeVar("A", bound="Array | np.ndarray")


def device_mesh(devices: int | None = None, *, units: int = 1) -> Mesh:
    """A mesh for `mesh=` of `fit`, `compile_fit` and `train`: samples over its axis "batch", hidden units over "units".

    Args:
        devices: how many devices of each process, from its first on; None (default) for all.
        units: parts that hidden units are split into, a divisor of `devices`. Default 1: not split.

    Raises:
        ValueError: there are fewer devices, or `units` does not divide them.

    Example:
        >>> dict(device_mesh(1).shape)
        {'batch': 1, 'units': 1}
    """
    owner, most = "spyx.optimize.device_mesh", jax.local_device_count()
    count = most if devices is None else devices
    if not 1 <= count <= most:
        raise ValueError(
            f"{owner}(devices=): expected 1 to {most}, the devices of this process; got {count}. "
            "Use fewer; on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=N makes N devices of one."
        )
    if units < 1 or count % units:
        raise ValueError(f"{owner}(units=): expected a divisor of {count} devices; got {units}. Use 1, or {count}.")
    every = sorted(jax.devices(), key=lambda device: device.id)
    numbers = sorted({device.process_index for device in every})
    chosen = [device for n in numbers for device in [one for one in every if one.process_index == n][:count]]
    return Mesh(np.array(chosen).reshape(-1, units), (BATCH, UNITS), axis_types=(AxisType.Auto,) * 2)


class OneDevice:
    """Everything on the default device: nothing is moved."""

    samples = 1
    processes = 1

    def on(self) -> contextlib.AbstractContextManager[object]:
        """What is traced and run inside is spread."""
        return contextlib.nullcontext()

    def state(self, tree: T) -> T:
        """Parameters and the optimiser's state, where they are during the run."""
        return tree

    def everywhere(self, tree: T) -> T:
        """Copies on every device."""
        return tree

    def rows(self, name: str, tree: AllBatches) -> AllBatches:
        """Arrays (batches, batch, ...), the samples of each batch split over devices."""
        return tree

    def check_rows(self, name: str, tree: AllBatches) -> None:
        """Refuse arrays (batches, batch, ...) whose batches cannot be split."""

    def batch(self, name: str, batch: OneBatch) -> OneBatch:
        """One batch (batch, ...), split over devices; of several processes, each gives its own part."""
        return batch

    def home(self, tree: T) -> T:
        """Whole arrays on one device of this process."""
        return tree


class OverMesh(OneDevice):
    """Over the devices of a mesh.

    Args:
        owner: the public name that errors begin with.
        mesh: with an axis "batch".
    """

    def __init__(self, owner: str, mesh: Mesh) -> None:
        if not isinstance(mesh, Mesh):
            raise TypeError(
                f"{owner}(mesh=): expected a jax.sharding.Mesh; got {type(mesh).__name__}. "
                "Make one with spyx.optimize.device_mesh(4)."
            )
        if BATCH not in mesh.axis_names or set(mesh.axis_names) - {BATCH, UNITS}:
            raise ValueError(
                f"{owner}(mesh=): expected the axes {BATCH!r} and, to split hidden units, {UNITS!r}; got "
                f"{mesh.axis_names}. Make one with spyx.optimize.device_mesh(4)."
            )
        self.owner = owner
        self.mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        self.samples = self.mesh.shape[BATCH]
        self.processes = len({device.process_index for device in self.mesh.devices.flat})
        if self.processes < jax.process_count():
            raise ValueError(
                f"{owner}(mesh=): expected devices of all {jax.process_count()} processes; got those of "
                f"{self.processes}. Make the mesh with spyx.optimize.device_mesh in every process."
            )
        lines = np.moveaxis(self.mesh.devices, self.mesh.axis_names.index(BATCH), 0).reshape(self.samples, -1)
        if any(len({device.process_index for device in line}) > 1 for line in lines):
            raise ValueError(
                f"{owner}(mesh=): expected the parts of {UNITS!r} within one process; got some over several. "
                "Make the mesh with spyx.optimize.device_mesh."
            )

    def on(self) -> contextlib.AbstractContextManager[object]:
        return jax.set_mesh(self.mesh)

    def state(self, tree: T) -> T:
        units = self.mesh.shape.get(UNITS, 1)
        return jax.tree.map(lambda a: self._put(a, _spec(a, units)), tree)

    def everywhere(self, tree: T) -> T:
        return jax.tree.map(lambda a: self._put(a, P()), tree)

    def rows(self, name: str, tree: AllBatches) -> AllBatches:
        self.check_rows(name, tree)
        return jax.tree.map(lambda a: self._put(a, P(None, BATCH)), tree)

    def check_rows(self, name: str, tree: AllBatches) -> None:
        self._check(name, {a.shape[1] for a in jax.tree.leaves(tree)})

    def batch(self, name: str, batch: OneBatch) -> OneBatch:
        sharding = NamedSharding(self.mesh, P(BATCH))
        shared = self.processes
        mine = [a for a in jax.tree.leaves(batch) if not self._is_here(a)]
        self._check(name, {shared * (np.shape(a) or (1,))[0] for a in mine})

        def put(a: Shaped[Array | np.ndarray, "batch ..."]) -> Shaped[Array, "batch ..."]:
            if self._is_here(a):
                return a
            if shared == 1:
                return jax.device_put(a, sharding)
            return jax.make_array_from_process_local_data(sharding, np.asarray(a))

        return jax.tree.map(put, batch)

    def home(self, tree: T) -> T:
        return jax.tree.map(lambda a: with_raw(a, lambda raw: jnp.asarray(_whole(raw))), tree)

    def _check(self, name: str, sizes: set[int]) -> None:
        wrong = [size for size in sizes if size % self.samples]
        if wrong:
            raise ValueError(
                f"{self.owner}({name}=): expected batches to split over {self.samples} devices; got {wrong[0]} "
                f"samples. Use a multiple of {self.samples}; a spyx.data.Loader fills up its last batch, for a loss "
                "that takes mask."
            )

    def _is_here(self, a: Array | np.ndarray) -> TypeGuard[Array]:
        return isinstance(a, jax.Array) and a.sharding.device_set == set(self.mesh.devices.flat)

    def _put(self, a: Array | np.ndarray, spec: P) -> Array:
        sharding = NamedSharding(self.mesh, spec)

        def put(raw: Array | np.ndarray) -> Array:
            if isinstance(raw, jax.Array) and raw.sharding == sharding:
                return raw
            known = raw if isinstance(raw, np.ndarray) else _whole(raw)
            return jax.make_array_from_callback(known.shape, sharding, lambda index: known[index])

        return with_raw(a, put)


def places(owner: str, mesh: Mesh | None) -> OneDevice:
    """Where a run with `mesh=` has its arrays."""
    return OneDevice() if mesh is None else OverMesh(owner, mesh)


def split_rows(batch: OneBatch) -> OneBatch:
    """Inside a mesh: each device works on its own rows of a batch."""
    if here() is None:
        return batch
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, P(BATCH)), batch)


def pinned(tree: T) -> T:
    """Inside a mesh: a state that is where it was, so that a step is compiled once."""
    parts = here()
    if parts is None:
        return tree
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, _spec(a, parts.units)), tree)


def _spec(a: Array | np.ndarray, units: int) -> P:
    """The last axis over "units" where that divides it; everything else is on every device."""
    shape = np.shape(a)
    plain = not jnp.issubdtype(a.dtype, jax.dtypes.extended)
    if units > 1 and plain and shape and shape[-1] > 1 and shape[-1] % units == 0:
        return P(*[None] * (len(shape) - 1), UNITS)
    return P()


def with_raw(a: Array | np.ndarray, function: Callable[[Array | np.ndarray], A]) -> A | Array:
    """`function` of an array, or of the words of random keys."""
    if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return function(a)
    words = cast("Array", function(jax.random.key_data(a)))  # NumPy's serve as well
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(a))


def _whole(a: Array | np.ndarray) -> np.ndarray:
    """All of an array, whose parts are all in this process, once or more."""
    if not isinstance(a, jax.Array) or a.is_fully_addressable or a.is_fully_replicated:
        return np.asarray(a)
    found = np.zeros(a.shape, a.dtype)
    for shard in a.addressable_shards:
        found[shard.index] = np.asarray(shard.data)
    return found
