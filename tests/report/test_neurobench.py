"""Operations and sparsity beside NeuroBench's own code, on the same spikes; runs where that package is installed."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn, report

torch = pytest.importorskip("torch")
pytest.importorskip("neurobench")

STEPS, SAMPLES = 5, 3


def theirs(layers, inputs, outputs):
    """NeuroBench's metrics of Torch layers that are given what ours were given, step by step."""
    from neurobench.hooks.layer import LayerHook
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations

    hooks = []
    for layer, xs in zip(layers, inputs, strict=True):
        hook = LayerHook(layer)
        for step in range(STEPS):
            layer(torch.tensor(np.array(xs[:, step])))
        hooks.append(hook)
    fired = [SimpleNamespace(activation_outputs=[torch.tensor(np.array(outs))]) for outs in outputs]
    model = SimpleNamespace(connection_hooks=hooks, activation_hooks=fired)
    data = (torch.zeros(SAMPLES), torch.zeros(SAMPLES))
    return SynapticOperations()(model, None, data), ActivationSparsity()(model, None, data)


@pytest.mark.parametrize("share", [0.3, None])
def test_dense_layers(share):
    """Spikes are counted as accumulates, other values as multiply-accumulates, weights of zero not at all."""
    rngs, draw = nnx.Rngs(0), np.random.default_rng(0)
    first, second = nn.Linear(6, 5, rngs=rngs), nn.Linear(5, 3, rngs=rngs)
    first.kernel[...] = jnp.where(draw.random((6, 5)) < 0.5, first.kernel[...], 0.0)
    net = nn.Sequential(first, nn.LIF(5, beta=0.8, threshold=0.2), second, nn.LIF(3, beta=0.8, threshold=0.2))
    x = draw.random((SAMPLES, STEPS, 6)).astype(np.float32)
    x = x if share is None else (x < share).astype(np.float32)
    seen = nn.observe(net, x)[2]
    twins = []
    for ours in (first, second):
        twin = torch.nn.Linear(*ours.kernel.shape)
        twin.weight.data = torch.tensor(np.array(ours.kernel[...].T))
        twins.append(twin)
    operations, sparsity = theirs(twins, [x, seen["1"]], [seen["1"], seen["3"]])
    found = report.cost(net, x).as_dict()
    assert found["SynapticOperations"] == pytest.approx(operations)
    assert found["ActivationSparsity"] == pytest.approx(sparsity)
    assert (found["SynapticOperations"]["Effective_MACs"] > 0) == (share is None)


@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions(strides):
    draw = np.random.default_rng(0)
    conv = nnx.Conv(2, 4, (3, 3), strides=strides, padding="VALID", rngs=nnx.Rngs(0))
    x = (draw.random((SAMPLES, STEPS, 7, 7, 2)) < 0.3).astype(np.float32)
    net = nn.Sequential(conv, nn.IF(conv(x[:, 0]).shape[1:], threshold=0.2))
    twin = torch.nn.Conv2d(2, 4, 3, stride=strides)
    twin.weight.data = torch.tensor(np.array(conv.kernel[...].transpose(3, 2, 0, 1)))
    operations, _ = theirs([twin], [np.moveaxis(x, -1, 2)], [nn.observe(net, x)[2]["1"]])
    assert report.cost(net, x).as_dict()["SynapticOperations"] == pytest.approx(operations)
