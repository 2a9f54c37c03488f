"""snnTorch: the loop over time of its tutorials, neurons whose decay is a constant (its default).

Its neurons are called once per time step, so the layers between them are too.
"""

from __future__ import annotations

from typing import Any

import snntorch as snn
import torch

from benchmarks.peers import Steps, Unsupported, torch_steps
from benchmarks.workloads import BETA, Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("snntorch", "torch")


class Network(torch.nn.Module):
    """Layers with explicit states, as in the tutorials."""

    def __init__(self, layers: list[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        states: list[Any] = [None] * len(self.layers)
        out = []
        for layer, index in zip(self.layers, range(len(states)), strict=True):
            if isinstance(layer, snn.RLeaky):
                states[index] = layer.init_rleaky()
            elif isinstance(layer, snn.Leaky):
                states[index] = (layer.init_leaky(),)
        for x in xs:
            for index, layer in enumerate(self.layers):
                if states[index] is None:
                    x = layer(x)
                else:
                    x, *states[index] = layer(x, *states[index])
                    states[index] = (x, *states[index]) if isinstance(layer, snn.RLeaky) else states[index]
            out.append(states[-1][0])  # the readout never resets: its membrane is the output
        return torch.stack(out)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    weights = workload.weights(averaged=True)
    layers = [_layer(layer, array) for layer, array in zip(workload.layers, weights, strict=True)]
    model = Network(layers)
    return torch_steps.steps(model, lambda x: model(x).sum(0), *torch_steps.data(workload))


def _layer(layer: Layer, array: Any) -> torch.nn.Module:
    match layer:
        case Dense():
            return torch_steps.load(torch.nn.Linear(layer.inputs, layer.outputs), layer, array)
        case Conv():
            return torch_steps.load(torch.nn.Conv2d(layer.inputs, layer.outputs, layer.size), layer, array)
        case Pool():
            return torch.nn.AvgPool2d(layer.size)
        case Flatten():
            return torch.nn.Flatten()
        case Spiking(recurrent=True):
            neuron = snn.RLeaky(beta=BETA, linear_features=layer.shape[0])
            torch_steps.set_weight(neuron.recurrent, array.T)
            return neuron
        case Spiking():
            return snn.Leaky(beta=BETA)
        case Readout():
            return snn.Leaky(beta=BETA, reset_mechanism="none")
