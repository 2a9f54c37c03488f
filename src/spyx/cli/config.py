"""All settings of a training run: defaults, a file, the command line (which wins), in this order."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from spyx.cli.errors import UserError, suggestion
from spyx.cli.tuned import TUNED
from spyx.cli.values import Limits, check

Settings: TypeAlias = Mapping[str, object]
"""Settings by name as they were written or given, not checked; None means not given."""


@dataclass(frozen=True)
class RasterTable:
    """How recordings of events become frames: the options of `spyx.data.Raster`, with 0 for none."""

    bin_ms: float = 0.0
    duration_ms: float = 0.0
    start: str = "first"
    binary: bool = True
    polarity: str = "separate"
    downsample: int = 1


@dataclass(frozen=True)
class LayersTable:
    """What the network has beside its hidden layers' neurons; 0, false and "none" leave a line out."""

    conv: tuple[int, ...] = ()
    conv_kernel: int = 3
    conv_pool: int = 2
    recurrent: bool = False
    recurrent_delays: int = 0
    norm: str = "none"
    dropout: float = 0.0
    gain: float = 1.0


@dataclass(frozen=True)
class AugmentTable:
    """What is done to each batch of the training part, in this order; 0 leaves a line out."""

    stretch_space: float = 0.0
    stretch_time: float = 0.0
    shift_space: int = 0
    shift_time: int = 0
    jitter_time: int = 0
    drop_spikes: float = 0.0
    mask_time: int = 0
    mask_space: int = 0


@dataclass(frozen=True)
class Config:
    """One training run, complete: with the same version and machine it gives the same numbers again."""

    dataset: str = "digits"
    data: str = ""
    cache: str = "~/.cache/spyx"
    hold_out_speaker: str = ""
    sensor_size: tuple[int, ...] = ()
    validation_speaker: str = ""
    unlabelled: str = "masked"
    encoder: str = "auto"
    steps: int = 16
    hidden: tuple[int, ...] = (256,)
    neuron: str = "LIF"
    dynamics: str = "spyx"
    loss: str = "integral_crossentropy"
    beta: float = 0.9
    surrogate: str = "superspike:10"
    calibrate: float = 0.0
    delays: int = 0
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 0.005
    delay_learning_rate: float = 0.1
    seed: int = 0
    warmup: float = 0.0
    weight_decay: float = 1e-4
    clip: float = 0.0
    accumulate: int = 1
    average: float = 0.0
    precision: str = "float32"
    class_weights: str = "none"
    smoothing: float = 0.1
    readout: str = "sum"
    readout_beta: float = 0.9
    layers: LayersTable = field(default_factory=LayersTable)
    raster: RasterTable = field(default_factory=RasterTable)
    augment: AugmentTable = field(default_factory=AugmentTable)

    def to_toml(self) -> str:
        """The settings as a TOML file that `--config` takes; a table with nothing but defaults is left out."""
        plain = {name: value for name, value in asdict(self).items() if not isinstance(value, dict)}
        plain = {name: value for name, value in plain.items() if not value == getattr(Config, name) == ()}
        lines = ["# Run again with: spyx train --config config.toml", *_lines(plain)]
        for name, default in TABLES.items():
            table = getattr(self, name)
            if table != default:
                lines += ["", f"[{name}]", *_lines(asdict(table))]
        return "\n".join(lines) + "\n"


Table = TypeVar("Table", bound=Config | LayersTable | RasterTable | AugmentTable)

TABLES = {"layers": LayersTable(), "raster": RasterTable(), "augment": AugmentTable()}
LONGEST_FILE = 1 << 16
FILE_ONLY = (
    "validation_speaker",
    "unlabelled",
    "warmup",
    "weight_decay",
    "clip",
    "accumulate",
    "average",
    "precision",
    "class_weights",
    "smoothing",
    "readout",
    "readout_beta",
    *TABLES,
)
"""Settings that the command line has no option for."""

LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, 10_000),
    "beta": (0.0, 1.0),
    "calibrate": (0.0, 0.9),
    "delays": (0, 10_000),
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "learning_rate": (1e-12, 10.0),
    "delay_learning_rate": (0.0, 100.0),
    "seed": (0, 2**31 - 1),
    "warmup": (0.0, 0.99),
    "weight_decay": (0.0, 1.0),
    "clip": (0.0, 1e6),
    "accumulate": (1, 1_000_000),
    "average": (0.0, 0.999999),
    "smoothing": (0.0, 1.0),
    "readout_beta": (0.0, 1.0),
    "layers.conv_kernel": (1, 64),
    "layers.conv_pool": (1, 64),
    "layers.recurrent_delays": (0, 10_000),
    "layers.dropout": (0.0, 0.99),
    "layers.gain": (0.0, 1e3),
    "raster.bin_ms": (0.0, 1e6),
    "raster.duration_ms": (0.0, 1e9),
    "raster.downsample": (1, 4096),
    "augment.stretch_space": (0.0, 10.0),
    "augment.stretch_time": (0.0, 10.0),
    "augment.shift_space": (0, 4096),
    "augment.shift_time": (0, 10_000),
    "augment.jitter_time": (0, 10_000),
    "augment.drop_spikes": (0.0, 1.0),
    "augment.mask_time": (0, 10_000),
    "augment.mask_space": (0, 4096),
}
"""Least and largest value of every number."""

WORDS: dict[str, tuple[str, ...]] = {
    "precision": ("float32", "bfloat16", "float16"),
    "class_weights": ("none", "balanced"),
    "readout": ("sum", "mean"),
    "unlabelled": ("masked", "class 0"),
    "layers.norm": ("none", "batch"),
}
"""The words to choose from; `_limits` adds those of the library."""


def _limits() -> dict[str, Limits]:
    from spyx.data._raster import POLARITIES, STARTS  # this imports JAX, which `spyx --help` does without

    return {**LIMITS, **WORDS, "raster.start": STARTS, "raster.polarity": POLARITIES}


OWN = {"neuron": "a neuron", "dataset": "a data set", "loss": "a loss"}
"""Settings that may name code, `module:name`."""


def make_config(file: Path | None, given: Settings, needs: Iterable[str] = tuple(OWN)) -> Config:
    """Defaults, overridden by those of the data set, by the file, and by what was given on the command line.

    Args:
        file: a TOML or YAML file, or None.
        given: settings by name; None means not given.
        needs: those of `OWN` whose code the caller will load.

    Raises:
        UserError: everything that is wrong with names, types and ranges, in one message.
    """
    written = {} if file is None else read(file)
    values: dict[str, object] = dict(written)
    for name in needs:
        if ":" in str(values.get(name)) and given.get(name) is None:
            raise UserError(
                f"{file} names {values[name]!r}, {OWN[name]} of your own, and settings load no code by themselves. "
                f"Name it yourself with --{name}."
            )
    values |= {name: value for name, value in given.items() if value is not None}
    values = {**TUNED.get(str(values.get("dataset", "")).lower(), {}), **values}
    wrong: list[str] = []
    config = _filled(Config(), values, "", _limits(), wrong)
    if wrong:
        in_file: list[str] = []
        _filled(Config(), written, "", _limits(), in_file)
        raise UserError(" ".join([f"{file}:", *wrong] if in_file else wrong))
    return config


def _filled(defaults: Table, values: Settings, table: str, limits: Mapping[str, Limits], wrong: list[str]) -> Table:
    """`defaults` with the checked `values` in it; what is wrong with them is added to `wrong`."""
    names = [setting.name for setting in fields(defaults)]
    checked: dict[str, object] = {}
    for name, value in _same_dashes(values):
        full = f"{table}{name}"
        if name not in names:
            what = f"The settings of [{table[:-1]}]" if table else "The settings"
            wrong.append(f"unknown setting {full!r}.{suggestion(name, names)} {what} are: {', '.join(names)}.")
            continue
        default = getattr(defaults, name)
        if isinstance(default, (LayersTable, RasterTable, AugmentTable)):
            if isinstance(value, dict):
                checked[name] = _filled(default, value, f"{name}.", limits, wrong)
            else:
                wrong.append(f"{name}: expected a table of settings, [{name}]; got {value!r}.")
            continue
        shown = full if table or name in FILE_ONLY else f"--{name.replace('_', '-')}"
        try:
            checked[name] = check(shown, value, default, limits.get(full))
        except UserError as error:
            wrong.append(str(error))
    return replace(defaults, **checked)


def _same_dashes(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    return ((str(name).replace("-", "_"), value) for name, value in values.items())


def _lines(values: Settings) -> list[str]:
    # TOML's basic strings are JSON's, but for surrogate pairs and the character 127.
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]


def read(file: Path) -> dict[str, object]:
    """The settings in a TOML or YAML file; dashes and underscores in names are the same."""
    if file.suffix not in (".toml", ".yaml", ".yml"):
        raise UserError(f"--config: expected a .toml, .yaml or .yml file; got {file.name}.")
    try:
        if file.stat().st_size > LONGEST_FILE or not file.is_file():
            raise UserError(f"--config: expected a file of at most {LONGEST_FILE} bytes; got {file}.")
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--config: cannot read {file}: {getattr(error, 'strerror', None) or error}.") from error
    try:
        values = tomllib.loads(text) if file.suffix == ".toml" else _yaml(text)
    except RecursionError as error:
        raise UserError(f"--config: {file} is nested too deeply.") from error
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise UserError(f"--config: {file} is not valid {file.suffix[1:].upper()}: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f"--config: expected lines such as 'epochs = 40' in {file}; got a {type(values).__name__}.")
    return dict(_same_dashes(values))


def _yaml(text: str) -> object:
    try:
        import yaml
    except ImportError as missing:
        raise UserError("--config: YAML needs PyYAML. Run pip install 'spyx-jax[cli]', or use TOML.") from missing

    class Loader(yaml.SafeLoader):
        """Plain data only: an alias lets a few hundred bytes stand for gigabytes."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it uses an alias (*name), which is not read; write the value out")
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(error) from error
