"""Where NIR's axes lie in spyx: maps are channels-first there and channels-last here, and so is what flattens them.

A signal belongs to a map when only element-wise nodes lie between it and a convolution or a pool; every other signal
keeps its axes. A flattened map keeps spyx's order as long as everything around it can be permuted; what each signal
does is decided once, for the whole graph, in either direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]
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
        if self.kind == "flat":
            return np.moveaxis(units.reshape(self.shape), 0, -1).reshape(-1)
        return units

    def to_nir(self, units: np.ndarray) -> np.ndarray:
        """The way back."""
        if self.kind == "map":
            return np.moveaxis(units, -1, 0)
        if self.kind == "flat":
            channels, *space = self.shape
            return np.moveaxis(units.reshape(*space, channels), -1, 0).reshape(-1)
        return units

    def spyx_shape(self, shape: Shape) -> Shape:
        """Shape of one sample in spyx."""
        return (*shape[1:], shape[0]) if self.kind == "map" else shape

    def nir_shape(self, shape: Shape) -> Shape:
        """Shape of one sample in NIR."""
        return (shape[-1], *shape[:-1]) if self.kind == "map" else shape


class Layouts(NamedTuple):
    """The layout of every signal: what each node takes and what it answers."""

    taken: dict[str, Layout]
    given: dict[str, Layout]


def solve(
    kinds: Mapping[str, str],
    edges: Iterable[tuple[str, str]],
    maps: Mapping[str, Shape],
    outputs: Mapping[str, bool] | None = None,
) -> Layouts:
    """The layouts of a graph.

    Args:
        kinds: node to one of `KINDS`.
        edges: pairs of nodes.
        maps: NIR's input shape of every node of kind "flatten".
        outputs: for every output whether its writer used spyx's order; None when spyx is the writer.
    """
    ports = _Ports()
    for source, target in edges:
        ports.join((source, "given"), (target, "taken"))
    for name, kind in kinds.items():
        if kind in ("units", "input", "output"):
            ports.join((name, "taken"), (name, "given"))
    is_map = {ports.root((name, side)) for name, kind in kinds.items() if kind == "map" for side in ("taken", "given")}
    flat: dict[tuple[str, str], set[Shape]] = {}
    fixed = set()
    for name, kind in kinds.items():
        group = ports.root((name, "given"))
        if kind == "flatten" and ports.root((name, "taken")) in is_map:
            flat.setdefault(group, set()).add(tuple(maps[name]))
        elif kind in ("flatten", "reshape", "input"):
            fixed.add(group)
        if kind == "reshape" or (kind == "output" and outputs is not None and not outputs[name]):
            fixed.add(ports.root((name, "taken")))

    def layout(name: str, side: str) -> Layout:
        group = ports.root((name, side))
        if group in is_map:
            return Layout("map")
        if group in flat and len(flat[group]) == 1 and group not in fixed:
            return Layout("flat", next(iter(flat[group])))
        return Layout()

    sides = ({name: layout(name, side) for name in kinds} for side in ("taken", "given"))
    return Layouts(*sides)


class _Ports:
    """Sets of ports that share a layout."""

    def __init__(self) -> None:
        self.parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(self, port: tuple[str, str]) -> tuple[str, str]:
        while (up := self.parent.setdefault(port, port)) != port:
            self.parent[port] = port = self.parent.setdefault(up, up)
        return port

    def join(self, a: tuple[str, str], b: tuple[str, str]) -> None:
        self.parent[self.root(a)] = self.root(b)
