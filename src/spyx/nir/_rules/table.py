"""The table of rules: for every pair of a spyx layer and a NIR node, how each becomes the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

import nir
from spyx.nir._axes import KINDS, Layout
from spyx.nir._discrete import Meaning
from spyx.nir._flat import Shape
from spyx.nn._layer import Model

if TYPE_CHECKING:
    from spyx.nn._parameters import ParameterLike

OneLayer = TypeVar("OneLayer")
OneNode = TypeVar("OneNode", bound=nir.NIRNode)


class Site(NamedTuple):
    """Where a rule is applied.

    Args:
        name: of the node.
        meaning: time step and conventions.
        shape: NIR's shape of the node's input.
        output_shape: NIR's shape of its output.
        taken: axes of the input.
        given: axes of the output.
    """

    name: str
    meaning: Meaning
    shape: Shape
    output_shape: Shape
    taken: Layout
    given: Layout

    def units(self, value: ParameterLike, dtype: type = np.float64) -> np.ndarray:
        """A layer's number or per-unit array as NIR wants it: one value per unit, on NIR's axes."""
        full = np.broadcast_to(np.asarray(value, dtype), self.taken.spyx_shape(self.shape))
        return np.ascontiguousarray(self.taken.to_nir(full))


# Of the layer, or the node, of its rule: which class that is differs from rule to rule.
Save = Callable[[Any, Site], nir.NIRNode]
Load = Callable[[Any, Site], Model | None]


@dataclass(frozen=True)
class Rule:
    """How one layer becomes one node and back.

    Args:
        layer: the spyx layer's class; None for a node that only exists in files.
        node: NIR's class.
        save: `(layer, site) -> node`; raises ValueError with the reason when NIR cannot express it. None: import only.
        load: `(node, site) -> layer`, or None when this node is not one that `save` wrote. None: export only.
        kind: what the node does to axes: "units" (element-wise), "dense", "map", "flatten" or "reshape".
        latency: time steps by which the layer's output is late.
        default: `load` takes every node of this type, whoever wrote it.

    Example:
        >>> import nir
        >>> from spyx import nn
        >>> rule_for_layer(nn.LIF(1, beta=0.5)).latency
        1
    """

    layer: type | None
    node: type | None
    save: Save | None = None
    load: Load | None = None
    kind: str | Callable[[Any], str] = "units"
    latency: int = 0
    default: bool = False

    def kind_of(self, what: object) -> str:
        """The kind of this node or layer."""
        return self.kind(what) if callable(self.kind) else self.kind


RULES: list[Rule] = []
"""All rules, a user's own behind the built-in ones; the last that fits is taken."""


def rule(
    layer: type[OneLayer] | None,
    node: type[OneNode] | None,
    *,
    save: Callable[[OneLayer, Site], nir.NIRNode] | None = None,
    load: Callable[[OneNode, Site], Model | None] | None = None,
    kind: str = "units",
    latency: int = 0,
) -> Rule:
    """Teach `to_nir` and `from_nir` a layer of your own.

    `save` makes the node; `to_nir` writes the layer's class name beside it, and `from_nir` calls `load` for a node with
    that name. A rule with the node of another rule and without a layer replaces how every such node is read.

    Args:
        layer: the layer's class.
        node: the class of NIR node that it becomes.
        save: `(layer, site) -> node`; raise ValueError with the reason where NIR cannot express it.
        load: `(node, site) -> layer`; return None to leave the node to the built-in rule.
        kind: "units" (element-wise, the default), "dense", "map" (convolution, pool), "flatten" or "reshape".
        latency: time steps by which the layer's output is late; 1 for a neuron that spikes from the membrane before
            the update.

    Returns:
        The rule; pass it to `forget` to remove it.

    Raises:
        TypeError: neither a layer nor a node, or classes that are none.
        ValueError: another kind.

    Example:
        >>> import nir
        >>> from flax import nnx
        >>> from spyx import nn
        >>> class Gain(nnx.Module):
        ...     def __call__(self, x):
        ...         return 2 * x
        >>> ours = rule(Gain, nir.Scale, save=lambda layer, site: nir.Scale(site.units(2.0)), load=lambda n, s: Gain())
        >>> from spyx.nir import from_nir, to_nir
        >>> type(from_nir(to_nir(nn.Sequential(Gain()), dt=1.0, input_shape=3)).nodes["gain_0"]).__name__
        'Gain'
        >>> forget(ours)
    """
    for value in (layer, node):
        if value is not None and not isinstance(value, type):
            raise TypeError(f"spyx.nir.rule: expected classes; got {value!r}. Pass the class, not an instance.")
    if layer is None and node is None:
        raise TypeError("spyx.nir.rule: expected a layer or a node; got neither. Pass their classes.")
    if kind not in KINDS:
        raise ValueError(f"spyx.nir.rule(kind=): expected one of {', '.join(KINDS)}; got {kind!r}. Choose one.")
    RULES.append(Rule(layer, node, save, load, kind, latency, default=layer is None))
    return RULES[-1]


def forget(ours: Rule) -> None:
    """Remove a rule that `rule` made.

    Args:
        ours: what `rule` returned.

    Example:
        >>> import nir
        >>> forget(rule(dict, nir.Scale))
    """
    RULES.remove(ours)


def rule_for_layer(layer: object) -> Rule | None:
    """The rule that exports this layer; None when there is none."""
    return next((r for r in reversed(RULES) if r.layer is type(layer) and r.save is not None), None)


def rules_for_node(node: object, recorded: str | None) -> list[Rule]:
    """The rules that may import this node, best first: that of the layer that the file names, then the default."""
    fitting = [r for r in reversed(RULES) if r.node is type(node) and r.load is not None]
    named = [r for r in fitting if r.layer is not None and r.layer.__name__ == recorded]
    return [*named, *(r for r in fitting if r.default and r not in named)]
