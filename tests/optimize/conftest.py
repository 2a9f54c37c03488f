"""One small network, one small data set and one optimiser for all tests of training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import axn, fn, nn

BATCH, STEPS, WIDTH, CLASSES, BATCHES = 8, 5, 6, 3, 4
TX = optax.adam(0.02)
LOSS = fn.integral_crossentropy(smoothing=0.1)
ACCURACY = fn.integral_accuracy()


def network(seed: int = 0) -> nn.Sequential:
    """No spiking layer: half the time to compile, and all that a training loop can tell apart."""
    return nn.Sequential(nnx.Linear(WIDTH, CLASSES, rngs=nnx.Rngs(seed)), nn.LI(CLASSES, beta=0.9))


def spiking_network() -> nn.Sequential:
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nnx.Linear(WIDTH, 7, rngs=rngs),
        nn.LIF(7, beta=0.8, activation=axn.triangular(0.5)),
        nnx.Linear(7, CLASSES, rngs=rngs),
        nn.LI(CLASSES, beta=0.9),
    )


def loss_fn(model, x, y):
    return LOSS(nn.run(model, x)[0], y)


def eval_fn(model, x, y):
    out, _ = nn.run(model, x)
    return ACCURACY(out, y)[0], LOSS(out, y)


def params_of(model) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]


@pytest.fixture(scope="session")
def data() -> tuple[jax.Array, jax.Array]:
    """Each class has two channels of its own that spike more: (batches, batch, time, channels) and labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, (BATCHES, BATCH))
    rate = np.where(np.arange(WIDTH) // 2 == y[..., None], 0.9, 0.1)[:, :, None]
    x = rng.random((BATCHES, BATCH, STEPS, WIDTH)) < rate
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


@pytest.fixture
def batches(data):
    """The same data as a list of batches."""
    return [(x, y) for x, y in zip(*data, strict=True)]
