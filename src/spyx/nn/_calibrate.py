"""`calibrate`: weights scaled so that every layer of neurons fires at a rate that a surrogate can learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.nn._layer import as_layer, hashable, merged
from spyx.nn._layers_by_path import connections_before, fires, kernel_of, named_layers
from spyx.nn._run import observe

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Num

    from spyx.nn._layer import Layer, Model
    from spyx.nn._mask_arguments import Lengths

    Network = TypeVar("Network", bound=Model)
    Gains = dict[str, np.float32]
    """What the weights of a connection are multiplied with, by its path."""

OWNER = "spyx.nn.calibrate"
BAND = 1.5
"""A rate is reached within this factor; a layer that is there already is left alone."""

FARTHEST = 12.0
"""Gains are searched from 2**-12 to 2**12."""

SWEEPS, HALVINGS = 3, 12


def calibrate(
    model: Network, x: Num[ArrayLike, "batch time *features"], *, rate: float = 0.1, lengths: Lengths | None = None
) -> Network:
    """Scale the weights in front of every spiking layer, `W' = g W`, until it fires in a share `rate` of all steps.

    Layers are taken in order, so that each is scaled for the spikes it will be given. A layer that fires at `rate`
    within a factor of 1.5 is left as it is, and so are biases, recurrent weights, readouts, and neurons that no kernel
    feeds.

    Args:
        model: any network that `spyx.nn.run` takes, graphs and nested ones included; changed in place. It runs in
            evaluation mode.
        x: input (batch, time, *features) as in training; a few hundred samples are enough.
        rate: spikes per unit and step, in (0, 1). Default 0.1.
        lengths: (batch,) steps of each sample that count, as for `spyx.nn.run`.

    Returns:
        The model that was given.

    Raises:
        TypeError: a model that is no network.
        ValueError: a rate outside of (0, 1); layers that no gain brings within a factor of 3 of it, by path. Nothing is
            changed then.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.Linear(8, 32, rngs=nnx.Rngs(0)), nn.LIF(32, beta=0.9, threshold=50.0))
        >>> x = jax.random.bernoulli(jax.random.key(0), 0.2, (4, 20, 8)).astype(jnp.float32)
        >>> before = nn.run(net, x)[0].mean()
        >>> after = nn.run(nn.calibrate(net, x, rate=0.1), x)[0].mean()
        >>> float(before), bool(0.06 < after < 0.16)
        (0.0, True)
    """
    if not 0 < rate < 1:
        raise ValueError(f"{OWNER}(rate=): expected spikes per unit and step in (0, 1); got {rate}. Try 0.1.")
    network = as_layer(OWNER, model)
    if not network.container:
        raise TypeError(
            f"{OWNER}: expected a network with weights in front of its neurons; got {network._kind}. "
            "Put both in a spyx.nn.Sequential."
        )
    x = jnp.asarray(x)
    state = jax.eval_shape(lambda: network.state_for(x[:, 0]))
    layers = named_layers(network, state)
    before = connections_before(network, state)
    spiking = [path for path, layer in layers.items() if before.get(path) and fires(layer)]
    if not spiking:
        raise ValueError(
            f"{OWNER}: expected a spiking layer with weights in front of it; got none in {network._kind}. "
            "Put a spyx.nn.Linear before a neuron such as spyx.nn.LIF."
        )
    graphdef, variables = nnx.split(network)
    structure = hashable(graphdef)

    @jax.jit
    def measured(
        gains: dict[str, Float[Array, ""]], variables: nnx.State, x: Num[Array, "batch time *features"]
    ) -> dict[str, Float[Array, ""]]:
        copy = merged(structure, variables)
        copy.eval()
        _scale(named_layers(copy, state), gains)
        seen = observe(copy, x, where=tuple(spiking), lengths=lengths)[2]
        share = 1.0 if lengths is None else jnp.mean(jnp.asarray(lengths), dtype=jnp.float32) / x.shape[1]
        return {path: jnp.mean((seen[path] != 0).astype(jnp.float32)) / share for path in spiking}

    gains = {path: np.float32(1.0) for paths in (before[path] for path in spiking) for path in paths}

    def rates() -> dict[str, float]:
        return {path: float(value) for path, value in measured(gains, variables, x).items()}

    for _ in range(SWEEPS):
        found = rates()
        if all(rate / BAND <= found[path] <= rate * BAND for path in spiking):
            break
        for path in spiking:
            if not rate / BAND <= rates()[path] <= rate * BAND:
                _search(path, before[path], gains, rates, rate)
    found = rates()
    far = [path for path in spiking if not rate / 3 <= found[path] <= rate * 3]
    if far:
        got = ", ".join(f"{found[path]:.2g} in {path} {layers[path]._kind}" for path in far)
        raise ValueError(
            f"{OWNER}: expected a gain at which every layer fires in {rate:.0%} of all steps; got {got} at best. "
            "Look at its input and its bias: weights that are all negative, or a bias that drives it alone, need "
            "another initialiser."
        )
    _scale(layers, gains)
    return model


def _search(
    path: str, fed_by: tuple[str, ...], gains: Gains, rates: Callable[[], dict[str, float]], rate: float
) -> None:
    """Halve the range of the logarithm of a gain, which all connections into a layer share, until the rate fits."""
    start = {name: float(gains[name]) for name in fed_by}
    low, high = -FARTHEST, FARTHEST
    best, nearest = 0.0, np.inf
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        gains.update({name: np.float32(value * 2**middle) for name, value in start.items()})
        found = rates()[path]
        distance = abs(np.log(max(found, 1e-9) / rate))
        if distance < nearest:
            best, nearest = middle, distance
        if found < rate:
            low = middle
        else:
            high = middle
    gains.update({name: np.float32(value * 2**best) for name, value in start.items()})


def _scale(layers: dict[str, Layer], gains: Gains | dict[str, Float[Array, ""]]) -> None:
    for path, gain in gains.items():
        kernel = kernel_of(layers[path]).kernel  # type: ignore[union-attr]
        kernel[...] = kernel[...] * jnp.asarray(gain, kernel[...].dtype)
