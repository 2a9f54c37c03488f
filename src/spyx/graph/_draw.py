"""A graph as a picture: signals flow from left to right, feedback runs below, delays sit on their edges.

A long chain goes on below, as lines of text do.
"""

from __future__ import annotations

import bisect
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from spyx.graph._describe import lags, word
from spyx.graph._layout import Layout, layout
from spyx.nn._delayed import Delayed
from spyx.nn._layer import Stateless, as_layer

if TYPE_CHECKING:
    import os

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spyx.graph._network import Graph
    from spyx.graph._schedule import Edge
    from spyx.graph._topology import Plan

COLUMN, ROW, LANE = 2.5, 1.15, 0.36  # distances in inches
WIDTH, HEIGHT, MARGIN = 1.7, 0.62, 0.35  # of a box; around the picture
BESIDE = 0.42  # between the delays of edges with the same ends
BEND, ABOVE_LOOP = 0.34, 0.35  # beside the boxes, for lines from band to band; above them, for a loop
INK, GREY, LATE = "#2b2d42", "#5c677d", "#c1440e"
PORT, STATELESS, STATEFUL = ("#ffffff", "#aab4c3"), ("#eef1f6", "#8d99ae"), ("#e3e0f7", "#5b4bb7")

Point = tuple[float, float]


def draw(graph: Graph, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw `graph`, and write the picture to `path` if there is one."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "spyx.graph.Graph.draw: expected Matplotlib; got none. Install it with pip install 'spyx-jax[plot]'."
        ) from error
    plan = _whole_edges(graph)
    where = layout(plan)
    looped = any(e.source == e.target and where.boxes[e.source][1] < 0.5 for e in plan.edges)
    bands = _stacked(where, ABOVE_LOOP if looped else 0.0)
    centres = {name: bands.at(place) for name, place in where.boxes.items()}
    depth = {
        edge: bands.floors[bands.of(where.boxes[edge.source][0])] - LANE * (n + 0.9) for edge, n in where.lanes.items()
    }
    left, right = -WIDTH / 2 - MARGIN, max(x for x, _ in centres.values()) + WIDTH / 2 + MARGIN
    if len(where.bands) > 1:  # room for the lines from band to band
        aside = BEND + 0.08 * max((lane for turns in bands.gutters.values() for lane, _ in turns), default=0)
        left, right = left - aside, right + aside
    bottom = min([*bands.floors, *depth.values()]) - MARGIN
    top = HEIGHT / 2 + MARGIN + (ABOVE_LOOP if looped else 0.0)
    figure = Figure(figsize=(right - left, top - bottom), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    doors = _doors(plan, centres, depth)
    for edge in plan.edges:
        late = _delay(graph, edge)
        if edge.source == edge.target:
            _loop(axes, late, centres[edge.source])
        elif edge in depth:
            _feedback(axes, late, centres[edge.source], doors[edge], depth[edge], where.lanes[edge])
        else:
            # Straight across a column, bent only between columns: so an edge never runs through a box.
            ends = [_right_of(centres[edge.source])]
            for place in where.ways[edge]:
                x, y = bands.at(place)
                ends += [(x - WIDTH / 2, y), (x + WIDTH / 2, y)]
            beside = [other for other in plan.edges if other[:2] == edge[:2]]
            shift = BESIDE * ((len(beside) - 1) / 2 - beside.index(edge))
            _forward(axes, late, [*ends, doors[edge]], bands.gutters.get(edge, []), shift)
    for name, centre in centres.items():
        _box(axes, graph, plan, name, centre)
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure


def _whole_edges(graph: Graph) -> Plan:
    """The structure without the nodes that an edge with a `Delayed` passes: such an edge is one line."""
    plan = graph._plan
    names = tuple(name for name in plan.names if name not in plan.passed)
    return replace(plan, names=names, edges=plan.whole_edges)


def _delay(graph: Graph, edge: Edge) -> str:
    """What stands on an edge, empty for no delay."""
    layer = graph.nodes[edge.via] if edge.via else None
    if not isinstance(layer, Delayed):
        return f"+{edge.delay}" if edge.delay else ""
    kind = type(layer.connection).__name__ + "\n" if layer._has_product else ""
    return kind + lags(layer, edge.delay)


class _Bands(NamedTuple):
    """Bands of columns, one below the other.

    Args:
        starts: the first column of each.
        tops: where the uppermost row of each is, and which row that is.
        floors: below the boxes of each.
        gutters: edge to its lane and its height wherever it runs back to the left, from band to band.
    """

    starts: tuple[int, ...]
    tops: list[tuple[float, float]]
    floors: list[float]
    gutters: dict[Edge, list[tuple[int, float]]]

    def of(self, column: int) -> int:
        """The band of a column."""
        return bisect.bisect_right(self.starts, column) - 1

    def at(self, place: tuple[int, float]) -> Point:
        """Where a column and a row are."""
        column, row = place
        band = self.of(column)
        top, first = self.tops[band]
        return (column - self.starts[band]) * COLUMN, top - (row - first) * ROW


def _stacked(where: Layout, room: float) -> _Bands:
    found = _Bands(where.bands, [], [], {})
    rows: list[list[float]] = [[] for _ in where.bands]
    band_of = {name: found.of(column) for name, (column, _) in where.boxes.items()}
    for place in (*where.boxes.values(), *(place for way in where.ways.values() for place in way)):
        rows[found.of(place[0])].append(place[1])
    top = 0.0
    for band, inside in enumerate(rows):
        floor = top - (max(inside) - min(inside)) * ROW - HEIGHT / 2
        found.tops.append((top, min(inside)))
        found.floors.append(floor)
        lanes = [lane for edge, lane in where.lanes.items() if band_of[edge.source] == band]
        crossing = [edge for edge in where.ways if band_of[edge.source] <= band < band_of[edge.target]]
        below = floor - LANE * (max(lanes) + 1.3 if lanes else 0.0)
        for lane, edge in enumerate(crossing):
            found.gutters.setdefault(edge, []).append((lane, below - LANE * (lane + 0.9)))
        top = below - LANE * (len(crossing) + 1.3) - HEIGHT / 2 - room
    return found


def _doors(plan: Plan, centres: dict[str, Point], depth: dict[Edge, float]) -> dict[Edge, Point]:
    """Where every edge enters its target: one above the other on its left side, in the order of their sources."""
    doors = {}
    for name, incoming in plan.incoming.items():
        edges = [edge for _, edge in incoming if edge.source != edge.target]
        edges.sort(key=lambda e: -depth.get(e, centres[e.source][1]))
        x, y = centres[name]
        step = min(0.18, HEIGHT / (len(edges) + 1))
        for place, edge in enumerate(edges):
            doors[edge] = (x - WIDTH / 2, y + step * ((len(edges) - 1) / 2 - place))
    return doors


def _right_of(centre: Point) -> Point:
    return centre[0] + WIDTH / 2, centre[1]


def _forward(axes: Axes, late: str, points: list[Point], gutters: list[tuple[int, float]], shift: float) -> None:
    from matplotlib.path import Path

    vertices, codes = [points[0]], [Path.MOVETO]
    turns = iter(gutters)
    legs = list(zip(points[:-1], points[1:], strict=True))
    places = []
    for (x, y), (to_x, to_y) in legs:
        if to_x > x:
            vertices += [((x + to_x) / 2, y), ((x + to_x) / 2, to_y), (to_x, to_y)]
            codes += [Path.CURVE4] * 3
            places.append(((x + to_x) / 2, (y + to_y) / 2))
            continue
        lane, height = next(turns)
        aside = BEND + 0.08 * lane
        corners = [(x + aside, y), (x + aside, height), (to_x - aside, height), (to_x - aside, to_y), (to_x, to_y)]
        more, kinds = _rounded((x, y), corners)
        vertices += more
        codes += kinds
        places.append(((x + to_x) / 2, height))
    x, y = places[len(places) // 2]
    _line(axes, late, vertices, codes, (x, y + shift))


def _feedback(axes: Axes, late: str, start: Point, door: Point, depth: float, lane: int) -> None:
    from matplotlib.path import Path

    x, y = _right_of(start)
    down, up = x + 0.24 + 0.07 * lane, door[0] - 0.3 - 0.07 * lane
    vertices, codes = _rounded((x, y), [(down, y), (down, depth), (up, depth), (up, door[1]), door])
    _line(axes, late, [(x, y), *vertices], [Path.MOVETO, *codes], ((down + up) / 2, depth))


def _rounded(start: Point, points: list[Point]) -> tuple[list[Point], list[np.uint8]]:
    """A line from `start` over `points` with round corners, without its first vertex."""
    from matplotlib.path import Path

    vertices, codes = [], []
    before = start
    for corner, after in zip(points[:-1], points[1:], strict=True):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
        before = corner
    return [*vertices, points[-1]], [*codes, Path.LINETO]


def _towards(corner: Point, other: Point, r: float = 0.16) -> Point:
    (x, y), (to_x, to_y) = corner, other
    length = max(abs(to_x - x), abs(to_y - y), 1e-6)
    return x + r * (to_x - x) / length, y + r * (to_y - y) / length


def _loop(axes: Axes, late: str, centre: Point) -> None:
    from matplotlib.path import Path

    x, top = centre[0], centre[1] + HEIGHT / 2
    vertices = [(x + 0.55, top), (x + 0.6, top + 0.42), (x - 0.3, top + 0.42), (x - 0.25, top)]
    _line(axes, late, vertices, [Path.MOVETO, *[Path.CURVE4] * 3], (x + 0.15, top + 0.31))


def _line(axes: Axes, late: str, vertices: list[Point], codes: list[np.uint8], label: Point) -> None:
    from matplotlib.patches import FancyArrowPatch, PathPatch
    from matplotlib.path import Path

    colour = LATE if late else INK
    style = (0, (4, 2)) if late else "solid"
    path = Path(vertices, codes)
    axes.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, linewidth=1.4, linestyle=style, zorder=1))
    (x, y), (to_x, to_y) = vertices[-2:]
    length = max(((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5, 1e-6)
    tail = (to_x - 0.12 * (to_x - x) / length, to_y - 0.12 * (to_y - y) / length)
    head = FancyArrowPatch(
        tail, (to_x, to_y), arrowstyle="-|>,head_length=5,head_width=2.6", color=colour, shrinkA=0, shrinkB=0, zorder=3
    )
    axes.add_patch(head)
    if late:
        _pill(axes, label, late, LATE)


def _pill(axes: Axes, at: Point, text: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.28,rounding_size=0.7", "facecolor": colour, "edgecolor": "white"}
    axes.text(*at, text, color="white", fontsize=8, fontweight="bold", ha="center", va="center", zorder=5, bbox=box)


def _box(axes: Axes, graph: Graph, plan: Plan, name: str, centre: Point) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = centre
    layer = graph.nodes[name] if name in plan.names else None
    face, line = PORT
    if layer is not None:
        face, line = STATELESS if isinstance(as_layer("spyx.graph.Graph.draw", layer), Stateless) else STATEFUL
    corner = f"round,pad=0,rounding_size={0.31 if layer is None else 0.1}"
    lower_left = (x - WIDTH / 2, y - HEIGHT / 2)
    axes.add_patch(
        FancyBboxPatch(
            lower_left, WIDTH, HEIGHT, boxstyle=corner, facecolor=face, edgecolor=line, linewidth=1.3, zorder=2
        )
    )
    lift = 0.0 if layer is None else 0.11
    axes.text(x, y + lift, name, color=INK, fontsize=10, fontweight="bold", ha="center", va="center", zorder=4)
    if layer is not None:
        axes.text(x, y - 0.14, word(layer), color=GREY, fontsize=7.8, ha="center", va="center", zorder=4)
    if len(plan.incoming.get(name, ())) > 1:
        how = plan.merge_of[name].replace("concatenate", "concat")
        _pill(axes, (x - WIDTH / 2 + 0.32, y + HEIGHT / 2), how, line)
