"""How training went: one run, or many runs with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spyx.report._style import STROKES, figure, label, legend, log_if_wide, marks, name_ends, prepared, whole_numbers

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from spyx.report.types import History


def plot_history(
    history: History,
    *,
    title: str = "",
    test_accuracy: float | None = None,
    loss_name: str = "cross-entropy",
    dark: bool = False,
) -> Figure:
    """Loss and accuracy over epochs, side by side; the loss is logarithmic where it spans decades.

    Args:
        history: one dictionary per epoch with `train_loss` and, where measured, `eval_loss` and `eval_acc`, as
            `spyx.optimize.fit` returns it.
        title: heading of the figure.
        test_accuracy: drawn as a line of its own, in [0, 1].
        loss_name: label of the loss axis, with its unit. Default "cross-entropy".
        dark: a dark background.

    Returns:
        A Matplotlib figure; `figure.savefig("training.png")`.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: an empty history.

    Example:
        >>> figure = plot_history([{"train_loss": 1.0}, {"train_loss": 0.5, "eval_acc": 0.9}])
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['cross-entropy (nats)', 'accuracy (%)']
    """
    if not history:
        raise ValueError("spyx.report.plot_history: expected at least one epoch; got none. Train first.")
    made = figure(9.0, 3.4, dark=dark)
    loss, accuracy = made.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)

    def line(axes: Axes, name: str, scale: float, number: int, words: str) -> Float[np.ndarray, " epochs"]:
        values = scale * np.array([epoch.get(name, np.nan) for epoch in history], float)
        if np.isfinite(values).any():
            style = {"color": palette.series[number], "ls": STROKES[number], **marks(values)}
            axes.plot(epochs, values, lw=1.8, label=words, **style)
        return values

    _, palette = prepared(loss, 0, 0, dark)
    prepared(accuracy, 0, 0, dark)
    losses = [line(loss, "train_loss", 1, 0, "train"), line(loss, "eval_loss", 1, 1, "validation")]
    log_if_wide(loss, np.concatenate(losses))
    line(accuracy, "eval_acc", 100, 1, "validation")
    if test_accuracy is not None:
        words = f"test, after the last epoch: {100 * test_accuracy:.1f} %"
        accuracy.axhline(100 * test_accuracy, color=palette.series[2], lw=1.5, ls=(0, (4, 3)), label=words)
    unit = " (nats)" if loss_name == "cross-entropy" else ""
    for axes, name in ((loss, f"{loss_name}{unit}"), (accuracy, "accuracy (%)")):
        label(axes, palette, "epoch", name)
        axes.grid(axis="y", color=palette.muted, alpha=0.2, lw=0.6)
        whole_numbers(axes.xaxis)
        axes.set_xlim(0.5, len(history) + 0.5)
        if len(history) == 1:
            axes.set_xticks([1])
        if axes.lines:
            legend(axes, palette)
        else:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=palette.muted, fontsize=9)
            axes.set_yticks([])
    made.suptitle(title, color=palette.ink, fontsize=11, x=0.01, ha="left", fontweight="bold")
    return made


def plot_runs(
    runs: Mapping[str, Sequence[Float[ArrayLike, " epochs"]]],
    axes: Axes | None = None,
    *,
    quantity: str = "accuracy (%)",
    step: str = "epoch",
    title: str = "",
    dark: bool = False,
) -> Axes:
    """Curves of many runs: the mean of each group as a line, and one standard deviation around it as a band.

    Up to five runs of a group are drawn as thin lines as well. Runs of different length are averaged over those that
    are left.

    Args:
        runs: for each name of a group, a curve (epochs,) for every run, such as one per seed.
        axes: to draw on; None makes a figure.
        quantity: label of the vertical axis, with its unit. Default "accuracy (%)".
        step: label of the horizontal axis. Default "epoch", counted from 1.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes, logarithmic where the curves span decades and are no percentages.

    Raises:
        ValueError: no run, or a run without a number.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_runs({"LIF": [[50, 80], [60, 90]]})
        >>> axes.lines[-1].get_ydata().tolist()
        [55.0, 85.0]
    """
    groups = {name: [np.asarray(curve, float) for curve in curves] for name, curves in runs.items()}
    if not groups or not all(curves and all(c.ndim == 1 and c.size for c in curves) for curves in groups.values()):
        raise ValueError(
            "spyx.report.plot_runs: expected at least one curve (epochs,) in every group; got "
            f"{ {name: [c.shape for c in curves] for name, curves in groups.items()} }. Leave empty groups out."
        )
    axes, palette = prepared(axes, 6.5, 3.4, dark)
    if "%" not in quantity:  # a share of all is not read in decades
        log_if_wide(axes, np.concatenate([curve for curves in groups.values() for curve in curves]))
    ends = []
    for number, (name, curves) in enumerate(groups.items()):
        colour = palette.series[number % len(palette.series)]
        longest = max(map(len, curves))
        table = np.full((len(curves), longest), np.nan)
        for row, curve in enumerate(curves):
            table[row, : len(curve)] = curve
        steps = np.arange(1, longest + 1)
        there = np.isfinite(table)
        count = np.maximum(there.sum(0), 1)
        filled = np.where(there, table, 0)
        mean = np.where(there.any(0), filled.sum(0) / count, np.nan)
        spread = np.sqrt(np.where(there, (table - mean) ** 2, 0).sum(0) / count)
        if len(curves) > 1:
            low = mean - spread
            if axes.get_yscale() == "log":
                low = np.maximum(low, np.nanmin(np.where(table > 0, table, np.nan)))
            axes.fill_between(steps, low, mean + spread, color=colour, alpha=0.18, lw=0)
        if 1 < len(curves) <= 5:
            axes.plot(steps, table.T, color=colour, lw=0.7, alpha=0.55, **marks(mean))
        axes.plot(steps, mean, color=colour, lw=2.2, ls=STROKES[number % len(STROKES)], **marks(mean))
        last = np.flatnonzero(np.isfinite(mean))
        last = last[-1] if last.size else 0
        text = f"{name}: {mean[last]:.3g}" + (f" +- {spread[last]:.2g} ({len(curves)} runs)" if len(curves) > 1 else "")
        ends.append((float(steps[last]), float(mean[last]), text.replace("+-", "\u00b1"), colour))
    axes.grid(axis="y", color=palette.muted, alpha=0.2, lw=0.6)
    whole_numbers(axes.xaxis)
    axes.set_xlim(0.5, max(len(c) for curves in groups.values() for c in curves) + 0.5)
    label(axes, palette, step, quantity, title)
    name_ends(axes, palette, ends)
    return axes
