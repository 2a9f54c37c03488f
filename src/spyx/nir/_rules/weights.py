"""Connections: `Affine` and `Linear`, `Conv1d` and `Conv2d`, pools, and `Flatten`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir._axes import Layout
from spyx.nir._flat import CONVOLUTIONS, Shape, Sizes, flattened_axes, flattened_shape, per_axis, window_of
from spyx.nir._rules.table import Load, Rule, Site

Ends = list[tuple[int, int]]

Padding = str | int | Sequence[int | tuple[int, int]]
"""As Flax takes it: a name, one number, or one number or pair of ends per spatial axis."""


class Start(TypedDict):
    """Arguments of a layer of Flax that is not drawn."""

    use_bias: bool
    kernel_init: Callable[..., jax.Array]
    bias_init: Callable[..., jax.Array]
    rngs: nnx.Rngs


class Pool(nnx.Module):
    """Sum or average over windows (height and width) of a map, padded at both ends with zeros that count."""

    def __init__(self, window: Sizes, stride: Sizes, padding: Sizes, average: bool) -> None:
        self.window, self.stride, self.padding = per_axis(window, 2), per_axis(stride, 2), per_axis(padding, 2)
        self.average = average

    def __call__(self, x: jax.Array) -> jax.Array:
        ends = [(0, 0), *((p, p) for p in self.padding), (0, 0)]
        window, stride = (1, *self.window, 1), (1, *self.stride, 1)
        total = jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, window, stride, ends)
        return total / (self.window[0] * self.window[1]) if self.average else total


class Reshape(nnx.Module):
    """Merge the axes `first` to `last` of NIR's `shape` in NIR's order, whatever the order of the axes here."""

    def __init__(self, shape: Shape, first: int, last: int, taken: Layout, given: Layout) -> None:
        self.shape, self.first, self.last, self.taken, self.given = shape, first, last, taken, given

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.taken.kind == "map":
            x = jnp.moveaxis(x, -1, 1)
        x = x.reshape(x.shape[0], *flattened_shape(self.shape, self.first, self.last))
        return jnp.moveaxis(x, 1, -1) if self.given.kind == "map" else x


def load_dense(node: nir.Affine | nir.Linear, site: Site) -> nnx.Linear:
    """An `nnx.Linear` with these weights, its kernel transposed."""
    rows, columns = site.given.order(node.weight.shape[0]), site.taken.order(node.weight.shape[1])
    bias = node.bias[rows] if isinstance(node, nir.Affine) else None
    kernel = jnp.asarray(node.weight[rows][:, columns].T, jnp.float32)
    return nnx.Linear(*kernel.shape, **_starting_from(kernel, bias))


def save_dense(layer: nnx.Linear, site: Site) -> nir.Affine | nir.Linear:
    """`Affine` with a bias, `Linear` without."""
    kernel = np.asarray(layer.kernel[...])
    rows, columns = np.argsort(site.given.order(kernel.shape[1])), np.argsort(site.taken.order(kernel.shape[0]))
    weight = np.ascontiguousarray(kernel.T[rows][:, columns])
    return nir.Linear(weight) if layer.bias is None else nir.Affine(weight, np.asarray(layer.bias[...])[rows])


def load_convolution(node: nir.Conv1d | nir.Conv2d, site: Site) -> nn.Conv:
    """A convolution with these weights; it has no bias where `save` had to invent one."""
    window = window_of(node)
    kernel = jnp.asarray(np.moveaxis(node.weight, (0, 1), (-1, -2)), jnp.float32)
    return nn.Conv(
        int(node.weight.shape[1]) * int(node.groups),
        int(node.weight.shape[0]),
        window.kernel,
        strides=window.stride,
        padding=window.ends,
        kernel_dilation=window.dilation,
        feature_group_count=int(node.groups),
        **_starting_from(kernel, None if "no_bias" in node.metadata and not np.any(node.bias) else node.bias),
    )


def _starting_from(kernel: jax.Array, bias: np.ndarray | None) -> Start:
    """Arguments with which a layer starts from these arrays, without drawing others first."""
    return Start(
        use_bias=bias is not None,
        kernel_init=lambda *_: kernel,
        bias_init=lambda *_: jnp.asarray(bias, jnp.float32),
        rngs=nnx.Rngs(0),
    )


def save_convolution(layer: nnx.Conv, site: Site) -> nir.Conv1d | nir.Conv2d:
    """`Conv1d` or `Conv2d`; refuses what NIR cannot express."""
    kernel = np.asarray(layer.kernel[...])
    space = kernel.ndim - 2
    if space not in (1, 2):
        raise ValueError(f"convolves over {space} axes: NIR has Conv1d and Conv2d")
    if layer.mask is not None:
        raise ValueError("masks its kernel: NIR cannot express it; multiply the mask in")
    stride, dilation, spread = (
        per_axis(1 if value is None else value, space)
        for value in (layer.strides, layer.kernel_dilation, layer.input_dilation)
    )
    if any(n != 1 for n in spread):
        raise ValueError("dilates its input: NIR cannot express it")
    padding = symmetric(layer.padding, site.shape[1:], kernel.shape[:space], stride, dilation)
    weight = np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
    bias = np.zeros(kernel.shape[-1], kernel.dtype) if layer.bias is None else np.asarray(layer.bias[...])
    metadata = {"no_bias": True} if layer.bias is None else {}
    groups = int(layer.feature_group_count)
    if space == 1:
        last = padding if isinstance(padding, str) else padding[0]
        return nir.Conv1d(site.shape[1], weight, stride[0], last, dilation[0], groups, bias, metadata=metadata)
    size, windows = (site.shape[1], site.shape[2]), {"stride": stride, "padding": padding, "dilation": dilation}
    return nir.Conv2d(size, weight, **windows, groups=groups, bias=bias, metadata=metadata)  # type: ignore[arg-type]


def symmetric(padding: Padding, sizes: Shape, kernel: Sequence[int], stride: Shape, dilation: Shape) -> Shape | str:
    """NIR's padding: one number per axis for both ends, or "same" where the ends differ and the stride is 1."""
    if isinstance(padding, str) and padding.upper() not in ("SAME", "VALID"):
        raise ValueError(f"pads {padding!r}: NIR pads with zeros, the same at both ends")
    if isinstance(padding, str) and padding.upper() == "VALID":
        return tuple(0 for _ in kernel)
    if isinstance(padding, str):
        ends = same_ends(sizes, kernel, stride, dilation)
    else:
        each = [padding] * len(kernel) if isinstance(padding, (int, np.integer)) else padding
        ends = [(int(p), int(p)) if isinstance(p, (int, np.integer)) else (int(p[0]), int(p[1])) for p in each]
    if all(low == high for low, high in ends):
        return tuple(low for low, _ in ends)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if all(s == 1 for s in stride) and ends == [(span // 2, span - span // 2) for span in spans]:
        return "same"
    raise ValueError(f"pads {ends}, differently at both ends: NIR cannot express it; pad by numbers that are equal")


def same_ends(sizes: Shape, kernel: Sequence[int], stride: Shape, dilation: Shape) -> Ends:
    """What "SAME" adds before and after each axis."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    totals = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(sizes, stride, spans, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def load_pool(node: nir.SumPool2d | nir.AvgPool2d, site: Site) -> Pool | nn.SumPool:
    """A pool: `nn.SumPool` for a sum without padding, or with the padding that `save` wrote for "SAME"."""
    window = window_of(node)
    if isinstance(node, nir.SumPool2d):
        if not np.any(node.padding):
            return nn.SumPool(window.kernel, window.stride, "VALID")
        same = same_ends(site.shape[1:], window.kernel, window.stride, window.dilation)
        if "same" in node.metadata and window.ends == same:
            return nn.SumPool(window.kernel, window.stride, "SAME")
        if any(low != high for low, high in window.ends):
            raise ValueError(f"pads {window.ends}, differently at both ends: NIR has one number for both")
    return Pool(window.kernel, window.stride, node.padding, isinstance(node, nir.AvgPool2d))


def save_sum_pool(layer: nn.SumPool, site: Site) -> nir.SumPool2d:
    """`SumPool2d` over height and width."""
    if len(site.shape) != 3 or layer.channel_axis not in (-1, 3):
        raise ValueError("pools other axes than height and width, channels last: NIR has SumPool2d")
    window, stride = _height_and_width(layer.window_shape), _height_and_width(layer.strides)
    padding = symmetric(layer.padding, site.shape[1:], window, stride, (1, 1))
    if isinstance(padding, str):
        raise ValueError("pads differently at both ends: NIR cannot express it; choose another window")
    metadata = {"same": True} if any(padding) else {}
    return nir.SumPool2d(np.array(window), np.array(stride), np.array(padding), metadata=metadata)


def save_pool(layer: Pool, site: Site) -> nir.SumPool2d | nir.AvgPool2d:
    """Back into the node that it came from."""
    kind = nir.AvgPool2d if layer.average else nir.SumPool2d
    return kind(np.array(layer.window), np.array(layer.stride), np.array(layer.padding))


def _height_and_width(size: int | Sequence[int]) -> Shape:
    sizes = per_axis(size, 2) if isinstance(size, int) or len(size) == 2 else tuple(size)
    if len(sizes) == 4 and sizes[0] == sizes[3] == 1:
        sizes = sizes[1:3]
    if len(sizes) == 3 and sizes[2] == 1:
        sizes = sizes[:2]
    if len(sizes) != 2:
        raise ValueError(f"pools windows of {size}: NIR pools height and width")
    return tuple(int(n) for n in sizes)


def flatten_kind(node: nir.Flatten) -> str:
    """All axes into one is a flatten; anything else only reshapes."""
    shape = node.input_type["input"]
    last = (-1,) if shape is None else (-1, len(shape) - 1)
    return "flatten" if node.start_dim == 0 and node.end_dim in last else "reshape"


def load_flatten(node: nir.Flatten, site: Site) -> nn.Flatten | Reshape:
    """`nn.Flatten` where the weights around it can be permuted, else `Reshape`, which has NIR's order."""
    first, last = flattened_axes(node, site.shape)
    whole = (first, last) == (0, len(site.shape) - 1)
    if whole and (site.taken.kind == "plain" or site.given.kind == "flat"):
        return nn.Flatten()
    return Reshape(site.shape, first, last, site.taken, site.given)


def save_flatten(layer: nn.Flatten, site: Site) -> nir.Flatten:
    """All axes into one."""
    if site.taken.kind == "map" and site.given.kind != "flat":
        raise ValueError("flattens a map whose order meets another order: NIR flattens channels first")
    return nir.Flatten({"input": np.array(site.shape)}, 0, -1)


def save_reshape(layer: Reshape, site: Site) -> nir.Flatten:
    """Back into the node that it came from."""
    if layer.taken != site.taken or layer.given != site.given:
        raise ValueError("reshapes axes that lie in another order here than where it was made")
    return nir.Flatten({"input": np.array(site.shape)}, layer.first, layer.last)


def _reads(load: Load, kind: str | Callable[..., str], *nodes: type) -> list[Rule]:
    return [Rule(None, node, load=load, kind=kind, default=True) for node in nodes]


RULES = [
    *(Rule(kind, None, save=save_dense, kind="dense") for kind in (nnx.Linear, nn.Linear)),
    *(Rule(kind, None, save=save_convolution, kind="map") for kind in (nnx.Conv, nn.Conv)),
    Rule(nn.SumPool, None, save=save_sum_pool, kind="map"),
    Rule(Pool, None, save=save_pool, kind="map"),
    Rule(nn.Flatten, None, save=save_flatten, kind="flatten"),
    Rule(Reshape, None, save=save_reshape, kind="reshape"),
    *_reads(load_dense, "dense", nir.Affine, nir.Linear),
    *_reads(load_convolution, "map", *CONVOLUTIONS),
    *_reads(load_pool, "map", nir.SumPool2d, nir.AvgPool2d),
    *_reads(load_flatten, flatten_kind, nir.Flatten),
]
