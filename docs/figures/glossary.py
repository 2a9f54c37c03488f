"""Draws the figures of the glossary: `python docs/figures/glossary.py` writes every one as SVG, light and dark.

The curves are computed here from the equations of the page, without spyx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 420, 130
THEMES = {
    "light": {"ink": "#37474f", "faint": "#b0bec5", "main": "#5e35b1", "second": "#00897b", "fill": "#ede7f6"},
    "dark": {"ink": "#cfd8dc", "faint": "#607d8b", "main": "#b39ddb", "second": "#4db6ac", "fill": "#37304d"},
}
INPUT = [0.0, 0.5, 0.5, 0.0, 0.6, 0.5, 0.5, 0.0, 0.0, 0.4, 0.7, 0.4, 0.0, 0.0, 0.5, 0.6, 0.6, 0.0, 0.0, 0.0]


class Drawing:
    """Lines of an SVG in the colours of one theme."""

    def __init__(self, theme: str) -> None:
        self.colours = THEMES[theme]
        self.lines: list[str] = []

    def line(self, points: Iterable[tuple[float, float]], colour: str, width: float = 2, dashed: bool = False) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.lines.append(
            f'<polyline points="{path}" fill="none" stroke="{self.colours[colour]}" stroke-width="{width}"{dash}/>'
        )

    def box(self, x: float, y: float, width: float, height: float, label: str = "", fill: str = "fill") -> None:
        self.lines.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" '
            f'fill="{self.colours[fill]}" stroke="{self.colours["ink"]}"/>'
        )
        if label:
            self.text(x + width / 2, y + height / 2 + 4, label, anchor="middle")

    def text(self, x: float, y: float, text: str, colour: str = "ink", anchor: str = "start") -> None:
        self.lines.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" font-family="sans-serif" text-anchor="{anchor}" '
            f'fill="{self.colours[colour]}">{text}</text>'
        )

    def arrow(self, points: Sequence[tuple[float, float]], colour: str = "ink", dashed: bool = False) -> None:
        """A line with a head at its last point."""
        self.line(points, colour, 1.5, dashed)
        (x0, y0), (x, y) = points[-2:]
        angle = math.atan2(y - y0, x - x0)
        sides = [(x - 7 * math.cos(angle + a), y - 7 * math.sin(angle + a)) for a in (0.45, -0.45)]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in [(x, y), *sides])
        self.lines.append(f'<polygon points="{corners}" fill="{self.colours[colour]}"/>')

    def spikes(self, steps: Iterable[int], x: Callable[[float], float], y: float, colour: str = "main") -> None:
        for step in steps:
            self.line([(x(step), y), (x(step), y - 16)], colour, 3)

    def write(self, path: Path, title: str) -> None:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{title}</title>'
        )
        path.write_text("\n".join([head, *self.lines, "</svg>", ""]), encoding="utf-8")


def lif(beta: float = 0.8, reset: bool = True) -> tuple[list[float], list[int]]:
    """Membranes before every step, and the steps that spike: `z = H(v - 1)`, `v' = beta v + x - z`."""
    v, membranes, spikes = 0.0, [], []
    for step, x in enumerate(INPUT):
        membranes.append(v)
        z = 1.0 if v > 1 and reset else 0.0
        spikes += [step] if z else []
        v = beta * v + x - z
    return membranes, spikes


def at(left: float = 60.0, right: float = 400.0, steps: int = len(INPUT)) -> Callable[[float], float]:
    """From a time step to a place."""
    return lambda step: left + (right - left) * (step + 0.5) / steps


def time_axis(drawing: Drawing, y: float = 112, left: float = 60, right: float = 405) -> None:
    drawing.arrow([(left, y), (right, y)], "faint")
    drawing.text(right, y + 14, "time in steps", "ink", "end")


def spike_train(d: Drawing) -> None:
    for row, (name, steps) in enumerate(
        [("unit 0", [1, 5, 6, 12, 17]), ("unit 1", [3, 10]), ("unit 2", [2, 4, 8, 9, 15])]
    ):
        y = 34 + 30 * row
        d.line([(60, y), (400, y)], "faint", 1)
        d.text(8, y - 3, name)
        d.spikes(steps, at(), y)
    time_axis(d)


def membrane(d: Drawing) -> None:
    membranes, spikes = lif()
    x, y = at(), lambda v: 100 - 46 * v
    d.line([(60, y(1)), (400, y(1))], "second", 1.5, dashed=True)
    d.text(8, y(1) + 4, "threshold", "second")
    d.line([(x(i), y(v)) for i, v in enumerate(membranes)], "main")
    d.text(8, y(0) + 4, "v")
    d.spikes(spikes, x, 24, "ink")
    d.text(8, 20, "spikes")
    time_axis(d)


def decay(d: Drawing) -> None:
    x = at(60, 330)
    for beta, colour, label in ((0.9, "main", "beta = 0.9"), (0.6, "second", "beta = 0.6")):
        d.line([(x(t), 100 - 80 * beta**t) for t in range(20)], colour)
        d.text(340, 100 - 80 * beta**19 - (4 if beta > 0.8 else -2), label, colour)
    d.text(8, 24, "v")
    time_axis(d, right=335)


def surrogate(d: Drawing) -> None:
    def x(u: float) -> float:
        return 210 + 70 * u

    d.line([(x(-2), 100), (x(0), 100), (x(0), 30), (x(2), 30)], "ink")
    d.text(x(2) + 6, 34, "spike")
    curve = [i / 20 for i in range(-40, 41)]
    d.line([(x(u), 100 - 66 / (1 + 5 * abs(u)) ** 2) for u in curve], "main")
    d.text(x(2) + 6, 98, "slope", "main")
    d.arrow([(x(-2), 112), (x(2) + 10, 112)], "faint")
    d.text(x(2) + 10, 126, "v - threshold", "ink", "end")


def reset(d: Drawing) -> None:
    x, y = at(), lambda v: 104 - 24 * v
    with_reset, spikes = lif()
    d.line([(60, y(1)), (400, y(1))], "second", 1.5, dashed=True)
    d.text(8, y(1) + 4, "threshold", "second")
    d.line([(x(i), y(v)) for i, v in enumerate(lif(reset=False)[0])], "faint")
    d.line([(x(i), y(v)) for i, v in enumerate(with_reset)], "main")
    d.spikes(spikes, x, 24, "ink")
    d.text(8, 20, "spikes")
    d.text(60, 46, "without reset")
    time_axis(d, 113)


def recurrence(d: Drawing) -> None:
    d.box(160, 45, 100, 40, "neurons")
    d.arrow([(60, 65), (158, 65)])
    d.text(66, 58, "x")
    d.arrow([(260, 65), (370, 65)], "main")
    d.text(340, 58, "spikes z", "main")
    d.arrow([(300, 65), (300, 110), (120, 110), (120, 69)], "second")
    d.text(210, 104, "z W, added to x", "second", "middle")


def graph_with_delays(d: Drawing) -> None:
    for x, y, label in ((20, 50, "input"), (150, 15, "a"), (150, 85, "b"), (290, 50, "readout")):
        d.box(x, y, 80, 30, label)
    d.arrow([(100, 60), (148, 32)])
    d.arrow([(100, 70), (148, 98)])
    d.arrow([(230, 32), (288, 58)])
    d.text(258, 34, "delay 0")
    d.arrow([(230, 98), (288, 72)], "second")
    d.text(258, 102, "delay 3", "second")
    d.arrow([(190, 83), (190, 47)], "main", dashed=True)
    d.text(196, 68, "delay 1", "main")


def chunked_time(d: Drawing) -> None:
    for i in range(4):
        d.box(30 + 95 * i, 30, 75, 36, f"chunk {i}")
        if i < 3:
            d.arrow([(105 + 95 * i, 48), (123 + 95 * i, 48)], "main")
    d.text(18, 92, "arrows carry the state; remat=True stores it alone", "main")
    time_axis(d, 108, 20)


def lengths(d: Drawing) -> None:
    for row, end in enumerate((20, 12, 7)):
        y = 14 + 28 * row
        d.text(8, y + 14, f"sample {row}")
        for step in range(20):
            d.box(at(70, 400)(step) - 7.5, y, 15, 18, fill="main" if step < end else "fill")
    time_axis(d, 108, 70)


def axes(d: Drawing) -> None:
    for i in (2, 1, 0):
        d.box(120 + 14 * i, 34 - 10 * i, 160, 64)
    for t in range(1, 8):
        d.line([(120 + 20 * t, 34), (120 + 20 * t, 98)], "faint", 1)
    d.text(200, 116, "time", "main", "middle")
    d.text(112, 70, "features", "second", "end")
    d.text(316, 34, "batch")


FIGURES: dict[str, tuple[str, Callable[[Drawing], None]]] = {
    "axes": ("An array with the axes batch, time and features", axes),
    "spike-train": ("Spike trains of three units", spike_train),
    "membrane": ("A membrane, its threshold and its spikes", membrane),
    "decay": ("Membranes that decay per step", decay),
    "reset": ("A membrane with and without reset", reset),
    "surrogate": ("The spike function and the slope of its surrogate", surrogate),
    "recurrence": ("Spikes fed back through a weight", recurrence),
    "graph-with-delays": ("A graph whose edges have delays", graph_with_delays),
    "chunked-time": ("Time in four chunks, with the state carried over", chunked_time),
    "lengths": ("A padded batch of samples of unequal length", lengths),
}


def main() -> None:
    """Write all figures beside this file."""
    for name, (title, draw) in FIGURES.items():
        for theme in THEMES:
            drawing = Drawing(theme)
            draw(drawing)
            drawing.write(FOLDER / f"{name}-{theme}.svg", title)


if __name__ == "__main__":
    main()
