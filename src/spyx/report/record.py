"""The output of every layer over time."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.nn.layer import as_layer


class Activity(NamedTuple):
    """What one layer put out.

    Args:
        name: its number in the network and its kind, for instance "1 LIF".
        outputs: (batch, time, *features).
        spikes: are all outputs 0 or 1?

    Example:
        >>> activity = Activity("1 LIF", np.array([[[0.0, 1.0], [0.0, 1.0]]]), spikes=True)
        >>> activity.rate, activity.silent
        (0.5, 0.5)
    """

    name: str
    outputs: np.ndarray
    spikes: bool

    @property
    def rate(self) -> float:
        """Mean output per neuron and time step; of spikes, the share of steps in which a neuron fires."""
        return float(self.outputs.mean())

    @property
    def silent(self) -> float:
        """Share of the neurons that put out nothing at all, for any sample."""
        return float((self.outputs == 0).all(axis=(0, 1)).mean())


def record(model: Any, x: Any) -> list[Activity]:
    """Run a network and store the output of every layer with a state: neurons and readouts.

    Args:
        model: any container: a `spyx.nn.Sequential`, a graph, nested ones. It is run in evaluation mode and not
            changed.
        x: input (batch, time, *features).

    Shapes:
        each `outputs` (batch, time, *features) of that layer, as NumPy.

    Raises:
        TypeError: a model that is no container of layers.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.IF(2, threshold=1.0), nn.LI(2, beta=0.5))
        >>> [(a.name, a.spikes, a.rate) for a in record(net, jnp.ones((1, 4, 2)))]
        [('0 IF', True, 0.5), ('1 LI', False, 0.625)]
    """
    if not isinstance(model, nn.Layer) or not model.container:
        raise TypeError(
            f"spyx.report.record: expected a container with children(state); got {type(model).__name__}. "
            "Put the layers in a spyx.nn.Sequential."
        )
    kinds = stateful_layers(model, model.state_for(jax.tree.map(lambda a: a[:, 0], jnp.asarray(x))))
    graphdef, variables = nnx.split(model)

    @jax.jit
    def outputs(variables: Any, x: Any) -> dict[str, jax.Array]:
        network = nnx.merge(graphdef, variables, copy=True)
        network.eval()
        return nn.observe(network, x, where=tuple(kinds))[2]

    seen = {path: np.asarray(a) for path, a in outputs(variables, jnp.asarray(x)).items()}
    return [
        Activity(f"{path} {kind}", seen[path], spikes=bool(np.isin(seen[path], (0, 1)).all()))
        for path, kind in kinds.items()
    ]


def stateful_layers(layer: nn.Layer, state: Any, prefix: str = "") -> dict[str, str]:
    """Path and class of every layer with a state, containers apart."""
    found: dict[str, str] = {}
    for name, (module, inner) in layer.named_children(state).items():
        child = as_layer("spyx.report.record", module)
        if child.container:
            found |= stateful_layers(child, inner, f"{prefix}{name}.")
        elif jax.tree.leaves(inner) or child.whole_time:
            found[f"{prefix}{name}"] = child._kind
    return found
