"""Where NIR's axes lie in spyx: maps are channels-first there and channels-last here, and so is what flattens them.

A signal belongs to a map when only element-wise nodes lie between it and a convolution or a pool; every other signal
has the same axes in both. A flattened map has spyx's order as long as everything around it can be permuted; the axes
of all signals are decided at once, for the whole graph, in either direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from spyx.nir._flat import Edge, Shape

KINDS = ("units", "dense", "map", "flatten", "reshape", "input", "output")
"""What a node does to axes: nothing, mixes a vector, works on maps, flattens all, reshapes, or is the graph's own."""


class Layout(NamedTuple):
    """Axes of one signal.

    Args:
        kind: "plain", "map" (C, *S) in NIR and (*S, C) in spyx, or "flat": a map of shape `shape`, flattened.
        shape: NIR's shape of the map that was flattened.
    """

    kind: str = "plain"
    shape: Shape = ()

    def to_spyx(self, units: np.ndarray) -> np.ndarray:
        """An array with one value per unit, from NIR's axes to spyx's."""
        if self.kind == "map":
            return np.moveaxis(units, 0, -1)
        return np.moveaxis(units.reshape(self.shape), 0, -1).reshape(-1) if self.kind == "flat" else units

    def to_nir(self, units: np.ndarray) -> np.ndarray:
        """The inverse of `to_spyx`."""
        if self.kind == "map":
            return np.moveaxis(units, -1, 0)
        if self.kind == "flat":
            return np.moveaxis(units.reshape(*self.shape[1:], self.shape[0]), -1, 0).reshape(-1)
        return units

    def spyx_shape(self, shape: Shape) -> Shape:
        """Shape of one sample in spyx."""
        return (*shape[1:], shape[0]) if self.kind == "map" else shape

    def nir_shape(self, shape: Shape) -> Shape:
        """Shape of one sample in NIR."""
        return (shape[-1], *shape[:-1]) if self.kind == "map" else shape

    def order(self, size: int) -> np.ndarray:
        """NIR's index of every spyx feature of a vector."""
        return self.to_spyx(np.arange(size))


class Layouts(NamedTuple):
    """The axes of every signal: what each node takes and what it gives."""

    taken: dict[str, Layout]
    given: dict[str, Layout]


def solve(
    kinds: Mapping[str, str],
    edges: Iterable[Edge],
    maps: Mapping[str, Shape],
    outputs: Mapping[str, bool] | None = None,
) -> Layouts:
    """The axes of all signals of a graph, whose nodes have these `KINDS`.

    `maps` has NIR's input shape of every node of kind "flatten"; `outputs` says of every output whether its writer used
    spyx's order, and is None when spyx is the writer.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def group_of(name: str, side: str) -> tuple[str, str]:
        """The representative of the signals that share their axes with this one (union and find)."""
        port = (name, side)
        while (up := parent.setdefault(port, port)) != port:
            parent[port] = port = parent.setdefault(up, up)
        return port

    for source, target in edges:
        parent[group_of(source, "given")] = group_of(target, "taken")
    for name, kind in kinds.items():
        if kind in ("units", "input", "output"):
            parent[group_of(name, "taken")] = group_of(name, "given")
    is_map = {group_of(name, side) for name, kind in kinds.items() if kind == "map" for side in ("taken", "given")}
    flat: dict[tuple[str, str], set[Shape]] = {}
    fixed = set()
    for name, kind in kinds.items():
        group = group_of(name, "given")
        if kind == "flatten" and group_of(name, "taken") in is_map:
            flat.setdefault(group, set()).add(tuple(maps[name]))
        elif kind in ("flatten", "reshape", "input"):
            fixed.add(group)
        if kind == "reshape" or (kind == "output" and outputs is not None and not outputs[name]):
            fixed.add(group_of(name, "taken"))

    def layout(name: str, side: str) -> Layout:
        group = group_of(name, side)
        if group in is_map:
            return Layout("map")
        one = len(flat.get(group, ())) == 1 and group not in fixed
        return Layout("flat", next(iter(flat[group]))) if one else Layout()

    sides = ({name: layout(name, side) for name in kinds} for side in ("taken", "given"))
    return Layouts(*sides)
