"""`SumPool2d` and `AvgPool2d`: `nn.SumPool` where it can say it, `Pool` for explicit padding and averages."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir.rule import Rule, Site
from spyx.nir.rules.convolution import same_ends, symmetric
from spyx.nir.sizes import per_axis, pool_paddings


class Pool(nnx.Module):
    """Sum or average over windows of a map, padded with zeros that count.

    Args:
        window: height and width.
        stride: of the window.
        padding: zeros before and after each axis.
        average: divide by the size of the window.
    """

    def __init__(self, window: Any, stride: Any, padding: Any, average: bool) -> None:
        self.window, self.stride, self.padding = per_axis(window, 2), per_axis(stride, 2), per_axis(padding, 2)
        self.average = average

    def __call__(self, x: jax.Array) -> jax.Array:
        ends = [(0, 0), *((p, p) for p in self.padding), (0, 0)]
        window, stride = (1, *self.window, 1), (1, *self.stride, 1)
        total = jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, window, stride, ends)
        return total / (self.window[0] * self.window[1]) if self.average else total


def load_sum(node: Any, site: Site) -> Any:
    """A sum; the house's own layer where there is no padding, or the padding that `save` wrote for "SAME"."""
    window, stride = per_axis(node.kernel_size, 2), per_axis(node.stride, 2)
    if not np.any(node.padding):
        return nn.SumPool(window, stride, "VALID")
    ends = pool_paddings(node)
    if "same" in node.metadata and ends == same_ends(site.shape[1:], window, stride, (1, 1)):
        return nn.SumPool(window, stride, "SAME")
    if any(low != high for low, high in ends):
        raise ValueError(f"pads {ends}, differently at both ends: NIR has one number for both")
    return Pool(window, stride, node.padding, average=False)


def load_average(node: Any, site: Site) -> Pool:
    """An average."""
    return Pool(node.kernel_size, node.stride, node.padding, average=True)


def save_sum_pool(layer: nn.SumPool, site: Site) -> Any:
    """`SumPool2d` over height and width."""
    if len(site.shape) != 3 or layer.channel_axis not in (-1, 3):
        raise ValueError("pools other axes than height and width, channels last: NIR has SumPool2d")
    window, stride = _space(layer.window_shape), _space(layer.strides)
    padding = symmetric(layer.padding, site.shape[1:], window, stride, (1, 1))
    if isinstance(padding, str):
        raise ValueError("pads differently at both ends: NIR cannot say that; choose another window")
    metadata = {"same": True} if any(padding) else {}
    return nir.SumPool2d(np.array(window), np.array(stride), np.array(padding), metadata=metadata)


def save_pool(layer: Pool, site: Site) -> Any:
    """Back into the node that it came from."""
    kind = nir.AvgPool2d if layer.average else nir.SumPool2d
    return kind(np.array(layer.window), np.array(layer.stride), np.array(layer.padding))


def _space(size: Any) -> tuple[int, ...]:
    sizes = per_axis(size, 2) if isinstance(size, int) or len(size) == 2 else tuple(size)
    if len(sizes) == 4 and sizes[0] == sizes[3] == 1:
        sizes = sizes[1:3]
    if len(sizes) == 3 and sizes[2] == 1:
        sizes = sizes[:2]
    if len(sizes) != 2:
        raise ValueError(f"pools windows of {size}: NIR pools height and width")
    return tuple(int(n) for n in sizes)


RULES = [
    Rule(nn.SumPool, None, save=save_sum_pool, kind="map"),
    Rule(Pool, None, save=save_pool, kind="map"),
    Rule(None, nir.SumPool2d, load=load_sum, kind="map", default=True),
    Rule(None, nir.AvgPool2d, load=load_average, kind="map", default=True),
]
