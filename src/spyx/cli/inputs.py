"""From a data set's name to arrays on the device: spikes or currents (samples, time, features) and labels."""

from __future__ import annotations

import importlib
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx import data, fn
from spyx.cli.config import Config, RasterTable
from spyx.cli.errors import UserError, pick, refuse_nan
from spyx.cli.own import function, is_own
from spyx.data._lengths import has_time, lengths_of, padded
from spyx.data.sets import NAMES
from spyx.zoo._encoder import DELTA_THRESHOLD, SERIES, STATIC, ValueEncoder

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Integer, Num
    from numpy.typing import ArrayLike

    from spyx.data._raster import RasterOptions

PARTS = ("train", "validation", "test")
ENCODERS = ("auto", "latency", "rate", "phase", "direct", "delta", "none")
UNLABELLED = -1
"""The label of a step that has none."""
MAX_BYTES = 8 * 2**30
OWN_EXAMPLE = "mine:load"
OPTION_OF = {
    "Store: expected a folder": "--data: expected a folder",
    "root=": "--data",
    "held_out_speaker=": "--hold-out-speaker ",
    "validation_speaker=": "the setting validation_speaker ",
}
"""Arguments of the library in messages, and what they are called on the command line."""


@dataclass(frozen=True)
class Inputs:
    """A data set, encoded: `x[part]` (samples, time, features), `y[part]` (samples,) or, per step, (samples, time).

    `frame` is the shape that the features of one time step had before they were made flat; `lengths[part]` (samples,)
    is how many steps are a sample's own, where samples differ; `seconds` are those of loading, framing and encoding.
    """

    x: dict[str, Num[Array, "samples time features"]]
    y: dict[str, Integer[Array, "samples *time"]]
    frame: tuple[int, ...]
    classes: int
    encoder: str
    note: str
    lengths: dict[str, Integer[np.ndarray, " samples"]]
    seconds: dict[str, float]

    @property
    def per_step(self) -> bool:
        """Has every step a label?"""
        return self.y["train"].ndim == 2

    def part(
        self, name: str
    ) -> tuple[
        Num[Array, "samples time features"], Integer[Array, "samples *time"], Integer[np.ndarray, " samples"] | None
    ]:
        """Samples, labels and lengths of one part."""
        return self.x[name], self.y[name], self.lengths.get(name)

    def about_labels(self, part: str) -> str:
        """How steps without a label are counted, in words."""
        steps = labels_that_count(self.y[part], self.lengths.get(part))
        return f"one per step; {steps.size - steps.sum()} of {steps.size} {part} steps have none and are left out"


def labels_that_count(
    y: Integer[ArrayLike, "samples *time"], lengths: Integer[ArrayLike, " samples"] | None = None
) -> Bool[np.ndarray, "samples *time"]:
    """Not those of steps without a label, nor those after a sample's end; of shape `y`."""
    y = np.asarray(y)
    if y.ndim == 1:
        return np.ones(y.shape, bool)
    return (y != UNLABELLED) & (True if lengths is None else np.arange(y.shape[1]) < np.asarray(lengths)[:, None])


def in_words_of_options(message: str) -> str:
    """A message of the library with its arguments as the options that a user of the command line has."""
    for argument, option in OPTION_OF.items():
        message = message.replace(argument, option)
    return message


def datasets() -> list[str]:
    """The data sets that a name, and at most a folder, is enough for."""
    needs = {name: {n for n, p in _parameters(name).items() if p.default is p.empty} for name in NAMES}
    return [name for name in NAMES if needs[name] <= {"root", "sensor_size"}]


def check_names(config: Config) -> None:
    """Refuse unknown names before any data is read."""
    name = full_name(config.dataset)
    encoder_of(config.encoder)
    parameters = _parameters(name)
    if config.sensor_size and "sensor_size" not in parameters:
        raise UserError(f"the dataset {name} takes no sensor_size: leave it out.")
    if name == "folder" and not config.sensor_size:
        raise UserError("the dataset folder does not know the size of your sensor: give --sensor-size, such as 34,34.")
    if is_own(name):
        return
    if "root" in parameters and not config.data:
        raise UserError(f"the dataset {name} is read from files: give their folder with --data FOLDER.")
    if "root" not in parameters and config.data:
        raise UserError(f"the dataset {name} comes with the package or is generated: leave --data out.")
    if config.hold_out_speaker and "held_out_speaker" not in parameters:
        raise UserError(f"the dataset {name} names no speakers: leave --hold-out-speaker out.")
    if config.validation_speaker and not config.hold_out_speaker:
        raise UserError("validation_speaker: expected --hold-out-speaker NAME with it, another speaker; got none.")
    if config.unlabelled != "masked" and "unlabelled" not in parameters:
        raise UserError(f"unlabelled: every sample of {name} has a label; leave the setting out.")


def encoder_of(text: str) -> tuple[str, float]:
    """Name and threshold of an encoder as it is written: `delta`, or `delta:0.03` with a threshold of its own."""
    name, _, option = text.partition(":")
    name = pick("encoder", name, ENCODERS)
    if not option:
        return name, DELTA_THRESHOLD
    try:
        threshold = float(option)
    except ValueError:
        threshold = 0.0
    if name != "delta" or not 0 < threshold < math.inf:
        raise UserError(
            f"--encoder: expected a name, or delta and its threshold above 0, such as delta:0.03; got {text!r}."
        )
    return name, threshold


def load_inputs(config: Config) -> Inputs:
    """Load and encode all three parts.

    Raises:
        UserError: files are missing, or the encoder does not fit the data.
    """
    name = full_name(config.dataset)
    options: dict[str, object] = {"root": config.data} if config.data else {}
    if config.sensor_size:
        options["sensor_size"] = config.sensor_size
    if config.hold_out_speaker:
        options["held_out_speaker"] = config.hold_out_speaker
    if config.validation_speaker:
        options["validation_speaker"] = config.validation_speaker
    if name == "randman":
        options["num_steps"] = config.steps
    if "unlabelled" in _parameters(name):
        options["unlabelled"] = UNLABELLED if config.unlabelled == "masked" else 0
    try:
        began = time.perf_counter()
        dataset = _loaded(name, options)
        loaded = time.perf_counter()
        dataset, lengths = _padded(_framed(config, dataset))
        framed = time.perf_counter()
        per_step = np.ndim(dataset.train.y) == 2
        encoder, encode = _encoder(config, name, np.asarray(dataset.train.x[:1]), per_step=per_step)
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
    seconds = {"loading": loaded - began, "framing": framed - loaded, "encoding": time.perf_counter() - framed}
    return Inputs(x, y, frame, dataset.num_classes, encoder, dataset.split_note, lengths, seconds)


def full_name(dataset: str) -> str:
    """The name as it is written, or `module:function` as it is."""
    return dataset if is_own(dataset) else pick("dataset", dataset, datasets())


def _loaded(name: str, options: Mapping[str, object]) -> data.Dataset:
    if not is_own(name):
        return data.load(name, **options)
    load = function("--dataset", name, OWN_EXAMPLE)
    given = {option: value for option, value in options.items() if option in _parameters(name)}
    if unused := set(options) - set(given) - {"unlabelled", "num_steps"}:
        named = ", ".join(sorted(unused))
        raise UserError(f"--dataset: expected {name} to take {named}, because it is given; got a function without.")
    try:
        found = load(**given)
    except Exception as error:  # code of the user's own may fail in any way
        raise UserError(f"--dataset: {name} fails: {type(error).__name__}: {error}") from error
    return arranged(name, found)


def arranged(name: str, found: object) -> data.Dataset:
    """What a function of the user's own returned, as a `Dataset`.

    Raises:
        UserError: it is neither a `Dataset` nor a dictionary of three parts (x, y).
    """
    if isinstance(found, data.Dataset):
        return found
    if not isinstance(found, Mapping) or set(found) != set(PARTS):
        got = f"a dictionary with {', '.join(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
        raise UserError(
            f"--dataset: expected {name} to return a spyx.data.Dataset, or a dictionary with train, validation and "
            f"test, each (x, y); got {got}."
        )
    splits = {}
    for part, arrays in found.items():
        if not isinstance(arrays, (tuple, list)) or len(arrays) != 2 or not len(arrays[1]):
            raise UserError(f"--dataset: expected {name} to return (x, y) with samples for {part}; got no such pair.")
        splits[part] = data.Split(arrays[0], np.asarray(arrays[1]))
    classes = 1 + max(int(np.max(split.y)) for split in splits.values())
    return data.Dataset(
        name, **splits, num_classes=classes, citation="your own", licence="yours", split_note=f"as {name} returns it"
    )


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    if is_own(name):
        return inspect.signature(function("--dataset", name, OWN_EXAMPLE)).parameters
    return inspect.signature(importlib.import_module(f"spyx.data.sets.{name}").load).parameters


def _framed(config: Config, dataset: data.Dataset) -> data.Dataset:
    """Recordings of events as frames in memory, made once and kept in the cache; other data sets as they are."""
    recordings, table = dataset.train.x, config.raster
    if not isinstance(recordings, data.Recordings):
        if table != RasterTable():
            raise UserError(f"[raster] cuts events into frames, and {config.dataset} holds none: leave it out.")
        return dataset
    raster = data.Raster(**raster_options(config))
    samples = max(len(getattr(dataset, part)) for part in PARTS)
    frame = raster.frame_shape(recordings.sensor_size)
    _afford(samples * math.prod([raster.num_frames() or 0, *frame]) * (1 if table.binary else 2))
    try:
        cache = Path(config.cache).expanduser()
    except RuntimeError as error:
        raise UserError(f"--cache: expected a folder; got {config.cache!r}: {error}.") from error
    kept = data.rasterise(dataset, raster, cache)
    return kept.map(lambda part, split: data.Split(np.asarray(split.x), split.y))


def raster_options(config: Config) -> RasterOptions:
    """The arguments of `spyx.data.Raster` that the settings stand for."""
    table = config.raster
    return {
        "num_bins": None if table.bin_ms else config.steps,
        "bin_ms": table.bin_ms or None,
        "duration_ms": table.duration_ms or None,
        "start": table.start,
        "binary": table.binary,
        "polarity": table.polarity,
        "downsample": table.downsample,
    }


def _padded(dataset: data.Dataset) -> tuple[data.Dataset, dict[str, Integer[np.ndarray, " samples"]]]:
    """Samples of unequal length as one array of each part, and their lengths; other data sets as they are."""
    lengths: dict[str, Integer[np.ndarray, " samples"]] = {}

    def pad(part: str, split: data.Split) -> data.Split:
        found = lengths_of(split)
        if found is None or not len(split):
            return split
        lengths[part] = found
        rows, steps = np.arange(len(split)), int(found.max())
        labels = padded(split.y, rows, found, steps) if has_time(split.y, split.x) else split.y
        return data.Split(padded(split.x, rows, found, steps), labels)

    return dataset.map(pad), lengths


def _afford(size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(f"a part would take {size / 2**30:.0f} GiB in memory: use fewer --steps, or downsample.")


def _encoder(
    config: Config, name: str, sample: Num[np.ndarray, "samples ..."], *, per_step: bool
) -> tuple[str, Callable[[Num[Array, "samples ..."], jax.Array], Num[Array, "samples time *features"]]]:
    """The name of the encoder and `(values, key) -> (samples, time, features)`, chosen by what the data is."""
    given, threshold = encoder_of(config.encoder)
    if np.issubdtype(sample.dtype, np.integer):
        kind, fits = "spikes", ("none",)
    elif per_step:  # the signals are read as they are, at the steps that the labels belong to
        kind, fits = "signals with a label at every step", tuple(reversed(SERIES))
    elif sample.ndim == 2:
        kind, fits = "values without a time axis", STATIC
    else:
        kind, fits = "signals over time", SERIES
    chosen = fits[0] if given == "auto" else given
    if chosen not in fits:
        raise UserError(
            f"the encoder {given} does not fit {name}, which holds {kind}. Choose from: auto, {', '.join(fits)}."
        )
    written = chosen if threshold == DELTA_THRESHOLD else f"{chosen}:{threshold:g}"
    return written, ValueEncoder(chosen, config.steps, series=sample.ndim > 2, threshold=threshold).code


def _check(name: str, part: str, split: data.Split, classes: int) -> None:
    if len(split) == 0:
        raise UserError(f"the {part} part of {name} is empty: check the files behind it.")
    refuse_nan(f"the {part} part of {name}", split.x)
    try:
        fn.check_labels(split.y[split.y != UNLABELLED] if np.ndim(split.y) == 2 else split.y, classes)
    except (ValueError, TypeError) as error:
        raise UserError(f"the labels of the {part} part of {name}: {error}") from error
