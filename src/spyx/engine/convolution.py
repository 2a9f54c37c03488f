"""Convolution on a CPU: matrix products over patches, a cache-sized piece of the batch at a time.

XLA's own CPU convolution is slow in its two gradients, for the few channels of a spiking network and more so inside
another loop, where it compiles none but (batch, *spatial, channels) well; and slow for groups in all directions. As a
product of patches and weights all directions are plain matrix products; a checkpoint per piece keeps patches out of
memory, since they are cheaper to cut out again than to keep. Without a gradient and groups, or on an accelerator, XLA's
convolution stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import jax
import jax.numpy as jnp
from jax import lax

from spyx.engine import device
from spyx.engine.derivative import Changes, Rule, call, push

if TYPE_CHECKING:
    from jax.sharding import NamedSharding, PartitionSpec
    from jaxtyping import Array, DTypeLike, Shaped

    from spyx.engine.derivative import Arguments, Tangents

    class Numerics(TypedDict, total=False):
        """What else `jax.lax.conv_general_dilated` takes, by name."""

        precision: lax.PrecisionLike
        preferred_element_type: DTypeLike | None
        out_sharding: NamedSharding | PartitionSpec | None

    class Options(Numerics, total=False):
        """Those, and what else `dense_pads` overlooks."""

        feature_group_count: int
        batch_group_count: int


Pads = tuple[tuple[int, int], ...]

PATCH_ELEMENTS = 2**19
"""Patches worth 2 MB of float32 at a time: measured best where they still fit the second-level cache."""


def convolve(
    lhs: Shaped[Array, "batch *spatial features"],
    rhs: Shaped[Array, "*window features features_out"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvGeneralDilatedDimensionNumbers = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **options: Unpack[Numerics],
) -> Shaped[Array, "batch *spatial_out features_out"]:
    """`lax.conv_general_dilated` for channels-last input, by the fastest exact way on this device.

    Arguments and result are those of `jax.lax.conv_general_dilated`; groups of samples, a dilated input and every
    layout but (batch, *spatial, channels) with a (*window, in, out) kernel go there unchanged.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    plain = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        **options,
    )
    pads = dense_pads(lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, numbers)
    # What patches do not know: the type of the sums, and where on a mesh the result lies.
    more = any(value is not None for name, value in options.items() if name != "precision")
    if device.backend() != "cpu" or pads is None or lhs.dtype != rhs.dtype or batch_group_count != 1 or more:
        return plain(lhs, rhs)
    dilation = tuple(rhs_dilation or (1,) * len(pads))
    how = _Convolution(tuple(window_strides), pads, dilation, options.get("precision"), feature_group_count)
    return call(how, lhs, rhs)


@dataclass(frozen=True)
class _Convolution(Rule):
    """XLA's convolution where nothing is differentiated or in groups, else products over patches."""

    strides: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    precision: lax.PrecisionLike
    groups: int

    def forward(self, x: Shaped[Array, "batch *spatial features"], w: Array) -> Array:
        if self.groups > 1:
            return by_patches(x, w, **vars(self))
        rank = x.ndim - 2
        spatial = tuple(range(1, rank + 1))
        return lax.conv_general_dilated(
            x,
            w,
            self.strides,
            self.pads,
            rhs_dilation=self.dilation,
            dimension_numbers=lax.ConvDimensionNumbers(
                (0, rank + 1, *spatial), (rank + 1, rank, *range(rank)), (0, rank + 1, *spatial)
            ),
            precision=self.precision,
        )

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Array, Changes]:
        return push(partial(by_patches, **vars(self)), args, tangents)


def dense_pads(
    lhs: Shaped[Array, "batch *spatial features"],
    rhs: Shaped[Array, "*window features features_out"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvGeneralDilatedDimensionNumbers = None,
    **options: Unpack[Options],
) -> Pads | None:
    """Places added before and after each spatial axis, for a convolution that `by_patches` can do; else None."""
    rank = lhs.ndim - 2
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    spatial = tuple(range(1, rank + 1))
    channels_last = (
        numbers.lhs_spec == (0, rank + 1, *spatial)
        and numbers.out_spec == (0, rank + 1, *spatial)
        and numbers.rhs_spec == (rank + 1, rank, *range(rank))
    )
    if not channels_last or any(d != 1 for d in lhs_dilation or ()) or lhs.size == 0:
        return None
    if isinstance(padding, str):
        reach = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:rank], rhs_dilation or (1,) * rank, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], reach, window_strides, padding)
    return tuple((low, high) for low, high in padding)


def by_patches(
    x: Shaped[Array, "batch *spatial features"],
    weight: Shaped[Array, "*window features features_out"],
    strides: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
    precision: lax.PrecisionLike = None,
    groups: int = 1,
) -> Shaped[Array, "batch *spatial_out features_out"]:
    """The convolution as matrix products over patches, some samples at a time."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])
    window, (features_in, features_out) = weight.shape[:-2], weight.shape[-2:]  # inputs of one group, outputs of all
    sizes = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[1:-1], window, dilation, strides, strict=True)
    ]
    places = math.prod(window)

    def product(piece: jax.Array) -> jax.Array:
        # One axis after the other: a sum of window sizes in slices instead of their product, to compile and to copy.
        for axis in range(len(window), 0, -1):
            k, d, s, n = window[axis - 1], dilation[axis - 1], strides[axis - 1], sizes[axis - 1]
            shifts = [lax.slice_in_dim(piece, i * d, i * d + (n - 1) * s + 1, s, axis) for i in range(k)]
            piece = lax.optimization_barrier(jnp.concatenate(shifts, axis=-1))
        if groups == 1:
            patches = piece.reshape(-1, places * features_in)
            outs = jnp.matmul(patches, weight.reshape(-1, features_out), precision=precision)
        else:
            patches = piece.reshape(-1, places, groups, features_in)
            matrices = weight.reshape(places, features_in, groups, features_out // groups)
            outs = jnp.einsum("rpgi,pigo->rgo", patches, matrices, precision=precision)
        return outs.reshape(-1, *sizes, features_out)

    batch = x.shape[0]
    per_sample = math.prod(sizes) * places * groups * features_in
    pieces = math.ceil(batch * per_sample / PATCH_ELEMENTS) or 1
    length = math.ceil(batch / min(pieces, batch))
    pieces = math.ceil(batch / length)
    if pieces == 1:
        return product(x)
    x = jnp.pad(x, [(0, pieces * length - batch)] + [(0, 0)] * (x.ndim - 1))
    body = jax.checkpoint(product, prevent_cse=False)  # a scan's body is not merged with anything outside it
    _, out = lax.scan(lambda _, piece: (None, body(piece)), None, x.reshape(pieces, length, *x.shape[1:]))
    return out.reshape(pieces * length, *sizes, features_out)[:batch]
