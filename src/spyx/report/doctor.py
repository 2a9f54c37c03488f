"""`doctor`: why a network does not learn, read off one batch: its input, its layers and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from spyx import fn, nn
from spyx.nn.layer import as_layer
from spyx.report.operations import named_layers
from spyx.report.probe import NeuronProbe, probe

SILENT, BUSY = 0.75, 0.9
"""Share of silent units, and of steps in which a layer fires, from which either is a finding."""

SLOPE = 5e-4
"""Mean slope of a surrogate at the membranes, over its largest, below which nothing is learnt through it."""

EXPLODING, VANISHING = 1e4, 1e-6
"""Ratio of gradients, early over late in time, that is a finding."""


@dataclass(frozen=True)
class Finding:
    """One thing that keeps a network from learning.

    Args:
        what: a name, the same for every network.
        where: the layer, by path and kind, or "input", "labels", "loss".
        number: what was measured.
        why: why it matters.
        change: what to try first.
        weight: how much it matters; findings are ordered by it.

    Example:
        >>> print(Finding("empty input", "input", "all values are 0", "Nothing arrives.", "check the encoder.", 99))
        empty input at input: all values are 0. Nothing arrives. Try: check the encoder.
    """

    what: str
    where: str
    number: str
    why: str
    change: str
    weight: float

    def __str__(self) -> str:
        return f"{self.what} at {self.where}: {self.number}. {self.why} Try: {self.change}"


class Diagnosis(list[Finding]):
    """Findings, the weightiest first; empty for a network in which nothing was found. It prints as a list.

    Example:
        >>> print(Diagnosis())
        nothing found: input, labels, activity and gradients look healthy
    """

    def __str__(self) -> str:
        if not self:
            return "nothing found: input, labels, activity and gradients look healthy"
        return "\n".join(f"{k}. {finding}" for k, finding in enumerate(self, 1))

    __repr__ = __str__


def doctor(model: Any, batch: Any, *, loss: Callable[..., Any] | None = None, lengths: Any = None) -> Diagnosis:
    """Look for what keeps a network from learning, on one batch, and say what to change.

    Looked at are the input (NaN, empty, constant, saturated, axes that look swapped), the labels (out of range,
    constant, given away by one input), every layer (weights that are zero, units that never or always fire, membranes
    where the surrogate has no slope, states that explode, parameters at the end of their range, a readout without
    memory), and the gradient (parameters that no loss reaches, gradients that explode or vanish through time).

    A cause is named, not what follows from it: behind a silent layer, other silent layers are not listed.

    Args:
        model: any network that `spyx.nn.run` takes; it is not changed. Dropout and BatchNorm are in evaluation mode.
        batch: `(x, y)`: input (batch, time, *features) and labels (batch,) or (batch, time), where -1 is a step without
            one; or `x` alone, which leaves labels and gradients out. A few hundred samples are enough.
        loss: `(traces, targets) -> loss`; None is `spyx.fn.integral_crossentropy()`.
        lengths: steps of each sample that count, as for `spyx.nn.run`; a loss of `spyx.fn` is given them too.

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
    x, y = batch if isinstance(batch, tuple) else (batch, None)
    layer = as_layer("spyx.report.doctor", model)
    layer = layer if layer.container else nn.Sequential(layer)
    x = np.asarray(x)
    found = _of_input(x)
    if y is not None:
        y = np.asarray(y)
        found += _of_labels(x, y)
    first = _first_width(layer, x)
    if first is not None:
        found.append(first)
    if not any(finding.weight >= 95 for finding in found):  # else nothing that runs would mean anything
        per_step = y is not None and y.ndim == 2
        loss = loss or fn.integral_crossentropy(ignore=-1 if per_step else None)
        given = (jnp.asarray(x), None if y is None else jnp.asarray(y))
        seen = probe(layer, *given, loss, None if lengths is None else jnp.asarray(lengths))
        if y is not None:
            found += _of_range(y, seen.classes)
        found += _of_layers(seen, x.shape[1])
        if y is not None:
            found += _of_gradients(seen, found)
    return Diagnosis(sorted(found, key=lambda finding: -finding.weight))


def _of_input(x: np.ndarray) -> list[Finding]:
    if x.ndim < 2 or x.size == 0:
        return [Finding("no data", "input", f"shape {x.shape}", "There is nothing to learn from.", "check x.", 100)]
    if np.issubdtype(x.dtype, np.floating) and (count := int((~np.isfinite(x)).sum())):
        number = f"{count} of {x.size} values are NaN or infinite"
        return [Finding("NaN in the input", "input", number, "One makes every number NaN.", "drop or fill them.", 100)]
    low, high = float(x.min()), float(x.max())
    if low == high == 0:
        why = "Nothing reaches the first layer."
        change = "a lower threshold of the encoder, or check how the data are read."
        return [Finding("empty input", "input", "all values are 0", why, change, 99)]
    share = float((x != 0).mean())
    binary = bool(np.isin(x, (0, 1)).all())
    if low == high or (binary and share > 0.8):
        number = f"every value is {low:g}" if low == high else f"{share:.0%} of the entries are spikes"
        why = "An input that hardly changes says nothing about a sample."
        return [
            Finding("saturated input", "input", number, why, "a higher threshold of the encoder, or scale x.", 96.5)
        ]
    if x.shape[1] == 1 and x.shape[0] > 1:
        why = "A spiking network needs time; axis 1 is time unless time_axis says otherwise."
        return [Finding("axes look swapped", "input", f"1 time step in shape {x.shape}", why, "time_axis=0.", 90)]
    if high > 100:
        number, why = f"values up to {high:g}", "Neurons have thresholds near 1: all of them fire at every step."
        return [Finding("input out of scale", "input", number, why, "divide x by its largest value.", 80)]
    return []


def _of_labels(x: np.ndarray, y: np.ndarray) -> list[Finding]:
    if y.shape[:1] != x.shape[:1]:
        if y.shape[:1] == x.shape[1:2]:
            number = f"{len(y)} labels for x of shape {x.shape}, whose axis 1 has as many entries"
            why = "Time and samples are exchanged: states are carried from sample to sample."
            return [Finding("axes look swapped", "input", number, why, "x.swapaxes(0, 1), or time_axis=0.", 98)]
        number = f"{len(y)} labels for {len(x)} samples"
        return [
            Finding("labels do not fit", "labels", number, "Each sample needs one.", "check how they are read.", 98)
        ]
    if y.ndim != 1 or len(y) < 2:
        return []
    classes = np.unique(y)
    if len(classes) == 1:
        why = "A network that always says the same is right."
        return [Finding("constant labels", "labels", f"all are {classes[0]}", why, "shuffle before batching.", 97)]
    if len(y) >= 3 * len(classes) and (leak := _leak(x, y, classes)) is not None:
        why = "The network learns to read the label, and nothing of the data."
        number = f"input {leak} has one value for each class, and classes differ in it"
        return [Finding("label leak", "input", number, why, "remove that input.", 96)]
    return []


def _leak(x: np.ndarray, y: np.ndarray, classes: np.ndarray) -> tuple[int, ...] | None:
    """A feature whose sum over time is the same in all samples of a class, and differs between classes."""
    totals = x.sum(1, dtype=np.float64).reshape(len(x), -1)
    groups = [totals[y == label] for label in classes]
    if min(map(len, groups)) < 2:
        return None
    within = np.all([(group == group[0]).all(0) for group in groups], axis=0)
    between = np.ptp([group[0] for group in groups], axis=0) > 0
    where = np.flatnonzero(within & between)
    return tuple(int(i) for i in np.unravel_index(where[0], x.shape[2:])) if where.size else None


def _first_width(layer: Any, x: np.ndarray) -> Finding | None:
    inside = list(named_layers(layer, layer.state_for(jnp.asarray(x[:, 0]))).items()) if x.ndim > 1 and x.size else []
    if not inside or x.ndim != 3:
        return None
    path, first = inside[0]
    takes = first._widths[0]
    if takes is None or takes == x.shape[-1] or takes != x.shape[1]:
        return None
    number = f"layer {path} takes {takes} features; x has {x.shape[1]} on axis 1 and {x.shape[-1]} on the last"
    why = "Time and features are exchanged."
    return Finding("axes look swapped", "input", number, why, "x.swapaxes(1, 2).", 98)


def _of_range(y: np.ndarray, classes: int) -> list[Finding]:
    outside = (y < (-1 if y.ndim == 2 else 0)) | (y >= classes)
    if not outside.any():
        return []
    number = f"{int(outside.sum())} of {y.size} are outside 0..{classes - 1}, the first is {y[outside][0]}"
    return [Finding("labels out of range", "labels", number, "They have no class.", "number classes from 0.", 97)]


def _of_layers(seen: Any, steps: int) -> list[Finding]:
    found: list[Finding] = []
    for connection in seen.connections:
        if connection.zero:
            why = "Nothing passes it, and no gradient passes it on."
            number = f"all {connection.size} weights are 0"
            found.append(Finding("zero weights", connection.name, number, why, "an initialiser that is random.", 95))
    silenced = bool(found)
    for neuron in seen.neurons:
        found += _of_pins(neuron)
        if not neuron.finite or neuron.largest > EXPLODING:
            number = f"states up to {neuron.largest:.3g}" if neuron.finite else "states that are not finite"
            why = "Numbers of that size drown everything else."
            change = "a decay below 1, a smaller recurrent weight, or smaller inputs."
            found.append(Finding("exploding states", neuron.name, number, why, change, 93))
            break
        if not neuron.spikes:
            if abs(neuron.decay) < 0.05 and neuron.last and steps > 5:
                number = f"{neuron.decay:.2g} of its state is left after a step, of {steps} steps"
                why = "The readout knows the last step alone."
                found.append(Finding("readout without memory", neuron.name, number, why, "beta=0.9.", 76))
            continue
        if not silenced:
            problem = _of_activity(neuron)
            found += problem
            silenced = any(finding.what in ("silent layer", "input never positive") for finding in problem)
    return found


def _of_activity(neuron: NeuronProbe) -> list[Finding]:
    if neuron.silent == 1:
        if neuron.input_high <= 0:
            where = neuron.fed_by or neuron.name
            number = f"its output, the input of {neuron.name}, is never above {neuron.input_high:.3g}"
            why = "No unit can reach its threshold."
            change = "a bias of 0, smaller weights, or another seed."
            return [Finding("input never positive", where, number, why, change, 94)]
        number = f"no unit fires; the membrane stays {-neuron.nearest:.3g} below the threshold at best"
        why = "The layers behind it see nothing, and the surrogate has hardly a slope there."
        change = "a lower threshold, larger weights (spyx.nn.Linear(kernel_init=)), or a wider surrogate."
        return [Finding("silent layer", neuron.name, number, why, change, 94)]
    if neuron.rate > BUSY:
        number = f"it fires in {neuron.rate:.0%} of all steps"
        why = "A layer that always fires says nothing, and its membrane is far from the threshold."
        change = "smaller weights, a higher threshold, or a smaller decay."
        return [Finding("saturated layer", neuron.name, number, why, change, 85)]
    if neuron.slope < SLOPE:
        number = f"the slope at the membranes is {neuron.slope:.1e} of its largest"
        why = "Hardly any gradient passes the spikes."
        return [Finding("surrogate without slope", neuron.name, number, why, "a wider one, axn.superspike(5).", 88)]
    if neuron.silent > SILENT:
        number = f"{neuron.silent:.0%} of its units never fire on this batch"
        why = "They cost as much as the others and learn slowly."
        return [Finding("silent units", neuron.name, number, why, "a lower threshold or larger weights.", 40)]
    return []


def _of_pins(neuron: NeuronProbe) -> list[Finding]:
    found = []
    for name, share, at in neuron.pinned:
        if share > 0.5:
            number = f"{share:.0%} of {name} is stored outside of its range and clipped to {at:g}"
            why = "A clipped parameter has no gradient and never comes back."
            change = f'a start inside the range, or nn.decay(low=, high=, by="sigmoid") for {name}.'
            found.append(Finding("pinned parameter", neuron.name, number, why, change, 75))
    return found


def _of_gradients(seen: Any, found: list[Finding]) -> list[Finding]:
    if not seen.loss_finite:
        why = "Nothing can be minimised."
        return [Finding("loss not finite", "loss", "NaN or infinite", why, "look at the loss and the targets.", 92)]
    causes = {"zero weights", "silent layer", "input never positive", "surrogate without slope"}
    hidden = any(finding.what in causes for finding in found)
    more = []
    if not hidden:
        dead = [name for name, size in seen.gradients.items() if size == 0]
        if dead:
            number = f"the gradient of {', '.join(dead)} is exactly 0"
            why = "The loss does not depend on it, or something cuts the gradient (stop_gradient, a step function)."
            more.append(Finding("no gradient", dead[-1], number, why, "look at what lies between it and the loss.", 91))
    if seen.time_ratio is not None and not hidden:
        if seen.time_ratio > EXPLODING or not np.isfinite(seen.time_ratio):
            where = next((n.name for n in seen.neurons if n.recurrent), "loss")
            number = f"the gradient of the first steps is {seen.time_ratio:.1e} times that of the last"
            why = "One update follows the first steps alone, and jumps."
            change = "a smaller recurrent weight, clipping by norm, or a narrower surrogate."
            more.append(Finding("exploding gradient", where, number, why, change, 89))
        elif 0 <= seen.time_ratio < VANISHING:
            number = f"the gradient of the first steps is {seen.time_ratio:.1e} times that of the last"
            why = "What happens early is not learnt."
            more.append(Finding("vanishing gradient", "loss", number, why, "a decay closer to 1, or fewer steps.", 60))
    return more
