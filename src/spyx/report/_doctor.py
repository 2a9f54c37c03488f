"""`doctor`: why a network does not learn, read off one batch: its input, its layers and its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import fn, nn
from spyx.fn._traces import TraceFunction
from spyx.nn._layer import as_layer
from spyx.report._data_checks import of_history, of_input, of_labels, of_lengths, of_parts, of_range, of_targets
from spyx.report._findings import Diagnosis, Finding
from spyx.report._layer_checks import of_gradients, of_layers
from spyx.report._probe import Probe, probe

if TYPE_CHECKING:
    from spyx.fn import LossFn
    from spyx.nn._layer import Model
    from spyx.report.types import Batch, History, Lengths, Loss, Objective, Part, Rows, Samples

OWNER = "spyx.report.doctor"


def doctor(
    model: Model,
    batch: Batch,
    *,
    loss: Loss | None = None,
    objective: Objective | None = None,
    lengths: Lengths | None = None,
    held_out: Mapping[str, Part] | None = None,
    history: History = (),
) -> Diagnosis:
    """Look for what keeps a network from learning, on one batch, and say what to change.

    Looked at are the input (NaN, empty, constant, saturated, out of scale, axes that look swapped), the labels (out of
    range, constant, one-hot, given away by one input, different for the same input), every layer (parameters that are
    NaN, zero or equal, units that never or always fire, membranes where the surrogate has no slope, states that
    explode, parameters at the end of their range, a readout without memory), the gradient (parameters that no loss
    reaches, gradients that are NaN, explode or vanish through depth and time, steps that change nothing), and, where
    they are given, samples that parts share and a loss that falls while the accuracy stays at chance.

    A cause is named, not what follows from it: behind a silent layer, other silent layers are not listed.

    Args:
        model: any network that `spyx.nn.run` takes; it is not changed. Dropout and BatchNorm are in evaluation mode.
        batch: `(x, y)`: input (batch, time, *features) and labels (batch,) or (batch, time), where -1 is a step without
            one; or `x` alone, which leaves labels and gradients out; or a batch of a `spyx.data.Loader`. A few hundred
            samples are enough.
        loss: `(traces, targets) -> loss`; None is `spyx.fn.integral_crossentropy()`.
        objective: `(model, *batch) -> loss` as `spyx.optimize.fit` takes it, in place of `loss`.
        lengths: steps of each sample that count, as for `spyx.nn.run`; a loss of `spyx.fn` is given them too.
        held_out: other parts of the data by name, `{"test": (x, y)}`, in which samples of the batch are looked for;
            the batch should then be the whole training part.
        history: of a training, one dictionary per epoch with `train_loss` and `eval_acc`.

    Returns:
        A `Diagnosis`, a list of `Finding`.

    Raises:
        TypeError: a model that is no network.

    Example:
        >>> from flax import nnx
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.LIF(3, threshold=50.0, beta=0.9))
        >>> found = doctor(net, jnp.ones((2, 5, 4)).at[:, ::2].set(0.0))
        >>> found[0].what, found[0].where
        ('silent layer', '1 LIF')
    """
    return examine(model, batch, loss, objective, lengths, held_out, history).found


class Examination(NamedTuple):
    """Findings, and what they were found in; `seen` is None where the data alone say enough."""

    found: Diagnosis
    seen: Probe | None


def examine(
    model: Model,
    batch: Batch,
    loss: Loss | None = None,
    objective: Objective | None = None,
    lengths: Lengths | None = None,
    held_out: Mapping[str, Part] | None = None,
    history: History = (),
) -> Examination:
    """`doctor`, with the numbers that were measured."""
    x, more, lengths = taken_apart(batch, lengths)
    layer = as_layer(OWNER, model)
    layer = layer if layer.container else nn.Sequential(layer)
    x = np.asarray(x)
    y = np.asarray(more[0]) if more else None
    scored = objective is None and (loss is None or isinstance(loss, TraceFunction))
    labelled = y is not None and y.ndim in (1, 2)
    if y is None or scored:
        found = of_input(x, y) + (of_labels(x, y) if labelled else [])  # type: ignore[arg-type]
    else:  # a loss of one's own: whole numbers of the shape of labels are labels, other numbers are targets
        whole = np.issubdtype(y.dtype, np.integer)
        labelled = labelled and whole and (y.ndim == 1 or y.shape[:1] != x.shape[:1] or y.shape == x.shape[:2])
        found = of_input(x, y) + (of_labels(x, y) if labelled else [] if whole else of_targets(x, y))
    if labelled and y.ndim == 1 and np.shape(lengths) == y.shape:  # type: ignore[union-attr]
        found += of_lengths(lengths, y)  # type: ignore[arg-type]
    if held_out and not any(finding.what == "samples that look alike" for finding in found):
        found += of_parts(x, held_out)
    found += of_history(history, y)
    seen = None
    if not any(finding.weight >= 95 for finding in found):  # else nothing that runs would mean anything
        per_step = labelled and y.ndim == 2  # type: ignore[union-attr]
        chosen = objective or loss or default_loss(per_step=per_step)
        rest = tuple(jnp.asarray(part) for part in more)
        ends = None if lengths is None else jnp.asarray(lengths)
        try:
            seen = probe(layer, jnp.asarray(x), rest, chosen, ends, whole=objective is not None)
        except (ValueError, TypeError):
            if (axes := order_that_runs(layer, x)) is None:
                raise
            return Examination(Diagnosis([_swapped(x, axes), *found]), None)
        if labelled and seen.classes and objective is None and (scored or seen.classes > 1):
            found += of_range(y, seen.classes)  # type: ignore[arg-type]
        largest = float(np.abs(x).max()) if np.issubdtype(x.dtype, np.floating) else 1.0
        found += of_layers(seen, x.shape[1], largest)
        if (more or objective is not None) and not seen.not_finite:
            found += of_gradients(seen, found, x.shape[1])
    return Examination(Diagnosis(sorted(found, key=lambda finding: -finding.weight)), seen)


def taken_apart(batch: Batch, lengths: Lengths | None) -> tuple[Samples, tuple[Rows, ...], Lengths | None]:
    """Input, the rest of the batch, and lengths; of a loader's batch the rows that are no padding."""
    if not isinstance(batch, (tuple, list)):
        return batch, (), lengths
    if not hasattr(batch, "_fields"):
        return batch[0], tuple(batch[1:]), lengths
    x, y, mask = batch[0], batch[1], getattr(batch, "mask", None)
    lengths = getattr(batch, "lengths", None) if lengths is None else lengths
    if mask is not None and not np.asarray(mask).all():
        rows = np.asarray(mask)
        x, y = np.asarray(x)[rows], np.asarray(y)[rows]
        lengths = None if lengths is None else np.asarray(lengths)[rows]
    return x, (y,), lengths


@cache
def default_loss(*, per_step: bool) -> LossFn:
    """What is minimised where no loss is given."""
    return fn.integral_crossentropy(ignore=-1 if per_step else None)


def order_that_runs(layer: nn.Layer, x: Samples) -> tuple[int, ...] | None:
    """The order of the axes behind that of samples in which the network takes `x`; None where it takes it as it is."""

    def runs(axes: tuple[int, ...]) -> bool:
        shape = jax.ShapeDtypeStruct(tuple(x.shape[axis] for axis in axes), jnp.result_type(x))
        try:
            jax.eval_shape(lambda x: nn.run(nnx.clone(layer), x, mode="layer")[0], shape)
        except (ValueError, TypeError):
            return False
        return True

    orders = sorted(((0, *rest) for rest in permutations(range(1, x.ndim))), key=_moved)
    if x.ndim > 6 or runs(orders[0]):
        return None
    return next((axes for axes in orders[1:] if runs(axes)), None)


def _moved(axes: tuple[int, ...]) -> int:
    return sum(axis != place for place, axis in enumerate(axes))


def _swapped(x: Samples, axes: tuple[int, ...]) -> Finding:
    shape = tuple(x.shape[axis] for axis in axes)
    number = f"the network cannot take x of shape {x.shape}, and could take {shape}"
    change = "x.swapaxes(1, 2)." if axes == (0, 2, 1) else f"x.transpose{axes}."
    return Finding("axes look swapped", "input", number, "Time and features are exchanged.", change, 98)
