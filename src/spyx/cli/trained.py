"""A finished run opened again: its settings, its data and its network with the trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spyx.cli import inputs, make_network
from spyx.cli.config import Config
from spyx.cli.runs import WEIGHTS, load_weights, naming_settings, open_run

if TYPE_CHECKING:
    from spyx import nn


def open_trained(
    folder: Path, neuron: str | None, weights: str = WEIGHTS, dataset: str | None = None
) -> tuple[Config, inputs.Inputs, nn.Sequential]:
    """Settings, data and network of the run in `folder`.

    Args:
        folder: of the run.
        neuron: the user's own class, `module:Class`, of a run with one.
        weights: the file in the folder that holds the weights.
        dataset: the user's own function, `module:function`, of a run with one.

    Raises:
        UserError: `folder` is no run, or its weights are damaged; data that cannot be read.
    """
    config = open_run(folder, neuron, dataset=dataset)
    with naming_settings(folder):
        inputs.check_names(config)
        make_network.check_names(config)
    samples = inputs.load_inputs(config)
    model = make_network.make_network(config, samples.x["test"].shape[-1], samples.classes, samples.frame)
    load_weights(folder, model, weights)
    return config, samples, model
