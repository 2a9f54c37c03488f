"""What a page shows of samples: the network's outputs on a part of the data, and a few samples layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.nn._layers_by_path import layers_with_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Array, Bool, Float, Int, Integer, Num, Shaped

    from spyx.report.types import Seen

    Input = Num[np.ndarray, "samples time *features"]
    Targets = Integer[np.ndarray, "samples *time"]
    Ends = Integer[np.ndarray, " samples"]
    """Steps of each sample that count."""

    Looked = Callable[
        [nnx.State, Num[Array, "samples time *features"], Int[Array, " samples"] | None],
        tuple[Float[Array, "samples time ..."], Seen],
    ]
    """`(variables, x, lengths) -> (outputs, outputs of the layers inside)`."""

MEMORY = 1 << 28
"""Bytes that the outputs of all layers may take at once."""
MOST = 128
"""Samples that run at once."""


class Observed(NamedTuple):
    """The outputs of a network on samples.

    Args:
        predictions: (samples,), the class of the largest integral; or, with labels per step, (samples, time).
        margins: (samples,): the integral of the prediction less that of the next class, in units of the readout.
        classes: width of the output.
        layers: of the samples that were chosen, name to outputs (chosen, time, *features).
        chosen: their numbers.
    """

    predictions: Integer[np.ndarray, "samples *time"]
    margins: Float[np.ndarray, " samples"]
    classes: int
    layers: dict[str, Num[np.ndarray, "chosen time *features"]]
    chosen: list[int]


def observe_samples(
    layer: nn.Layer, x: Input, y: Targets, lengths: Ends | None, most: int, *, per_step: bool
) -> Observed:
    """Run a container on samples, in evaluation mode, and look closely at the `most` samples that show something."""
    inside = layers_with_state(layer, layer.state_for(jnp.asarray(x[:1, 0])))
    kinds = {path: child._kind for path, child in inside.items()}
    graphdef, variables = nnx.split(layer)

    def looked(
        variables: nnx.State, x: Num[Array, "samples time *features"], lengths: Int[Array, " samples"] | None
    ) -> tuple[Float[Array, "samples time ..."], Seen]:
        network = nnx.merge(graphdef, variables, copy=True)
        network.eval()
        outs, _, seen = nn.observe(network, x.astype(jnp.float32), where=tuple(kinds), lengths=lengths)
        return outs, seen

    size = _batch_size(looked, variables, x, lengths)
    run = jax.jit(looked)
    predictions, margins = [], []

    def of(
        rows: Integer[np.ndarray, " rows"],
    ) -> tuple[Float[np.ndarray, "rows time ..."], dict[str, Shaped[np.ndarray, "rows time ..."]]]:
        filled = np.resize(rows, size)  # one shape, one compilation
        given = None if lengths is None else jnp.asarray(lengths[filled])
        outs, seen = run(variables, jnp.asarray(x[filled]), given)
        return np.asarray(outs, np.float32)[: len(rows)], {p: np.asarray(a)[: len(rows)] for p, a in seen.items()}

    classes = 1
    for first in range(0, len(x), size):
        outs, _ = of(np.arange(first, min(first + size, len(x))))
        outs = outs.reshape(*outs.shape[:2], -1)
        classes = outs.shape[-1]
        totals = outs.sum(1)
        predictions.append(outs.argmax(-1) if per_step else totals.argmax(-1))
        two = np.sort(totals, -1)[:, -2:]
        margins.append(two[:, -1] - two[:, 0])
    predictions, margins = np.concatenate(predictions), np.concatenate(margins)
    chosen = choose(x, y, predictions, most, lengths)
    parts = [of(np.asarray(chosen[first : first + size]))[1] for first in range(0, len(chosen), size)]
    layers = {f"{path} {kind}": np.concatenate([part[path] for part in parts]) for path, kind in kinds.items()}
    return Observed(predictions, margins, classes, layers, chosen)


def _batch_size(looked: Looked, variables: nnx.State, x: Input, lengths: Ends | None) -> int:
    """As many samples at once as memory is granted for, read off the shapes."""
    given = None if lengths is None else jax.ShapeDtypeStruct((1,), jnp.int32)
    one = jax.eval_shape(looked, variables, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), given)
    each = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(one))
    return max(1, min(MOST, len(x), MEMORY // max(1, each)))


def is_right(
    y: Targets, predictions: Integer[np.ndarray, "samples *time"], lengths: Ends | None = None
) -> Bool[np.ndarray, " samples"]:
    """(samples,), whether the prediction is the label; with labels per step, whether most of those predictions are."""
    if y.ndim == 1:
        return y == predictions
    counts = counted(y, lengths)
    return ((y == predictions) & counts).sum(1) > 0.5 * counts.sum(1)


def counted(y: Targets, lengths: Ends | None) -> Bool[np.ndarray, "samples *time"]:
    """Which labels count: not -1, nor those after the end of a sample."""
    inside = True if lengths is None or y.ndim == 1 else np.arange(y.shape[1]) < np.asarray(lengths)[:, None]
    return (y >= 0) & inside


def choose(
    x: Input,
    y: Targets,
    predictions: Integer[np.ndarray, "samples *time"],
    most: int,
    lengths: Ends | None = None,
) -> list[int]:
    """Samples that show something: of the right ones and the wrong ones, in turn over the classes, those whose number
    of events is nearest to the median.

    The first is a right one with a median number of events, where there is one.
    """
    events = (x != 0).reshape(len(x), -1).sum(1)
    distance = np.abs(events - np.median(events))
    right = is_right(y, predictions, lengths)
    groups = y if y.ndim == 1 else np.zeros(len(x), int)
    found: list[int] = []
    for wanted in (right, ~right):
        of_class = {
            label: [
                int(i)
                for i in np.flatnonzero(wanted & (groups == label))[
                    np.argsort(distance[wanted & (groups == label)], kind="stable")
                ]
            ]
            for label in np.unique(groups[wanted])
        }
        order = [
            rows[turn]
            for turn in range(max(map(len, of_class.values()), default=0))
            for rows in of_class.values()
            if turn < len(rows)
        ]
        taken = order[: most // 2]
        found += sorted(taken, key=lambda i: distance[i])
    return found
