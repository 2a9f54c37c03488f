"""From a data set's name to arrays on the device: spikes or currents (samples, time, features) and labels."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx import data
from spyx.cli.config import Config
from spyx.cli.errors import UserError, pick
from spyx.data.sets import NAMES

PARTS = ("train", "validation", "test")
STATIC = ("latency", "rate", "phase", "direct")
SERIES = ("delta", "direct")
ENCODERS = ("auto", "latency", "rate", "phase", "direct", "delta", "none")
DELTA_THRESHOLD = 0.1
MAX_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Inputs:
    """A data set, encoded: `x[part]` (samples, time, features) and `y[part]` (samples,)."""

    x: dict[str, jax.Array]
    y: dict[str, jax.Array]
    classes: int
    encoder: str
    note: str


def datasets() -> list[str]:
    """The data sets that a name, and at most a folder, is enough for."""
    needs = {name: {n for n, p in _parameters(name).items() if p.default is p.empty} for name in NAMES}
    return [name for name in NAMES if needs[name] <= {"root"}]


def check_names(config: Config) -> None:
    """Refuse unknown names before any data is read."""
    name = pick("dataset", config.dataset, datasets())
    pick("encoder", config.encoder, ENCODERS)
    parameters = _parameters(name)
    if "root" in parameters and not config.data:
        raise UserError(f"the dataset {name} is read from files: give their folder with --data FOLDER.")
    if "root" not in parameters and config.data:
        raise UserError(f"the dataset {name} comes with the package or is generated: leave --data out.")


def load_inputs(config: Config) -> Inputs:
    """Load and encode all three parts.

    Raises:
        UserError: files are missing, or the encoder does not fit the data.
    """
    name = pick("dataset", config.dataset, datasets())
    options: dict[str, Any] = {"root": config.data} if config.data else {}
    if name == "randman":
        options["num_steps"] = config.steps
    try:
        dataset = data.load(name, **options)
        if isinstance(dataset.train.x, data.Recordings):
            dataset = dataset.map(partial(_rasterised, data.Raster(num_bins=config.steps, binary=True)))
        encoder, encode = _encoder(config, name, np.asarray(dataset.train.x[:1]))
        x, y = {}, {}
        for number, part in enumerate(PARTS):
            split = getattr(dataset, part)
            _check(name, part, split)
            x[part] = encode(jnp.asarray(split.x), jax.random.fold_in(jax.random.key(config.seed), number))
            y[part] = jnp.asarray(split.y, jnp.int32)
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise UserError(str(error)) from error
    return Inputs(x, y, dataset.num_classes, encoder, dataset.split_note)


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(importlib.import_module(f"spyx.data.sets.{name}").load).parameters


def _rasterised(raster: data.Raster, part: str, split: data.Split) -> data.Split:
    size = split.x.sensor_size
    expected = len(split) * int(np.prod([raster.num_bins or 0, *raster.frame_shape(size)]))
    if expected > MAX_BYTES:
        raise UserError(f"the {part} part would take {expected / 2**30:.0f} GiB in memory: use fewer --steps.")
    return data.Split(np.stack([raster(events, size).x for events in split.x]), split.y)


def _encoder(config: Config, name: str, sample: np.ndarray) -> tuple[str, Callable[[Any, jax.Array], jax.Array]]:
    """The name of the encoder and `(values, key) -> (samples, time, features)`, chosen by what the data is."""
    given = pick("encoder", config.encoder, ENCODERS)
    if sample.dtype == np.uint8:
        kind, fits = "spikes", ("none",)
    elif sample.ndim == 2:
        kind, fits = "values without a time axis", STATIC
    else:
        kind, fits = "signals over time", SERIES
    chosen = fits[0] if given == "auto" else given
    if chosen not in fits:
        raise UserError(
            f"the encoder {given} does not fit {name}, which holds {kind}. Choose from: auto, {', '.join(fits)}."
        )
    return chosen, _encode(chosen, config.steps, series=sample.ndim > 2)


def _encode(name: str, steps: int, *, series: bool) -> Callable[[Any, jax.Array], jax.Array]:
    if name == "latency":
        code: Any = data.latency_code(steps, time_axis=1)
    elif name == "rate":
        code = data.rate_code(steps)
    elif name == "phase":
        code = data.phase_code(steps, num_phases=min(8, steps))
    elif name == "delta":
        code = data.delta_code(DELTA_THRESHOLD)
    else:
        code = (lambda x: x) if name == "none" or series else data.direct_code(steps)

    def encode(x: Any, key: jax.Array) -> jax.Array:
        spikes = code(x, key) if name == "rate" else code(x)
        return spikes.reshape(*spikes.shape[:2], -1)

    return encode


def _check(name: str, part: str, split: data.Split) -> None:
    if len(split) == 0:
        raise UserError(f"the {part} part of {name} is empty: check the files behind it.")
    if np.ndim(split.y) != 1:
        raise UserError(
            f"{name} labels every time step; spyx train gives one label to a whole sample. Use spyx.optimize.fit."
        )
