"""Event data as frames, beside one another or one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyx.report._style import DARK, LIGHT, Palette, label, of_shape, prepared

if TYPE_CHECKING:
    from jaxtyping import Float, Integer, Num
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle
    from numpy.typing import ArrayLike


def plot_frames(
    frames: Num[ArrayLike, "time height width *channels"],
    axes: Axes | None = None,
    *,
    count: int = 6,
    step_ms: float | None = None,
    title: str = "",
    dark: bool = False,
) -> Axes:
    """A recording of an event camera as a row of frames, each the events of a share of its steps.

    With two channels, the first (off) and the second (on) have a colour each, and both together a mixture.

    Args:
        frames: (time, height, width) or (time, height, width, channels), counts or spikes of one sample.
        axes: to draw on; None makes a figure.
        count: of frames, at most one per step. Default 6.
        step_ms: length of a step; None writes steps below the frames.
        title: above the picture.
        dark: a dark background, for a figure that is made here.

    Returns:
        The axes.

    Raises:
        ValueError: another shape, more than two channels, no frame.
        ImportError: Matplotlib is not installed.

    Example:
        >>> axes = plot_frames(np.ones((10, 4, 4, 2)), count=5)
        >>> [tick.get_text() for tick in axes.get_xticklabels()][:2]
        ['0-1', '2-3']
    """
    values = _checked("plot_frames", frames)
    if count < 1:
        raise ValueError(f"spyx.report.plot_frames(count=): expected 1 or more frames; got {count}. Try 6.")
    parts = np.array_split(np.arange(len(values)), min(count, len(values)))
    height, width = values.shape[1:3]
    gap = max(1, round(0.06 * width))
    size = (1.35 * len(parts) + 0.3, 1.35 * height / width + 0.75)
    axes, palette = prepared(axes, *size, dark)
    sums = np.stack([values[part].sum(0) for part in parts])
    highest = float(np.quantile(sums[sums > 0], 0.98)) if (sums > 0).any() else 1.0
    picture = np.ones((height, len(parts) * (width + gap) - gap, 4))
    picture[..., 3] = 0
    for number, total in enumerate(sums):
        start = number * (width + gap)
        picture[:, start : start + width, :3] = coloured(total, highest, palette)
        picture[:, start : start + width, 3] = 1
    axes.imshow(picture, interpolation="nearest")
    for number in range(len(parts)):
        axes.add_patch(_frame_edge(number * (width + gap) - 0.5, width, height, palette))
    names = [_span(part, step_ms) for part in parts]
    axes.set_xticks([number * (width + gap) + (width - 1) / 2 for number in range(len(parts))], names)
    axes.set_yticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    note = f"{values.sum():,.0f} events, {width} x {height} pixels"
    time = "steps" if step_ms is None else "time (ms)"
    label(axes, palette, time, "", title, note if len(parts) > 3 else "")
    if values.shape[-1] == 2:
        on, off = palette.series[1], palette.series[2]
        axes.annotate(
            "on", (1.0, 0.56), xycoords="axes fraction", xytext=(5, 0), textcoords="offset points", color=on,
            fontsize=8, va="bottom", annotation_clip=False,
        )  # fmt: skip
        axes.annotate(
            "off", (1.0, 0.44), xycoords="axes fraction", xytext=(5, 0), textcoords="offset points", color=off,
            fontsize=8, va="top", annotation_clip=False,
        )  # fmt: skip
    return axes


def animate(
    frames: Num[ArrayLike, "time height width *channels"],
    path: str | Path,
    *,
    step_ms: float | None = None,
    fps: float = 12.0,
    size: int = 320,
    dark: bool = False,
) -> Path:
    """Write a recording of an event camera as an animated GIF: a frame per step, with a line that shows the time.

    Args:
        frames: (time, height, width) or (time, height, width, channels), counts or spikes of one sample.
        path: of the file, ending in .gif.
        step_ms: length of a step, written into the file's comment. None writes steps.
        fps: frames per second, at most 50, the fastest that browsers show. Default 12.
        size: pixels of the longer side, at least; a whole multiple of the recording. Default 320.
        dark: a dark background.

    Returns:
        The path.

    Raises:
        ValueError: another shape, another ending, a speed out of range.
        ImportError: Pillow is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     animate(np.eye(8)[None].repeat(3, 0), f"{folder}/a.gif").name
        'a.gif'
    """
    try:
        from PIL import Image
    except ImportError as missing:
        raise ImportError(
            "spyx.report.animate: expected Pillow; got no such package. Run pip install 'spyx-jax[plot]'."
        ) from missing
    values = _checked("animate", frames)
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"spyx.report.animate(path=): expected a name that ends in .gif; got {path.name}. Rename it.")
    if not 0 < fps <= 50:
        raise ValueError(f"spyx.report.animate(fps=): expected frames per second in (0, 50]; got {fps}. Try 12.")
    palette = DARK if dark else LIGHT
    highest = float(np.quantile(values[values > 0], 0.98)) if (values > 0).any() else 1.0
    zoom = max(1, -(-size // max(values.shape[1:3])))
    pictures = []
    for number, frame in enumerate(values):
        picture = coloured(frame, highest, palette).repeat(zoom, 0).repeat(zoom, 1)
        bar = np.broadcast_to(_rgb(palette.paper), (max(4, zoom), picture.shape[1], 3)).copy()
        bar[1:, : round(picture.shape[1] * (number + 1) / len(values))] = _rgb(palette.series[0])
        pictures.append(Image.fromarray((255 * np.concatenate([picture, bar])).round().astype(np.uint8)))
    comment = f"{len(values)} steps" + (f" of {step_ms:g} ms" if step_ms else "")
    first, *rest = [picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128) for picture in pictures]
    first.save(
        path,
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
        comment=comment.encode(),
        disposal=2,
    )
    return path


def coloured(
    frame: Float[np.ndarray, "height width channels"], highest: float, palette: Palette
) -> Float[np.ndarray, "height width 3"]:
    """Events (height, width, channels) as colours on paper: off and on, or one colour for a single channel."""
    colours = (palette.series[2], palette.series[1]) if frame.shape[-1] == 2 else (palette.series[0],)
    paper = _rgb(palette.paper)
    strength = np.clip(frame / highest, 0, 1)
    strength = np.where(frame > 0, 0.35 + 0.65 * strength, 0)  # one event must be seen
    total = strength.sum(-1, keepdims=True)
    mixed = sum(strength[..., [k]] * _rgb(colour) for k, colour in enumerate(colours)) / np.maximum(total, 1e-9)
    cover = np.clip(total, 0, 1)
    return cover * mixed + (1 - cover) * paper


def _checked(
    name: str, frames: Num[ArrayLike, "time height width *channels"]
) -> Float[np.ndarray, "time height width channels"]:
    values = of_shape(name, "frames", frames, (3, 4), "(time, height, width) or (time, height, width, channels)")
    values = values[..., None] if values.ndim == 3 else values
    if values.shape[-1] > 2:
        raise ValueError(
            f"spyx.report.{name}: expected one channel, or off and on; got {values.shape[-1]} channels. Sum some."
        )
    return np.abs(values.astype(np.float32))


def _rgb(colour: str) -> Float[np.ndarray, "3"]:
    return np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])


def _frame_edge(left: float, width: int, height: int, palette: Palette) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((left, -0.5), width, height, fill=False, ec=palette.muted, lw=0.7, alpha=0.7, clip_on=False)


def _span(part: Integer[np.ndarray, " steps"], step_ms: float | None) -> str:
    if step_ms is not None:
        return f"{part[0] * step_ms:g}-{(part[-1] + 1) * step_ms:g}"
    return f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}"
