"""`spyx eval`: measure the test part of a finished run again."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from spyx.cli import inputs, network
from spyx.cli.runs import load_weights, open_run
from spyx.cli.score import score


def evaluate(folder: Path, console: Console, neuron: str | None = None) -> float:
    """Print and return the test accuracy of the run in `folder`; `neuron` is the user's own class of a run with one.

    Raises:
        UserError: `folder` is no run, or its weights are damaged.
    """
    config = open_run(folder, neuron)
    inputs.check_names(config)
    network.check_names(config)
    samples = inputs.load_inputs(config)
    model = network.make_network(config, samples.x["test"].shape[-1], samples.classes)
    load_weights(folder, model)
    result = score(config, model, *samples.part("test"))
    console.print(f"{config.dataset}, {len(samples.y['test'])} test samples")
    console.print(f"test accuracy  [bold green]{result['acc']:.2%}[/]\ntest loss      {result['loss']:.4f}")
    return result["acc"]
