"""Pictures of what a network is made of, and of what it mistakes: weights, delays, its graph, the confusion matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from spyx.report._style import colour_bar, label, of_shape, prepared, shades, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from jaxtyping import Float, Integer, Real
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from spyx.graph import Graph
    from spyx.nn import Sequential

WRITTEN = 14
"""Classes up to which numbers are written into a confusion matrix."""


def plot_confusion(
    truth: Integer[ArrayLike, " samples"],
    predictions: Integer[ArrayLike, " samples"],
    axes: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """How often samples of each class were taken for each class: shares of the true class, counts written in.

    Args:
        truth: (samples,) classes.
        predictions: (samples,) what the network predicted.
        axes: to draw on; None makes a figure.
        names: of the classes; None writes their numbers.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes. Each row is a true class, and its shares add up to 100 %.

    Raises:
        ValueError: shapes that differ, classes below 0, too few names.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_confusion([0, 0, 1, 1], [0, 1, 1, 1])
        >>> axes.get_title(loc="right")
        '75.0 % of 4 samples right'
    """
    truth = of_shape("plot_confusion", "truth", truth, 1, "(samples,) classes").astype(int)
    predictions = np.asarray(predictions).astype(int)
    if predictions.shape != truth.shape or min(truth.min(), predictions.min()) < 0:
        raise ValueError(
            f"spyx.report.plot_confusion: expected as many predictions as classes, {len(truth)}, all 0 or more; got "
            f"shape {predictions.shape}, from {min(truth.min(), predictions.min(initial=0))} on. "
            "Leave out steps without a label."
        )
    classes = int(max(truth.max(), predictions.max())) + 1 if names is None else len(names)
    if max(truth.max(), predictions.max()) >= classes:
        raise ValueError(
            f"spyx.report.plot_confusion(names=): expected a name for every class; got {classes} for class "
            f"{max(truth.max(), predictions.max())}. Give one for each."
        )
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (truth, predictions), 1)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(1.6 + 0.34 * classes, 3.4, 8.0))
    axes, palette = prepared(axes, side + 0.9, side, dark)
    image = axes.imshow(shares, cmap=shades(palette), vmin=0, vmax=100)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if classes <= WRITTEN:
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = palette.paper if shares[row, column] > 50 else palette.ink
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=ink)
    every = max(1, math.ceil(classes / 20))
    ticks = np.arange(0, classes, every)
    written = [str(names[tick]) if names is not None else str(tick) for tick in ticks.tolist()]
    turned = max(map(len, written)) > 3
    axes.set_xticks(ticks, written, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(ticks, written)
    axes.tick_params(length=0)
    colour_bar(axes, image, palette, "share of the true class (%)")
    note = f"{100 * float((truth == predictions).mean()):.1f} % of {len(truth)} samples right"
    return label(axes, palette, "predicted class", "true class", title, note)


def plot_weights(
    weights: Float[ArrayLike, "*height_width inputs outputs"],
    axes: Axes | None = None,
    *,
    title: str = "",
    unit: str = "weight",
    dark: bool = False,
) -> Axes:
    """The weights of a dense layer as a picture, or the kernels of a convolution side by side.

    Colours are symmetric around zero, which has the colour of the paper.

    Args:
        weights: (inputs, outputs), or (height, width, inputs, outputs) of a convolution.
        axes: to draw on; None makes a figure.
        title: above the picture.
        unit: what the colours mean. Default "weight".
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes.

    Raises:
        ValueError: another shape.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_weights(np.eye(3))
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('input (index)', 'neuron (index)')
    """
    values = of_shape("plot_weights", "weights", weights, (2, 4), "(inputs, outputs) or (h, w, inputs, outputs)")
    values = values.astype(float)
    reach = float(np.nanquantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    if values.ndim == 2:
        axes, palette = prepared(axes, 6.5, 3.4, dark)
        picture, x, y = values.T, "input (index)", "neuron (index)"
    else:
        picture, x, y = _tiles(values), "output channel (index)", "input channel (index)"
        wide = picture.shape[1] / picture.shape[0]
        axes, palette = prepared(axes, 7.0, float(np.clip(5.6 / wide + 0.8, 1.8, 7.0)), dark)
    cmap = shades(palette, signed=True)
    image = axes.imshow(
        picture, cmap=cmap, vmin=-reach, vmax=reach, aspect="auto" if values.ndim == 2 else "equal",
        interpolation="nearest",
    )  # fmt: skip
    axes.invert_yaxis() if values.ndim == 2 else None
    if values.ndim == 4:
        height, width, inputs, outputs = values.shape
        for set_ticks, size, count in ((axes.set_xticks, width, outputs), (axes.set_yticks, height, inputs)):
            shown = np.arange(0, count, max(1, math.ceil(count / 16)))
            set_ticks(shown * (size + 1) + (size - 1) / 2, [str(n) for n in shown])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            whole_numbers(axis)
    colour_bar(axes, image, palette, unit)
    zero = 100 * float((values == 0).mean())
    note = f"{values.size:,} weights, standard deviation {values.std():.2g}" + (f", {zero:.0f} % zero" if zero else "")
    return label(axes, palette, x, y, title, note)


def plot_delays(
    delays: Real[ArrayLike, "..."],
    axes: Axes | None = None,
    *,
    step_ms: float | None = None,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """How many connections have which delay.

    Args:
        delays: in steps, of any shape; fractions are those of delays that are still learned.
        axes: to draw on; None makes a figure.
        step_ms: length of a step: delays are then in ms.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes.

    Raises:
        ValueError: no delays, or one below 0.
        ImportError: Matplotlib is not installed.

    Example:
        >>> plot_delays([0, 1, 1, 3]).get_title(loc="right")
        'mean 1.25 steps, longest 3'
    """
    values = np.ravel(np.asarray(delays, float))
    values = of_shape("plot_delays", "delays", values, 1, "delays in steps")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"spyx.report.plot_delays: expected 0 steps or more; got {values.min()}. Check them.")
    axes, palette = prepared(axes, 5.5, 2.6, dark)
    scale = 1.0 if step_ms is None else step_ms
    longest = math.ceil(values.max())
    width = max(1, math.ceil((longest + 1) / 60))
    edges = np.arange(-0.5, longest + width + 0.5, width)
    counts, _ = np.histogram(values, edges)
    axes.bar(edges[:-1] * scale, counts, 0.86 * width * scale, align="edge", color=palette.series[0], lw=0)
    mean = float(values.mean())
    axes.axvline(mean * scale, color=palette.warning, lw=1.4, ls=(0, (4, 3)))
    axes.annotate(
        "mean", (mean * scale, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -2), textcoords="offset points",
        va="top", fontsize=8, color=palette.warning,
    )  # fmt: skip
    whole_numbers(axes.yaxis)
    if step_ms is None:
        whole_numbers(axes.xaxis)
    name, unit = ("delay (steps)", "steps") if step_ms is None else ("delay (ms)", "ms")
    note = f"mean {mean * scale:.3g} {unit}, longest {values.max() * scale:.3g}"
    return label(axes, palette, name, "connections", title, note)


def plot_network(model: Graph | Sequential, path: str | PathLike[str] | None = None) -> Figure:
    """A network as a graph, signals from left to right, with the delays on its edges.

    Args:
        model: a `spyx.graph.Graph`, or a `spyx.nn.Sequential`, which is drawn as a chain.
        path: file to write; its ending chooses the format (png, svg, pdf). None writes nothing.

    Returns:
        The figure.

    Raises:
        TypeError: neither of them.
        ImportError: Matplotlib is not installed.

    Example:
        >>> from spyx import nn
        >>> figure = plot_network(nn.Sequential(nn.IF(2), nn.LI(2)))
        >>> len(figure.axes)
        1
    """
    from spyx import graph, nn
    from spyx.nn._layer import as_layer

    if isinstance(model, nn.Sequential):
        names = [f"{index} {as_layer('spyx.report', layer)._kind}" for index, layer in enumerate(model.layers)]
        chain = ["input", *names, "output"]
        edges = list(zip(chain[:-1], chain[1:], strict=True))
        model = graph.Graph(dict(zip(names, model.layers, strict=True)), edges)
    if not isinstance(model, graph.Graph):
        raise TypeError(
            f"spyx.report.plot_network: expected a spyx.graph.Graph or a spyx.nn.Sequential; got "
            f"{type(model).__name__}. Put it in a Sequential."
        )
    return model.draw(path)


def _tiles(values: Float[np.ndarray, "height width inputs outputs"]) -> Float[np.ndarray, "rows columns"]:
    """Kernels in a grid, inputs down and outputs to the right, with a gap between them."""
    height, width, inputs, outputs = values.shape
    picture = np.full((inputs * (height + 1) - 1, outputs * (width + 1) - 1), np.nan)
    for i, o in np.ndindex(inputs, outputs):
        picture[i * (height + 1) : i * (height + 1) + height, o * (width + 1) : o * (width + 1) + width] = values[
            :, :, i, o
        ]
    return picture
