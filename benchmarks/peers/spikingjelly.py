"""SpikingJelly: multi-step mode (`step_mode="m"`), each layer over all of time, as its tutorials recommend for speed.

On a CPU its neurons run in plain PyTorch (README, "Operator Execution"); there is no backend to choose.
"""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based import layer as sj

from benchmarks.peers import Steps, Unsupported, torch_steps
from benchmarks.workloads import BETA, Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("spikingjelly", "torch")

TAU = 1.0 / (1.0 - BETA)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    weights = workload.weights(averaged=True)
    layers = [_layer(layer, array) for layer, array in zip(workload.layers, weights, strict=True)]
    model = torch.nn.Sequential(*layers)
    functional.set_step_mode(model, "m")

    def logits(x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(model)
        return torch.stack(model(x)).sum(0)

    return torch_steps.steps(model, logits, *torch_steps.data(workload))


def _lif() -> torch.nn.Module:
    return neuron.LIFNode(tau=TAU, decay_input=False, v_reset=None, surrogate_function=surrogate.ATan())


def _layer(layer: Layer, array: Any) -> torch.nn.Module:
    match layer:
        case Dense():
            return torch_steps.load(sj.Linear(layer.inputs, layer.outputs), layer, array)
        case Conv():
            return torch_steps.load(sj.Conv2d(layer.inputs, layer.outputs, layer.size), layer, array)
        case Pool():
            return sj.AvgPool2d(layer.size)
        case Flatten():
            return sj.Flatten()
        case Spiking(recurrent=True):
            size = layer.shape[0]
            return sj.LinearRecurrentContainer(_lif(), size, size)  # its own linear layer also mixes the input
        case Spiking():
            return _lif()
        case Readout():
            return neuron.NonSpikingLIFNode(tau=TAU)
