"""Files: reading one without trusting it, and writing one completely or not at all.

Sizes are known before an array is read, and links lead nowhere; `spyx.data._guarded` reads in a process of its own.
HDF5 reads many a flipped byte as another number, so every file that spyx writes has digests, as attributes of the
graph's group and of each node's. A program that reads a graph and writes it makes a new file, without them; so they
speak of damage to this file, and not of an edit by another tool.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

import nir
from spyx.data import _guarded
from spyx.data._budget import budget
from spyx.data._disk import naming, part_of
from spyx.data._guarded import Damaged, Refused
from spyx.nir._flat import PER_UNIT
from spyx.nir._validate import validated

DIGEST = "spyx_sha256"
"""Attribute of the graph and of each of its nodes, in files that spyx wrote."""
NODES = {
    kind.__name__: kind
    for kind in (
        *(nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d, nir.Flatten),
        *(*PER_UNIT, nir.Input, nir.Output),
    )
}
OPTIONAL = {"v_reset", "w_in", "input_shape", "start_dim", "end_dim", "input_type"}
MEMBERS_PER_NODE = 32

FilePath = str | os.PathLike[str]
Tree = dict[str, object]
"""A group of HDF5: names to arrays, texts, lists and groups."""


class _Wrong(Exception):
    """Contents that are no graph; the text says where and what."""


def as_graph(graph: nir.NIRGraph | FilePath) -> nir.NIRGraph:
    """The graph itself, or the one in the file of that name."""
    if isinstance(graph, (str, os.PathLike)):
        return read(graph)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            "spyx.nir.from_nir: expected a nir.NIRGraph or the path of a file; "
            f"got {type(graph).__name__}. Read it first."
        )
    return graph


def read(
    path: FilePath,
    *,
    max_array_bytes: int | None = None,
    max_total_bytes: int | None = None,
    max_nodes: int = 100_000,
    timeout_s: float | None = None,
    verify: bool = True,
) -> nir.NIRGraph:
    """Read a graph from a .nir file (HDF5), with limits on what a file may make us load.

    The file is opened in a process of its own: a damaged one can hang or crash the HDF5 library, but not yours.

    Args:
        path: the file.
        max_array_bytes: largest array; None is `max_total_bytes`.
        max_total_bytes: all arrays and texts together; None is 64 MiB and 100 times the size of the file, at most
            16 GiB.
        max_nodes: nodes, sub-graphs included.
        timeout_s: seconds of computing that reading may take; None is 1.5, and one more for every 5 MB.
        verify: refuse a file that spyx wrote and that was changed in place, by damage or on purpose. Files that
            another program wrote have no digest to compare with.

    Returns:
        A `nir.NIRGraph`, not type-checked: `from_nir` and `check` do that.

    Raises:
        ValueError: no HDF5 file, no NIR graph, a node that is none, an array over the limit or of no numbers, a link,
            contents that are not those that were written.
        FileNotFoundError: no such file.

    Example:
        >>> import tempfile
        >>> from spyx import nn
        >>> from spyx.nir import to_nir, write
        >>> path = tempfile.mkdtemp() + "/model.nir"
        >>> write(path, to_nir(nn.Sequential(nn.LIF(3, beta=0.5)), dt=1.0))
        >>> sorted(read(path).nodes)
        ['input', 'lif_0', 'output']
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"spyx.nir.read: expected a file; got none at {os.fspath(path)!r}. Check the path.")
    who = f"spyx.nir.read({os.path.basename(os.fspath(path))!r})"
    size = os.path.getsize(path)
    total = budget(size, max_total_bytes)
    limits = _guarded.Limits(
        total=total,
        array=total if max_array_bytes is None else max_array_bytes,
        members=MEMBERS_PER_NODE * max_nodes,
        seconds=_guarded.PATIENCE_S + size / _guarded.BYTES_PER_S if timeout_s is None else timeout_s,
    )
    try:
        tree, digests = _guarded.tree(os.path.abspath(path), "node", DIGEST, limits)
        graph = _graph(tree, "", [max_nodes])
    except Damaged as error:
        raise ValueError(
            f"{who}: expected an HDF5 file with a NIR graph; got one that is damaged or something else: {error}. "
            "Write it again."
        ) from error
    except (_Wrong, Refused) as error:
        what = f"{_place(error.place)} {error.what}" if isinstance(error, Refused) else str(error)
        small = isinstance(error, Refused) and error.budget
        fix = "Raise max_nodes, max_array_bytes or max_total_bytes if you trust the file" if small else "Fix the file"
        raise ValueError(f"{who}: expected a NIR graph; got a file in which {what}. {fix}.") from error
    lost = _changed(tree, digests) if verify else []
    if lost:
        raise ValueError(
            f"{who}: expected what spyx wrote; got a file in which {', '.join(lost)} changed since. "
            "Write it again, or pass verify=False if the change is yours."
        )
    return graph


def write(path: FilePath, graph: nir.NIRGraph) -> None:
    """Write a graph to a .nir file. It is checked first, and an old file of that name stays until the new one is whole.

    The file carries a digest of every node, which `read` compares with what it finds.

    Args:
        path: the file.
        graph: what `to_nir` made, or any `nir.NIRGraph`.

    Raises:
        ValueError: a graph that could not be read back; all reasons in one list.
        FileNotFoundError: no such folder.

    Example:
        >>> import tempfile
        >>> from spyx import nn
        >>> from spyx.nir import from_nir, to_nir
        >>> path = tempfile.mkdtemp() + "/model.nir"
        >>> write(path, to_nir(nn.Sequential(nn.LIF(3, beta=0.5)), dt=1.0))
        >>> from_nir(path).nodes["lif_0"].beta[...].item()
        0.5
    """
    validated(graph, "spyx.nir.write")
    path = os.fspath(path)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise FileNotFoundError(f"spyx.nir.write: expected a folder that exists; got {path!r}. Make it first.")
    temporary = str(part_of(Path(path)))
    try:
        with naming(path):
            nir.write(temporary, graph)
            _mark(temporary)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _mark(path: str) -> None:
    """Write the digests of what is in a file into it."""
    import h5py

    unlimited = _guarded.Limits(2**48, 2**48, 2**48, 1e6)
    tree, _ = _guarded.tree(os.path.abspath(path), "node", DIGEST, unlimited)
    with h5py.File(path, "r+") as file:
        for name, value in _parts(tree).items():
            file[f"node/nodes/{name}" if name else "node"].attrs[DIGEST] = np.bytes_(_digest(value))


def _changed(tree: Tree, found: Mapping[str, str]) -> list[str]:
    """What is not as it was written, in words; empty for a file without digests."""
    parts = _parts(tree)
    wrong = [name for name, mark in found.items() if name not in parts or mark != _digest(parts[name])]
    if named := [f"node {name!r}" for name in wrong if name]:
        return named
    return ["the graph"] if found and found.get("") != _digest(tree) else []


def _parts(tree: Tree) -> Tree:
    """The whole graph under "", and its nodes."""
    nodes = tree.get("nodes")
    return {"": tree, **(nodes if isinstance(nodes, dict) else {})}


def _digest(tree: object) -> str:
    """SHA-256 of nested dicts of arrays and texts, whatever order they came in."""
    whole = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, dict):
            whole.update(f"group {len(value)}\n".encode())
            for name in sorted(value):
                whole.update(f"{name}\n".encode())
                feed(value[name])
        elif isinstance(value, np.ndarray):
            plain = np.asarray(value, value.dtype.newbyteorder("<"))
            whole.update(f"array {plain.dtype.str} {plain.shape}\n".encode() + plain.tobytes())
        else:
            whole.update(f"text {value!r}\n".encode())

    feed(tree)
    return whole.hexdigest()


def _place(path: str) -> str:
    """`/node/nodes/a/nodes/b/tau` as a reader of the graph calls it."""
    words = path.split("/")[2:]
    names = []
    while len(words) > 1 and words[0] == "nodes":
        names.append(words[1])
        words = words[2:]
    where = f"node {'.'.join(names)!r}" if names else "the graph" if len(path) > 1 else "the file"
    return f"{where}, {'/'.join(words)}," if words else where


def _graph(group: Tree, where: str, left: list[int]) -> nir.NIRGraph:
    who = f"sub-graph {where!r}" if where else "the graph"
    listed, edges = group.get("nodes"), group.get("edges")
    if not isinstance(listed, dict):
        raise _Wrong(f"{who} has no group 'nodes'")
    nodes = {}
    for name, node in listed.items():
        inner = f"{where}.{name}" if where else name
        left[0] -= 1
        if left[0] < 0:
            raise _Wrong(f"node {inner!r} is one node too many; raise max_nodes if you trust the file")
        nodes[name] = _node(node, inner, left)
    if isinstance(edges, np.ndarray) and not edges.size:
        edges = []
    pairs = isinstance(edges, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(end, str) for end in pair) for pair in edges
    )
    if not pairs:
        raise _Wrong(f"{who} has edges that are not pairs of names")
    joined = [(str(a), str(b)) for a, b in edges or []]  # type: ignore[union-attr]
    return nir.NIRGraph(nodes, joined, metadata=_metadata(group, who), type_check=False)


def _node(group: object, name: str, left: list[int]) -> nir.NIRNode:
    who = f"node {name!r}"
    if not isinstance(group, dict):
        raise _Wrong(f"{who} is no group")
    kind = group.get("type")
    if not isinstance(kind, str) or kind not in (*NODES, "NIRGraph"):
        raise _Wrong(f"{who} has the type {kind!r}, which NIR 1.0.8 does not know")
    if kind == "NIRGraph":
        return _graph(group, name, left)
    who += f" ({kind})"
    values = {key: value for key, value in group.items() if key != "metadata"}
    _check_fields(kind, values, who)
    try:
        with np.errstate(all="ignore"):
            return NODES[kind].from_dict({**_scalars(values), "metadata": _metadata(group, who)})
    except Exception as error:  # NIR asserts, indexes and multiplies whatever is in the file
        raise _Wrong(f"{who} is not what NIR expects: {str(error) or type(error).__name__}") from error


def _check_fields(kind: str, values: Tree, who: str) -> None:
    if kind in ("Input", "Output"):
        known = {"shape"}
    else:
        known = {field.name for field in fields(NODES[kind])} - {"input_type", "output_type", "metadata"}
        known |= {"input_type"} if kind == "Flatten" else set()
    missing, extra = known - OPTIONAL - set(values), set(values) - known - {"type"}
    if missing or extra:
        text = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        text += [f"has the unknown {', '.join(sorted(extra))}"] if extra else []
        raise _Wrong(f"{who} {' and '.join(text)}")
    if kind in ("Conv1d", "Conv2d"):
        values.setdefault("input_shape", None)
    for key, value in values.items():
        if isinstance(value, (list, dict)) or (isinstance(value, str) and key not in ("type", "padding")):
            raise _Wrong(f"{who} has a text where {key} has numbers")
    for key in ("shape", "input_type", "input_shape"):
        shape = values.get(key)
        if isinstance(shape, np.ndarray) and (shape.ndim > 1 or shape.dtype.kind not in "iu" or np.any(shape < 1)):
            raise _Wrong(f"{who} has the shape {shape}: whole numbers of at least 1 are expected")


def _metadata(group: Tree, who: str) -> Tree:
    found = group.get("metadata", {})
    if not isinstance(found, dict):
        raise _Wrong(f"{who} has metadata that is no group")
    return _scalars({key: value for key, value in found.items() if not isinstance(value, dict)})


def _scalars(values: Tree) -> Tree:
    """The same with numbers in the place of arrays without axes."""
    return {key: v.item() if isinstance(v, np.ndarray) and not v.ndim else v for key, v in values.items()}
