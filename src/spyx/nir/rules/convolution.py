"""`Conv1d` and `Conv2d`: `nn.Conv`, channels last."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir.rule import Rule, Site
from spyx.nir.sizes import paddings, per_axis


def load(node: Any, site: Site) -> nn.Conv:
    """A convolution with these weights; the bias stays away where `save` had to invent one."""
    space = node.weight.ndim - 2
    kernel = jnp.asarray(np.moveaxis(node.weight, (0, 1), (-1, -2)), jnp.float32)
    bias = None if "no_bias" in node.metadata and not np.any(node.bias) else jnp.asarray(node.bias, jnp.float32)
    return nn.Conv(
        int(node.weight.shape[1]) * int(node.groups),
        int(node.weight.shape[0]),
        kernel.shape[:space],
        strides=per_axis(node.stride, space),
        padding=paddings(node),
        kernel_dilation=per_axis(node.dilation, space),
        feature_group_count=int(node.groups),
        use_bias=bias is not None,
        kernel_init=lambda *_: kernel,
        bias_init=lambda *_: bias,
        rngs=nnx.Rngs(0),
    )


def save(layer: nnx.Conv, site: Site) -> Any:
    """`Conv1d` or `Conv2d`; refuses what NIR has no words for."""
    kernel = np.asarray(layer.kernel[...])
    space = kernel.ndim - 2
    if space not in (1, 2):
        raise ValueError(f"convolves over {space} axes: NIR has Conv1d and Conv2d")
    if layer.mask is not None:
        raise ValueError("masks its kernel: NIR has no word for it; multiply the mask in")
    if any(n != 1 for n in _axes(layer.input_dilation, space)):
        raise ValueError("dilates its input: NIR has no word for it")
    stride, dilation = _axes(layer.strides, space), _axes(layer.kernel_dilation, space)
    padding = symmetric(layer.padding, site.shape[1:], kernel.shape[:space], stride, dilation)
    weight = np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
    bias = np.zeros(kernel.shape[-1], kernel.dtype) if layer.bias is None else np.asarray(layer.bias[...])
    metadata = {"no_bias": True} if layer.bias is None else {}
    groups = int(layer.feature_group_count)
    if space == 1:
        last = padding if isinstance(padding, str) else padding[0]
        return nir.Conv1d(site.shape[1], weight, stride[0], last, dilation[0], groups, bias, metadata=metadata)
    height, width = site.shape[1:]
    return nir.Conv2d((height, width), weight, _pair(stride), padding, _pair(dilation), groups, bias, metadata=metadata)


def symmetric(padding: Any, sizes: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """NIR's padding: one number per axis for both ends, or "same" where the ends differ and the stride is 1."""
    if isinstance(padding, str) and padding.upper() not in ("SAME", "VALID"):
        raise ValueError(f"pads {padding!r}: NIR pads with zeros, the same at both ends")
    if isinstance(padding, str) and padding.upper() == "VALID":
        return tuple(0 for _ in kernel)
    if isinstance(padding, str):
        ends = same_ends(sizes, kernel, stride, dilation)
    elif isinstance(padding, (int, np.integer)):
        ends = [(int(padding), int(padding))] * len(kernel)
    else:
        ends = [(int(p), int(p)) if isinstance(p, (int, np.integer)) else (int(p[0]), int(p[1])) for p in padding]
    if all(low == high for low, high in ends):
        return tuple(low for low, _ in ends)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if all(s == 1 for s in stride) and ends == [(span // 2, span - span // 2) for span in spans]:
        return "same"
    raise ValueError(f"pads {ends}, differently at both ends: NIR cannot say that; pad by numbers that are equal")


def same_ends(sizes: Any, kernel: Any, stride: Any, dilation: Any) -> list[tuple[int, int]]:
    """What "SAME" adds before and after each axis."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    totals = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(sizes, stride, spans, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]


def _axes(value: Any, space: int) -> tuple[int, ...]:
    return per_axis(1 if value is None else value, space)


RULES = [
    *(Rule(kind, None, save=save, kind="map") for kind in (nnx.Conv, nn.Conv)),
    *(Rule(None, node, load=load, kind="map", default=True) for node in (nir.Conv1d, nir.Conv2d)),
]
