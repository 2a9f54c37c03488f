"""What the doctor asks of data: input, labels, parts that share samples, and the history of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from spyx.report._findings import Finding

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Num

    from spyx.report.types import History, Lengths, Part

    Input = Num[np.ndarray, "samples time *features"]
    Targets = Num[np.ndarray, "samples *time"]
    Classes = Num[np.ndarray, " classes"]
    """The labels that occur, each once."""
    Sums = Float[np.ndarray, "rows features"]
    """Of every feature over time; a row is a sample or a class."""

ALIKE = 0.05
"""Share of samples with the very input of a sample of another class from which it is a finding."""

EMPTY = 0.1
"""Share of samples without any input from which it is a finding."""

BUSY, CLIPPED = 0.8, 0.95
"""Share of spikes, and of graded values that are the largest, from which it is a finding."""

MANY = 5
"""Samples from which it is no chance that all have one label."""

STILL = 0.8
"""Share of the samples that have the usual value of their class, from which an input hardly varies."""

NEARLY, APART = 0.95, 50.0
"""Share of a class with one value, and distance of classes over their spread, from which an input gives them away."""

SHUFFLES = 20
"""Shuffled labels that a leak is compared with."""

SHARED = 0.01
"""Share of a held-out part that is in the training part from which it is a finding."""


def of_input(x: Input, y: Targets | None = None) -> list[Finding]:
    """Values of the input; with labels, samples without any input are a finding where they are not of one class."""
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
    binary = bool(np.isin(x, (0, 1)).all())
    share = float((x == high).mean()) if high else 0.0  # the lowest value may be a background
    if low == high or share > (BUSY if binary else CLIPPED):
        number = f"every value is {low:g}" if low == high else f"{share:.1%} of the values are {high:g}"
        number = f"{share:.0%} of the entries are spikes" if binary and low != high else number
        why = "An input that hardly changes says nothing about a sample."
        return [
            Finding("saturated input", "input", number, why, "a higher threshold of the encoder, or scale x.", 96.5)
        ]
    if x.shape[1] == 1 and x.shape[0] > 1:
        why = "A spiking network needs time; axis 1 is time unless time_axis says otherwise."
        return [Finding("axes look swapped", "input", f"1 time step in shape {x.shape}", why, "time_axis=0.", 90)]
    if high > 100 or low < -100:
        number, why = (
            f"values up to {max(high, -low):g}",
            "Thresholds are near 1: neurons fire at every step, or never.",
        )
        return [Finding("input out of scale", "input", number, why, "divide x by its largest value.", 94.5)]
    empty = (x == 0).reshape(len(x), -1).all(1)
    same = y is not None and y.shape[:1] == x.shape[:1] and len(np.unique(y[empty], axis=0)) == 1
    if empty.sum() > max(1, EMPTY * len(x)) and not (same and empty.sum() <= len(x) / 2):
        number = f"{empty.sum()} of {len(x)} samples have no input at all"
        why = "A network cannot tell them apart."
        return [Finding("empty samples", "input", number, why, "a lower threshold of the encoder, or drop them.", 58)]
    return []


def of_labels(x: Input, y: Targets) -> list[Finding]:
    """Labels beside the input."""
    if y.shape[:1] != x.shape[:1]:
        if y.shape[:1] == x.shape[1:2]:
            number = f"{len(y)} labels for x of shape {x.shape}, whose axis 1 has as many entries"
            why = "Time and samples are exchanged: states are carried from sample to sample."
            return [Finding("axes look swapped", "input", number, why, "x.swapaxes(0, 1), or time_axis=0.", 98)]
        number = f"{len(y)} labels for {len(x)} samples"
        return [
            Finding("labels do not fit", "labels", number, "Each sample needs one.", "check how they are read.", 98)
        ]
    if y.ndim == 2 and y.shape[1] != x.shape[1]:
        number = f"shape {y.shape} for x of shape {x.shape}"
        why = "A label is one whole number per sample, or one per step."
        hot = bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())
        change = "y.argmax(1): they are one-hot." if hot else "check how they are read."
        return [Finding("labels do not fit", "labels", number, why, change, 98)]
    if np.issubdtype(y.dtype, np.floating) and not np.isfinite(y).all():
        number = f"{int((~np.isfinite(y)).sum())} of {y.size} are NaN or infinite"
        return [Finding("NaN in the labels", "labels", number, "The loss is NaN.", "drop those samples.", 99)]
    if y.ndim == 2:
        counts = y >= 0
        first = y[np.arange(len(y)), counts.argmax(1)]
        if not counts.any(1).all() or ((y != first[:, None]) & counts).any():
            return _of_steps(x, y, counts)
        y = first
    if len(y) < 2 or (y != np.round(y)).any():
        return []
    classes = np.unique(y)
    if len(classes) == 1 and len(y) >= MANY:
        why = "A network that always says the same is right."
        return [Finding("constant labels", "labels", f"all are {classes[0]}", why, "shuffle before batching.", 97)]
    if len(classes) > 1 and len(y) >= 3 * len(classes) and (leak := leaking(x, y, classes)) is not None:
        why = "The network learns to read the label, and nothing of the data."
        number = f"input {leak} has one value for each class, or nearly, and classes differ in it"
        return [Finding("label leak", "input", number, why, "remove that input.", 96)]
    alike = _alike(x, y)
    if alike >= max(3, ALIKE * len(y)):
        number = how_alike(x, y)
        why = "No network can tell them apart."
        change = "an encoder that keeps more: a lower threshold, more steps, or the values themselves."
        return [Finding("samples that look alike", "input", number, why, change, 94.2)]
    return []


def _of_steps(x: Input, y: Targets, counts: Bool[np.ndarray, "samples time"]) -> list[Finding]:
    """Labels that differ from step to step: an input that holds the label of the very step."""
    classes = np.unique(y[counts])
    if len(classes) < 2 or (classes != np.round(classes)).any():
        return []
    flat = x.reshape(*x.shape[:2], -1)[counts]
    labels = y[counts]
    groups = [flat[labels == label] for label in classes]
    values = np.stack([group[0] for group in groups])
    same = np.all([(group == value).all(0) for group, value in zip(groups, values, strict=True)], axis=0)
    gives = same & (np.diff(np.sort(values, axis=0), axis=0) > 0).all(0)
    if min(map(len, groups)) < MANY or not gives.any() or gives.all():
        return []
    where = tuple(int(i) for i in np.unravel_index(int(np.flatnonzero(gives)[0]), x.shape[2:]))
    number = f"input {where} has one value for each class, in the very step of the label"
    why = "The network learns to read the label, and nothing of the data."
    return [Finding("label leak", "input", number, why, "remove that input.", 96)]


def of_lengths(lengths: Lengths, y: Targets) -> list[Finding]:
    """Lengths that give the label away."""
    lengths, classes = np.asarray(lengths), np.unique(y)
    groups = [lengths[y == label] for label in classes]
    usual = [group[0] for group in groups]
    own = all((group == value).all() for group, value in zip(groups, usual, strict=True))
    if not own or len(set(usual)) < len(classes) or len(classes) < 2 or min(map(len, groups)) < MANY:
        return []
    why = "The network learns to read the label, and nothing of the data."
    number = f"all samples of a class have one length, and every class has its own, from {min(usual)} to {max(usual)}"
    return [Finding("label leak", "input", number, why, "samples of one length, cut or padded.", 96)]


def of_targets(x: Input, y: Targets) -> list[Finding]:
    """Numbers beside the input, which an objective or a loss of one's own compares with the output."""
    if y.shape[:1] != x.shape[:1]:
        return []
    if np.issubdtype(y.dtype, np.floating) and not np.isfinite(y).all():
        number = f"{int((~np.isfinite(y)).sum())} of {y.size} are NaN or infinite"
        return [Finding("NaN in the labels", "labels", number, "The loss is NaN.", "drop those samples.", 99)]
    if not np.issubdtype(y.dtype, np.number):
        return []
    if len(y) >= MANY and not np.ptp(y):
        why = "A network that always says the same is right."
        return [Finding("constant labels", "labels", f"all are {y.flat[0]:g}", why, "check how they are read.", 97)]
    flat = x.reshape(*x.shape[:2], -1)
    still = (flat == flat[:, :1]).all((0, 1))
    if len(y) >= MANY and y.ndim < 3 and x.shape[1] > 1 and still.any() and still.mean() <= 0.5:
        columns = y.reshape(len(y), -1)
        for feature in np.flatnonzero(still & (np.ptp(flat[:, 0], axis=0) > 0)):
            if (flat[:, :1, feature] == columns).all(0).any():
                where = tuple(int(i) for i in np.unravel_index(int(feature), x.shape[2:]))
                number = f"input {where} is the target of the very sample, at every step"
                why = "The network learns to read the label, and nothing of the data."
                return [Finding("label leak", "input", number, why, "remove that input.", 96)]
    return []


def leaking(x: Input, y: Targets, classes: Classes) -> tuple[int, ...] | None:
    """A feature that gives the class away: in its sum, in its course, in one step, or nearly so.

    Shuffled labels must not have such a feature: with few samples of a class, chance makes some.
    """
    for gives in (_constant_in_classes, _nearly_constant_in_classes, _far_apart, _constant_in_one_step):
        where = gives(x, y, classes)
        if where is None:
            continue
        draw = np.random.default_rng(0)
        if any(gives(x, draw.permutation(y), classes) is not None for _ in range(SHUFFLES)):
            continue
        return tuple(int(i) for i in np.unravel_index(where, x.shape[2:]))
    return None


def _nearly_constant_in_classes(x: Input, y: Targets, classes: Classes) -> int | None:
    """A sum over time that nearly all samples of a class share, and another in each class: labels with a few errors.

    Where more than a tenth of the inputs are like that, it is what the data look like.
    """
    totals = x.reshape(*x.shape[:2], -1).sum(1, dtype=np.float64)
    groups = [totals[y == label] for label in classes]
    if min(map(len, groups)) < MANY:
        return None
    usual, share = _usual(groups)
    if len(classes) < 3 or _still(usual, share):
        return None
    gives = (share >= NEARLY) & (np.diff(np.sort(usual, axis=0), axis=0) > 0).all(0)
    return _one_of_few(gives)


def _usual(groups: list[Sums]) -> tuple[Sums, Float[np.ndarray, " features"]]:
    """The median of every class, and the share of all samples that have that of their class."""
    usual = np.stack([np.sort(group, axis=0)[len(group) // 2] for group in groups])
    same = np.sum([(group == value).sum(0) for group, value in zip(groups, usual, strict=True)], axis=0)
    return usual, same / sum(map(len, groups))


def _still(usual: Sums, share: Float[np.ndarray, " features"]) -> bool:
    """Many inputs hardly vary in a class, and differ between classes: pictures in black and white, say."""
    alike = (share >= STILL) & (np.ptp(usual, axis=0) > 0)
    return bool(alike.sum() > max(len(usual), len(share) / 4))


def _far_apart(x: Input, y: Targets, classes: Classes) -> int | None:
    """A sum over time in which all classes are many times their spread apart, and other features are not."""
    totals = x.reshape(*x.shape[:2], -1).sum(1, dtype=np.float64)
    groups = [totals[y == label] for label in classes]
    if min(map(len, groups)) < MANY:
        return None
    gaps = np.diff(np.sort([group.mean(0) for group in groups], axis=0), axis=0).min(0)
    spread = np.max([group.std(0) for group in groups], axis=0)
    return _one_of_few((gaps > APART * spread) & (spread > 0))


def _constant_in_one_step(x: Input, y: Targets, classes: Classes) -> int | None:
    """A step of a graded feature that has one value in each class, another in each, where hardly another step has."""
    groups = [x[y == label].reshape(-1, x.shape[1], math.prod(x.shape[2:])) for label in classes]
    if min(map(len, groups)) < MANY or np.isin(x, (0, 1)).all():
        return None
    values = np.stack([group[0] for group in groups])
    same = np.all([(group == value).all(0) for group, value in zip(groups, values, strict=True)], axis=0)
    gives = same & (np.diff(np.sort(values, axis=0), axis=0) > 0).all(0)
    return _one_of_few(gives.any(0)) if gives.mean() < 0.1 else None


def _one_of_few(gives: Bool[np.ndarray, " features"]) -> int | None:
    """The first of the features that give something away, where they are few of all."""
    found = np.flatnonzero(gives)
    return int(found[0]) if 0 < len(found) <= max(1, len(gives) / 10) and len(gives) > 1 else None


def _constant_in_classes(x: Input, y: Targets, classes: Classes) -> int | None:
    flat = x.reshape(*x.shape[:2], -1)
    totals = flat.sum(1, dtype=np.float64)
    groups = [totals[y == label] for label in classes]
    if min(map(len, groups)) < 2:
        return None
    within = np.all([(group == group[0]).all(0) for group in groups], axis=0)
    if not within.any() or within.all() or _still(*_usual(groups)):  # a toy, and not a leak
        return None
    first = [int(np.flatnonzero(y == label)[0]) for label in classes]
    differs = np.ptp(totals[first], axis=0) > 0
    for feature in np.flatnonzero(within & ~differs & (totals[first[0]] != 0)):
        course = flat[:, :, feature]
        same = all((course[y == label] == course[k]).all() for label, k in zip(classes, first, strict=True))
        differs[feature] = same and any((course[k] != course[first[0]]).any() for k in first)
    found = np.flatnonzero(within & differs)
    return int(found[0]) if found.size else None


def of_range(y: Targets, classes: int) -> list[Finding]:
    """Labels that are no class of the output."""
    outside = (y < (-1 if y.ndim == 2 else 0)) | (y >= classes)
    if not outside.any():
        return []
    number = f"{int(outside.sum())} of {y.size} are outside 0..{classes - 1}, the first is {y[outside][0]}"
    return [Finding("labels out of range", "labels", number, "They have no class.", "number classes from 0.", 97)]


def of_parts(x: Input, held_out: Mapping[str, Part]) -> list[Finding]:
    """Samples of a held-out part that are in the training part, bit by bit, where that part hardly repeats itself."""
    known = [sample.tobytes() for sample in np.ascontiguousarray(x)]
    there = set(known)
    repeated = 1 - len(there) / len(known)
    found = []
    for name, part in held_out.items():
        other = np.ascontiguousarray(np.asarray(part[0] if isinstance(part, tuple) else part).astype(x.dtype))
        if other.shape[1:] != x.shape[1:] or not len(other):
            continue
        shared = [sample.tobytes() in there for sample in other if sample.any()]
        share = sum(shared) / len(other)
        if sum(shared) >= 3 and share > SHARED and share > 2 * repeated:
            number = f"{sum(shared)} of {len(other)} samples are also in the training part, bit by bit"
            why = "What is measured there is memory, not generalisation."
            change = "split by recording or by person, before anything is cut or augmented."
            found.append(Finding("leakage between parts", name, number, why, change, 83))
    return found


def of_history(history: History, y: Targets | None) -> list[Finding]:
    """A loss that falls while the accuracy on held-out data stays where guessing is."""
    if y is None or y.ndim != 1 or len(history) < 3:
        return []
    losses = [row["train_loss"] for row in history if "train_loss" in row]
    scores = [row["eval_acc"] for row in history if "eval_acc" in row]
    if len(losses) < 3 or len(scores) < 3:
        return []
    classes, counts = np.unique(y, return_counts=True)
    even = counts.sum() / len(classes)
    # The largest count of a small batch is well above the mean where all classes are equally frequent.
    chance = counts.max() / counts.sum() if counts.max() > even + 4 * even**0.5 else 1 / len(classes)
    fell = 1 - losses[-1] / losses[0] if losses[0] > 0 else 0.0
    late = float(np.median(scores[-3:]))
    if len(classes) < 2 or fell < 0.2 or late > chance + 0.25 * (1 - chance) / len(classes) ** 0.5:
        return []
    number = (
        f"the training loss fell by {fell:.0%}, the accuracy on held-out data is {late:.1%}, by chance {chance:.1%}"
    )
    why = "What is learnt does not carry over: labels that do not belong to their samples, or samples learnt by heart."
    change = "check that x and y are shuffled together in every part, then fewer parameters or more data."
    return [Finding("accuracy at chance", "loss", number, why, change, 82)]


def how_alike(x: Input, y: Targets) -> str:
    """How many samples cannot be told apart, and how much a sample holds, in words."""
    filled = float((x != 0).reshape(len(x), -1).sum(1).mean())
    return (
        f"{_alike(x, y)} of {len(y)} samples have exactly the input of a sample of another class, and a sample has "
        f"{filled:.3g} values other than 0"
    )


def _alike(x: Input, y: Targets) -> int:
    """Samples whose input is also that of a sample of another class."""
    groups: dict[bytes, list[float]] = {}
    for sample, label in zip(np.ascontiguousarray(x), y, strict=True):
        groups.setdefault(sample.tobytes(), []).append(label)
    return sum(len(labels) for labels in groups.values() if len(set(labels)) > 1)
