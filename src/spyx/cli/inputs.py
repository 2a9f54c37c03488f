"""From a data set's name to arrays on the device: spikes or currents (samples, time, features) and labels."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx import data, fn
from spyx.cli.config import Config, RasterTable
from spyx.cli.errors import UserError, pick, refuse_nan
from spyx.data.sets import NAMES

PARTS = ("train", "validation", "test")
STATIC = ("latency", "rate", "phase", "direct")
SERIES = ("delta", "direct")
ENCODERS = ("auto", "latency", "rate", "phase", "direct", "delta", "none")
DELTA_THRESHOLD = 0.1
MAX_BYTES = 8 * 2**30
OPTION_OF = {"root=": "--data", "held_out_speaker=": "--hold-out-speaker "}
"""Arguments of the library in messages, and what they are called on the command line."""


@dataclass(frozen=True)
class Inputs:
    """A data set, encoded: `x[part]` (samples, time, features), `y[part]` (samples,).

    `frame` is the shape that the features of one time step had before they were made flat.
    """

    x: dict[str, jax.Array]
    y: dict[str, jax.Array]
    frame: tuple[int, ...]
    classes: int
    encoder: str
    note: str


def in_words_of_options(message: str) -> str:
    """A message of the library with its arguments as the options that a user of the command line has."""
    for argument, option in OPTION_OF.items():
        message = message.replace(argument, option)
    return message


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
    if config.hold_out_speaker and "held_out_speaker" not in parameters:
        raise UserError(f"the dataset {name} names no speakers: leave --hold-out-speaker out.")


def load_inputs(config: Config) -> Inputs:
    """Load and encode all three parts.

    Raises:
        UserError: files are missing, or the encoder does not fit the data.
    """
    name = pick("dataset", config.dataset, datasets())
    options: dict[str, Any] = {"root": config.data} if config.data else {}
    if config.hold_out_speaker:
        options["held_out_speaker"] = config.hold_out_speaker
    if name == "randman":
        options["num_steps"] = config.steps
    try:
        dataset = _framed(config, data.load(name, **options))
        encoder, encode = _encoder(config, name, np.asarray(dataset.train.x[:1]))
        x, y, frame = {}, {}, (1,)
        for number, part in enumerate(PARTS):
            split = getattr(dataset, part)
            _check(name, part, split, dataset.num_classes)
            if split.x.ndim == 2:
                _afford(4 * config.steps * split.x.size)
            code = encode(jnp.asarray(split.x), jax.random.fold_in(jax.random.key(config.seed), number))
            x[part], frame = code.reshape(*code.shape[:2], -1), code.shape[2:]
            y[part] = jnp.asarray(split.y, jnp.int32)
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise UserError(in_words_of_options(str(error))) from error
    return Inputs(x, y, frame, dataset.num_classes, encoder, dataset.split_note)


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(importlib.import_module(f"spyx.data.sets.{name}").load).parameters


def _framed(config: Config, dataset: data.Dataset) -> data.Dataset:
    """Recordings of events as frames in memory, made once and kept in the cache; other data sets as they are."""
    recordings, table = dataset.train.x, config.raster
    if not isinstance(recordings, data.Recordings):
        if table != RasterTable():
            raise UserError(f"[raster] cuts events into frames, and {config.dataset} holds none: leave it out.")
        return dataset
    raster = data.Raster(
        num_bins=None if table.bin_ms else config.steps,
        bin_ms=table.bin_ms or None,
        duration_ms=table.duration_ms or None,
        start=table.start,
        binary=table.binary,
        polarity=table.polarity,
        downsample=table.downsample,
    )
    samples = max(len(getattr(dataset, part)) for part in PARTS)
    frame = raster.frame_shape(recordings.sensor_size)
    _afford(samples * math.prod([raster.num_frames() or 0, *frame]) * (1 if table.binary else 2))
    try:
        cache = Path(config.cache).expanduser()
    except RuntimeError as error:
        raise UserError(f"--cache: expected a folder; got {config.cache!r}: {error}.") from error
    kept = data.rasterise(dataset, raster, cache)
    return kept.map(lambda part, split: data.Split(np.asarray(split.x), split.y))


def _afford(size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(f"a part would take {size / 2**30:.0f} GiB in memory: use fewer --steps, or downsample.")


def _encoder(config: Config, name: str, sample: np.ndarray) -> tuple[str, Callable[[Any, jax.Array], jax.Array]]:
    """The name of the encoder and `(values, key) -> (samples, time, features)`, chosen by what the data is."""
    given = pick("encoder", config.encoder, ENCODERS)
    if np.issubdtype(sample.dtype, np.integer):
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
        code: Any = data.latency_code(steps)
    elif name == "rate":
        code = data.rate_code(steps)
    elif name == "phase":
        code = data.phase_code(steps, num_phases=min(8, steps))
    elif name == "delta":
        code = data.delta_code(DELTA_THRESHOLD)
    else:
        code = (lambda x: x) if name == "none" or series else data.direct_code(steps)

    return lambda x, key: code(x, key) if name == "rate" else code(x)


def _check(name: str, part: str, split: data.Split, classes: int) -> None:
    if len(split) == 0:
        raise UserError(f"the {part} part of {name} is empty: check the files behind it.")
    if np.ndim(split.y) != 1:
        raise UserError(
            f"{name} labels every time step; spyx train gives one label to a whole sample. Use spyx.optimize.fit."
        )
    refuse_nan(f"the {part} part of {name}", split.x)
    try:
        fn.check_labels(split.y, classes)
    except (ValueError, TypeError) as error:
        raise UserError(f"the labels of the {part} part of {name}: {error}") from error
