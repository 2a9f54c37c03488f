"""One sample on its way through a network, and which sample is worth a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spyx.report._activity_plots import plot_raster
from spyx.report._event_plots import plot_frames
from spyx.report._recording import LayerRecord
from spyx.report._style import STROKES, figure, label, marks, name_ends, prepared, shades, time_axis, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Integer, Num
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from spyx.report.types import Sample, Samples


class Chosen(NamedTuple):
    """Samples that show something.

    Args:
        right: index of a sample that was predicted right, None where there is none.
        wrong: index of one that was predicted wrong, None where there is none.

    Example:
        >>> Chosen(right=3, wrong=None).right
        3
    """

    right: int | None
    wrong: int | None


def choose_samples(
    y: Integer[ArrayLike, " samples"],
    predictions: Integer[ArrayLike, " samples"],
    spikes: Num[ArrayLike, "samples ..."],
) -> Chosen:
    """Of the samples that were predicted right, and of those predicted wrong, the one with the median number of spikes.

    A sample that is chosen so is neither empty nor extreme, and it is the same one every time.

    Args:
        y: (samples,) true classes.
        predictions: (samples,) classes that the network predicted.
        spikes: (samples, time, ...) of a layer or of the input, or (samples,) their counts.

    Raises:
        ValueError: different numbers of samples, or none.

    Example:
        >>> choose_samples([0, 0, 0, 1], [0, 0, 0, 0], [9, 2, 5, 7])
        Chosen(right=2, wrong=3)
    """
    y, predictions, counts = np.asarray(y), np.asarray(predictions), np.asarray(spikes)
    counts = (counts != 0).reshape(len(counts), -1).sum(1) if counts.ndim > 1 else counts
    if not y.shape == predictions.shape == counts.shape or y.ndim != 1 or not y.size:
        raise ValueError(
            "spyx.report.choose_samples: expected a class, a prediction and spikes of each sample; got shapes "
            f"{y.shape}, {predictions.shape} and {counts.shape}. Labels per step have no single prediction."
        )

    def median(which: Bool[np.ndarray, " samples"]) -> int | None:
        found = np.flatnonzero(which)
        return int(found[np.argsort(counts[found], kind="stable")[(len(found) - 1) // 2]]) if found.size else None

    return Chosen(median(y == predictions), median(y != predictions))


def plot_sample(
    x: Samples,
    recording: Mapping[str, LayerRecord[np.ndarray]],
    *,
    sample: int = 0,
    label_of: int | None = None,
    names: Sequence[str] | None = None,
    step_ms: float | None = None,
    title: str = "",
    dark: bool = False,
) -> Figure:
    r"""The input of a sample, the spikes of every layer, and the readout with the true and the predicted class.

    Args:
        x: input (batch, time, *features). Three-dimensional features of at most two channels are drawn as frames.
        recording: what `record` returned for it, with "spikes".
        sample: which of the batch; see `choose_samples`.
        label_of: the true class of the sample, marked in the readout; None where there is none.
        names: of the classes; None writes their numbers.
        step_ms: length of a step; None labels time in steps.
        title: heading of the figure.
        dark: a dark background.

    Returns:
        A Matplotlib figure with one row for the input and one for each layer.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: a sample that is not there; nothing to draw.

    Example:
        >>> layer = LayerRecord("1 LIF", {"spikes": np.eye(4)[None]})
        >>> figure = plot_sample(np.eye(4)[None], {"1": layer})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['input\nchannel (index)', '1 LIF\nneuron (index)']
    """
    x = np.asarray(x)
    if x.ndim < 3 or not 0 <= sample < len(x):
        raise ValueError(
            f"spyx.report.plot_sample: expected input (batch, time, features) and a sample in it; got shape {x.shape} "
            f"and sample {sample}. Pass x[None] for a single sample."
        )
    layers = [layer for layer in recording.values() if "spikes" in layer]
    events = x.ndim in (4, 5) and (x.ndim == 4 or x.shape[-1] <= 2) and min(x.shape[2:4]) > 4
    heights = [1.5, *(1.4 for _ in layers)]
    made = figure(7.5, 0.6 + sum(heights), dark=dark)
    rows = np.atleast_1d(made.subplots(len(heights), 1, height_ratios=heights))
    scale, time = time_axis(step_ms)
    span = (-0.5 * scale, (x.shape[1] - 0.5) * scale)
    _, palette = prepared(rows[0], 0, 0, dark)
    if events:
        plot_frames(x[sample], rows[0], count=8, step_ms=step_ms)
        rows[0].set_ylabel("input\nframes", color=palette.ink, fontsize=9)
    else:
        _layer(rows[0], "input", "channel", x[sample], scale, label_of, names, readout=False)
        rows[0].set_xlim(*span)
    for row, layer in zip(rows[1:], layers, strict=True):
        prepared(row, 0, 0, dark)
        readout = layer is layers[-1]
        _layer(row, layer.name, "neuron", np.asarray(layer["spikes"][sample]), scale, label_of, names, readout=readout)
        row.set_xlim(*span)
    for row in rows[:-1]:
        if row is not rows[0] or not events:
            row.tick_params(labelbottom=False)
        row.set_xlabel("" if row is not rows[0] or not events else time, color=palette.ink, fontsize=9)
    rows[-1].set_xlabel(time, color=palette.ink, fontsize=9)
    made.suptitle(title, color=palette.ink, fontsize=11, x=0.01, ha="left", fontweight="bold")
    return made


def _layer(
    axes: Axes,
    name: str,
    what: str,
    values: Sample,
    scale: float,
    truth: int | None,
    names: Sequence[str] | None,
    *,
    readout: bool,
) -> None:
    """Spikes as marks, a readout as lines, other values as a picture."""
    values = values.reshape(len(values), -1)
    _, palette = prepared(axes, 0, 0, False)
    if bool(np.isin(values, (0, 1)).all()) and not (values.all() and values.size):
        plot_raster(values, axes, step_ms=scale, unit=what)
        axes.set_ylabel(f"{name}\n{what} (index)", color=palette.ink, fontsize=9)
        axes.set_xlabel("")
    elif readout and values.shape[1] <= 60:
        _readout(axes, name, values, scale, truth, names)
    else:
        reach = float(np.abs(values).max()) or 1.0
        signed = values.min() < 0
        extent = (-0.5 * scale, (len(values) - 0.5) * scale, -0.5, values.shape[1] - 0.5)
        axes.imshow(
            values.T, aspect="auto", origin="lower", cmap=shades(palette, signed=bool(signed)), extent=extent,
            vmin=-reach if signed else 0, vmax=reach, interpolation="nearest",
        )  # fmt: skip
        whole_numbers(axes.yaxis)
        label(
            axes, palette, "", f"{name}\n{what} (index)", note=f"values from {values.min():.2g} to {values.max():.2g}"
        )


def _readout(
    axes: Axes,
    name: str,
    values: Num[np.ndarray, "time classes"],
    scale: float,
    truth: int | None,
    names: Sequence[str] | None,
) -> None:
    """The true class and the prediction in colour and named, the others grey."""
    _, palette = prepared(axes, 0, 0, False)
    prediction = int(values.sum(axis=0).argmax())
    clock = np.arange(len(values)) * scale
    word = (lambda k: f"class {k}") if names is None else (lambda k: str(names[k]))
    for unit in range(values.shape[1]):
        if unit not in (prediction, truth):
            axes.plot(
                clock,
                values[:, unit],
                color=palette.muted,
                lw=0.9,
                alpha=0.55,
                **(marks(values[:, unit]) if len(values) == 1 else {}),
            )
    ends = []
    shown = [(prediction, palette.series[1], f"{word(prediction)}: prediction, right", 0)]
    if truth is None:
        shown = [(prediction, palette.series[0], f"{word(prediction)}: prediction", 0)]
    elif truth != prediction:
        shown = [
            (truth, palette.series[1], f"{word(truth)}: true", 0),
            (prediction, palette.warning, f"{word(prediction)}: prediction", 1),
        ]
    for unit, colour, text, stroke in shown:
        style = marks(values[:, unit]) if len(values) == 1 else {}
        axes.plot(clock, values[:, unit], color=colour, lw=2.2, ls=STROKES[stroke], **style)
        ends.append((clock[-1], values[-1, unit], text, colour))
    label(axes, palette, "", f"{name}\nmembrane\n(input units)", note="prediction: the largest sum over time")
    name_ends(axes, palette, ends)
