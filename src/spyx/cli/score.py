"""Loss and accuracy of whole parts of a data set, exact to the sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx import fn, nn, optimize
from spyx.cli.config import Config

BATCH = 256


def make_loss(config: Config) -> Callable[..., jax.Array]:
    """What is made small: cross-entropy of the readout's membrane, summed or averaged over time."""
    crossentropy = fn.integral_crossentropy(smoothing=config.smoothing)
    return lambda model, x, y: crossentropy(_traces(config, model, x), y)


def batches(x: jax.Array, y: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """All samples as (batches, size, ...); the last batch is filled up with samples from the start."""
    size = min(size, len(y))
    order = np.arange(-(-len(y) // size) * size) % len(y)
    whole = (np.asarray(a)[order] for a in (x, y))  # NumPy has nothing to compile
    xs, ys = (jnp.asarray(a.reshape(-1, size, *a.shape[1:])) for a in whole)
    return xs, ys


def weighed(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `batches`, with a weight per sample that counts every sample once: the mean over batches is exact."""
    xs, ys = batches(x, y, BATCH)
    once = np.arange(ys.size).reshape(ys.shape) < len(y)
    return xs, ys, jnp.asarray(once * (ys.size / len(y)), jnp.float32)


def make_metric(config: Config) -> Callable[..., dict[str, jax.Array]]:
    """Accuracy and loss of a weighed batch, delays rounded."""
    smoothing = config.smoothing

    def metric(model: Any, x: jax.Array, y: jax.Array, weight: jax.Array) -> dict[str, jax.Array]:
        sums = _traces(config, nn.rounded(model), x).astype(jnp.float32).sum(1)
        right = (sums.argmax(-1).astype(y.dtype) == y).astype(jnp.float32)
        target = jax.nn.one_hot(y, sums.shape[-1]) * (1 - smoothing) + smoothing / sums.shape[-1]
        losses = -jnp.sum(target * jax.nn.log_softmax(sums), axis=-1)
        return {"acc": jnp.mean(weight * right), "loss": jnp.mean(weight * losses)}

    return metric


def score(config: Config, model: Any, x: jax.Array, y: jax.Array) -> dict[str, float]:
    """Accuracy and loss of one part."""
    step = optimize.make_eval_step(make_metric(config))
    parts = [step(model, *batch) for batch in zip(*weighed(x, y), strict=True)]
    return {name: float(np.mean([float(part[name]) for part in parts])) for name in parts[0]}


def _traces(config: Config, model: Any, x: jax.Array) -> jax.Array:
    """The readout's membrane, of which the sum over time is the answer."""
    traces, _ = nn.run(model, x.astype(jnp.float32))
    return traces if config.readout == "sum" else traces / traces.shape[1]
