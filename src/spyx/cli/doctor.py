"""`spyx doctor`: what keeps the network of a run from learning, and with `--fix` the numbers after a change."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console

from spyx import nn, report
from spyx.cli import inputs
from spyx.cli.config import Config
from spyx.cli.errors import UserError
from spyx.cli.make_network import make_network
from spyx.cli.runs import SETTINGS, read_history
from spyx.cli.score import make_loss
from spyx.cli.summary import advice, options_for
from spyx.cli.text import plain
from spyx.cli.trained import open_trained
from spyx.report._data_checks import how_alike, of_parts
from spyx.report._doctor import examine
from spyx.report._layer_checks import condition

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Shaped

    from spyx.data._json import Object
    from spyx.report._probe import Probe
    from spyx.report.types import History

SAMPLES = 256
"""Of the training part, which is enough to see a layer that never fires."""


def doctor(folder: Path, as_json: bool, console: Console, neuron: str | None = None, *, fix: bool = False) -> int:
    """Print what was found in the run in `folder`; returns how many findings there are.

    `neuron` is the user's own class of a run with one. With `fix`, changes are applied to a copy and measured.

    Raises:
        UserError: `folder` is no run, or its weights are damaged.
    """
    config, data, model = open_trained(folder, neuron)
    found, _ = diagnose(config, data, model, read_history(folder))
    changes, given = _fixed(config, data, model, found) if fix else ([], [])
    if as_json:
        findings = [asdict(finding) for finding in found]
        listed: list[Object] | Object = findings
        if fix:
            listed = {"findings": findings, "changes": changes, "options": given}
        typer.echo(json.dumps(listed, indent=2))
        return len(found)
    lines = [f"{number}. {advice(config, finding)}" for number, finding in enumerate(found, 1)] or [str(found)]
    for change in changes:
        lines += [f"fix: {change['change']}", f"  before: {change['before']}", f"  after:  {change['after']}"]
    if fix and found and not changes:
        lines.append("fix: none of these can be changed without you.")
    if given:
        again = f"spyx train --config {shlex.quote(str(folder / SETTINGS))} {' '.join(given)}"
        lines.append(f"Train with this: {again}")
    console.print("\n".join(map(plain, lines)), markup=False, highlight=False, soft_wrap=True)
    return len(found)


def diagnose(
    config: Config, data: inputs.Inputs, model: nnx.Module, history: History
) -> tuple[report.Diagnosis, Probe | None]:
    """What the doctor says of a network on the training part of its data and of the parts beside one another.

    Returns the findings and what was measured, None where the data alone say enough.
    """
    batch = examined_samples(data)
    ends = batch[2] if len(batch) > 2 else None
    found, seen = examine(model, batch, objective=make_loss(config), lengths=ends, history=history)
    if not any(finding.what == "samples that look alike" for finding in found):
        held_out = {part: data.x[part] for part in ("validation", "test")}
        found = [*found, *of_parts(np.asarray(data.x["train"]), held_out)]
    return report.Diagnosis(sorted(found, key=lambda finding: -finding.weight)), seen


def examined_samples(data: inputs.Inputs) -> tuple[Shaped[np.ndarray, "samples ..."], ...]:
    """Samples from all of the training part, their labels, and their lengths where they differ."""
    x, y, lengths = data.part("train")
    # From all of the part: some data sets are in the order of their classes.
    rows = np.linspace(0, len(y) - 1, min(SAMPLES, len(y))).astype(int)
    ends = () if lengths is None else (np.asarray(lengths)[rows],)
    return np.asarray(np.asarray(x)[rows], np.float32), np.asarray(y)[rows], *ends


def fresh_network(config: Config, data: inputs.Inputs) -> nn.Sequential:
    """The network before the first step, its weights scaled where the settings ask for it.

    Raises:
        UserError: no gain brings a layer to the rate that was asked for.
    """
    model = make_network(config, data.x["train"].shape[-1], data.classes, data.frame)
    if config.calibrate:
        x, _, *ends = examined_samples(data)
        try:
            nn.calibrate(model, jnp.asarray(x), rate=config.calibrate, lengths=ends[0] if ends else None)
        except ValueError as error:
            raise UserError(f"--calibrate: {error}") from error
    return model


def _fixed(
    config: Config, data: inputs.Inputs, model: nn.Sequential, found: report.Diagnosis
) -> tuple[list[dict[str, str]], list[str]]:
    """Changes, each with the number before and after it, and the options of `spyx train` that make them."""
    changes: list[dict[str, str]] = []
    given: dict[str, str] = {}
    for finding in found:
        options = options_for(config, finding)
        more = {name: value for name, value in zip(options[::2], options[1::2], strict=True) if name not in given}
        if not more:
            continue
        try:
            number = _measured_again(config, data, {**given, **more}, finding)
        except UserError as error:
            changes.append({"change": _words(more), "before": finding.number, "after": f"not possible: {error}"})
            continue
        given |= more
        changes.append({"change": _words(more), "before": finding.number, "after": number})
    if not changes:
        done = report.treat(model, examined_samples(data)[:2])
        changes = [{"change": c.change, "before": c.finding.number, "after": c.number} for c in done.changes]
    return changes, [part for pair in given.items() for part in pair]


def _measured_again(config: Config, data: inputs.Inputs, given: dict[str, str], finding: report.Finding) -> str:
    """The number of a finding, with other settings, in a network before its first step."""
    names = {option: option[2:].replace("-", "_") for option in given}
    values = {names[option]: value for option, value in given.items()}
    kinds = {"steps": int, "calibrate": float, "beta": float}
    changed = replace(config, **{name: kinds.get(name, str)(value) for name, value in values.items()})
    if changed.encoder != config.encoder or changed.steps != config.steps:
        data = inputs.load_inputs(changed)
    if finding.where == "input":
        x, y, *_ = examined_samples(data)
        return how_alike(x, y)
    _, seen = diagnose(changed, data, fresh_network(changed, data), [])
    return "the input has other faults" if seen is None else condition(seen, finding.where)


def _words(options: dict[str, str]) -> str:
    return " ".join(part for pair in options.items() for part in pair)
