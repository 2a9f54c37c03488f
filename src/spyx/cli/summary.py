"""What to try next, read off the numbers and the activity of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

from spyx.cli.config import Config
from spyx.report import Activity


def hints(config: Config, history: list[dict[str, float]], activities: list[Activity]) -> list[str]:
    """One sentence per thing that stands out, the weightiest first; at least one."""
    found: list[str] = []
    for layer in activities:
        if layer.spikes and layer.silent > 0.25:
            found.append(
                f"{layer.silent:.0%} of the neurons in layer {layer.name} never fire: a wider surrogate "
                "(--surrogate superspike:5), a larger --beta, or fewer neurons (--hidden)."
            )
        elif layer.spikes and layer.rate > 0.3:
            found.append(
                f"layer {layer.name} fires in {layer.rate:.0%} of all steps, which costs energy on a chip: "
                "a smaller --beta makes it quieter."
            )
    losses = [epoch["eval_loss"] for epoch in history]
    best = min(range(len(losses)), key=losses.__getitem__)
    if losses[-1] > 1.1 * losses[best]:
        found.append(f"the validation loss was lowest after epoch {best + 1}: try --epochs {best + 1}.")
    elif len(history) > 3 and history[-1]["train_loss"] < 0.97 * history[-4]["train_loss"]:
        found.append(f"the training loss still falls: try --epochs {2 * config.epochs}.")
    if history[-1]["eval_acc"] < 0.9:
        wide = ",".join(str(2 * size) for size in config.hidden)
        finer = "a smaller bin_ms" if config.raster.bin_ms else f"--steps {2 * config.steps}"
        found.append(f"more capacity or more time may help: --hidden {wide}, or {finer}.")
    if not found:
        other = "ALIF" if config.neuron != "ALIF" else "RLIF"
        coarser = "a larger bin_ms" if config.raster.bin_ms else f"--steps {max(1, config.steps // 2)}"
        found.append(f"all looks healthy. Compare another neuron (--neuron {other}) or fewer steps ({coarser}).")
    return found


def activity_lines(activities: list[Activity]) -> list[tuple[str, str]]:
    """Name and activity of every spiking layer, in words."""
    return [
        (f"layer {a.name}", f"fires in {a.rate:.1%} of the steps, {a.silent:.0%} of the neurons never do")
        for a in activities
        if a.spikes
    ]


def next_commands(folder: Path) -> list[str]:
    """Commands to go on with this run."""
    config = shlex.quote(str(folder / "config.toml"))
    return [f"spyx eval {shlex.quote(str(folder))}", f"spyx train --config {config}"]
