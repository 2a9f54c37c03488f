"""Loss and accuracy of whole parts of a data set, exact to the sample or, where every step has a label, to the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import fn, nn, optimize
from spyx.cli.config import Config
from spyx.cli.errors import UserError, pick
from spyx.cli.inputs import UNLABELLED, Inputs, labels_that_count
from spyx.cli.own import function, is_own

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Float, Integer, Num, Shaped
    from numpy.typing import ArrayLike

    from spyx.fn import LossFn

    X = Num[Array, "samples time features"]
    Y = Integer[Array, "samples *time"]
    """A class of each sample, or of each of its steps."""

    Lengths = Integer[np.ndarray | Array, " samples"]
    """Steps of each sample that count."""

    Rows = Shaped[np.ndarray | Array, "samples ..."]
    Batches = tuple[Shaped[Array, "batches size ..."], ...]

    Objective = Callable[..., Float[Array, ""]]
    """`(model, x, y, lengths=None) -> loss`."""

BATCH = 256
LOSSES = ("integral_crossentropy", "max_crossentropy", "rate_crossentropy", "mse_spikerate")
"""Of spyx.fn, those that make sense of a membrane."""


def check_loss(config: Config) -> None:
    """Refuse an unknown loss before any data is read."""
    if not is_own(config.loss):
        pick("loss", config.loss, LOSSES)
        return
    function("--loss", config.loss, "mine:loss")
    if config.class_weights != "none":
        raise UserError(f"class_weights: {config.loss} is a loss of your own, which weighs classes itself.")


def make_loss(config: Config, class_weights: Float[ArrayLike, " classes"] | None = None) -> Objective:
    """What is made small: by default the cross-entropy of the readout's membrane, summed or averaged over time, or at
    every step.

    Args:
        config: the settings.
        class_weights: one number per class, or None.
    """
    if is_own(config.loss):
        own = function("--loss", config.loss, "mine:loss")

        def mine(model: nnx.Module, x: X, y: Y, lengths: Lengths | None = None) -> Float[Array, ""]:
            return own(model, x.astype(_dtype(model)), y, **({} if lengths is None else {"lengths": lengths}))

        return mine

    def loss(model: nnx.Module, x: X, y: Y, lengths: Lengths | None = None) -> Float[Array, ""]:
        found = _named_loss(config, y, class_weights=class_weights)
        return found(_traces(config, model, x, lengths, y.ndim == 2), y, lengths=lengths)

    return loss


def class_weights(config: Config, samples: Inputs) -> Float[np.ndarray, " classes"] | None:
    """For `class_weights = "balanced"`, the inverse of how often each class occurs in the training part; their mean
    over the labels is 1.
    """
    if config.class_weights == "none":
        return None
    y = np.asarray(samples.y["train"])
    counts = np.bincount(y[labels_that_count(y, samples.lengths.get("train"))], minlength=samples.classes)
    return (counts.sum() / (samples.classes * np.maximum(counts, 1))).astype(np.float32)


def _named_loss(config: Config, y: Y, **more: Float[ArrayLike, " classes"] | None) -> LossFn:
    name = LOSSES[0] if is_own(config.loss) else pick("loss", config.loss, LOSSES)
    return getattr(fn, name)(smoothing=config.smoothing, ignore=_ignored(y), **more)


def _dtype(model: nnx.Module) -> DTypeLike:
    """The format of the weights, which mixed precision makes shorter."""
    return next(leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def batches(x: Rows, y: Rows, size: int, *more: Rows, parts: int = 1) -> Batches:
    """All samples as (batches, size, ...); the last batch is filled up with samples from the start.

    A size that `parts` does not divide is made larger.
    """
    size = -(-min(size, len(y)) // parts) * parts
    order = np.arange(-(-len(y) // size) * size) % len(y)
    whole = (np.asarray(a)[order] for a in (x, y, *more))  # NumPy has nothing to compile
    return tuple(jnp.asarray(a.reshape(-1, size, *a.shape[1:])) for a in whole)


def weighed(x: X, y: Y, lengths: Lengths | None = None, *, parts: int = 1) -> Batches:
    """As `batches`, with weights, and the lengths where there are any: the mean over batches is exact.

    Every label that counts has the same weight, those of the samples that fill up the last batch 0; their mean is 1.
    """
    more = () if lengths is None else (lengths,)
    xs, ys, counts, *more = batches(x, y, BATCH, labels_that_count(y, lengths), *more, parts=parts)
    once = np.arange(counts.shape[0] * counts.shape[1]).reshape(counts.shape[:2]) < len(y)
    real = np.asarray(counts) & once.reshape(*once.shape, *[1] * (counts.ndim - 2))
    return xs, ys, jnp.asarray(real * (real.size / max(1, int(real.sum()))), jnp.float32), *more


def make_metric(config: Config) -> Callable[..., dict[str, Float[Array, ""]]]:
    """Accuracy and loss of a weighed batch, delays rounded."""

    def metric(
        model: nnx.Module, x: X, y: Y, weight: Float[Array, "samples *time"], lengths: Lengths | None = None
    ) -> dict[str, Float[Array, ""]]:
        crossentropy = _named_loss(config, y)
        accuracy_of = fn.max_accuracy if config.loss.lower() == "max_crossentropy" else fn.integral_accuracy
        accuracy = accuracy_of(ignore=_ignored(y))
        traces, share = _traces(config, nn.rounded(model), x, lengths, y.ndim == 2), jnp.mean(weight)
        given = {"weights": weight, "lengths": lengths}
        return {"acc": share * accuracy(traces, y, **given)[0], "loss": share * crossentropy(traces, y, **given)}

    return metric


def score(config: Config, model: nnx.Module, x: X, y: Y, lengths: Lengths | None = None) -> dict[str, float]:
    """Accuracy and loss of one part."""
    step = optimize.make_eval_step(make_metric(config))
    parts = [step(model, *batch) for batch in zip(*weighed(x, y, lengths), strict=True)]
    return {name: float(np.mean([float(part[name]) for part in parts])) for name in parts[0]}


def confusion(
    config: Config, model: nnx.Module, x: X, y: Y, lengths: Lengths | None = None, *, classes: int
) -> Integer[np.ndarray, "classes classes"]:
    """How often each class (row) was predicted by each (column), over the labels that count: (classes, classes)."""
    largest = config.loss.lower() == "max_crossentropy"

    def predictions(
        model: nnx.Module, x: X, y: Y, weight: Float[Array, "samples *time"], lengths: Lengths | None = None
    ) -> Y:
        traces = _traces(config, nn.rounded(model), x, lengths, y.ndim == 2)
        if y.ndim == 2:
            return traces.argmax(-1)
        return (traces.max(1) if largest else traces.sum(1)).argmax(-1)

    step = optimize.make_eval_step(predictions)
    found = np.concatenate([np.asarray(step(model, *batch)) for batch in zip(*weighed(x, y, lengths), strict=True)])
    counts, found = labels_that_count(y, lengths), found[: len(y)]
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (np.asarray(y)[counts], found[counts]), 1)
    return table


def _ignored(y: Y) -> int | None:
    return UNLABELLED if y.ndim == 2 else None


def _traces(
    config: Config, model: nnx.Module, x: X, lengths: Lengths | None, per_step: bool
) -> Float[Array, "samples time classes"]:
    """The readout's membrane: at every step the prediction, or of which the sum over time is the prediction."""
    traces, _ = nn.run(model, x.astype(_dtype(model)), lengths=lengths)
    if config.readout == "sum" or per_step:
        return traces
    steps = traces.shape[1] if lengths is None else jnp.maximum(lengths, 1).astype(traces.dtype)[:, None, None]
    return traces / steps
