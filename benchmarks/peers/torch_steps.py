"""The training loop around every PyTorch library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.peers import Steps
from benchmarks.workloads import LEARNING_RATE, Conv, Dense, Layer, Workload


def data(workload: Workload, batch_major: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Input (time, batch, ...) or (batch, time, ...), channels first; labels."""
    x, labels = workload.data()
    x = np.moveaxis(x, -1, 2)
    x = x.swapaxes(0, 1) if batch_major else x
    return torch.tensor(np.ascontiguousarray(x)), torch.tensor(labels, dtype=torch.int64)


def steps(model: torch.nn.Module, logits: Callable[[torch.Tensor], torch.Tensor], x: Any, labels: Any) -> Steps:
    """Steps of `logits(x) -> (batch, classes)`. Fused Adam is PyTorch's fastest."""
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)

    def train() -> float:
        adam.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(logits(x), labels)
        loss.backward()
        adam.step()
        return loss.item()

    def infer() -> Any:
        with torch.inference_mode():
            return logits(x)

    return Steps(train, infer)


def load(module: Any, layer: Layer, array: np.ndarray | None) -> Any:
    """The workload's weights into a linear layer or a convolution."""
    if isinstance(layer, Dense):
        set_weight(module, array.T)
    elif isinstance(layer, Conv):
        set_weight(module, array.transpose(3, 2, 0, 1))
    return module


def set_weight(module: Any, array: np.ndarray) -> None:
    with torch.no_grad():
        module.weight.copy_(torch.tensor(np.ascontiguousarray(array)))
        if module.bias is not None:
            module.bias.zero_()
