"""A digest in every file that spyx writes, because HDF5 reads many a flipped byte as another number.

The digests are attributes of the graph's group and of each node's. A program that reads a graph and writes it makes a
new file, without them; so they speak of damage to this file, and not of an edit by another tool.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from spyx.data import _guarded

DIGEST = "spyx_sha256"
"""Attribute of the graph and of each of its nodes, in files that spyx wrote."""


def digest(tree: Any) -> str:
    """SHA-256 of nested dicts of arrays and texts, whatever order they came in."""
    whole = hashlib.sha256()
    _feed(whole, tree)
    return whole.hexdigest()


def mark(path: str) -> None:
    """Write the digests of what is in a file into it."""
    import h5py

    unlimited = _guarded.Limits(2**48, 2**48, 2**48, 1e6)
    tree, _ = _guarded.tree(os.path.abspath(path), "node", DIGEST, unlimited)
    with h5py.File(path, "r+") as file:
        for name, value in _parts(tree).items():
            group: Any = file["node"] if name is None else file["node/nodes"][name]  # type: ignore[index]
            group.attrs[DIGEST] = np.bytes_(digest(value))


def changed(tree: dict[str, Any], found: Mapping[str, str]) -> list[str]:
    """What is not as it was written, in words; empty for a file without digests. `found`: those in the file, "" for
    the whole.
    """
    parts = _parts(tree)
    named = [name for name in found if name and (name not in parts or found[name] != digest(parts[name]))]
    if named:
        return [f"node {name!r}" for name in named]
    return ["the graph"] if found and found.get("") != digest(tree) else []


def _parts(tree: dict[str, Any]) -> dict[str | None, Any]:
    nodes = tree.get("nodes")
    return {None: tree, **(nodes if isinstance(nodes, dict) else {})}


def _feed(whole: Any, value: Any) -> None:
    if isinstance(value, dict):
        whole.update(f"group {len(value)}\n".encode())
        for name in sorted(value):
            whole.update(f"{name}\n".encode())
            _feed(whole, value[name])
    elif isinstance(value, np.ndarray):
        plain = np.asarray(value, value.dtype.newbyteorder("<"))
        whole.update(f"array {plain.dtype.str} {plain.shape}\n".encode())
        whole.update(plain.tobytes())
    else:
        whole.update(f"text {value!r}\n".encode())
