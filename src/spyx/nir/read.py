"""Reading a .nir file without trusting it: sizes are known before an array is read, and links lead nowhere."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import numpy as np

import nir
from spyx.data import _guarded
from spyx.data._budget import budget
from spyx.data._guarded import Damaged, Refused
from spyx.nir.digest import DIGEST, changed

NODES = {
    kind.__name__: kind
    for kind in (
        *(nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d, nir.Flatten),
        *(nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold, nir.Delay, nir.Input, nir.Output),
    )
}
OPTIONAL = {"v_reset", "w_in", "input_shape", "start_dim", "end_dim", "input_type"}
MEMBERS_PER_NODE = 32


class _Wrong(Exception):
    """Contents that are no graph; the text says where and what."""


def read(
    path: Any,
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
    except _Wrong as error:
        raise ValueError(f"{who}: expected a NIR graph; got a file in which {error}. Fix the file.") from error
    except Refused as error:
        action = (
            "Raise max_nodes, max_array_bytes or max_total_bytes if you trust the file."
            if error.budget
            else ("Fix the file.")
        )
        said = f"{_place(error.place)} {error.what}"
        raise ValueError(f"{who}: expected a NIR graph; got a file in which {said}. {action}") from error
    lost = changed(tree, digests) if verify else []
    if lost:
        raise ValueError(
            f"{who}: expected what spyx wrote; got a file in which {', '.join(lost)} changed since. "
            "Write it again, or pass verify=False if the change is yours."
        )
    return graph


def _place(path: str) -> str:
    """`/node/nodes/a/nodes/b/tau` as a reader of the graph calls it."""
    words = path.split("/")[2:]
    names = []
    while len(words) > 1 and words[0] == "nodes":
        names.append(words[1])
        words = words[2:]
    where = f"node {'.'.join(names)!r}" if names else "the graph" if len(path) > 1 else "the file"
    return f"{where}, {'/'.join(words)}," if words else where


def _graph(group: dict[str, Any], where: str, left: list[int]) -> nir.NIRGraph:
    said = f"sub-graph {where!r}" if where else "the graph"
    listed, edges = group.get("nodes"), group.get("edges")
    if not isinstance(listed, dict):
        raise _Wrong(f"{said} has no group 'nodes'")
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
        raise _Wrong(f"{said} has edges that are not pairs of names")
    joined = [(str(a), str(b)) for a, b in edges or []]
    return nir.NIRGraph(nodes, joined, metadata=_metadata(group, said), type_check=False)


def _node(group: Any, name: str, left: list[int]) -> Any:
    said = f"node {name!r}"
    if not isinstance(group, dict):
        raise _Wrong(f"{said} is no group")
    kind = group.get("type")
    if isinstance(kind, str) and kind == "NIRGraph":
        return _graph(group, name, left)
    if not isinstance(kind, str) or kind not in NODES:
        raise _Wrong(f"{said} has the type {kind!r}, which NIR 1.0.8 does not know")
    said += f" ({kind})"
    values = {key: value for key, value in group.items() if key != "metadata"}
    _check_fields(str(kind), values, said)
    values = {
        key: value.item() if isinstance(value, np.ndarray) and not value.ndim else value
        for key, value in values.items()
    }
    try:
        with np.errstate(all="ignore"):
            return NODES[str(kind)].from_dict({**values, "metadata": _metadata(group, said)})
    except Exception as error:  # NIR asserts, indexes and multiplies whatever is in the file
        raise _Wrong(f"{said} is not what NIR expects: {str(error) or type(error).__name__}") from error


def _check_fields(kind: str, values: dict[str, Any], said: str) -> None:
    if kind in ("Input", "Output"):
        known = {"shape"}
    else:
        known = {field.name for field in fields(NODES[kind])} - {"input_type", "output_type", "metadata"}
        known |= {"input_type"} if kind == "Flatten" else set()
    missing, extra = known - OPTIONAL - set(values), set(values) - known - {"type"}
    if missing or extra:
        text = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        text += [f"has the unknown {', '.join(sorted(extra))}"] if extra else []
        raise _Wrong(f"{said} {' and '.join(text)}")
    if kind in ("Conv1d", "Conv2d"):
        values.setdefault("input_shape", None)
    for key, value in values.items():
        if isinstance(value, (list, dict)) or (isinstance(value, str) and key not in ("type", "padding")):
            raise _Wrong(f"{said} has a text where {key} has numbers")
    for key in ("shape", "input_type", "input_shape"):
        shape = values.get(key)
        if shape is not None and (shape.ndim > 1 or shape.dtype.kind not in "iu" or np.any(shape < 1)):
            raise _Wrong(f"{said} has the shape {shape}: whole numbers of at least 1 are expected")


def _metadata(group: dict[str, Any], said: str) -> dict[str, Any]:
    found = group.get("metadata", {})
    if not isinstance(found, dict):
        raise _Wrong(f"{said} has metadata that is no group")
    plain = {key: value for key, value in found.items() if not isinstance(value, dict)}
    return {
        key: value.item() if isinstance(value, np.ndarray) and not value.ndim else value for key, value in plain.items()
    }
