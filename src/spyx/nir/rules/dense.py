"""`Affine` and `Linear`: `nnx.Linear`, its kernel the other way round."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir.layout import Layout
from spyx.nir.rule import Rule, Site


def load(node: Any, site: Site) -> nnx.Linear:
    """An `nnx.Linear` with these weights."""
    rows, columns = order(site.given, node.weight.shape[0]), order(site.taken, node.weight.shape[1])
    kernel = jnp.asarray(node.weight[rows][:, columns].T, jnp.float32)
    bias = jnp.asarray(node.bias[rows], jnp.float32) if isinstance(node, nir.Affine) else None
    return linear(kernel, bias)


def save(layer: nnx.Linear, site: Site) -> Any:
    """`Affine` with a bias, `Linear` without."""
    kernel = np.asarray(layer.kernel[...])
    rows, columns = np.argsort(order(site.given, kernel.shape[1])), np.argsort(order(site.taken, kernel.shape[0]))
    weight = np.ascontiguousarray(kernel.T[rows][:, columns])
    return nir.Linear(weight) if layer.bias is None else nir.Affine(weight, np.asarray(layer.bias[...])[rows])


def linear(kernel: Any, bias: Any) -> nnx.Linear:
    """An `nnx.Linear` that starts from these arrays, without drawing others first."""
    inputs, outputs = kernel.shape
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=bias is not None,
        kernel_init=lambda *_: kernel,
        bias_init=lambda *_: bias,
        rngs=nnx.Rngs(0),
    )


def order(layout: Layout, size: int) -> np.ndarray:
    """NIR's index of every spyx feature."""
    return layout.to_spyx(np.arange(size))


RULES = [
    *(Rule(kind, None, save=save, kind="dense") for kind in (nnx.Linear, nn.Linear)),
    Rule(None, nir.Affine, load=load, kind="dense", default=True),
    Rule(None, nir.Linear, load=load, kind="dense", default=True),
]
