"""From names to a network: connection and neuron for every layer, Linear and a leaky integrator as the readout."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeGuard, TypeVar, cast

import jax
import numpy as np
from flax import nnx

from spyx import axn, nn
from spyx.cli.config import Config
from spyx.cli.errors import UserError, pick
from spyx.cli.own import imported
from spyx.nn._dynamics import PRESETS

if TYPE_CHECKING:
    from jaxtyping import Array, Integer

    from spyx.nn._layer import Model

C = TypeVar("C", bound=nnx.Linear | nnx.Conv)

MAX_BYTES = 4 * 2**30
"""Weights alone; an optimiser takes three times as much on top."""
MOMENTUM = 0.95
"""Of the running statistics of BatchNorm: short runs have few updates."""


def neurons() -> dict[str, type[nn.Neuron]]:
    """Every neuron of `spyx.nn`, by name."""
    classes = {name: getattr(nn, name) for name in nn.__all__}
    return {
        name: value
        for name, value in classes.items()
        if isinstance(value, type)
        and issubclass(value, nn.Neuron)
        and "hidden_shape" in _arguments(value)
        and value is not nn.Neuron
    }


def full_name(neuron: str) -> str:
    """The name as it is written, or `module:Class` as it is."""
    return neuron if ":" in neuron else pick("neuron", neuron, neurons())


def neuron_class(neuron: str) -> type[nn.Layer]:
    """The class of a name, or of `module:Class`, which is imported as from the current directory."""
    if ":" not in neuron:
        return neurons()[full_name(neuron)]

    def fits(value: object) -> TypeGuard[type[nn.Layer]]:
        return isinstance(value, type) and issubclass(value, nn.Layer)

    what = "class of neurons|subclass of spyx.nn.Neuron"
    return imported("--neuron", neuron, "MODULE:CLASS, such as mine:MyNeuron", fits, what)


def surrogates() -> dict[str, Callable[..., axn.Surrogate]]:
    """Every surrogate of `spyx.axn` that can be made from numbers alone, by name."""
    made = {name: getattr(axn, name) for name in axn.__all__ if name != "custom"}
    return {name: make for name, make in made.items() if getattr(make, "__wrapped__", None) is not None}


def make_surrogate(text: str) -> axn.Surrogate:
    """`superspike` or `superspike:10`, the number being the first option of the surrogate."""
    name, _, option = text.partition(":")
    factory = surrogates()[pick("surrogate", name, surrogates())]
    try:
        return factory(*([float(option)] if option else []))
    except (TypeError, ValueError) as error:
        raise UserError(f"--surrogate: {text!r} does not work: {error}") from error


def check_names(config: Config) -> None:
    """Refuse unknown names before any data is read."""
    neuron_class(config.neuron)
    make_surrogate(config.surrogate)
    pick("dynamics", config.dynamics, PRESETS)
    try:
        neuron = _neuron(config, 1, nnx.Rngs(0))
    except ValueError as error:
        raise UserError(f"--dynamics: {config.dynamics!r} does not suit {config.neuron}: {error}") from error
    if learns_recurrence(config):
        _recurrent(config, neuron, 1, nnx.Rngs(0))


def make_network(config: Config, features: int, classes: int, frame: tuple[int, ...] | None = None) -> nn.Sequential:
    """The network of a run, its weights drawn from the seed.

    Args:
        config: the settings.
        features: of one time step of a sample, flat.
        classes: that it tells apart.
        frame: the shape that the features had; convolutions need it.

    Raises:
        UserError: weights that do not fit in memory, or frames too small for the convolutions.
    """
    rngs = nnx.Rngs(config.seed)
    layers: list[Model] = []
    width = features
    if config.layers.conv:
        layers, width = _convolutions(config, frame or (features,), rngs)
    size = 4 * sum(a * b for a, b in itertools.pairwise((width, *config.hidden, classes)))
    if size > MAX_BYTES:
        raise UserError(f"--hidden: the weights would take {size / 2**30:.0f} GiB in memory: use smaller layers.")
    for size in config.hidden:
        layers += [_connection(config, width, size, rngs), *_after(config, size, rngs), *_dropout(config, rngs)]
        width = size
    layers += [nnx.Linear(width, classes, rngs=rngs), nn.LI(classes, beta=np.float32(config.readout_beta))]
    return nn.Sequential(*layers)


def _convolutions(config: Config, frame: tuple[int, ...], rngs: nnx.Rngs) -> tuple[list[Model], int]:
    """Spiking convolutions, each followed by a pool, and the number of features that they end with.

    A frame is (rows, columns, polarity), (rows, columns) or (units,); the last two get one channel.
    """
    kernel, pool = config.layers.conv_kernel, config.layers.conv_pool
    *sides, channels = frame if len(frame) == 3 else (*frame, 1)
    layers: list[Model] = [nn.Unflatten((*sides, channels))]
    for size in config.layers.conv:
        conv = nn.Conv(channels, size, (kernel,) * len(sides), rngs=rngs)
        layers += [_gained(config, conv), *_after(config, (*sides, size), rngs), nn.SumPool(pool, pool, "VALID")]
        sides, channels = [side // pool for side in sides], size
        if not all(sides):
            raise UserError(
                f"layers.conv: {len(config.layers.conv)} layers, each with a pool of {pool}, leave nothing of frames "
                f"of shape {tuple(frame)}. Use fewer, or a smaller conv_pool."
            )
    return [*layers, nn.Flatten(), *_dropout(config, rngs)], math.prod(sides) * channels


def _connection(config: Config, width: int, size: int, rngs: nnx.Rngs) -> nnx.Linear | nn.Delayed:
    linear = _gained(config, nnx.Linear(width, size, rngs=rngs))
    return nn.Delayed(linear, config.delays, rngs=rngs) if config.delays else linear


def _gained(config: Config, connection: C) -> C:
    if config.layers.gain != 1:
        connection.kernel[...] = connection.kernel[...] * np.float32(config.layers.gain)
    return connection


def _after(config: Config, shape: int | tuple[int, ...], rngs: nnx.Rngs) -> list[Model]:
    """What follows a connection: normalisation, if any, and the neurons."""
    channels = shape if isinstance(shape, int) else shape[-1]
    norm = [nnx.BatchNorm(channels, momentum=MOMENTUM, rngs=rngs)] if config.layers.norm == "batch" else []
    neuron = _neuron(config, shape, rngs)
    if isinstance(shape, int) and learns_recurrence(config):  # over a map of features no weights would be shared
        neuron = _recurrent(config, neuron, shape, rngs)
    return [*norm, neuron]


def learns_recurrence(config: Config) -> bool:
    """Hidden layers are fed back into themselves."""
    return config.layers.recurrent or config.layers.recurrent_delays > 0


def _recurrent(config: Config, neuron: nn.Layer, size: int, rngs: nnx.Rngs) -> nn.Layer:
    orthogonal = jax.nn.initializers.orthogonal()
    fed_back = cast("Callable[..., nn.Layer]", nn.Recurrent)  # it refuses a layer that is no neuron
    try:
        if not config.layers.recurrent_delays:
            return fed_back(neuron, recurrent_init=orthogonal, rngs=rngs)
        linear = nnx.Linear(size, size, use_bias=False, kernel_init=orthogonal, rngs=rngs)
        return fed_back(neuron, via=nn.Delayed(linear, config.layers.recurrent_delays, rngs=rngs))
    except (TypeError, ValueError) as error:
        raise UserError(f"layers.recurrent: {config.neuron} cannot be fed back: {error}") from error


def _dropout(config: Config, rngs: nnx.Rngs) -> list[Model]:
    return [nnx.Dropout(config.layers.dropout, rngs=rngs)] if config.layers.dropout else []


def learns_delays(config: Config) -> bool:
    """The network has delays that are trained."""
    return bool(config.delays or config.layers.recurrent_delays)


def set_widths(config: Config, epoch: int | Integer[Array, ""], model: nnx.Module) -> None:
    """Kernels of delays shrink to a single step over the first half of the epochs."""
    longest = max(config.delays, config.layers.recurrent_delays)
    nn.set_width(model, nn.shrinking(epoch, longest / 2, 0.01, epochs=config.epochs / 2))


def _neuron(config: Config, size: int | tuple[int, ...], rngs: nnx.Rngs) -> nn.Layer:
    kind = neuron_class(config.neuron)
    make = cast("Callable[..., nn.Layer]", kind)  # which arguments it takes is asked below
    accepted = _arguments(kind)
    offered: dict[str, object] = {"activation": make_surrogate(config.surrogate), "rngs": rngs}
    if "tau_ms" in accepted:  # what --beta sets is the decay of the membrane, not all that a paper calls beta
        offered["beta"] = np.float32(config.beta)
    dynamics = pick("dynamics", config.dynamics, PRESETS)
    if dynamics != "spyx":
        if "dynamics" not in accepted:
            able = ", ".join(name for name, other in neurons().items() if "dynamics" in _arguments(other))
            raise UserError(f"--dynamics: {kind.__name__} has dynamics of its own. Those that take others: {able}.")
        offered["dynamics"] = dynamics
    offered = {name: value for name, value in offered.items() if name in accepted}
    if ":" not in config.neuron:
        return make(size, **offered)
    try:
        return make(size, **offered)
    except Exception as error:  # code of the user's own may fail in any way
        call = ", ".join([str(size), *(f"{name}=..." for name in offered)])
        raise UserError(f"--neuron: {config.neuron}({call}) fails: {type(error).__name__}: {error}") from error


def _arguments(kind: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__init__).parameters
