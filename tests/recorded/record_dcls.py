"""Writes dcls.json: `Dcls1d` of dcls 0.1.1 in value and gradient. Run it in an environment with `dcls` and PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from DCLS.construct.modules import Dcls1d

LAGS = 6


def rows(values):
    return [[round(float(v), 7) for v in row] for row in values.detach().reshape(values.shape[0], -1)]


def record():
    layer = Dcls1d(3, 2, kernel_count=1, dilated_kernel_size=LAGS, version="gauss", bias=True)
    with torch.no_grad():
        layer.P.uniform_(-2.5, 2.0)
        layer.SIG.fill_(0.8)
    x = (torch.rand(2, 3, 8) * 2).round().div(2).requires_grad_()
    y = layer(torch.nn.functional.pad(x, (LAGS - 1, 0)))
    g = torch.rand_like(y)
    y.backward(g)
    over_time = dict(x=x, y=y, g=g, g_x=x.grad)
    per_synapse = dict(
        w=layer.weight[..., 0], P=layer.P[0, ..., 0], g_w=layer.weight.grad[..., 0], g_P=layer.P.grad[0, ..., 0]
    )
    found = {name: rows(a.permute(0, 2, 1)) for name, a in over_time.items()}
    return found | {name: rows(a) for name, a in per_synapse.items()} | {"b": rows(layer.bias[None])[0]}


if __name__ == "__main__":
    torch.manual_seed(0)
    file = Path(__file__).with_name("dcls.json")
    file.write_text(json.dumps(record()) + "\n")
