"""All settings of a training run: defaults, a file, the command line (which wins), in this order."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from spyx.cli.errors import UserError, suggestion


@dataclass(frozen=True)
class Config:
    """One training run, complete: with the same version and machine it gives the same numbers again."""

    dataset: str = "digits"
    data: str = ""
    encoder: str = "auto"
    steps: int = 16
    hidden: tuple[int, ...] = (256,)
    neuron: str = "LIF"
    beta: float = 0.9
    surrogate: str = "superspike:10"
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 0.005
    seed: int = 0

    def to_toml(self) -> str:
        """The settings as a TOML file that `--config` takes."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in asdict(self).items()]
        return "# Run again with: spyx train --config config.toml\n" + "\n".join(lines) + "\n"


LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, 10_000),
    "beta": (0.0, 1.0),
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "learning_rate": (1e-12, 10.0),
    "seed": (0, 2**31 - 1),
}
"""Least and largest value of every number."""

NAMES = tuple(field.name for field in fields(Config))


def make_config(file: Path | None, given: dict[str, Any]) -> Config:
    """Defaults, overridden by the file, overridden by what was given on the command line.

    Args:
        file: a TOML or YAML file, or None.
        given: settings by name; None means not given.

    Raises:
        UserError: everything that is wrong with names, types and ranges, in one message.
    """
    values = {} if file is None else read(file)
    values |= {name: value for name, value in given.items() if value is not None}
    wrong: list[str] = []
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in NAMES:
            wrong.append(f"unknown setting {name!r}.{suggestion(name, NAMES)} The settings are: {', '.join(NAMES)}.")
            continue
        try:
            checked[name] = _value(name, value)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError(" ".join(wrong))
    return Config(**checked)


def read(file: Path) -> dict[str, Any]:
    """The settings in a TOML or YAML file; dashes and underscores in names are the same."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config: cannot read {file}: {getattr(error, 'strerror', None) or error}.") from error
    if file.suffix not in (".toml", ".yaml", ".yml"):
        raise UserError(f"--config: expected a .toml, .yaml or .yml file; got {file.name}.")
    try:
        values = tomllib.loads(text) if file.suffix == ".toml" else _yaml(text)
    except ValueError as error:
        raise UserError(f"--config: {file} is not valid {file.suffix[1:].upper()}: {error}.") from error
    if not isinstance(values, dict):
        raise UserError(f"--config: expected lines such as 'epochs = 40' in {file}; got a {type(values).__name__}.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as missing:
        raise UserError("--config: YAML needs PyYAML. Run pip install 'spyx-jax[cli]', or use TOML.") from missing
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(error) from error


def _value(name: str, value: Any) -> Any:
    """`value` as the type of the setting and inside its limits."""
    option = f"--{name.replace('_', '-')}"
    if name == "hidden":
        return _sizes(option, value)
    kind = type(getattr(Config, name))
    if kind is str:
        if not isinstance(value, str):
            raise UserError(f"{option}: expected a name; got {value!r}.")
        return value
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and value != int(value)):
        raise UserError(f"{option}: expected {wanted}; got {value!r}.")
    low, high = LIMITS[name]
    if not low <= value <= high:
        raise UserError(f"{option}: expected {wanted} from {low:g} to {high:g}; got {value}.")
    return kind(value)


def _sizes(option: str, value: Any) -> tuple[int, ...]:
    """`256`, `"256,128"` and `[256, 128]` as a tuple of sizes."""
    parts = value.replace("x", ",").split(",") if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int) else parts
    try:
        sizes = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        sizes = ()
    if not sizes or not all(1 <= size <= 65_536 for size in sizes):
        raise UserError(
            f"{option}: expected one size from 1 to 65536 per hidden layer, such as 256,128; got {value!r}."
        )
    return sizes
