"""Sinabs: layers over (batch, time, ...); its `Squeeze` layers fold time into the batch around convolutions.

Its documentation's fast path, EXODUS, needs CUDA.
"""

from __future__ import annotations

import math
from typing import Any

import sinabs
import sinabs.layers as sl
import torch

from benchmarks.peers import Steps, Unsupported, torch_steps
from benchmarks.workloads import BETA, Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("sinabs", "torch")

TAU = -1.0 / math.log(BETA)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    fold = any(isinstance(layer, Conv) for layer in workload.layers)
    size = {"batch_size": workload.batch} if fold else {}
    layers = [_layer(layer, array, size) for layer, array in zip(workload.layers, workload.weights(), strict=True)]
    model = torch.nn.Sequential(*layers)
    stateful = [layer for layer in layers if isinstance(layer, sl.StatefulLayer)]

    def logits(x: torch.Tensor) -> torch.Tensor:
        for layer in stateful:  # sinabs.reset_states passes over recurrent layers
            layer.reset_states()
        out = model(x.flatten(0, 1) if fold else x)
        return (out.unflatten(0, x.shape[:2]) if fold else out).sum(1)

    return torch_steps.steps(model, logits, *torch_steps.data(workload, batch_major=True))


def _layer(layer: Layer, array: Any, size: dict[str, int]) -> torch.nn.Module:
    match layer:
        case Dense():
            return torch_steps.load(torch.nn.Linear(layer.inputs, layer.outputs), layer, array)
        case Conv():
            return torch_steps.load(torch.nn.Conv2d(layer.inputs, layer.outputs, layer.size), layer, array)
        case Pool():
            return sl.SumPool2d(layer.size)
        case Flatten():
            return torch.nn.Flatten()
        case Spiking(recurrent=True):
            back = torch.nn.Linear(layer.shape[0], layer.shape[0], bias=False)
            torch_steps.set_weight(back, array.T)
            return sl.LIFRecurrent(TAU, back, spike_fn=sinabs.activation.SingleSpike, norm_input=False)
        case Spiking():
            kind = sl.LIFSqueeze if size else sl.LIF
            return kind(tau_mem=TAU, spike_fn=sinabs.activation.SingleSpike, norm_input=False, **size)
        case Readout():
            kind = sl.ExpLeakSqueeze if size else sl.ExpLeak
            return kind(tau_mem=TAU, norm_input=False, **size)
