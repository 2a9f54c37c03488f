"""The content of a run's page as one JSON object; `page.js` draws it and knows nothing of networks."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from spyx.report._page.jsonable import number, plain, text
from spyx.report._page.observed import Observed, counted, is_right, observe_samples
from spyx.report._page.rows import row_of

if TYPE_CHECKING:
    from jaxtyping import Integer

    from spyx import nn
    from spyx.data._json import Object
    from spyx.report._energy import Energy
    from spyx.report._findings import Finding
    from spyx.report._operations import Cost
    from spyx.report._page.layer_history import LayerRow
    from spyx.report.types import History, Labels, Lengths, Samples

T = TypeVar("T")

FORMAT = 1
MOST_EPOCHS, MOST_CLASSES, MOST_SETTINGS, MOST_LAYERS = 1000, 64, 500, 48
SHOWN = 16
"""Samples in the picker, half of them right and half of them wrong where there are as many."""
MOST_ROWS = 12
"""Layers of a sample that are shown."""
ROOM = 7_000_000
"""Cells of all pictures on a page, each a bit of a spike train or an eighth of a graded value."""
PACKAGES = ("spyx-jax", "jax", "jaxlib", "flax", "optax", "numpy")


def curves(history: History, *, loss_name: str, reference: Mapping[str, float]) -> Object:
    """One chart for all losses, one for accuracies, and one for every other number of the history.

    Args:
        history: one mapping per epoch.
        loss_name: label of the axis of losses, with its unit.
        reference: `test_accuracy`, `test_loss` and `chance`, drawn as lines across, where they are known.
    """
    kept = thinned(len(history))
    names = list(dict.fromkeys(name for epoch in history for name in epoch))[:32]
    charts: dict[str, Object] = {}
    series: dict[str, list[Object]] = {}
    marks: dict[str, list[Object]] = {}
    for name in names:
        plain_name = name.removeprefix("train_").removeprefix("eval_")
        kind = "loss" if name.endswith("loss") else "accuracy" if name.endswith("acc") else plain_name
        unit = {"loss": loss_name, "accuracy": "samples right (%)"}.get(kind, f"{text(name)} (its own unit)")
        lines, across = series.setdefault(kind, []), marks.setdefault(kind, [])
        charts.setdefault(kind, {"title": text(kind).capitalize(), "unit": unit, "series": lines, "marks": across})
        scale = 100.0 if kind == "accuracy" else 1.0
        values = [scale * float(history[i].get(name, np.nan)) for i in kept]
        part = "training" if name.startswith("train_") else "validation" if name.startswith("eval_") else text(name)
        lines.append({"name": part, "role": part, "values": [number(v) for v in values]})
    for name, value in reference.items():
        kind = "loss" if name == "test_loss" else "accuracy"
        if kind in charts:
            scale = 100.0 if kind == "accuracy" else 1.0
            label = "chance" if name == "chance" else "test, after the last epoch"
            marks[kind].append({"name": label, "value": number(scale * value), "role": name.partition("_")[0]})
    return {"epochs": [i + 1 for i in kept], "of": len(history), "charts": list(charts.values())}


def thinned(count: int) -> list[int]:
    """At most `MOST_EPOCHS` numbers from 0 to count - 1, the first and the last among them."""
    if count <= MOST_EPOCHS:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, MOST_EPOCHS)})


def layers_over_time(rows: Iterable[LayerRow], samples: int, how: str) -> Object | None:
    """Rows of a `LayerHistory` by layer, measured as `how` says; None where there are none."""
    rows = list(rows)
    if not rows:
        return None
    epochs = sorted({int(row["epoch"]) for row in rows})
    epochs = [epochs[i] for i in thinned(len(epochs))]
    places = {epoch: i for i, epoch in enumerate(epochs)}
    names = list(dict.fromkeys(str(row["layer"]) for row in rows))
    found = {
        name: {key: ["NaN"] * len(epochs) for key in ("rate", "silent", "gradient")} for name in names[:MOST_LAYERS]
    }
    for row in rows:
        if (at := places.get(int(row["epoch"]))) is not None and str(row["layer"]) in found:
            for key, scale in (("rate", 100.0), ("silent", 100.0), ("gradient", 1.0)):
                found[str(row["layer"])][key][at] = number(scale * float(row[key]))  # type: ignore[call-overload]
    return {
        "epochs": epochs,
        "layers": [{"name": text(name), **values} for name, values in found.items()],
        "left_out": max(0, len(names) - MOST_LAYERS),
        "note": (
            f"Measured {how} on one batch of {samples} training samples that stays the same, Dropout and "
            "BatchNorm in evaluation mode: forward for the rates, forward and backward for the gradient of the loss. "
            "Rate: spikes per unit and time step. Silent: units without a spike on that batch. Gradient: L2 norm over "
            "all parameters of the layer."
        ),
    }


def of_samples(
    layer: nn.Layer, x: Samples, y: Labels, lengths: Lengths | None, *, part: str, names: Sequence[str] | None
) -> tuple[Object, Object]:
    """The picker's samples, and the confusion matrix of all of them."""
    x, y = np.asarray(x), np.asarray(y)
    lengths = None if lengths is None else np.asarray(lengths)
    if not np.issubdtype(y.dtype, np.integer):
        if (y != np.round(y)).any():  # NaN too
            raise ValueError("samples and confusion need labels that are whole numbers, and these are not")
        y = y.astype(int)
    per_step = y.ndim == 2
    seen = observe_samples(layer, x, y, lengths, SHOWN, per_step=per_step)
    right = is_right(y, seen.predictions, lengths)
    layers_shown = list(seen.layers.items())
    if (more := len(layers_shown) - MOST_ROWS) > 0:
        layers_shown = [*layers_shown[: MOST_ROWS - 1], layers_shown[-1]]
    cells = ROOM // (len(seen.chosen) * (len(layers_shown) + 1) or 1)
    items = []
    for at, index in enumerate(seen.chosen):
        steps = x.shape[1] if lengths is None else max(1, int(lengths[index]))
        marked = () if per_step else (int(y[index]), int(seen.predictions[index]))
        rows = [row_of("input", x[index][:steps], last=False, cells=cells)]
        rows += [
            row_of(name, outs[at][:steps], last=n == len(layers_shown) - 1, marked=marked, cells=cells)
            for n, (name, outs) in enumerate(layers_shown)
        ]
        item: Object = {"index": index, "right": bool(right[index]), "rows": rows}
        if per_step:
            item["labels"], item["predictions"] = y[index][:steps].tolist(), seen.predictions[index][:steps].tolist()
        else:
            item |= {
                "truth": int(y[index]),
                "prediction": int(seen.predictions[index]),
                "margin": number(seen.margins[index]),
            }
        items.append(item)
    note = (
        "Right and wrong samples in turn over the classes, with numbers of input events nearest to the median. "
        "No sample is picked by how well it looks."
    ) + (f" {more} layers in the middle are not shown." if more > 0 else "")
    classes = [text(name) for name in (names or range(seen.classes))]
    samples: Object = {"part": text(part), "count": len(y), "note": note, "classes": classes, "items": items}
    samples["right"], samples["unit"] = int(right.sum()), "sample"
    return samples, _confusion(seen, y, lengths, part, classes)


def _confusion(
    seen: Observed,
    y: Integer[np.ndarray, "samples *time"],
    lengths: Integer[np.ndarray, " samples"] | None,
    part: str,
    names: list[str],
) -> Object:
    labelled = counted(y, lengths)
    counts_here = labelled & (y < seen.classes)
    truth, predictions = y[counts_here], seen.predictions[counts_here]
    counts = np.zeros((seen.classes, seen.classes), int)
    np.add.at(counts, (truth, predictions), 1)
    off = counts - np.diag(np.diag(counts))
    worst = [np.unravel_index(flat, off.shape) for flat in np.argsort(-off, axis=None, kind="stable")[:20]]
    pairs = [{"truth": int(t), "prediction": int(a), "count": int(off[t, a])} for t, a in worst if off[t, a]]
    whole = counts.tolist() if seen.classes <= MOST_CLASSES else None
    unit = "samples" if y.ndim == 1 else "time steps"
    scores = {"support": counts.sum(1).tolist(), "predicted": counts.sum(0).tolist(), "hits": np.diag(counts).tolist()}
    shown: Object = {"part": text(part), "classes": names, "counts": whole, "pairs": pairs, "unit": unit}
    return shown | {"outside": int((labelled & ~counts_here).sum())} | (scores if seen.classes <= 1000 else {})


def findings(found: Iterable[Finding], about: str) -> Object:
    """What the doctor found, the weightiest first."""
    items = [{k: text(v) if isinstance(v, str) else number(v) for k, v in asdict(one).items()} for one in found]
    return {"items": items, "about": text(about)}


def energies(cost: Cost, models: Iterable[Energy], about: str) -> Object:
    """Operations by layer, and estimates by every cost model."""
    keys = ("dense", "effective_acs", "effective_macs", "updates", "outputs", "active", "parameters")
    layers = [
        {"name": text(f"{layer.name} {layer.kind}"), **{key: number(getattr(layer, key)) for key in keys}}
        for layer in cost.layers[:MOST_LAYERS]
    ]
    estimates = [
        {
            "name": text(one.model.name),
            "scope": text(one.model.scope),
            "source": text(one.model.source),
            "total": number(one.total),
            "twin": number(one.twin_total),
            "bits": one.bits,
            "rate": number(100 * one.rate),
            "break_even": number(100 * one.break_even),
            "parts": {text(kind): number(value) for kind, value in one.parts.items()},
        }
        for one in models
    ]
    return {
        "steps": number(cost.steps),
        "layers": layers,
        "total": {key: number(cost.total(key)) for key in keys},
        "not_counted": [text(name) for name in cost.not_counted],
        "models": estimates,
        "about": text(about),
    }


def settings_of(settings: Mapping[str, object], usual: Mapping[str, object]) -> list[Object]:
    """Name, value, and whether it differs from `usual`, where that has the name; tables are made flat."""
    flat, defaults = _flat(settings), _flat(usual)
    return [
        {"name": text(name), "value": plain(value), "changed": name in defaults and defaults[name] != value}
        for name, value in list(flat.items())[:MOST_SETTINGS]
    ]


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def versions() -> list[list[str]]:
    """Packages, Python and device, as name and value."""
    import jax

    found = []
    for package in PACKAGES:
        try:
            found.append([package, importlib.metadata.version(package)])
        except importlib.metadata.PackageNotFoundError:
            found.append([package, "not installed as a package"])
    found.append(["python", platform.python_version()])
    found.append(["system", f"{platform.system()} {platform.machine()}"])
    devices = jax.devices()
    found.append(["device", text(f"{len(devices)} x {devices[0].platform}: {devices[0].device_kind}")])
    return found


def now() -> str:
    """Date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def attempted(missing: dict[str, str], name: str, call: Callable[[], T]) -> T | None:
    """What `call` returns, or None with the reason noted: a section that fails must not take the others with it."""
    try:
        return call()
    except Exception as error:  # networks, losses and data of users fail in many ways
        missing[name] = text(f"{type(error).__name__}: {error}")
        return None
