"""What no library can beat on this machine: the matrix products of a workload alone, or its bytes alone.

Options: `of=products` runs every dense product of the step (a convolution as the product over its patches, the
patches already gathered; a recurrent one over all of time at once) and nothing else. `of=bytes` streams as many bytes
as the neurons must at least read and write.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers import Steps
from benchmarks.workloads import Conv, Dense, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("jax",)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    return {"products": _products, "bytes": _bytes}[options["of"]](workload)


def products(workload: Workload) -> list[tuple[int, int, int, bool]]:
    """(rows, inputs, outputs, does the backward pass need the gradient of the input?) of every product."""
    found, shape = [], workload.features
    rows = workload.steps * workload.batch
    for index, layer in enumerate(workload.layers):
        if isinstance(layer, Dense):
            found.append((rows, layer.inputs, layer.outputs, index > 0))
            shape = (layer.outputs,)
        elif isinstance(layer, Conv):
            shape = (shape[0] - layer.size + 1, shape[1] - layer.size + 1, layer.outputs)
            found.append((rows * shape[0] * shape[1], layer.size**2 * layer.inputs, layer.outputs, index > 0))
        elif isinstance(layer, Pool):
            shape = (shape[0] // layer.size, shape[1] // layer.size, shape[2])
        elif isinstance(layer, Spiking) and layer.recurrent:
            found.append((rows, layer.shape[0], layer.shape[0], True))
    return found


def least_bytes(workload: Workload, kind: str) -> int:
    """Float32 traffic of the neurons and the input, each array once.

    Forward: the input and every current are read, every output is written. Backward: the input once more for the
    weights, and for every neuron the kept membrane and the output's gradient are read, the current's is written.
    """
    rows = workload.steps * workload.batch
    units = sum(_units(layer) for layer in workload.layers)
    inputs = math.prod(workload.features)
    forward = inputs + 2 * units
    return 4 * rows * (forward if kind == "infer" else forward + inputs + 3 * units)


def _units(layer: Any) -> int:
    return math.prod(layer.shape) if isinstance(layer, Spiking) else layer.classes if isinstance(layer, Readout) else 0


def _products(workload: Workload) -> Steps:
    operands = []
    for rows, inputs, outputs, needed in products(workload):
        x, w, g = (jnp.ones(shape, jnp.float32) for shape in ((rows, inputs), (inputs, outputs), (rows, outputs)))
        operands.append((x, w, g) if needed else (x, w, g, None))

    @jax.jit
    def forward(operands: Any) -> Any:
        return [x @ w for x, w, *_ in operands]

    @jax.jit
    def forward_and_backward(operands: Any) -> Any:
        return [(x @ w, x.T @ g, None if rest else g @ w.T) for x, w, g, *rest in operands]

    return Steps(
        lambda: jax.block_until_ready(forward_and_backward(operands)) and None,
        lambda: jax.block_until_ready(forward(operands)) and None,
    )


def _bytes(workload: Workload) -> Steps:
    scale = jax.jit(lambda array: array * jnp.float32(1.000001), donate_argnums=0)
    # Half is read, half is written; in place, so that no fresh page is touched.
    arrays = {kind: jnp.ones(least_bytes(workload, kind) // 8, jnp.float32) for kind in ("train", "infer")}

    def stream(kind: str) -> None:
        arrays[kind] = scale(arrays[kind]).block_until_ready()

    return Steps(lambda: stream("train"), lambda: stream("infer"))
