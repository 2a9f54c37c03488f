"""DCLS, the reference implementation of delays that are learned, with the neurons of its authors: SpikingJelly's.

As in their networks a `Dcls1d` convolves over time, padded on the left, in its version "gauss" with one position per
synapse; widths are not trained.
"""

from __future__ import annotations

from typing import Any

import torch
from DCLS.construct.modules import Dcls1d
from spikingjelly.activation_based import functional

from benchmarks.peers import Steps, Unsupported, spikingjelly, torch_steps
from benchmarks.workloads import DelayedDense, Layer, Workload

DISTRIBUTIONS = ("dcls", "spikingjelly", "torch")

DELAYED = True


class Delayed(torch.nn.Module):
    """(time, batch, in) -> (time, batch, out)."""

    def __init__(self, layer: DelayedDense, weight: Any) -> None:
        super().__init__()
        self.lags = layer.lags
        self.convolution = Dcls1d(
            layer.inputs, layer.outputs, kernel_count=1, dilated_kernel_size=layer.lags, version="gauss", bias=False
        )
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor(weight.T[..., None].copy()))
            # Its positions count from the middle of the kernel, whose last entry is lag 0.
            self.convolution.P.copy_(layer.lags - 1 - layer.lags // 2 - torch.tensor(layer.delays().T[None, ..., None]))
            self.convolution.SIG.fill_(layer.lags // 2)
        self.convolution.SIG.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x.permute(1, 2, 0), (self.lags - 1, 0))
        return self.convolution(padded).permute(2, 0, 1)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    layers = [_layer(layer, array) for layer, array in zip(workload.layers, workload.weights(), strict=True)]
    model = torch.nn.Sequential(*layers)
    functional.set_step_mode(model, "m")

    def logits(x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(model)
        return torch.stack(model(x)).sum(0)

    return torch_steps.steps(model, logits, *torch_steps.data(workload))


def _layer(layer: Layer, array: Any) -> torch.nn.Module:
    return Delayed(layer, array) if isinstance(layer, DelayedDense) else spikingjelly._layer(layer, array)
