"""Loss and accuracy of whole parts of a data set, exact to the sample or, where every step has a label, to the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx import fn, nn, optimize
from spyx.cli.config import Config
from spyx.cli.inputs import UNLABELLED, labels_that_count

BATCH = 256


def make_loss(config: Config) -> Callable[..., jax.Array]:
    """What is made small: cross-entropy of the readout's membrane, summed or averaged over time, or at every step."""

    def loss(model: Any, x: jax.Array, y: jax.Array, lengths: Any = None) -> jax.Array:
        crossentropy = fn.integral_crossentropy(smoothing=config.smoothing, ignore=_ignored(y))
        return crossentropy(_traces(config, model, x, lengths, y.ndim == 2), y, lengths=lengths)

    return loss


def batches(x: Any, y: Any, size: int, *more: Any, parts: int = 1) -> tuple[jax.Array, ...]:
    """All samples as (batches, size, ...); the last batch is filled up with samples from the start.

    A size that `parts` does not divide is made larger.
    """
    size = -(-min(size, len(y)) // parts) * parts
    order = np.arange(-(-len(y) // size) * size) % len(y)
    whole = (np.asarray(a)[order] for a in (x, y, *more))  # NumPy has nothing to compile
    return tuple(jnp.asarray(a.reshape(-1, size, *a.shape[1:])) for a in whole)


def weighed(x: jax.Array, y: jax.Array, lengths: np.ndarray | None = None, *, parts: int = 1) -> tuple[jax.Array, ...]:
    """As `batches`, with weights, and the lengths where there are any: the mean over batches is exact.

    Every label that counts has the same weight, those of the samples that fill up the last batch 0; their mean is 1.
    """
    more = () if lengths is None else (lengths,)
    xs, ys, counts, *more = batches(x, y, BATCH, labels_that_count(y, lengths), *more, parts=parts)
    once = np.arange(counts.shape[0] * counts.shape[1]).reshape(counts.shape[:2]) < len(y)
    real = np.asarray(counts) & once.reshape(*once.shape, *[1] * (counts.ndim - 2))
    return xs, ys, jnp.asarray(real * (real.size / max(1, int(real.sum()))), jnp.float32), *more


def make_metric(config: Config) -> Callable[..., dict[str, jax.Array]]:
    """Accuracy and loss of a weighed batch, delays rounded."""

    def metric(model: Any, x: jax.Array, y: jax.Array, weight: jax.Array, lengths: Any = None) -> dict[str, jax.Array]:
        crossentropy = fn.integral_crossentropy(smoothing=config.smoothing, ignore=_ignored(y))
        accuracy = fn.integral_accuracy(ignore=_ignored(y))
        traces, share = _traces(config, nn.rounded(model), x, lengths, y.ndim == 2), jnp.mean(weight)
        given = {"weights": weight, "lengths": lengths}
        return {"acc": share * accuracy(traces, y, **given)[0], "loss": share * crossentropy(traces, y, **given)}

    return metric


def score(
    config: Config, model: Any, x: jax.Array, y: jax.Array, lengths: np.ndarray | None = None
) -> dict[str, float]:
    """Accuracy and loss of one part."""
    step = optimize.make_eval_step(make_metric(config))
    parts = [step(model, *batch) for batch in zip(*weighed(x, y, lengths), strict=True)]
    return {name: float(np.mean([float(part[name]) for part in parts])) for name in parts[0]}


def _ignored(y: jax.Array) -> int | None:
    return UNLABELLED if y.ndim == 2 else None


def _traces(config: Config, model: Any, x: jax.Array, lengths: Any, per_step: bool) -> jax.Array:
    """The readout's membrane: at every step the answer, or of which the sum over time is the answer."""
    traces, _ = nn.run(model, x.astype(jnp.float32), lengths=lengths)
    if config.readout == "sum" or per_step:
        return traces
    steps = traces.shape[1] if lengths is None else jnp.maximum(lengths, 1).astype(traces.dtype)[:, None, None]
    return traces / steps
