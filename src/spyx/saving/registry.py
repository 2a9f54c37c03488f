"""What models are made of, by name: classes, values, variables and the arguments that attributes do not tell."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from flax import nnx

from spyx import experimental, graph, nn

if TYPE_CHECKING:
    from spyx.engine.types import Tree

FLAX = (
    "BatchNorm", "Conv", "ConvTranspose", "Dropout", "Embed", "GroupNorm", "LayerNorm", "Linear", "RMSNorm",
    "Sequential",
)  # fmt: skip
"""Layers of `flax.nnx` that are made by name."""
ABSTRACT = (nn.Layer, nn.Neuron, nn.EquinoxLayer, experimental.StochasticNeuron, graph.StatefulModel)
KINDS: dict[str, type[nnx.Variable]] = {
    "Param": nnx.Param,
    "Constant": nn.Constant,
    "BatchStat": nnx.BatchStat,
    "Variable": nnx.Variable,
}


@functools.cache
def registry() -> dict[str, type]:
    """Every class that is made by name: the layers of spyx, and some of Flax."""
    found: dict[str, type] = {f"flax.nnx.{name}": getattr(nnx, name) for name in FLAX}
    for module in (nn, graph, experimental):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, nnx.Module) and value not in ABSTRACT:
                found[f"{module.__name__}.{name}"] = value
    return found


VALUES: dict[str, type] = {"spyx.nn.Dynamics": nn.Dynamics, "spyx.nn.PopulationCode": nn.PopulationCode}
"""Frozen values that are made by name of their fields."""


class Elsewhere(NamedTuple):
    """An argument that the module holds deeper inside."""

    place: str
    value: object


def _graph_arguments(net: graph.Graph) -> dict[str, object]:
    plan = net._plan
    edges = [[e.source, e.target, e.delay, *([net.nodes[e.via]] if e.via else [])] for e in plan.whole_edges]
    return {
        "nodes": {name: node for name, node in net.nodes.items() if name not in plan.passed},
        "edges": edges,
        "merge": {name: how for name, how in net.merges.items() if name not in plan.passed},
        "inputs": net.inputs,
        "outputs": net.outputs,
        "input_shape": net.input_shape,
    }


def _odds(layer: Any) -> dict[str, object]:
    options = dict(layer.activation.options)
    return {"k": options["k"], "threshold": options["threshold"], "grad": layer.activation.grad}


TELL: dict[type, Callable[[Any], dict[str, object]]] = {
    nn.Sequential: lambda net: {"layers": list(net.layers)},
    nnx.Sequential: lambda net: {"layers": list(net.layers)},
    nn.DHLIF: lambda net: {
        "hidden_shape": net.layers[2].hidden_shape,
        "branches": net.layers[0].hidden_shape[0],
        "threshold": Elsewhere("layers.2.threshold", net.layers[2].threshold),
        "activation": net.layers[2].activation,
    },
    # Positions and width are arrays of the file: what the constructor draws is replaced.
    nn.Delayed: lambda layer: {"delays": None, "width": None, "spread": layer.spread is not None},
    nnx.GroupNorm: lambda norm: {"num_features": norm.num_groups * norm.group_size, "group_size": None},
    graph.Graph: _graph_arguments,
    experimental.PSU_LIF: lambda layer: {"k": dict(layer.activation.options)["k"], "spike": layer.spiking},
    experimental.SPSN: _odds,
    experimental.StochasticAssociativeLIF: lambda layer: {**_odds(layer), "spike": layer.spiking},
    experimental.StochasticAssociativeCuBaLIF: _odds,
}
"""Arguments that are not attributes of the same name."""
POSITIONAL = (nn.Sequential, nnx.Sequential)


@functools.cache
def names() -> dict[type, str]:
    """The name of every class of the registry."""
    return {cls: name for name, cls in registry().items()}


@functools.cache
def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The arguments that a class takes by name; of the first constructor that names them."""
    if cls in POSITIONAL:
        return {"layers": inspect.Parameter("layers", inspect.Parameter.KEYWORD_ONLY)}
    for parent in cls.__mro__:
        if "__init__" in vars(parent):
            found = dict(list(inspect.signature(parent.__init__).parameters.items())[1:])
            if all(p.kind is not p.VAR_POSITIONAL for p in found.values()):
                return {name: p for name, p in found.items() if p.kind is not p.VAR_KEYWORD}
    return {}


def named(variables: nnx.State | Tree) -> dict[str, jax.Array]:
    """The arrays of a state of Flax by path."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def path_name(path: tuple[object, ...]) -> str:
    """`layers.0.kernel`."""
    words = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
    last = getattr(path[-1], "name", None)
    return ".".join(escaped(word) for word in (words[:-1] if last == "value" else words))


def joined(path: str, name: str) -> str:
    """The path of what is called `name` inside `path`."""
    return f"{path}.{name}" if path else name


def escaped(word: str) -> str:
    """A name without dots, which join the names of a path."""
    return word.replace("%", "%25").replace(".", "%2E")
