"""The output of every layer over time."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.nn.execution import Execution
from spyx.nn.layer import is_stateful, over_time


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
    """Run a chain of layers and keep the output of every layer with a state: neurons and readouts.

    Args:
        model: a `spyx.nn.Sequential`, or a container with `initial_state` and `children(state)`. It is not changed.
        x: input (batch, time, *features).

    Shapes:
        each `outputs` (batch, time, *features) of that layer, as NumPy.

    Raises:
        TypeError: a model that does not tell its layers.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.IF(2, threshold=1.0), nn.LI(2, beta=0.5))
        >>> [(a.name, a.spikes, a.rate) for a in record(net, jnp.ones((1, 4, 2)))]
        [('0 IF', True, 0.5), ('1 LI', False, 0.625)]
    """
    if not hasattr(model, "children") or not isinstance(model, nnx.Module):
        raise TypeError(
            f"spyx.report.record: expected a container with children(state); got {type(model).__name__}. "
            "Put the layers in a spyx.nn.Sequential."
        )
    graphdef, variables = nnx.split(model)
    kept: list[str] = []

    def outputs(variables: Any, x: Any) -> list[jax.Array]:
        network: Any = nnx.merge(graphdef, variables, copy=True)
        network.eval()
        xs = jnp.moveaxis(x, 1, 0)
        seen = []
        for index, (layer, state) in enumerate(network.children(network.initial_state(x.shape[0]))):
            xs, _ = over_time(layer, xs, state, Execution())
            if is_stateful(layer):
                kept.append(f"{index} {type(layer).__name__}")
                seen.append(jnp.moveaxis(xs, 0, 1))
        return seen

    arrays = [np.asarray(a) for a in jax.jit(outputs)(variables, jnp.asarray(x))]
    return [Activity(name, a, spikes=bool(np.isin(a, (0, 1)).all())) for name, a in zip(kept, arrays, strict=True)]
