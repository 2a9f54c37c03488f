"""Pooling by summation: how many spikes a receptive field emitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Num


def sum_pool(
    value: Num[ArrayLike, "batch *spatial channels"],
    window_shape: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    channel_axis: int | None = -1,
) -> Num[Array, "batch *spatial_out channels"]:
    """Sum over windows: the total number of spikes in each receptive field.

    Args:
        value: (batch, *spatial, channels) for the default `channel_axis`.
        window_shape: an int (every axis but axis 0 and `channel_axis`), one size per spatial axis, or one per axis of
            `value`. A shorter sequence that matches neither leaves the leading axes alone.
        strides: as `window_shape`.
        padding: "VALID" or "SAME"; padded places count as silent.
        channel_axis: the axis that is not pooled, from `1 - rank` to `rank - 1`; None or 0 for none.

    Shapes:
        same rank out as in. Dtype out as in, but bool and uint8 come out as float32: their sums could overflow.

    Raises:
        ValueError: another padding, a channel axis out of range, more sizes than axes, or a size below 1.

    Example:
        >>> sum_pool(jnp.ones((1, 4, 4, 3)), 2, 2, "VALID").shape
        (1, 2, 2, 3)
    """
    value = jnp.asarray(value)
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"spyx.nn.sum_pool(padding=): expected 'SAME' or 'VALID'; got {padding!r}. Choose one.")
    if value.dtype in (jnp.bool_, jnp.uint8):
        value = value.astype(jnp.float32)
    window = _per_axis("window_shape", value, window_shape, channel_axis)
    stride = _per_axis("strides", value, strides, channel_axis)
    if window == stride and padding == "VALID":
        return _tile_sum(value, window)
    zero = np.zeros((), value.dtype)  # a NumPy zero, or JAX would not know the sum again and could not differentiate it
    return jax.lax.reduce_window(value, zero, jax.lax.add, window, stride, padding)


class SumPool(nnx.Module):
    """`sum_pool` as a layer without state: the total number of spikes in each receptive field.

    Args:
        window_shape: as for `sum_pool`.
        strides: as for `sum_pool`.
        padding: "VALID" or "SAME".
        channel_axis: the axis that is not pooled; default the last.
        name: stored, for your own use.

    Shapes:
        (batch, *spatial, channels) -> (batch, *spatial', channels).

    Example:
        >>> SumPool((2, 2), (2, 2), "VALID")(jnp.ones((1, 4, 4, 3)))[0, 0, 0].tolist()
        [4.0, 4.0, 4.0]
    """

    each_sample_alone = True

    def __init__(
        self,
        window_shape: int | Sequence[int],
        strides: int | Sequence[int],
        padding: str,
        channel_axis: int | None = -1,
        name: str | None = None,
    ) -> None:
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"spyx.nn.SumPool(padding=): expected 'SAME' or 'VALID'; got {padding!r}. Choose one.")
        self.window_shape = window_shape if isinstance(window_shape, int) else tuple(window_shape)
        self.strides = strides if isinstance(strides, int) else tuple(strides)
        self.padding = padding
        self.channel_axis = channel_axis
        self.name = name

    def __call__(self, value: Num[Array, "batch *spatial channels"]) -> Num[Array, "batch *spatial_out channels"]:
        return sum_pool(value, self.window_shape, self.strides, self.padding, self.channel_axis)


def _per_axis(name: str, value: Array, size: int | Sequence[int], channel_axis: int | None) -> tuple[int, ...]:
    rank = value.ndim
    if channel_axis and not abs(channel_axis) < rank:
        raise ValueError(
            f"spyx.nn.sum_pool(channel_axis=): expected an axis from {1 - rank} to {rank - 1} of {value.shape}; "
            f"got {channel_axis}. Use -1 for channels last."
        )
    channel = channel_axis % rank if channel_axis else None
    spatial = [axis for axis in range(1, rank) if axis != channel]
    sizes = (size,) * len(spatial) if isinstance(size, int) else tuple(size)
    if len(sizes) > rank or (sizes and min(sizes) < 1):
        raise ValueError(
            f"spyx.nn.sum_pool({name}=): expected at most {rank} sizes of at least 1 for {value.shape}; got {size}. "
            "Give one size, one per spatial axis, or one per axis."
        )
    if len(sizes) == rank:
        return sizes
    if len(sizes) == len(spatial):
        full = [1] * rank
        for axis, n in zip(spatial, sizes, strict=True):
            full[axis] = n
        return tuple(full)
    return (1,) * (rank - len(sizes)) + sizes


def _tile_sum(value: Array, window: tuple[int, ...]) -> Array:
    # Windows that do not overlap are a reshape: its gradient is a broadcast, much cheaper than a window's.
    value = value[tuple(slice(0, n // w * w) for n, w in zip(value.shape, window, strict=True))]
    split = [part for n, w in zip(value.shape, window, strict=True) for part in (n // w, w)]
    return value.reshape(split).sum(axis=tuple(range(1, 2 * value.ndim, 2)))
