"""`Flatten`: `nn.Flatten` where the weights around it can be permuted, else `Reshape`, which keeps NIR's order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir.layout import Layout, Shape
from spyx.nir.rule import Rule, Site
from spyx.nir.sizes import flattened_axes, flattened_shape


class Reshape(nnx.Module):
    """Merge axes in NIR's order, whatever the order here.

    Args:
        shape: NIR's shape of the input.
        first: first axis that is merged.
        last: last axis that is merged.
        taken: axes of the input.
        given: axes of the answer.
    """

    def __init__(self, shape: Shape, first: int, last: int, taken: Layout, given: Layout) -> None:
        self.shape, self.first, self.last, self.taken, self.given = shape, first, last, taken, given

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.taken.kind == "map":
            x = jnp.moveaxis(x, -1, 1)
        x = x.reshape(x.shape[0], *flattened_shape(self.shape, self.first, self.last))
        return jnp.moveaxis(x, 1, -1) if self.given.kind == "map" else x


def kind(node: Any) -> str:
    """All axes into one is a flatten; anything else only reshapes."""
    return "flatten" if node.start_dim == 0 and node.end_dim in (-1, _rank(node) - 1) else "reshape"


def load(node: Any, site: Site) -> Any:
    """The house's layer when the orders agree."""
    first, last = flattened_axes(node, site.shape)
    whole = (first, last) == (0, len(site.shape) - 1)
    if whole and (site.taken.kind == "plain" or site.given.kind == "flat"):
        return nn.Flatten()
    return Reshape(site.shape, first, last, site.taken, site.given)


def save_flatten(layer: nn.Flatten, site: Site) -> Any:
    """All axes into one."""
    if site.taken.kind == "map" and site.given.kind != "flat":
        raise ValueError("flattens a map whose order meets another order: NIR flattens channels first")
    return nir.Flatten({"input": np.array(site.shape)}, 0, -1)


def save_reshape(layer: Reshape, site: Site) -> Any:
    """Back into the node that it came from."""
    if layer.taken != site.taken or layer.given != site.given:
        raise ValueError("reshapes axes that lie in another order here than where it was made")
    return nir.Flatten({"input": np.array(site.shape)}, layer.first, layer.last)


def _rank(node: Any) -> int:
    shape = node.input_type["input"]
    return -1 if shape is None else len(shape)


RULES = [
    Rule(nn.Flatten, None, save=save_flatten, kind="flatten"),
    Rule(Reshape, None, save=save_reshape, kind="reshape"),
    Rule(None, nir.Flatten, load=load, kind=kind, default=True),
]
