"""Where a picture of a graph puts its boxes and edges; in units of one column and one row, without any drawing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from spyx.graph._schedule import Edge
from spyx.graph._topology import Plan

SWEEPS = 12
WIDEST = 8
"""Columns that stand side by side before a long chain goes on below, as lines of text do."""

Thing = str | tuple[Edge, int]
"""What has a row: a box by its name, or the point where a long edge crosses a column."""


class Layout(NamedTuple):
    """A place for everything.

    Args:
        boxes: name to (column, row); row 0 is on top.
        ways: forward edge to the (column, row) points that it passes between its ends.
        lanes: feedback edge to its lane below all rows of its band, 0 being the uppermost.
        bands: the first column of every band; a band stands below the one before.
    """

    boxes: dict[str, tuple[int, float]]
    ways: dict[Edge, list[tuple[int, float]]]
    lanes: dict[Edge, int]
    bands: tuple[int, ...]


def layout(plan: Plan) -> Layout:
    """Columns follow the longest way from the input, rows follow the neighbours, feedback runs below."""
    order = {name: place for place, name in enumerate((*plan.inputs, *plan.order, *plan.outputs))}
    forward = [e for e in plan.edges if order[e.source] < order[e.target]]
    columns = _columns(plan, list(order), forward)
    rows, ways = _rows(columns, forward)
    boxes = {name: (columns[name], rows[name]) for name in order}
    passed = {e: [(c, rows[e, c]) for c in range(columns[e.source] + 1, columns[e.target])] for e in ways}
    back = [e for e in plan.edges if e not in ways and e.source != e.target]
    return Layout(boxes, passed, _lanes(columns, back), _bands(columns, back))


def _bands(columns: Mapping[str, int], back: list[Edge]) -> tuple[int, ...]:
    """Where bands begin: of about equal width, and never inside a feedback loop."""
    total = max(columns.values()) + 1
    wide = -(-total // -(-total // WIDEST))
    inside = {c for e in back for c in range(columns[e.target] + 1, columns[e.source] + 1)}
    starts = [0]
    while total - starts[-1] > wide:
        least, end = starts[-1] + wide // 2, total - wide // 2
        free = [column for column in range(least, end + 1) if column not in inside]
        if not free:
            break
        starts.append(min(free, key=lambda column: abs(column - starts[-1] - wide)))
    return tuple(starts)


def _columns(plan: Plan, order: list[str], forward: list[Edge]) -> dict[str, int]:
    columns = dict.fromkeys(order, 0)
    for name in order:
        columns[name] = max((columns[e.source] + 1 for e in forward if e.target == name), default=0)
    for name in reversed(order):
        # What only feedback reaches stands just before what it feeds.
        if name not in plan.inputs and not any(e.target == name for e in forward):
            columns[name] = max(min((columns[e.target] - 1 for e in forward if e.source == name), default=1), 0)
    return columns | dict.fromkeys(plan.outputs, max(columns.values()))


def _rows(columns: Mapping[str, int], forward: list[Edge]) -> tuple[dict[Thing, float], list[Edge]]:
    """Rows of boxes, and of the points where long edges cross a column, so that they do not run through a box."""
    ways = [e for e in forward if columns[e.source] < columns[e.target]]
    grid: list[list[Thing]] = [[] for _ in range(max(columns.values()) + 1)]
    neighbours: dict[Thing, list[Thing]] = {name: [] for name in columns}
    for name, column in columns.items():
        grid[column].append(name)
    for edge in ways:
        crossed = [(edge, column) for column in range(columns[edge.source] + 1, columns[edge.target])]
        for point in crossed:
            grid[point[1]].append(point)
            neighbours[point] = []
        path = [edge.source, *crossed, edge.target]
        for one, other in zip(path[:-1], path[1:], strict=True):
            neighbours[one].append(other)
            neighbours[other].append(one)
    rows: dict[Thing, float] = {thing: float(row) for column in grid for row, thing in enumerate(column)}
    for sweep in range(SWEEPS):
        for column in grid if sweep % 2 else grid[::-1]:
            wish = {t: sum(rows[n] for n in neighbours[t]) / max(len(neighbours[t]), 1) for t in column}
            first = sum(wish.values()) / len(wish) - (len(column) - 1) / 2
            for row, thing in enumerate(sorted(column, key=lambda t: (wish[t], isinstance(t, tuple)))):
                rows[thing] = round(2 * first) / 2 + row
    top = min(rows.values())
    return {thing: row - top for thing, row in rows.items()}, ways


def _lanes(columns: Mapping[str, int], back: list[Edge]) -> dict[Edge, int]:
    """Short loops in the upper lanes; two edges share a lane where they do not meet."""
    lanes: dict[Edge, int] = {}
    spans = {e: set(range(columns[e.target], columns[e.source] + 1)) for e in back}
    for edge in sorted(back, key=lambda e: len(spans[e])):
        taken = {lane for other, lane in lanes.items() if spans[edge] & spans[other]}
        lanes[edge] = next(lane for lane in range(len(back)) if lane not in taken)
    return lanes
