"""`treat`: the changes that the doctor names, applied where they can be, and the numbers after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import axn, nn
from spyx.nn._fields import Within
from spyx.nn._layer import as_layer
from spyx.nn._layers_by_path import kernel_of, named_layers
from spyx.nn._neuron import Neuron
from spyx.report._data_checks import leaking
from spyx.report._doctor import Examination, examine, order_that_runs, taken_apart
from spyx.report._findings import Diagnosis, Finding
from spyx.report._layer_checks import condition

if TYPE_CHECKING:
    from jaxtyping import Num

    from spyx.nn._layer import Model
    from spyx.report.types import Batch, Layers, Lengths, Loss, Objective, Rows

RATE = 0.1
"""Spikes per unit and step that `spyx.nn.calibrate` is asked for."""


@dataclass(frozen=True)
class Change:
    """A finding that was treated.

    Args:
        finding: as it was.
        change: what was done.
        number: what is measured afterwards.
        gone: the finding is not there any more.

    Example:
        >>> finding = Finding("silent layer", "1 LIF", "no unit fires", "Nothing passes.", "calibrate.", 94)
        >>> print(Change(finding, "weights were scaled", "1 LIF fires in 9.8% of all steps", gone=True))
        silent layer at 1 LIF: no unit fires. Done: weights were scaled. Now: 1 LIF fires in 9.8% of all steps
    """

    finding: Finding
    change: str
    number: str
    gone: bool

    def __str__(self) -> str:
        kept = "" if self.gone else " (it is still found)"
        before = f"{self.finding.what} at {self.finding.where}: {self.finding.number}"
        return f"{before}. Done: {self.change}. Now: {self.number}{kept}"


@dataclass
class Treatment:
    """What `treat` did. It prints as a list.

    Args:
        model: a network with the changes; the one that was given is as it was.
        batch: the batch with the changes.
        changes: in the order in which they were made.
        left: findings that remain.

    Example:
        >>> print(Treatment(model=nn.Sequential(nn.IF(1)), batch=np.zeros((1, 1, 1))))
        nothing to treat
        nothing found: input, labels, activity and gradients look healthy
    """

    model: nn.Layer
    batch: Batch
    changes: list[Change] = field(default_factory=list)
    left: Diagnosis = field(default_factory=Diagnosis)

    def __str__(self) -> str:
        lines = [f"{number}. {change}" for number, change in enumerate(self.changes, 1)] or ["nothing to treat"]
        return "\n".join([*lines, f"left:\n{self.left}" if self.left else str(self.left)])

    __repr__ = __str__


def treat(
    model: Model,
    batch: Batch,
    *,
    loss: Loss | None = None,
    objective: Objective | None = None,
    lengths: Lengths | None = None,
) -> Treatment:
    """Apply the change that `doctor` names, where it can be applied without asking, and look again; and so on.

    Treated are layers that are silent, saturated or without weights (`spyx.nn.calibrate`), surrogates without slope,
    pinned parameters, recurrent weights that explode, a readout without memory, axes, scales and NaN of the input,
    inputs that give the label away, and labels that are one-hot or counted from 1. What needs another encoder, other
    data or another network is left, and says so.

    Args:
        model: as for `doctor`; a copy is changed.
        batch: `(x, y)` or `x`, as for `doctor`.
        loss: as for `doctor`.
        objective: as for `doctor`.
        lengths: as for `doctor`.

    Returns:
        A `Treatment`: the network, the batch, what was done, and what is left.

    Raises:
        TypeError: a model that is no network.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 32, rngs=nnx.Rngs(0)), nn.LIF(32, threshold=50.0, beta=0.9))
        >>> x = jax.random.bernoulli(jax.random.key(0), 0.2, (4, 20, 8)).astype(jnp.float32)
        >>> found = treat(net, x)
        >>> found.changes[0].finding.what, found.changes[0].gone, len(found.left)
        ('silent layer', True, 0)
    """
    x, more, lengths = taken_apart(batch, lengths)
    x, more = np.asarray(x), list(more)
    layer = as_layer("spyx.report.treat", model)
    model = nnx.clone(layer if layer.container else nn.Sequential(layer))
    work = _Work(model, x, more)
    treatment = Treatment(model, batch)
    tried: set[tuple[str, str]] = set()

    def look() -> Examination:
        return examine(work.model, (work.x, *work.more) if work.more else work.x, loss, objective, lengths)

    now = look()
    while (finding := _next(now.found, tried)) is not None:
        tried.add((finding.what, finding.where))
        done = TREATMENTS[finding.what](work, finding)
        if done is None:
            continue
        now = look()
        gone = not any((f.what, f.where) == (finding.what, finding.where) for f in now.found)
        number = _now(work, finding, now)
        treatment.changes.append(Change(finding, done, number, gone))
    treatment.model, treatment.left = work.model, now.found
    treatment.batch = (work.x, *work.more) if work.more else work.x
    return treatment


def _next(found: Diagnosis, tried: set[tuple[str, str]]) -> Finding | None:
    return next((f for f in found if f.what in TREATMENTS and (f.what, f.where) not in tried), None)


@dataclass
class _Work:
    """What is changed: a copy of the network, and the parts of the batch."""

    model: nn.Layer
    x: Num[np.ndarray, "samples time *features"]
    more: list[Rows]

    def layers(self) -> Layers:
        """By path and kind, as findings name them."""
        inside = named_layers(self.model, self.model.state_for(jnp.asarray(self.x[:, 0])))
        return {f"{path} {inner._kind}": inner for path, inner in inside.items()}

    def calibrated(self) -> str | None:
        try:
            nn.calibrate(self.model, jnp.asarray(self.x), rate=RATE)
        except (ValueError, TypeError):
            return None
        return f"spyx.nn.calibrate(model, x, rate={RATE}) scaled the weights"


def _calibrate(work: _Work, finding: Finding) -> str | None:
    return work.calibrated()


def _redraw(work: _Work, finding: Finding) -> str | None:
    """New weights, and a bias of 0, for layers whose weights cannot be scaled into use."""
    module = kernel_of(work.layers().get(finding.where))
    if module is None:
        return None
    kernel = module.kernel[...]
    fresh = nnx.initializers.lecun_normal()(jax.random.key(0), kernel.shape, kernel.dtype)
    module.kernel[...] = fresh
    if module.bias is not None:
        module.bias[...] = jnp.zeros_like(module.bias[...])
    scaled = work.calibrated()
    return f"weights of {finding.where} were drawn again and its bias set to 0" + (f"; {scaled}" if scaled else "")


def _widen(work: _Work, finding: Finding) -> str | None:
    neuron = work.layers().get(finding.where)
    if not isinstance(neuron, Neuron):
        return None
    neuron.activation = axn.superspike(5.0)
    return f"the surrogate of {finding.where} is superspike(5)"


def _unpin(work: _Work, finding: Finding) -> str | None:
    """Into the range, a twentieth of it away from the end."""
    neuron = work.layers().get(finding.where)
    done = []
    if not isinstance(neuron, Neuron):
        return None
    for name, variable in vars(neuron).items():
        within = neuron.constraint_of(name, variable) if isinstance(variable, nnx.Param) else None
        if not isinstance(within, Within) or within.by not in ("clip", "unit"):
            continue
        low, high = (0.0, 1.0) if within.by == "unit" else (within.low, within.high)
        room = 0.05 * (high - low) if low is not None and high is not None else 0.05
        before = np.asarray(variable[...])
        least = -np.inf if low is None else low + room
        most = np.inf if high is None else high - room
        after = np.clip(before, least, most)
        if (after != before).any():
            variable[...] = jnp.asarray(after, variable[...].dtype)
            done.append(name)
    return f"{', '.join(done)} of {finding.where} moved inside the range" if done else None


def _remember(work: _Work, finding: Finding) -> str | None:
    beta = getattr(work.layers().get(finding.where), "beta", None)
    if not isinstance(beta, nnx.Variable):
        return None
    beta[...] = jnp.full_like(beta[...], 0.9)
    return f"beta of {finding.where} is 0.9"


def _calm(work: _Work, finding: Finding) -> str | None:
    """Recurrent weights of a quarter of their size."""
    neuron = work.layers().get(finding.where)
    name = getattr(getattr(getattr(neuron, "step", None), "via", None), "name", None)
    weight = getattr(neuron, name, None) if name else None
    if not isinstance(weight, nnx.Variable):
        return None
    weight[...] = weight[...] / 4
    return f"recurrent weights of {finding.where} were divided by 4"


def _swap(work: _Work, finding: Finding) -> str | None:
    x, y = work.x, work.more[0] if work.more else None
    if x.shape[1] == 1 or (y is not None and len(y) != len(x) and len(y) == x.shape[1]):
        work.x = x.swapaxes(0, 1)
        return "axes 0 and 1 of x were exchanged"
    if (axes := order_that_runs(work.model, x)) is not None:
        work.x = x.transpose(axes)
        return f"x was transposed by {axes}"
    return None


def _scale(work: _Work, finding: Finding) -> str | None:
    largest = float(np.abs(work.x).max())
    work.x = (work.x / np.float32(largest)).astype(np.float32)
    return f"x was divided by {largest:.3g}"


def _fill(work: _Work, finding: Finding) -> str | None:
    work.x = np.nan_to_num(work.x, nan=0.0, posinf=0.0, neginf=0.0)
    return "values that are not finite are 0"


def _remove(work: _Work, finding: Finding) -> str | None:
    y = np.asarray(work.more[0])
    where = leaking(work.x, y, np.unique(y))
    if where is None:
        return None
    work.x = work.x.copy()
    work.x[(slice(None), slice(None), *where)] = 0
    return f"input {where} is 0"


def _relabel(work: _Work, finding: Finding) -> str | None:
    y = np.asarray(work.more[0])
    if y.ndim == 2 and y.shape[1] != work.x.shape[1] and bool((y.sum(1) == 1).all()):
        work.more[0] = y.argmax(1)
        return "labels are the places of the ones"
    if y.ndim == 1 and y.min() > 0:
        work.more[0] = y - y.min()
        return f"{y.min()} was taken from every label"
    return None


TREATMENTS: dict[str, Callable[[_Work, Finding], str | None]] = {
    "NaN in the input": _fill,
    "axes look swapped": _swap,
    "labels do not fit": _relabel,
    "labels out of range": _relabel,
    "label leak": _remove,
    "input out of scale": _scale,
    "zero weights": _redraw,
    "equal units": _redraw,
    "input never positive": _redraw,
    "silent layer": _calibrate,
    "saturated layer": _calibrate,
    "surrogate without slope": _widen,
    "pinned parameter": _unpin,
    "exploding gradient": _calm,
    "exploding states": _calm,
    "readout without memory": _remember,
}
"""How a finding is treated, by its name; each returns what it did, None where it could do nothing."""


def _now(work: _Work, finding: Finding, now: Examination) -> str:
    if finding.where == "input":
        return f"x has shape {work.x.shape} and values from {work.x.min():.3g} to {work.x.max():.3g}"
    if finding.where == "labels":
        y = np.asarray(work.more[0])
        return f"labels have shape {y.shape}, from {y.min()} to {y.max()}"
    return "measured again" if now.seen is None else condition(now.seen, finding.where)
