"""Norse: modules over (time, batch, ...), layer by layer, with the box neurons, its cheapest LIF.

Recurrent box neurons do not exist: W2 uses `LIFRecurrent`, which has a synaptic current too. The release notes of 1.1
credit `torch.compile` with its speed, so the step of each neuron is compiled (needs a C++ compiler); option
`compile=False` leaves that out. Norse scales a neuron's input by dt / tau; the weights make up for it.
"""

from __future__ import annotations

from typing import Any

import norse.torch as norse
import torch
from norse.torch.module.snn import SNNCell, SNNRecurrentCell

from benchmarks.peers import Steps, Unsupported, torch_steps
from benchmarks.workloads import BETA, Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("norse", "torch")

TAU_INVERSE = torch.tensor((1.0 - BETA) / 1e-3)
"""Per second, at Norse's time step of a millisecond."""


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    weights = workload.weights(gain=1.0 / (1.0 - BETA), averaged=True)
    layers = [_layer(layer, array) for layer, array in zip(workload.layers, weights, strict=True)]
    model = torch.nn.Sequential(*layers)
    if options.get("compile", True):
        for module in model.modules():
            if isinstance(module, (SNNCell, SNNRecurrentCell)):
                module.compile()  # in place: torch.compile hides the signature by which Lift knows a state
    return torch_steps.steps(model, lambda x: model(x).sum(0), *torch_steps.data(workload))


class OverTime(torch.nn.Module):
    """A Norse module over all of time, without the state that it also returns."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return self.module(xs)[0]


def _layer(layer: Layer, array: Any) -> torch.nn.Module:
    match layer:
        case Dense():
            return torch_steps.load(torch.nn.Linear(layer.inputs, layer.outputs), layer, array)
        case Conv():
            made = torch.nn.Conv2d(layer.inputs, layer.outputs, layer.size)
            return norse.Lift(torch_steps.load(made, layer, array))
        case Pool():
            return norse.Lift(torch.nn.AvgPool2d(layer.size))
        case Flatten():
            return torch.nn.Flatten(2)
        case Spiking(recurrent=True):
            identity = torch.eye(layer.shape[0])
            back = torch.tensor(array.T.copy())
            size = layer.shape[0]
            return OverTime(
                norse.LIFRecurrent(size, size, input_weights=identity, recurrent_weights=back, autapses=True)
            )
        case Spiking():
            return OverTime(norse.Lift(norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=TAU_INVERSE))))
        case Readout():
            return OverTime(norse.Lift(norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=TAU_INVERSE))))
