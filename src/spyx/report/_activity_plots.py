"""Pictures of what neurons do: rasters, membranes, rates, and the slope of the surrogate where the membranes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spyx.report._style import (
    STROKES,
    label,
    legend,
    log_if_wide,
    marks,
    name_ends,
    of_shape,
    prepared,
    time_axis,
    whole_numbers,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Integer, Num
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from spyx.report.types import Sloped


def plot_raster(
    spikes: Num[ArrayLike, "time *units"],
    axes: Axes | None = None,
    *,
    classes: Integer[ArrayLike, " units"] | None = None,
    sort: str | None = None,
    step_ms: float | None = None,
    title: str = "",
    unit: str = "neuron",
    dark: bool = False,
) -> Axes:
    """The spikes of one sample: a mark for every unit and step that is not zero.

    Args:
        spikes: (time, units), or (time, *features), which is made flat.
        axes: to draw on; None makes a figure.
        classes: (units,) a class of each unit, for instance from `preferred_classes`: units are grouped by it, and
            each group has its colour and its name at the side.
        sort: order of the units, inside their groups: "rate", the busiest on top; "first", the earliest spike at the
            bottom; None (default) keeps it.
        step_ms: length of a step; None labels time in steps.
        title: above the picture.
        unit: what the vertical axis counts. Default "neuron".
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes; `axes.figure.savefig("raster.png")`.

    Raises:
        ValueError: another shape, an unknown order, classes that do not fit.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_raster(np.eye(5), step_ms=2.0)
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('time (ms)', 'neuron (index)')
    """
    values = np.asarray(spikes)
    values = (
        values.reshape(len(values), -1)
        if values.ndim > 2
        else of_shape("plot_raster", "spikes", values, 2, "(time, units)")
    )
    steps, units = values.shape
    groups = np.zeros(units, int) if classes is None else np.asarray(classes)
    if groups.shape != (units,):
        raise ValueError(
            f"spyx.report.plot_raster(classes=): expected one class of each of {units} units; got {groups.shape}. "
            "preferred_classes makes them."
        )
    order = _order(values, groups, sort)
    axes, palette = prepared(axes, 6.5, 3.2, dark)
    scale, time = time_axis(step_ms)
    when, which = np.nonzero(values[:, order])
    names = np.unique(groups)
    size = float(np.clip(9000.0 / max(units, 40), 4.0, 26.0)) * min(1.0, 90.0 / max(steps, 1) + 0.35)
    for number, name in enumerate(names):
        colour = palette.series[number % len(palette.series)]
        mine = groups[order][which] == name
        axes.scatter(
            when[mine] * scale,
            which[mine],
            s=size,
            marker="|" if units <= 120 else "s",
            color=colour,
            lw=1.4 if units <= 120 else 0,
        )
        if classes is not None:
            inside = np.flatnonzero(groups[order] == name)
            if number:
                axes.axhline(inside[0] - 0.5, color=palette.muted, lw=0.6, alpha=0.6)
            axes.annotate(
                words_of(name), (1.0, inside.mean()), xycoords=("axes fraction", "data"), xytext=(6, 0),
                textcoords="offset points", va="center", fontsize=8, color=colour, annotation_clip=False,
            )  # fmt: skip
    axes.set_xlim(-0.5 * scale, (steps - 0.5) * scale)
    axes.set_ylim(-0.5, units - 0.5)
    whole_numbers(axes.yaxis)
    words = {"rate": f"{unit} (index, by rate)", "first": f"{unit} (index, by first spike)"}
    note = f"{len(when)} spikes, {100 * len(when) / values.size:.2g} % of all {unit}s and steps"
    return label(axes, palette, time, words.get(str(sort), f"{unit} (index)"), title, note)


def preferred_classes(
    spikes: Num[ArrayLike, "samples time *features"], y: Integer[ArrayLike, " samples"]
) -> Integer[np.ndarray, " units"]:
    """The class for which each unit fires most: `argmax_c mean_(b: y_b = c) sum_t z_bt`; -1 for a silent unit.

    Args:
        spikes: (samples, time, *features).
        y: (samples,) labels.

    Shapes:
        (units,) for flat features.

    Raises:
        ValueError: another number of labels than samples.

    Example:
        >>> preferred_classes(np.array([[[1, 0, 0]], [[0, 1, 0]]]), [4, 7]).tolist()
        [4, 7, -1]
    """
    values, y = np.asarray(spikes), np.asarray(y)
    if y.shape != values.shape[:1]:
        raise ValueError(
            f"spyx.report.preferred_classes: expected one label of each of {len(values)} samples; got {y.shape}. "
            "Labels per step have no class of their own."
        )
    counts = values.sum(1).reshape(len(values), -1)
    classes = np.unique(y)
    means = np.stack([counts[y == name].mean(0) for name in classes])
    return np.where(counts.any(0), classes[means.argmax(0)], -1)


def plot_membrane(
    membrane: Float[ArrayLike, "time *units"],
    axes: Axes | None = None,
    *,
    spikes: Num[ArrayLike, "time *units"] | None = None,
    threshold: float | None = None,
    names: Sequence[str] | None = None,
    step_ms: float | None = None,
    unit: str | None = None,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """The membrane of a few units over time, their threshold and their spikes.

    Args:
        membrane: (time,) or (time, units); draw a few.
        axes: to draw on; None makes a figure.
        spikes: as `membrane`; a spike is a tick above the picture, in the colour of its unit.
        threshold: drawn as a line.
        names: of the units; None numbers them.
        step_ms: length of a step; None labels time in steps.
        unit: label of the vertical axis; None says "membrane" and, as its unit, the threshold.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes.

    Raises:
        ValueError: another shape; spikes of another shape.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_membrane([0.0, 0.5, 0.9, 0.2], spikes=[0, 0, 1, 0], threshold=1.0)
        >>> axes.get_xlabel()
        'time (steps)'
    """
    values = of_shape("plot_membrane", "membrane", membrane, (1, 2), "(time,) or (time, units)").astype(float)
    fired = None if spikes is None else np.asarray(spikes)
    if fired is not None and fired.shape != values.shape:
        raise ValueError(
            f"spyx.report.plot_membrane(spikes=): expected the membrane's shape, {values.shape}; got {fired.shape}. "
            "Record both with record(what=('spikes', 'membrane'))."
        )
    values = values.reshape(len(values), -1)
    axes, palette = prepared(axes, 6.5, 2.8, dark)
    scale, time = time_axis(step_ms)
    clock = np.arange(len(values)) * scale
    several = values.shape[1] > 1
    top = np.nanmax([values.max(), threshold if threshold is not None else values.max()])
    bottom = np.nanmin([values.min(), threshold if threshold is not None else values.min()])
    span = (top - bottom) or 1.0
    for unit_number in range(values.shape[1]):
        colour = palette.series[unit_number % len(palette.series)]
        name = (names[unit_number] if names is not None else f"unit {unit_number}") if several else "membrane"
        stroke = STROKES[unit_number % len(STROKES)] if several else "-"
        axes.plot(clock, values[:, unit_number], color=colour, lw=1.6, ls=stroke, label=name, **marks(values[:, 0]))
        if fired is not None:
            when = np.flatnonzero(fired.reshape(len(values), -1)[:, unit_number])
            height = top + span * (0.08 + 0.09 * unit_number)
            axes.scatter(when * scale, np.full(len(when), height), marker="|", s=70, lw=1.8, color=colour)
    if threshold is not None:
        axes.axhline(threshold, color=palette.muted, lw=1.1, ls=(0, (4, 3)))
        axes.annotate(
            "threshold", (1.0, threshold), xycoords=("axes fraction", "data"), xytext=(6, 0), annotation_clip=False,
            textcoords="offset points", va="center", fontsize=8, color=palette.muted,
        )  # fmt: skip
    rows = 0 if fired is None else values.shape[1]
    axes.set_ylim(bottom - 0.06 * span, top + span * (0.1 + 0.09 * rows))
    axes.set_xlim(-0.5 * scale, (len(values) - 0.5) * scale)
    if several:
        legend(axes, palette, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(4, values.shape[1]))
    count = "" if fired is None else f"{int((fired != 0).sum())} spikes (ticks above)"
    found = "input units" if threshold is None else f"threshold {threshold:g}"
    return label(axes, palette, time, unit or f"membrane ({found})", title, count)


def plot_rates(
    rates: Mapping[str, Float[ArrayLike, " units"]],
    axes: Axes | None = None,
    *,
    step_ms: float | None = None,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """How many units of each layer fire how often: a histogram per layer, one above the other.

    Units that never fire have a bar of their own, in another colour, and their share is written at the side.

    Args:
        rates: (units,) of each layer by name, in spikes per step.
        axes: to draw on; None makes a figure.
        step_ms: length of a step: rates are then in Hz. None draws spikes per step.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes.

    Raises:
        ValueError: no layer, or one without units.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_rates({"1 LIF": [0.0, 0.1, 0.1, 0.3]})
        >>> axes.get_xlabel()
        'rate (spikes per step)'
    """
    if not rates:
        raise ValueError("spyx.report.plot_rates: expected the rates of a layer at least; got none. Record some.")
    axes, palette = prepared(axes, 6.5, 1.3 + 0.95 * len(rates), dark)
    scale = 1.0 if step_ms is None else 1000.0 / step_ms
    found = {name: np.ravel(np.asarray(value, float)) * scale for name, value in rates.items()}
    for name, value in found.items():
        of_shape("plot_rates", name, value, 1, "(units,) of each layer")
    top = max(float(value.max()) for value in found.values()) or scale
    edges = np.linspace(0, top, 31)
    width = edges[1]
    for row, value in enumerate(reversed(found.values())):
        colour = palette.series[0]
        active = value[value > 0]
        counts = np.histogram(active, edges)[0]
        silent = len(value) - len(active)
        tallest = max(counts.max(), silent, 1)
        axes.bar(edges[:-1], 0.78 * counts / tallest, width, bottom=row, align="edge", color=colour, lw=0)
        axes.bar(-1.6 * width, 0.78 * silent / tallest, width, bottom=row, align="edge", color=palette.warning, lw=0)
        axes.axhline(row, color=palette.muted, lw=0.6)
        text = f"mean {value.mean():.2g}\n{100 * silent / len(value):.0f} % silent\nhighest bar: {tallest} units"
        axes.annotate(
            text, (1.0, row + 0.4), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=7.5, color=palette.muted, annotation_clip=False, linespacing=1.3,
        )  # fmt: skip
    axes.set_yticks(np.arange(len(found)) + 0.4, list(reversed(found)))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(-2.2 * width, top + width / 2)
    axes.set_ylim(0, len(found))
    axes.annotate(
        "silent", (-1.1 * width, 0), xytext=(0, -3), textcoords="offset points", va="top", ha="center", fontsize=7.5,
        color=palette.warning, annotation_clip=False,
    )  # fmt: skip
    ticks = [tick for tick in axes.get_xticks() if 0 < tick <= top] if top else []
    axes.set_xticks(ticks)
    return label(axes, palette, "rate (Hz)" if step_ms else "rate (spikes per step)", "units in each bin", title)


def plot_rate_over_time(
    rates: Mapping[str, Float[ArrayLike, "time *features"]],
    axes: Axes | None = None,
    *,
    step_ms: float | None = None,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """The mean rate of each layer at every step.

    Args:
        rates: (time,) of each layer by name, in spikes per unit and step; or (time, *features), whose mean is drawn.
        axes: to draw on; None makes a figure.
        step_ms: length of a step: time is then in ms and rates in Hz. None draws steps.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes; the rate is logarithmic where layers differ by decades.

    Raises:
        ValueError: no layer.
        ImportError: Matplotlib is not installed.

    Example:
        >>> plot_rate_over_time({"1 LIF": [0.0, 0.1, 0.2]}, step_ms=1.0).get_ylabel()
        'rate (Hz)'
    """
    if not rates:
        raise ValueError("spyx.report.plot_rate_over_time: expected a layer at least; got none. Record some.")
    axes, palette = prepared(axes, 6.5, 2.8, dark)
    scale, time = time_axis(step_ms)
    factor = 1.0 if step_ms is None else 1000.0 / step_ms
    ends, every = [], []
    for number, (name, value) in enumerate(rates.items()):
        values = np.asarray(value, float)
        values = factor * values.reshape(len(values), -1).mean(1)
        colour = palette.series[number % len(palette.series)]
        clock = np.arange(len(values)) * scale
        axes.plot(clock, values, color=colour, lw=1.8, ls=STROKES[number % len(STROKES)], **marks(values))
        ends.append((clock[-1], values[-1], name, colour))
        every.append(values)
    log_if_wide(axes, np.concatenate(every))
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.08 * (max(float(np.nanmax(values)) for values in every) or 1.0))
    axes.grid(axis="y", color=palette.muted, alpha=0.2, lw=0.6)
    label(axes, palette, time, "rate (Hz)" if step_ms else "rate (spikes per unit and step)", title)
    name_ends(axes, palette, ends)
    return axes


def plot_slope(
    membrane: Float[ArrayLike, "..."],
    surrogate: Sloped,
    axes: Axes | None = None,
    *,
    threshold: float = 1.0,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """Where the membranes are, and what slope the surrogate has there: a gradient passes where both are.

    Args:
        membrane: values of any shape.
        surrogate: of `spyx.axn`, or any function with a method `slope`.
        axes: to draw on; None makes a figure.
        threshold: of the neuron; the surrogate takes `membrane - threshold`. Default 1.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes.

    Raises:
        ValueError: no values.
        TypeError: a function without a slope.
        ImportError: Matplotlib is not installed.

    Example:
        >>> from spyx import axn
        >>> plot_slope(np.linspace(0, 1, 50), axn.superspike(10)).get_xlabel()
        'membrane - threshold'
    """
    if not callable(getattr(surrogate, "slope", None)):
        raise TypeError(
            f"spyx.report.plot_slope: expected a surrogate with a slope; got {surrogate!r}. Use one of spyx.axn."
        )
    values = np.ravel(np.asarray(membrane, np.float32)) - np.float32(threshold)
    values = of_shape("plot_slope", "membrane", values[np.isfinite(values)], 1, "values of membranes")
    axes, palette = prepared(axes, 6.5, 3.0, dark)
    low, high = np.quantile(values, [0.002, 0.998])
    reach = max(high - low, 1e-3)
    low, high = min(low, -0.15 * reach), max(high, 0.15 * reach)
    shares, edges = np.histogram(values, np.linspace(low, high, 61))
    shares = 100 * shares / len(values)
    axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=palette.muted, alpha=0.45, lw=0)
    axes.axvline(0, color=palette.ink, lw=1, ls=(0, (4, 3)))
    across = np.linspace(low, high, 600, dtype=np.float32)
    peak = max(
        float(np.abs(np.asarray(surrogate.slope(across))).max()),
        float(abs(np.asarray(surrogate.slope(np.zeros(1, np.float32)))[0])),
        1e-30,
    )
    slope = np.asarray(surrogate.slope(across)) / peak
    mean = float(np.abs(np.asarray(surrogate.slope(values))).mean()) / peak
    twin = axes.twinx()
    twin.plot(across, 100 * slope, color=palette.series[0], lw=2)
    twin.set_ylim(min(0.0, 110 * float(slope.min())), 110)
    twin.tick_params(colors=palette.series[0], labelsize=8, length=3)
    twin.set_ylabel(f"slope of {surrogate!r}\n(% of its largest)", color=palette.series[0], fontsize=9)
    for spine in twin.spines.values():
        spine.set_visible(False)
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.12 * max(float(shares.max()), 1e-9))
    note = f"mean slope at the membranes {100 * mean:.2g} %"
    return label(axes, palette, "membrane - threshold", "membranes (% in each bin)", title, note)


def words_of(name: int) -> str:
    """The name of a group of units: their class, or that they never fire."""
    return "silent" if name == -1 else f"class {name}"


def _order(
    values: Num[np.ndarray, "time units"], groups: Integer[np.ndarray, " units"], sort: str | None
) -> Integer[np.ndarray, " units"]:
    """Units as they are drawn, from the bottom up."""
    if sort not in (None, "rate", "first"):
        raise ValueError(f"spyx.report.plot_raster(sort=): expected 'rate', 'first' or None; got {sort!r}. Use None.")
    fired = values != 0
    first = np.where(fired.any(0), fired.argmax(0), len(values))
    by = {None: np.arange(values.shape[1]), "rate": fired.sum(0), "first": first}[sort]
    return np.lexsort((by, groups))
