"""The house style of pictures: colours for light and dark backgrounds, axes with units, points that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Num, Real
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

DECADES = 1.0
"""Powers of ten that values must span for a logarithmic axis."""

FEW = 25
"""Points up to which each is marked."""


class Palette(NamedTuple):
    """Colours that keep apart in print, for the colour-blind, and on their background."""

    paper: str
    ink: str
    muted: str
    series: tuple[str, ...]
    warning: str


LIGHT = Palette("#ffffff", "#1f2430", "#6b7280", ("#5b3fb0", "#0b8478", "#b8500f", "#2b6cb0", "#8a1c5b"), "#c2410c")
DARK = Palette("#14161d", "#e8eaf0", "#9aa1b2", ("#b9a5f0", "#4fd0c1", "#ffb27a", "#8fbcff", "#f093c0"), "#ff9d5c")
STROKES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def figure(width: float, height: float, *, dark: bool = False) -> Figure:
    """A figure of its own, in inches: no window, no global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise ImportError(
            "spyx.report: expected Matplotlib; got no such package. Run pip install 'spyx-jax[plot]'."
        ) from missing
    made = Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor=(DARK if dark else LIGHT).paper)
    FigureCanvasAgg(made)
    return made


def prepared(axes: Axes | None, width: float, height: float, dark: bool) -> tuple[Axes, Palette]:
    """The axes that were given, or new ones, and the colours for what they stand on."""
    if axes is None:
        axes = figure(width, height, dark=dark).subplots()
    found = palette_of(axes)
    axes.set_facecolor("none")
    axes.tick_params(colors=found.muted, labelcolor=found.ink, labelsize=8, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(found.muted)
    return axes, found


def palette_of(axes: Axes) -> Palette:
    """Light ink on dark figures, dark ink on light ones; a transparent figure counts as light."""
    from matplotlib.colors import to_rgba

    red, green, blue, alpha = to_rgba(axes.figure.get_facecolor())
    return DARK if alpha > 0.5 and 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else LIGHT


def label(axes: Axes, palette: Palette, x: str, y: str, title: str = "", note: str = "") -> Axes:
    """Name both axes, with units, and put title and note above."""
    axes.set_xlabel(x, color=palette.ink, fontsize=9)
    axes.set_ylabel(y, color=palette.ink, fontsize=9)
    if title:
        axes.set_title(title, loc="left", color=palette.ink, fontsize=10, fontweight="bold")
    if note:
        axes.set_title(note, loc="right", color=palette.muted, fontsize=8)
    return axes


def legend(axes: Axes, palette: Palette, **where: Any) -> None:
    """Names of what is drawn, without a frame."""
    axes.legend(frameon=False, fontsize=8, labelcolor=palette.ink, **{"loc": "best", **where})


def name_ends(axes: Axes, palette: Palette, ends: list[tuple[float, float, str, str]]) -> None:
    """Names beside the right ends of lines, `(x, y, text, colour)`, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    log = axes.get_yscale() == "log"
    place = (lambda y: np.log10(max(y, 1e-300))) if log else (lambda y: y)
    bottom, span = place(low), (place(high) - place(low)) or 1.0
    least = 0.16 / max(axes.bbox.height / axes.figure.dpi, 0.5)  # a line of text
    spots = sorted(((place(y) - bottom) / span, x, y, text, colour) for x, y, text, colour in ends)
    heights: list[float] = []
    for spot, *_ in spots:
        heights.append(max(min(max(spot, 0.02), 0.98), heights[-1] + least if heights else 0.0))
    over = heights[-1] - 0.98 if heights else 0.0
    for height, (_, _, _, text, colour) in zip(heights, spots, strict=True):
        axes.annotate(
            text,
            (1.0, height - max(over, 0.0)),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
        )


def marks(values: Real[ArrayLike, " points"]) -> dict[str, Any]:
    """The marker of a line, so that a single point, or one between gaps, is visible."""
    finite = np.isfinite(np.asarray(values, float))
    alone = finite & ~np.r_[False, finite[:-1]] & ~np.r_[finite[1:], False]
    if finite.sum() <= FEW:
        return {"marker": "o", "markersize": 6 if finite.sum() == 1 else 3.5}
    return {"marker": "o", "markersize": 4, "markevery": np.flatnonzero(alone).tolist()} if alone.any() else {}


def log_if_wide(axes: Axes, values: Real[ArrayLike, "..."]) -> None:
    """A logarithmic axis where all values are positive and span decades."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found)]
    if found.size and found.min() > 0 and np.log10(found.max() / found.min()) >= DECADES:
        from matplotlib.ticker import FuncFormatter, LogLocator

        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        narrow = found.max() / found.min() < 1e3
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.yaxis.set_major_formatter(plain)


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def time_axis(step_ms: float | None) -> tuple[float, str]:
    """The length of a step, and what the axis of time is called."""
    return (1.0, "time (steps)") if step_ms is None else (step_ms, "time (ms)")


def shades(palette: Palette, *, signed: bool = False) -> LinearSegmentedColormap:
    """A colour map from the paper to the first colour; or through the paper, from the third to the second."""
    from matplotlib.colors import LinearSegmentedColormap

    ends = (palette.series[2], palette.paper, palette.series[1]) if signed else (palette.paper, palette.series[0])
    return LinearSegmentedColormap.from_list("spyx", ends)


def colour_bar(axes: Axes, image: ScalarMappable, palette: Palette, text: str) -> None:
    """What the colours of an image mean, with a unit."""
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label(text, color=palette.ink, fontsize=8)
    bar.ax.tick_params(colors=palette.muted, labelcolor=palette.ink, labelsize=7, length=2)
    bar.outline.set_visible(False)


def of_shape(
    name: str, argument: str, value: Num[ArrayLike, "..."], ndim: int | tuple[int, ...], words: str
) -> Num[np.ndarray, "..."]:
    """An array with so many axes and something in it."""
    found = np.asarray(value)
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if found.ndim not in allowed or not found.size:
        raise ValueError(f"spyx.report.{name}({argument}): expected {words}; got shape {found.shape}. Pick one sample.")
    return found
