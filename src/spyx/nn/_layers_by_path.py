"""What is inside a network: its layers by path, what feeds them, the kernel of a connection, whether a neuron fires."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.nn._delayed import Delayed
from spyx.nn._layer import View, as_layer
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spyx.engine.types import State, Units
    from spyx.nn._layer import Layer, Model


def named_layers(layer: Layer, state: State, prefix: str = "") -> dict[str, Layer]:
    """Every layer of a container by its path, containers apart, in the order in which they are listed."""
    found: dict[str, Layer] = {}
    for name, (module, inner) in layer.named_children(state).items():
        child = as_layer("spyx.nn", module)
        if child.container:
            found |= named_layers(child, inner, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = child
    return found


def layers_with_state(layer: Layer, state: State, prefix: str = "") -> dict[str, Layer]:
    """Those of `named_layers` that have a state, or that see all of time at once."""
    found: dict[str, Layer] = {}
    for name, (module, inner) in layer.named_children(state).items():
        child = as_layer("spyx.nn", module)
        if child.container:
            found |= layers_with_state(child, inner, f"{prefix}{name}.")
        elif jax.tree.leaves(inner) or child.whole_time:
            found[f"{prefix}{name}"] = child
    return found


def unwrapped(layer: Model) -> Model:
    """A foreign module without the view that makes it a layer."""
    return layer.module if isinstance(layer, View) else layer


def kernel_of(layer: Model | None) -> nnx.Linear | nnx.Conv | None:
    """The dense or convolutional layer inside a layer, a `Delayed` for instance, whose products it is; None without."""
    module = None if layer is None else unwrapped(layer)
    module = module.connection if isinstance(module, Delayed) else module
    return module if isinstance(module, (nnx.Linear, nnx.Conv)) else None


def fires(layer: Layer) -> bool:
    """A neuron whose step calls its activation."""
    if not isinstance(layer, Neuron):
        return False
    called: list[bool] = []

    def spike(u: Units) -> Units:
        called.append(True)
        return u

    state = jax.eval_shape(lambda: Neuron.initial_state(layer, 1))  # a stochastic neuron's own would draw a key
    x = jax.ShapeDtypeStruct((1, *layer.hidden_shape), jnp.float32)
    jax.eval_shape(lambda x, s: layer.step(layer.params().astype(jnp.float32).replace(spike=spike), x, s), x, state)
    return bool(called)


def connections_before(layer: Layer, state: State) -> dict[str, tuple[str, ...]]:
    """For every neuron, by path, the layers with a kernel whose products reach it through no other neuron."""
    layers, (sources, _) = named_layers(layer, state), wiring(layer, state)
    order = list(layers).index
    found = {}
    for path, inner in layers.items():
        if isinstance(inner, Neuron):
            reached = nearest(sources[path], sources, layers, lambda inner: kernel_of(inner) is not None)
            found[path] = tuple(sorted(reached, key=order))
    return found


def wiring(layer: Layer, state: State) -> tuple[dict[str, list[str]], list[str]]:
    """The paths whose outputs each layer takes, and those whose outputs leave the network; its input has no path."""
    sources: dict[str, list[str]] = {}
    return sources, _collect(layer, state, "", [], sources)


def nearest(
    start: Iterable[str],
    sources: dict[str, list[str]],
    layers: dict[str, Layer],
    wanted: Callable[[Layer], bool],
) -> list[str]:
    """Going back from `start`, through no neuron, the first layers that are `wanted`."""
    found: list[str] = []
    waiting, seen = list(start), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if wanted(layers[name]):
            found.append(name)
        elif not isinstance(layers[name], Neuron):
            waiting += sources[name]
    return found


def inputs_first(sources: dict[str, list[str]], ends: Iterable[str]) -> list[str]:
    """All paths, each after those that it takes the outputs of; a cycle is cut where it is entered."""
    order: list[str] = []
    seen: set[str] = set()
    for start in (*ends, *sources):
        waiting = [(start, False)]
        while waiting:
            name, done = waiting.pop()
            if done:
                order.append(name)
            elif name not in seen:
                seen.add(name)
                waiting.append((name, True))
                waiting += [(source, False) for source in reversed(sources[name])]
    return order


def _collect(layer: Layer, state: State, prefix: str, before: list[str], sources: dict[str, list[str]]) -> list[str]:
    """Note what feeds every leaf inside; returns the leaves whose outputs leave the container."""
    children = {name: (as_layer("spyx.nn", module), s) for name, (module, s) in layer.named_children(state).items()}
    edges = layer.sources()
    ends = {name: [f"{prefix}{name}"] for name, (child, _) in children.items() if not child.container}
    latest = before
    for name, (child, inner) in children.items():
        if edges is None:
            given = latest
        else:
            given = [end for source in edges[name] for end in (ends.get(source, []) if source in children else before)]
        if child.container:
            ends[name] = _collect(child, inner, f"{prefix}{name}.", given, sources)
        else:
            sources[f"{prefix}{name}"] = given
        latest = ends[name]
    if edges is None:
        return latest
    outputs = [target for target in edges if target not in children]
    return [end for target in outputs for source in edges[target] for end in ends.get(source, before)]
