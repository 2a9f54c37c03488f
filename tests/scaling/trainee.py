"""One small training for every way to spread it: 20 steps of a spiking network with dropout and masks."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from spyx import axn, fn, nn, optimize

BATCHES, BATCH, STEPS, WIDTH, HIDDEN, CLASSES = 4, 12, 6, 6, 8, 3
PATIENCE_S = 8.0
TX = optax.adam(0.01)
LOSS = fn.integral_crossentropy(smoothing=0.1)


class Network(nn.Sequential):
    """A network that knows the mode it is to run in."""

    mode: str = "auto"


def network(mode: str = "auto", dropout: float = 0.25) -> nn.Sequential:
    rngs, act = nnx.Rngs(0), axn.triangular(0.5)
    model = Network(
        nn.Linear(WIDTH, HIDDEN, rngs=rngs),
        nn.RLIF(HIDDEN, beta=0.8, activation=act, rngs=rngs),
        nnx.Dropout(dropout, rngs=nnx.Rngs(5)),
        nn.Linear(HIDDEN, CLASSES, rngs=rngs),
        nn.LI(CLASSES, beta=0.9),
    )
    model.mode = mode
    return model


def samples() -> tuple[jax.Array, jax.Array]:
    """(batches, batch, time, channels) and labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, (BATCHES, BATCH))
    rate = np.where(np.arange(WIDTH) // 2 == y[..., None], 0.9, 0.2)[:, :, None]
    return jnp.asarray(rng.random((BATCHES, BATCH, STEPS, WIDTH)) < rate, jnp.float32), jnp.asarray(y, jnp.int32)


def loss(model, x, y, mask=None, lengths=None):
    traces = nn.run(model, x, lengths=lengths, mode=model.mode)[0]
    return LOSS(traces, y, weights=mask, lengths=lengths)


def metric(model, x, y):
    traces = nn.run(model, x)[0]
    return {"acc": fn.integral_accuracy()(traces, y)[0], "loss": LOSS(traces, y)}


def train(mesh, epochs: int, mode: str = "auto", **more):
    x, y = samples()
    given = dict(epochs=epochs, eval_data=(x, y), metric_fn=metric, key=jax.random.key(1), best="eval_acc")
    return optimize.train(network(mode), TX, loss, (x, y), mesh=mesh, **(given | more))


def weights(model):
    return nnx.state(model, nnx.Param)


def parts(model):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    return partial(nnx.merge, graphdef), (params, rest)


def loss_of(merge, state, x, y):
    return loss(merge(*state, copy=True), x, y)
