"""`Linear` and `Conv`: Flax's layers, by the product that is fastest for their input, dense or by events."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from spyx.engine import events, over_devices
from spyx.engine.convolution import convolve
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._layer import Stateless, as_current, check_features, over_merged_time

if TYPE_CHECKING:
    from jax.sharding import NamedSharding, PartitionSpec
    from jaxtyping import Array, DTypeLike, Float, Num

    from spyx.engine.types import Input, Inputs, Output, Outputs, State

Connection = TypeVar("Connection", bound=nnx.Module)

WHY = "no state: one call over all of time"
BY_EVENTS = f"{WHY}; zeros are skipped where few entries of the input are not zero"


class Linear(nnx.Linear):
    """`flax.nnx.Linear`, which skips the zeros of spikes: `y = x kernel + bias`.

    Same arguments, parameters, checkpoints and result (up to the order of sums). With the extra `cpu`, on one CPU, a
    large product adds up the rows of the kernel that spikes name, where few entries of `x` are not zero; its gradients
    likewise.

    Args:
        *args: `in_features`, `out_features`, as for `flax.nnx.Linear`.
        **kwargs: `use_bias`, `kernel_init`, `rngs` and the rest, as for `flax.nnx.Linear`.

    Shapes:
        (..., in_features) -> (..., out_features).

    Example:
        >>> Linear(3, 4, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
        (2, 4)
    """

    def __call__(
        self, inputs: Num[Array, "... features"], out_sharding: NamedSharding | PartitionSpec | None = None
    ) -> Float[Array, "... features_out"]:
        if out_sharding is not None:
            return super().__call__(inputs, out_sharding)
        found = by_events(self, inputs)
        return super().__call__(inputs) if found is None else found


class Conv(nnx.Conv):
    """`flax.nnx.Conv` by the algorithm that is fastest here: `y = x * kernel + bias`, channels last.

    Same arguments, parameters, checkpoints and result (up to the order of sums). On a CPU both gradients are matrix
    products over patches, and with the extra `cpu` a spike adds its patch of weights where few entries of `x` are not
    zero; on an accelerator nothing changes.

    Args:
        *args: `in_features`, `out_features`, `kernel_size`, `strides`, as for `flax.nnx.Conv`.
        **kwargs: `padding`, `kernel_dilation`, `use_bias`, `rngs` and the rest, as for `flax.nnx.Conv`.

    Shapes:
        (batch, *spatial, in_features) -> (batch, *spatial', out_features).

    Example:
        >>> Conv(2, 12, (5, 5), padding="VALID", rngs=nnx.Rngs(0))(jnp.ones((3, 34, 34, 2))).shape
        (3, 30, 30, 12)
    """

    if not TYPE_CHECKING:  # a type checker shows the arguments of Flax's class

        def __init__(self, *args, **kwargs):
            kwargs.setdefault("conv_general_dilated", convolve)
            super().__init__(*args, **kwargs)


class Product(Stateless):
    """The view of Flax's `Linear` and `Conv` and of what derives from them, `spyx.nn.Linear` and `Conv` included.

    This is where Flax's own layers become event-driven. A subclass with a `__call__` of its own is called as it is,
    and the plan says so.
    """

    def __call__(self, x: Input, state: State) -> tuple[Output, State]:
        check_features(self, x, lead=1)
        own = type(self.module).__call__ in PLAIN and isinstance(self.module, nnx.Conv)
        return (like_conv(self.module) if own else self.module)(as_current(x)), state

    @takes_masks
    def sequence(self, xs: Inputs, state: State, how: Execution = AUTO) -> tuple[Outputs, State]:
        check_features(self, xs, lead=2)
        plain = type(self.module).__call__ in PLAIN
        why = WHY if plain else f"{WHY}; dense, {self._kind} has a __call__ of its own"

        def product(x: Array, module: nnx.Linear | nnx.Conv = self.module) -> Array:
            nonlocal why
            found = by_events(module, x) if plain and how.mode in ("auto", "fused") else None
            if found is not None:
                why = BY_EVENTS
                return found
            return dense(module, as_current(x)) if plain else module(as_current(x))

        outs = on_each_device(product, self.module, xs) if plain else over_merged_time(product, xs)
        how.note(self, xs, "layer", why, granted=why is BY_EVENTS)
        return outs, state


def on_each_device(product: Callable[[Array, Connection], Array], module: Connection, xs: Inputs) -> Outputs:
    """`over_merged_time` of `product(x, module)`: inside a mesh, on each device's own samples.

    Args:
        product: of a `Linear` or `Conv` and rows.
        module: it; where a mesh splits units, those of a `Linear` are its columns.
        xs: inputs, time on axis 0.
    """
    parts = over_devices.here()
    if parts is None or not parts.rows(xs):
        return over_merged_time(lambda x: product(x, module), xs)
    graphdef, weights = nnx.split(module)
    columns = isinstance(module, nnx.Linear) and module.out_features % parts.units == 0
    of_columns = jax.tree.map(lambda a: columns, weights)

    def on_one(weights: nnx.State, xs: Inputs) -> Outputs:
        return over_merged_time(lambda x: product(x, nnx.merge(graphdef, weights)), xs)

    return parts.per_device(on_one, weights, of_columns, xs, columns)


PLAIN = (nnx.Linear.__call__, Linear.__call__, nnx.Conv.__call__)
"""Calls that are the product and nothing else."""


def has_own_product(layer: nnx.Linear, dtype: DTypeLike) -> bool:
    """For input of this dtype, it is more than `x kernel + bias` in that dtype."""
    x = jax.ShapeDtypeStruct((1, layer.in_features), dtype)
    numbers = _plain_numbers(layer, x) and layer.dot_general is jax.lax.dot_general
    return type(layer).__call__ not in PLAIN or not numbers


def dense(layer: nnx.Linear | nnx.Conv, x: Float[Array, "rows ... features"]) -> Float[Array, "rows ... features_out"]:
    """Flax's own product; a convolution by the algorithm of `Conv`."""
    return nnx.Linear.__call__(layer, x) if isinstance(layer, nnx.Linear) else like_conv(layer)(x)


def like_conv(layer: nnx.Conv) -> nnx.Conv:
    """The layer; if it convolves by `jax.lax.conv_general_dilated`, the same by the algorithm of `Conv`."""
    plain = layer.conv_general_dilated is jax.lax.conv_general_dilated
    return with_convolution(layer, convolve) if plain else layer


def with_convolution(layer: nnx.Conv, convolution: Callable[..., Array]) -> nnx.Conv:
    """The same layer, convolving by another function of the arguments of `jax.lax.conv_general_dilated`."""
    same = nnx.merge(*nnx.split(layer))
    same.conv_general_dilated = convolution
    return same


def by_events(
    layer: nnx.Linear | nnx.Conv, x: Num[Array, "rows ... features"]
) -> Float[Array, "rows ... features_out"] | None:
    """`layer(x)` for x (rows, ..., features) by events, or None if it has no such form or x is too small."""
    if getattr(x, "ndim", 0) < 2 or not _plain_numbers(layer, x):
        return None
    return _linear(layer, x) if isinstance(layer, nnx.Linear) else _conv(layer, x)


def _linear(layer: nnx.Linear, x: Array) -> Array | None:
    large = events.by_events(math.prod(x.shape[:-1]) * layer.kernel.size)
    if layer.dot_general is not jax.lax.dot_general or not large or x.shape[-1] != layer.in_features:
        return None
    kernel = layer.kernel[...]
    bias = jnp.zeros(kernel.shape[1], kernel.dtype) if layer.bias is None else layer.bias[...].astype(kernel.dtype)
    rows = events.affine(x.reshape(-1, layer.in_features), kernel, bias)
    return rows.reshape(*x.shape[:-1], kernel.shape[1])


def _conv(layer: nnx.Conv, x: Array) -> Array | None:
    moves = (layer.strides, layer.kernel_dilation, layer.input_dilation, layer.feature_group_count)
    if not (
        layer.conv_general_dilated in (jax.lax.conv_general_dilated, convolve)
        and all(n in (None, 1) for n in jax.tree.leaves(moves))
        and len(layer.kernel_shape) in (3, 4)
        and events.by_events(x.size * layer.kernel.size // layer.in_features)
    ):
        return None
    return nnx.Conv.__call__(with_convolution(layer, events.convolve), x.astype(layer.kernel.dtype))


def _plain_numbers(layer: nnx.Linear | nnx.Conv, x: Array | jax.ShapeDtypeStruct) -> bool:
    """One floating dtype throughout, or spikes as integers, and nothing that the user asked of the product."""
    dtype = layer.kernel.dtype
    return (
        layer.precision is None
        and layer.preferred_element_type is None
        and layer.promote_dtype is dtypes.promote_dtype
        and layer.dtype in (None, dtype)
        and dtype in (jnp.float32, jnp.float64)
        and x.dtype in (dtype, jnp.uint8, jnp.bool_)
    )
