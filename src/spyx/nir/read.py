"""Reading a .nir file without trusting it: sizes are known before an array is read, and links lead nowhere."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

import nir

NODES = {
    kind.__name__: kind
    for kind in (
        *(nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d, nir.Flatten),
        *(nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold, nir.Delay, nir.Input, nir.Output),
    )
}
MAX_DEPTH = 32


@dataclass
class Budget:
    """What a file may still ask for."""

    owner: str
    array: int
    total: int
    nodes: int
    seen: set[Any] = field(default_factory=set)


def read(
    path: Any, *, max_array_bytes: int = 2**30, max_total_bytes: int = 2**32, max_nodes: int = 100_000
) -> nir.NIRGraph:
    """Read a graph from a .nir file (HDF5), with limits on what a file may make us load.

    Args:
        path: the file.
        max_array_bytes: largest array; default 1 GiB.
        max_total_bytes: all arrays together; default 4 GiB.
        max_nodes: nodes, sub-graphs included.

    Returns:
        A `nir.NIRGraph`, not type-checked: `from_nir` and `check` do that.

    Raises:
        ValueError: no HDF5 file, no NIR graph, a node that is none, an array over the limit or of no numbers, a link.
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
    import h5py

    if not os.path.isfile(path):
        raise FileNotFoundError(f"spyx.nir.read: expected a file; got {os.fspath(path)!r}. Check the path.")
    who = f"spyx.nir.read({os.path.basename(os.fspath(path))!r})"
    budget = Budget(who, max_array_bytes, max_total_bytes, max_nodes)
    try:
        with h5py.File(path, "r") as file:
            root = _child(file, "node", "the file", budget)
            if not isinstance(root, h5py.Group):
                raise _refused(budget, "the file", "has no group 'node'")
            return _graph(root, "", budget, 0)
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{who}: expected an HDF5 file with a NIR graph; got {type(error).__name__}: {error}. "
            "The file is damaged or something else; write it again."
        ) from error


def _graph(group: Any, where: str, budget: Budget, depth: int) -> nir.NIRGraph:
    import h5py

    said = f"sub-graph {where!r}" if where else "the graph"
    if depth > MAX_DEPTH:
        raise _refused(budget, said, f"is nested deeper than {MAX_DEPTH} levels")
    listed = _child(group, "nodes", said, budget)
    if not isinstance(listed, h5py.Group):
        raise _refused(budget, said, "has no group 'nodes'")
    nodes = {}
    for name in listed:
        inner = f"{where}.{name}" if where else str(name)
        budget.nodes -= 1
        if budget.nodes < 0:
            raise _refused(budget, f"node {inner!r}", "is one node too many; raise max_nodes if you trust the file")
        nodes[str(name)] = _node(_child(listed, name, f"node {inner!r}", budget), inner, budget, depth)
    raw = _value(_child(group, "edges", said, budget), f"{said}, edges", budget)
    if not isinstance(raw, np.ndarray) or (raw.size and (raw.ndim != 2 or raw.shape[1] != 2)):
        raise _refused(budget, said, "has edges that are not pairs of names")
    edges = [tuple(_text(end, f"{said}, edges", budget) for end in pair) for pair in raw] if raw.size else []
    metadata = _metadata(group, said, budget)
    return nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False)


def _node(group: Any, name: str, budget: Budget, depth: int) -> Any:
    import h5py

    said = f"node {name!r}"
    if not isinstance(group, h5py.Group):
        raise _refused(budget, said, "is no group")
    kind = _text(_value(_child(group, "type", said, budget), f"{said}, type", budget), f"{said}, type", budget)
    if kind == "NIRGraph":
        return _graph(group, name, budget, depth + 1)
    if kind not in NODES:
        raise _refused(budget, said, f"has the type {kind!r}, which NIR 1.0.8 does not know")
    values: dict[str, Any] = {"type": kind}
    for key in group:
        if key not in ("type", "metadata"):
            values[key] = _value(_child(group, key, said, budget), f"{said}, {key}", budget)
    _check_fields(kind, values, said, budget)
    values["metadata"] = _metadata(group, said, budget)
    try:
        return NODES[kind].from_dict(values)
    except Exception as error:  # NIR asserts, indexes and multiplies whatever is in the file
        reason = str(error) or type(error).__name__
        raise _refused(budget, f"{said} ({kind})", f"is not what NIR expects: {reason}") from error


def _check_fields(kind: str, values: dict[str, Any], said: str, budget: Budget) -> None:
    if kind in ("Input", "Output"):
        known, needed = {"shape"}, {"shape"}
    else:
        names = {f.name for f in fields(NODES[kind])} - {"input_type", "output_type", "metadata"}
        optional = {"v_reset", "input_shape", "start_dim", "end_dim"} | ({"w_in"} & names)
        known = names | ({"input_type"} if kind == "Flatten" else set())
        needed = names - optional
    missing, extra = needed - set(values), set(values) - known - {"type"}
    if missing or extra:
        text = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        text += [f"has the unknown {', '.join(sorted(extra))}"] if extra else []
        raise _refused(budget, f"{said} ({kind})", " and ".join(text))
    if kind in ("Conv1d", "Conv2d"):
        values.setdefault("input_shape", None)
    for key, value in values.items():
        if isinstance(value, str) and key not in ("type", "padding"):
            raise _refused(budget, f"{said} ({kind})", f"has a text where {key} has numbers")
    shape = values.get("shape", values.get("input_type"))
    if shape is not None and (np.ndim(shape) > 1 or np.asarray(shape).dtype.kind not in "iu" or np.any(shape < 1)):
        raise _refused(budget, f"{said} ({kind})", f"has the shape {shape}: whole numbers of at least 1 are expected")


def _metadata(group: Any, said: str, budget: Budget) -> dict[str, Any]:
    import h5py

    if "metadata" not in group:
        return {}
    found = _child(group, "metadata", said, budget)
    if not isinstance(found, h5py.Group):
        raise _refused(budget, said, "has metadata that is no group")
    known = {}
    for key in found:
        child = _child(found, key, f"{said}, metadata", budget)
        if isinstance(child, h5py.Dataset):
            known[str(key)] = _value(child, f"{said}, metadata {key}", budget)
    return known


def _child(group: Any, name: str, said: str, budget: Budget) -> Any:
    """What a name leads to, as long as it lies in this file and was not met before."""
    import h5py

    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise _refused(budget, said, f"links {name!r} to somewhere else")
    child = group[name]
    here = h5py.h5o.get_info(child.id).addr if hasattr(h5py.h5o.get_info(child.id), "addr") else child.id
    if here in budget.seen:
        raise _refused(budget, said, f"leads to {name!r}, which is already part of the graph")
    budget.seen.add(here)
    return child


def _value(dataset: Any, said: str, budget: Budget) -> Any:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise _refused(budget, said, "is missing")
    if dataset.is_virtual or dataset.external or dataset.shape is None:
        raise _refused(budget, said, "does not lie in this file")
    textual = h5py.check_string_dtype(dataset.dtype) is not None
    if not textual and dataset.dtype.kind not in "fiub":
        raise _refused(budget, said, f"has the dtype {dataset.dtype}: numbers are expected")
    size = int(np.prod(dataset.shape, dtype=object)) * max(int(dataset.dtype.itemsize), 1)
    if size > budget.array or size > budget.total:
        raise _refused(budget, said, f"takes {size} bytes, over the limit; raise max_array_bytes if you trust the file")
    budget.total -= size
    value = dataset[()]
    return _text(value, said, budget) if textual and not isinstance(value, np.ndarray) else value


def _text(value: Any, said: str, budget: Budget) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf8")
    if not isinstance(value, str):
        raise _refused(budget, said, f"is {type(value).__name__}: a text is expected")
    return value


def _refused(budget: Budget, said: str, text: str) -> ValueError:
    return ValueError(f"{budget.owner}: expected a NIR graph; got a file in which {said} {text}. Mend the file.")
