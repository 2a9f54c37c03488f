"""What to try next, in options of the command line: what the doctor finds, and what the history of the run says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from spyx.cli.config import Config
from spyx.cli.inputs import encoder_of
from spyx.cli.runs import SETTINGS
from spyx.report import Finding, LayerRecord

NO_NEURONS = "no hidden neurons"


def hints(config: Config, history: list[dict[str, float]], found: Sequence[Finding]) -> list[str]:
    """The doctor's findings, the weightiest first, then what the losses say; at least one."""
    lines = [advice(config, finding) for finding in found]
    losses = [epoch["eval_loss"] for epoch in history]
    best = min(range(len(losses)), key=losses.__getitem__)
    if losses[-1] > 1.1 * losses[best]:
        lines.append(f"the validation loss was lowest after epoch {best + 1}: try --epochs {best + 1}.")
    elif len(history) > 3 and history[-1]["train_loss"] < 0.97 * history[-4]["train_loss"]:
        lines.append(f"the training loss still falls: try --epochs {2 * config.epochs}.")
    if not found:
        lines.append("the doctor finds nothing: input, labels, activity and gradients look healthy.")
    return lines


def advice(config: Config, finding: Finding) -> str:
    """A finding and what to try, as an option where there is one."""
    given = options_for(config, finding)
    change = f"spyx train {' '.join(given)}, or {finding.change}" if given else finding.change
    return f"{finding.what} at {finding.where}: {finding.number}. Try: {change}"


def options_for(config: Config, finding: Finding) -> list[str]:
    """Options of `spyx train` that follow a finding; none where no option does."""
    what = finding.what
    if what in ("samples that look alike", "empty input", "empty samples"):
        name, threshold = encoder_of(config.encoder)
        if name == "delta":
            return ["--encoder", f"delta:{0.3 * threshold:.2g}"]
        return ["--steps", str(2 * config.steps)] if name in ("latency", "rate", "phase") else []
    if what in ("silent layer", "silent units", "saturated layer", "input never positive"):
        return [] if config.calibrate else ["--calibrate", "0.1"]
    if what == "surrogate without slope":
        return ["--surrogate", "superspike:5"]
    if what in ("vanishing gradient", "time constants too short") and config.beta < 0.98:
        return ["--beta", "0.98"]
    return []


def activity_lines(recording: Mapping[str, LayerRecord]) -> list[tuple[str, str]]:
    """Name and activity of every spiking layer, in words."""
    return [
        (f"layer {a.name}", f"fires in {a.rate:.1%} of the steps, {a.silent:.0%} of the neurons never do")
        for a in recording.values()
        if a.spiking
    ]


def hidden_words(config: Config, between: str) -> str:
    """`256-128 LIF neurons`."""
    sizes = between.join(map(str, config.hidden))
    return f"{sizes} {config.neuron} neurons" if sizes else NO_NEURONS


def next_commands(folder: Path) -> list[str]:
    """Commands to go on with this run."""
    config = shlex.quote(str(folder / SETTINGS))
    return [f"spyx eval {shlex.quote(str(folder))}", f"spyx train --config {config}"]
