"""Figures: how training went, and one sample on its way through a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spyx.report.record import Activity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED = "#22223b", "#8d8f9d"
TRAIN, HELD_OUT, TEST = "#5e35b1", "#00897b", "#d81b60"


def plot_history(
    history: Sequence[dict[str, float]],
    *,
    title: str = "",
    test_accuracy: float | None = None,
    loss_name: str = "cross-entropy",
) -> Figure:
    """Loss and accuracy over epochs, side by side.

    Args:
        history: one dictionary per epoch with `train_loss` and, where measured, `eval_loss` and `eval_acc`, as
            `spyx.optimize.fit` returns it.
        title: heading of the figure.
        test_accuracy: drawn as a line of its own, in [0, 1].
        loss_name: label of the loss axis. Default "cross-entropy".

    Returns:
        A Matplotlib figure; `figure.savefig("training.png")`.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: an empty history.

    Example:
        >>> figure = plot_history([{"train_loss": 1.0}, {"train_loss": 0.5, "eval_acc": 0.9}])
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['cross-entropy', 'accuracy (%)']
    """
    if not history:
        raise ValueError("spyx.report.plot_history: expected at least one epoch; got none. Train first.")
    figure = _figure(9.0, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)

    def line(axes: Any, name: str, scale: float, **style: Any) -> None:
        values = [scale * epoch.get(name, np.nan) for epoch in history]
        if not np.isnan(values).all():
            axes.plot(epochs, values, lw=2, **style)

    line(loss, "train_loss", 1, color=TRAIN, label="train")
    line(loss, "eval_loss", 1, color=HELD_OUT, label="validation")
    line(accuracy, "eval_acc", 100, color=HELD_OUT, label="validation")
    if test_accuracy is not None:
        label = f"test, after the last epoch: {100 * test_accuracy:.1f} %"
        accuracy.axhline(100 * test_accuracy, color=TEST, lw=1.5, ls="--", label=label)
    for axes, name in ((loss, loss_name), (accuracy, "accuracy (%)")):
        _clean(axes, "epoch", name)
        axes.grid(axis="y", color=MUTED, alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(frameon=False)
            axes.set_xlim(0.5, len(history) + 0.5)
    figure.suptitle(title, color=INK, fontsize=12)
    return figure


def plot_raster(
    x: np.ndarray, activities: Sequence[Activity], *, sample: int = 0, title: str = "", step_ms: float | None = None
) -> Figure:
    r"""One sample's way through a network: input spikes, the spikes of every layer, the membranes of the readout.

    Args:
        x: input (batch, time, *features).
        activities: what `record` returned for it.
        sample: which sample of the batch. Default 0.
        title: heading of the figure.
        step_ms: length of a time step, for the time axis in milliseconds; None counts steps.

    Returns:
        A Matplotlib figure.

    Raises:
        ImportError: Matplotlib is not installed.
        IndexError: `sample` outside the batch.

    Example:
        >>> figure = plot_raster(np.eye(4)[None], [Activity("1 LIF", np.eye(4)[None], True)])
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['input\nchannel', 'layer 1 LIF\nneuron']
    """
    x = np.asarray(x)
    rows = [Activity("input", x, spikes=bool(np.isin(x[sample], (0, 1)).all())), *activities]
    figure = _figure(8.0, 1.0 + 1.75 * len(rows))
    axes = np.atleast_1d(figure.subplots(len(rows), 1, sharex=True))
    scale = 1.0 if step_ms is None else step_ms
    for index, (row, part) in enumerate(zip(axes, rows, strict=True)):
        values = np.asarray(part.outputs[sample], np.float64).reshape(part.outputs.shape[1], -1)
        what = "channel" if index == 0 else "neuron"
        if part.spikes:
            _spikes(row, values, scale)
        elif index == 0:
            row.imshow(values.T, aspect="auto", origin="lower", cmap="Purples", extent=_extent(values, scale))
        else:
            what = "membrane"
            _membranes(row, values, scale)
        _clean(row, "", f"{part.name}\n{what}" if index == 0 else f"layer {part.name}\n{what}")
    axes[-1].set_xlabel("time step" if step_ms is None else "time (ms)", color=INK)
    axes[-1].set_xlim(-0.5 * scale, (x.shape[1] - 0.5) * scale)
    figure.suptitle(title, color=INK, fontsize=12)
    return figure


def _spikes(axes: Any, values: np.ndarray, scale: float) -> None:
    steps, units = np.nonzero(values)
    axes.scatter(steps * scale, units, s=max(5.0, min(16.0, 1200.0 / values.shape[1])), c=TRAIN, marker="s", lw=0)
    axes.set_ylim(-0.5, values.shape[1] - 0.5)
    share = 100 * len(steps) / values.size
    axes.set_title(f"{len(steps)} spikes ({share:.1f} % of neurons x steps)", loc="right", fontsize=8, color=MUTED)


def _membranes(axes: Any, values: np.ndarray, scale: float) -> None:
    """The units that end up strongest in colour and named at the end of their line, the others grey."""
    winner = int(values.sum(axis=0).argmax())
    time = np.arange(len(values)) * scale
    for unit in range(values.shape[1]):
        if unit != winner:
            axes.plot(time, values[:, unit], color=MUTED, lw=1, alpha=0.6)
    axes.plot(time, values[:, winner], color=TEST, lw=2.2, label=f"class {winner}, the largest integral")
    axes.legend(frameon=False, loc="best", fontsize=8)


def _extent(values: np.ndarray, scale: float) -> tuple[float, float, float, float]:
    return (-0.5 * scale, (len(values) - 0.5) * scale, -0.5, values.shape[1] - 0.5)


def _clean(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own: no window, no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise ImportError(
            "spyx.report: expected Matplotlib; got no such package. Run pip install 'spyx-jax[plot]'."
        ) from missing
    return Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor="white")
