"""Make spyx1.zip: networks that Spyx 1.0 wrote with its own `to_nir`, and its own run of each.

Run in an environment that has Spyx 1.0 (`pip install spyx==1.0.0 nir==1.0.8`), not in that of this repository:

    python tests/nir/spyx1_files/make.py tests/nir/spyx1_files/spyx1.zip

For every network the archive holds `<name>.nir`, and `<name>.npz` with input x and answer y, (time, batch, ...).
"""

from __future__ import annotations

import io
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir import to_nir

STEPS, BATCH = 40, 2
rngs = nnx.Rngs(3)


def linear(inputs, outputs, **more):
    return nnx.Linear(inputs, outputs, rngs=rngs, **more)


def conv(inputs, outputs, **more):
    return nnx.Conv(inputs, outputs, (3, 3), rngs=rngs, **more)


def lif(*shape, **more):
    return nn.LIF(shape, rngs=rngs, **more)


def deep():
    """More layers than a decimal digit, so that their names do not sort as their numbers do."""
    return [part for _ in range(6) for part in (linear(5, 5), lif(5, threshold=0.4))]


# name: layers, input in NIR's layout, output in NIR's layout, dt
NETWORKS = {
    "feedforward": (
        [linear(5, 8), lif(8), linear(8, 6, use_bias=False), lif(6, beta=0.8, threshold=0.7)],
        (5,),
        (6,),
        1e-3,
    ),
    "deep": (deep(), (5,), (5,), 1),
    "clipped": ([linear(5, 8), lif(8, beta=1.5), linear(8, 4), lif(4, beta=-0.2)], (5,), (4,), 1),
    "cuba": ([linear(5, 8), nn.CuBaLIF((8,), rngs=rngs), linear(8, 6), nn.IF((6,), threshold=0.7)], (5,), (6,), 1e-4),
    "integrators": ([linear(5, 6), nn.IF((6,), threshold=0.6)], (5,), (6,), 1e-3),
    "recurrent": (
        [linear(5, 8), nn.RLIF((8,), rngs=rngs), linear(8, 6), nn.RCuBaLIF((6,), beta=0.5, rngs=rngs)],
        (5,),
        (6,),
        1,
    ),
    "recurrent integrators": ([linear(5, 6), nn.RIF((6,), threshold=1.5, rngs=rngs)], (5,), (6,), 1e-3),
    "without reset": ([linear(5, 8), nn.PSU_LIF((8,), rngs=rngs), linear(8, 6), lif(6)], (5,), (6,), 1e-3),
    "only without reset": ([linear(5, 8), nn.PSU_LIF((8,), rngs=rngs, threshold=0.4)], (5,), (8,), 1e-3),
    "convolution": (
        [conv(2, 3), lif(5, 6, 3, threshold=0.6), nn.SumPool(2, 2, "VALID"), nn.Flatten(), linear(18, 4), lif(4)],
        (2, 5, 6),
        (4,),
        1,
    ),
    "uneven pool": (
        [conv(2, 3), lif(5, 6, 3, beta=0.4), nn.SumPool(2, 2, "SAME"), nn.Flatten(), linear(27, 4), lif(4)],
        (2, 5, 6),
        (4,),
        1,
    ),
    "strided": (
        [conv(2, 3, strides=(2, 2), padding="VALID"), nn.IF((2, 2, 3)), nn.Flatten(), linear(12, 4), lif(4)],
        (2, 5, 6),
        (4,),
        1,
    ),
    "flattened to neurons": (
        [conv(2, 3, padding=[(1, 1), (0, 0)]), nn.Flatten(), lif(60), linear(60, 4), lif(4)],
        (2, 5, 6),
        (4,),
        1,
    ),
    "flattened to recurrence": (
        [nn.SumPool(2, 2, "VALID"), nn.Flatten(), nn.RLIF((12,), threshold=2, rngs=rngs)],
        (2, 5, 6),
        (12,),
        1,
    ),
    "map of neurons": ([lif(5, 6, 2), nn.Flatten(), linear(60, 4), lif(4)], (2, 5, 6), (4,), 1),
    "map goes out": ([conv(2, 3), lif(5, 6, 3)], (2, 5, 6), (3, 5, 6), 1),
    "single": ([lif(5)], (5,), (5,), 1),
}


def louder(model):
    """Weights with which every layer spikes."""
    for _, part in nnx.iter_modules(model):
        if hasattr(part, "kernel"):
            part.kernel[...] = part.kernel[...] * 2.5 + 0.05
    return model


def written(graph) -> bytes:
    file = io.BytesIO()
    nir.write(file, graph)
    return file.getvalue()


def archived(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def main(path: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, (layers, taken, given, dt) in NETWORKS.items():
            model = louder(nn.Sequential(*layers))
            graph = to_nir(model, {"input": np.array(taken)}, {"output": np.array(given)}, dt)
            last = (*taken[1:], taken[0]) if len(taken) == 3 else taken
            x = (np.random.default_rng(7).random((STEPS, BATCH, *last)) < 0.5).astype(np.uint8)
            y = np.asarray(nn.run(model, jnp.asarray(x, jnp.float32))[0])
            archive.writestr(f"{name}.nir", written(graph))
            archive.writestr(f"{name}.npz", archived(x=x, y=y.astype(np.uint8)))
            print(f"{name}: {y.shape}, {y.mean():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
