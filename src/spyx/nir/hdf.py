"""The part of reading that touches HDF5: a program of its own, because a damaged file can hang or crash the library.

Run as a script it reads one request per line from standard input, `{"path", "array", "total", "members", "seconds"}`,
and answers with a line of JSON, in which arrays are named by their place, and then the bytes of all arrays. It imports
nothing but h5py and NumPy.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MAX_DEPTH = 64
SLACK = 2**27
"""Memory in bytes that the library itself may need to read a sound file, however little its arrays may take."""
DIGEST = "spyx_sha256"
"""Attribute of the graph and of each of its nodes, in files that spyx wrote."""


class Refused(Exception):
    """Something in the file that is not read; the text says where and what."""


class Budget:
    """What a file may still ask for."""

    def __init__(self, array: int, total: int, members: int) -> None:
        self.array, self.total, self.members = array, total, members
        self.seen: set[Any] = set()


def load(path: str, budget: Budget) -> tuple[dict[str, Any], dict[str, str]]:
    """The group 'node' of a file as nested dicts of arrays and texts, and the digests in it by node, "" for all."""
    import h5py

    with h5py.File(path, "r") as file:
        if "node" not in file:
            raise Refused("the file has no group 'node'")
        root = _member(file, "node", "the file", budget)
        if not isinstance(root, dict):
            raise Refused("the file has no group 'node'")
        nodes = root.get("nodes")
        places = {name: f"node/nodes/{name}" for name in nodes} if isinstance(nodes, dict) else {}
        groups = {name: file[place] for name, place in ({"": "node"} | places).items()}
        return root, {name: _digest(group) for name, group in groups.items() if DIGEST in group.attrs}


def _digest(group: Any) -> str:
    kind = group.attrs.get_id(DIGEST)
    if kind.shape != () or kind.dtype.kind != "S" or kind.dtype.itemsize != 64:
        return "none"
    return group.attrs[DIGEST].decode("ascii", "replace")


def _member(group: Any, name: str, said: str, budget: Budget, depth: int = 0) -> Any:
    """One member of a group, as long as it lies in this file and was not met before."""
    import h5py

    budget.members -= 1
    if budget.members < 0:
        raise Refused(f"{said} has {name!r}, one node too many; raise max_nodes if you trust the file")
    if depth > MAX_DEPTH:
        raise Refused(f"{said} is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise Refused(f"{said} links {name!r} to somewhere else")
    child = group[name]
    place = h5py.h5o.get_info(child.id).addr  # type: ignore[attr-defined]
    if place in budget.seen:
        raise Refused(f"{said} leads to {name!r}, which is already part of the graph")
    budget.seen.add(place)
    if isinstance(child, h5py.Dataset):
        return _value(child, f"{said}, {name}", budget)
    if not isinstance(child, h5py.Group):
        raise Refused(f"{said} has {name!r}, which is neither data nor a group")
    here = _said(str(child.name))
    return {key: _member(child, str(key), here, budget, depth + 1) for key in child}


def _said(path: str) -> str:
    """`/node/nodes/a/nodes/b` as a reader of the graph calls it."""
    words = path.split("/")
    names = [words[k + 1] for k, word in enumerate(words[:-1]) if word == "nodes" and k % 2 == 0]
    return f"node {'.'.join(names)!r}" if names else "the graph"


def _value(dataset: Any, said: str, budget: Budget) -> Any:
    import h5py
    import numpy as np

    if dataset.is_virtual or dataset.external or dataset.shape is None:
        raise Refused(f"{said} does not lie in this file")
    textual = h5py.check_string_dtype(dataset.dtype) is not None
    if not textual and dataset.dtype.kind not in "fiub":
        raise Refused(f"{said} has the dtype {dataset.dtype}: numbers are expected")
    size = max(int(dataset.dtype.itemsize), 1)
    for n in dataset.shape:
        size *= int(n)
    if size > min(budget.array, budget.total):
        raise Refused(f"{said} takes {size} bytes, over the limit; raise max_array_bytes if you trust the file")
    budget.total -= size
    value = dataset[()]
    if not textual:
        return np.asarray(value)
    return _texts(value.tolist() if isinstance(value, np.ndarray) else value, said)


def _texts(value: Any, said: str) -> Any:
    if isinstance(value, list):
        return [_texts(one, said) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf8")
    if isinstance(value, str):
        return value
    raise Refused(f"{said} is {type(value).__name__}: a text is expected")


def packed(tree: Any, arrays: list[Any]) -> Any:
    """The tree with every array replaced by its place in `arrays`."""
    import numpy as np

    if isinstance(tree, dict):
        return {"group": {key: packed(value, arrays) for key, value in tree.items()}}
    if isinstance(tree, np.ndarray):
        plain = np.ascontiguousarray(tree, tree.dtype.newbyteorder("<"))
        arrays.append(plain)
        return {"array": [plain.dtype.str, list(tree.shape)]}
    return {"text": tree}


def answer(request: dict[str, Any], out: Any) -> None:
    """Read one file and write what is in it, or why not."""
    arrays: list[Any] = []
    try:
        budget = Budget(request["array"], request["total"], request["members"])
        tree, digests = load(request["path"], budget)
        reply: dict[str, Any] = {"tree": packed(tree, arrays), "digests": digests}
    except Refused as refused:
        reply, arrays = {"refused": str(refused)}, []
    except Exception as error:  # whatever a damaged file makes the library raise
        reply, arrays = {"damaged": f"{type(error).__name__}: {error}"}, []
    out.write(json.dumps(reply).encode() + b"\n")
    for array in arrays:
        out.write(array.tobytes())
    out.flush()


def limit(request: dict[str, Any]) -> None:
    """End this process when one file takes more than so much computing time or memory.

    Computing time, because a hang computes, and a busy machine keeps a process waiting.
    """
    try:
        import resource
    except ImportError:  # not on Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + request["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    try:
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return
    room = held + SLACK + 2 * request["array"] + 2 * min(request["total"], 2**40)
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Serve requests until standard input ends."""
    import h5py  # noqa: F401
    import numpy as np  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        limit(request)
        answer(request, sys.stdout.buffer)


if __name__ == "__main__":
    main()
