"""How a batch reaches a loss or a metric: arguments by position, a loader's mask and lengths by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from flax import nnx

from spyx import nn
from spyx.data import Batch, SequenceBatch
from spyx.fn._metrics import Accuracy
from spyx.fn._regression import PairFunction
from spyx.fn._traces import TraceFunction

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int

    from spyx.nn._mask_arguments import Lengths
    from spyx.optimize.types import Loss, Metric, OneBatch, Scores

ADVICE = {
    "lengths": "Add lengths, and pass it on: nn.run(model, x, lengths=lengths) and loss(traces, y, lengths=lengths); "
    "or give the loss of spyx.fn itself.",
    "mask": "Add mask, and give rows that are padding weight 0: loss(traces, y, weights=mask); or give the loss of "
    "spyx.fn itself.",
}


def call(owner: str, function: Loss | Metric, model: nnx.Module, batch: OneBatch) -> Scores:
    """`function(model, *batch)`, or for a function of `spyx.fn` that of the network's outputs and the targets.

    Args:
        owner: the public name of the caller, and of the argument that the function was given as.
        function: of spyx.fn, or `(model, *batch) -> result`. Of a `Batch` or `SequenceBatch` it takes `(model, x, y)`,
            and `mask` and `lengths` by name; with more arguments after y, without these names, they come in this order.
        model: the network.
        batch: the arguments; a mask or lengths of None are not there.
    """
    named = isinstance(batch, (Batch, SequenceBatch))
    if isinstance(function, (TraceFunction, PairFunction)):
        if len(batch) != 2 and not named:
            raise ValueError(
                f"{owner}: expected batches (x, y) for a function of spyx.fn; got {len(batch)} parts. "
                "Write a function of your own, (model, *batch)."
            )
        result = _of_traces(function, model, batch)
        return result[0] if isinstance(function, Accuracy) else result
    if not named:
        return function(model, *batch)
    more = {name: value for name in ("mask", "lengths") if (value := getattr(batch, name, None)) is not None}
    takes = _takes(function)
    if takes.everything:
        return function(model, batch.x, batch.y, *more.values())
    given: dict[str, Bool[Array, " batch"] | Int[Array, " batch"]] = {}
    for name, value in more.items():
        if (known_as := getattr(takes, name)) is None:
            raise TypeError(
                f"{owner}: expected a function that takes {name}, because the batches have it; got "
                f"{takes.signature}. {ADVICE[name]}"
            )
        given[known_as] = value
    return function(model, batch.x, batch.y, **given)


def without_padding(owner: str, function: Loss | Metric, batch: OneBatch) -> OneBatch:
    """The batch as it is where the function takes its mask; otherwise its real rows, without a mask.

    The last batch of a loader is then smaller, so that a compiled function is compiled once more.
    """
    if not isinstance(batch, (Batch, SequenceBatch)) or batch.mask is None or takes_mask(function):
        return batch
    if isinstance(batch.mask, jax.Array) and len(batch.mask.sharding.device_set) > 1:
        raise TypeError(
            f"{owner}: expected a function that takes mask, because the batches are spread over devices; got "
            f"{_takes(function).signature}. {ADVICE['mask']}"
        )
    rows = np.asarray(batch.mask)
    return jax.tree.map(lambda a: a if rows.all() else a[rows], batch._replace(mask=None))  # type: ignore[arg-type]


def takes_mask(function: Loss | Metric) -> bool:
    """Does a function weigh rows that are padding by itself?"""
    takes = _takes(function)
    return isinstance(function, (TraceFunction, PairFunction)) or takes.everything or takes.mask is not None


def rows_of(batch: OneBatch) -> int:
    """How many samples a batch holds, without padding."""
    mask = getattr(batch, "mask", None) if isinstance(batch, (Batch, SequenceBatch)) else None
    return np.shape(jax.tree.leaves(batch)[0])[0] if mask is None else int(mask.sum())


def as_batch(batch: OneBatch, lengths: Lengths | None = None) -> OneBatch:
    """The arguments of a single step as one batch: a loader's alone, or parts, with lengths or without."""
    if len(batch) == 1 and isinstance(batch[0], (Batch, SequenceBatch)):
        batch = batch[0]
    if lengths is None:
        return batch
    return SequenceBatch(batch[0], batch[1], getattr(batch, "mask", None), lengths)  # type: ignore[arg-type]


class _Takes(NamedTuple):
    """The names by which a function takes a mask and lengths, None where it does not."""

    signature: str
    everything: bool
    mask: str | None
    lengths: str | None


def _takes(function: Loss | Metric) -> _Takes:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return _Takes("(...)", True, None, "lengths")
    parameters = list(signature.parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return _Takes(str(signature), True, None, "lengths")
    named = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named |= {"mask", "lengths"}
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][3:]
    others = iter([name for name in places if name not in ("mask", "lengths")])
    found = {name: name if name in named else next(others, None) for name in ("mask", "lengths")}
    return _Takes(str(signature), False, **found)


def _of_traces(function: TraceFunction | PairFunction, model: nnx.Module, batch: OneBatch) -> Scores:
    """What a function of spyx.fn makes of the outputs of the network; rows that are padding have weight 0."""
    lengths, mask = getattr(batch, "lengths", None), getattr(batch, "mask", None)
    stops = {} if lengths is None else {"lengths": lengths}
    traces, _ = nn.run(model, batch[0], time_axis=function.time_axis, **stops)
    return function(traces, batch[1], **stops, **({} if mask is None else {"weights": mask}))
