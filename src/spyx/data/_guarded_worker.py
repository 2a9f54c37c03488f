"""Runs the libraries that a damaged file can hang, crash or mislead: a program of its own, which `_guarded` starts.

It reads one request per line of JSON from standard input and writes a line of JSON, in which arrays are named by
their kind and shape, followed by the bytes of all arrays. The first line is the list of folders to import from.
It imports nothing of spyx. On Linux it copies itself when the libraries are loaded, and again after a damaged file.

HDF5 can point out of a file: external storage, virtual datasets, links. Nothing of that is followed, and no plugin is
loaded that a file names.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from h5py import Dataset, Datatype, File, Group

Request = dict[str, Any]
"""What `_guarded` asks for: JSON whose entries depend on the question."""

MAX_DEPTH = 64
SLACK = 2**27
"""Memory in bytes that a library itself may need to read a sound file, however little its arrays may take."""
SMALLEST_CHARGE = 64
"""Least number of bytes that a text or a member of a group costs, because Python objects are not smaller."""
TEXTS_AT_ONCE = 256
AGAIN = 3
"""Exit code of a copy after which another one is to be made."""


class Refused(Exception):
    """Something in the file that is not read: where, what, and whether a larger limit would help."""

    def __init__(self, place: str, what: str, *, budget: bool = False) -> None:
        super().__init__(what)
        self.place, self.what, self.budget = place, what, budget


class Limits:
    """What one request may still take, in bytes and members."""

    def __init__(self, request: Request) -> None:
        self.array: int = request["array"]
        self.total: int = request["total"]
        self.members: int = request["members"]

    def take(self, place: str, size: int) -> None:
        """Charge `size` bytes before they are read."""
        if size > min(self.array, self.total):
            raise Refused(place, f"takes {size} bytes, over the limit", budget=True)
        self.total -= size

    def member(self, place: str) -> None:
        """Charge one member of a group."""
        self.members -= 1
        if self.members < 0:
            raise Refused(place, "is one member too many", budget=True)
        self.take(place, SMALLEST_CHARGE)


class Files:
    """The file whose rows were read last stays open, because a data set is read sample by sample."""

    def __init__(self) -> None:
        self.key: tuple[object, ...] | None = None
        self.file: File | None = None

    def open(self, path: str) -> File:
        """The file at a path, opened again where it is another one than before."""
        import h5py

        status = os.stat(path)
        key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if key != self.key:
            self.close()
            self.file, self.key = h5py.File(path, "r", locking=False), key
        return self.file  # type: ignore[return-value]

    def close(self) -> None:
        """Let the file go."""
        file, self.file, self.key = self.file, None, None
        if file is not None:
            file.close()


def tree(file: File, request: Request, limits: Limits) -> list[object]:
    """Everything below the group `root` as nested dicts, and the attribute `mark` of it and of each of its `nodes`."""
    root, mark = request["root"], request["mark"]
    whole = _member(file, root, f"/{root}", limits, set())
    if not isinstance(whole, dict):
        raise Refused("/", f"has no group {root!r}")
    nodes = whole.get("nodes")
    places = {name: f"{root}/nodes/{name}" for name in nodes} if isinstance(nodes, dict) else {}
    groups = {name: file[place] for name, place in ({"": root} | places).items()}
    return [whole, {name: _mark(group, mark) for name, group in groups.items() if mark in group.attrs}]  # type: ignore[arg-type]


def columns(file: File, request: Request, limits: Limits) -> list[object]:
    """The whole datasets that `names` lists and the shapes of those in `shapes`, without those that are not there."""
    found = {name: _find(file, name, limits) for name in (*request["names"], *request["shapes"])}
    there = {name: dataset for name, dataset in found.items() if dataset is not None}
    return [
        {name: _numbers(there[name], f"/{name}", limits) for name in request["names"] if name in there},
        {name: list(map(int, there[name].shape or ())) for name in request["shapes"] if name in there},
        sorted(str(name) for name in file)[:8],
    ]


def rows(file: File, request: Request, limits: Limits) -> object:
    """Rows `start` to `stop` of ragged datasets: lengths and all values in a row."""
    import h5py
    import numpy as np

    result = {}
    for name in request["names"]:
        place = f"/{name}"
        dataset = _find(file, name, limits)
        kind = None if dataset is None else h5py.check_vlen_dtype(dataset.dtype)
        if dataset is None or kind is None or kind.kind not in "fiu" or len(dataset.shape or ()) != 1:
            raise Refused(place, "is not a list of lists of numbers")
        _inside(dataset, place, limits)
        parts = [np.asarray(part, kind) for part in dataset[request["start"] : request["stop"]]]
        limits.take(place, sum(part.nbytes for part in parts))
        lengths = np.asarray([len(part) for part in parts], np.int64)
        result[name] = [lengths, np.concatenate([np.empty(0, kind), *parts])]
    return result


def matrices(path: str, request: Request, limits: Limits) -> object:
    """Variables of a MATLAB file."""
    import numpy as np
    from scipy.io import loadmat

    found = loadmat(path, variable_names=request["names"], mat_dtype=False)
    arrays = {name: np.asarray(found[name]) for name in request["names"] if name in found}
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise Refused(name, f"has the dtype {value.dtype}: numbers are expected")
        limits.take(name, value.nbytes)
    return arrays


def _find(file: File, name: str, limits: Limits) -> Dataset | None:
    """The dataset at a path of hard links, or None."""
    import h5py

    item = file
    for word in name.split("/"):
        limits.member(f"/{name}")
        if not isinstance(item, h5py.Group) or item.get(word, getlink=True) is None:
            return None
        item = _child(item, word, f"/{name}")
    if not isinstance(item, h5py.Dataset):
        raise Refused(f"/{name}", "is not data")
    return item


def _child(group: Group, name: str, place: str) -> Dataset | Group | Datatype:
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise Refused(place, "is a link to somewhere else")
    return group[name]


def _member(group: Group, name: str, place: str, limits: Limits, seen: set[object], depth: int = 0) -> object:
    """One member of a group with everything below it; each place of the file is read once."""
    import h5py

    limits.member(place)
    if depth > MAX_DEPTH:
        raise Refused(place, f"is nested deeper than {MAX_DEPTH} levels")
    if group.get(name, getlink=True) is None:
        return None
    child = _child(group, name, place)
    address = h5py.h5o.get_info(child.id).addr  # type: ignore[attr-defined]
    if address in seen:
        raise Refused(place, "is in the file twice")
    seen.add(address)
    if isinstance(child, h5py.Dataset):
        textual = h5py.check_string_dtype(child.dtype) is not None
        return _texts(child, place, limits) if textual else _numbers(child, place, limits)
    if not isinstance(child, h5py.Group):
        raise Refused(place, "is neither data nor a group")
    return {key: _member(child, str(key), f"{place}/{key}", limits, seen, depth + 1) for key in child}


def _inside(dataset: Dataset, place: str, limits: Limits) -> None:
    """Refuse data outside the file, pieces over the limit and filters that are not there."""
    import h5py

    if dataset.shape is None or dataset.is_virtual or dataset.external:
        raise Refused(place, "does not lie in this file")
    if dataset.chunks:
        size = _bytes(dataset.chunks, dataset.dtype.itemsize)
        if size > max(limits.array, SLACK):
            raise Refused(place, f"is stored in pieces of {size} bytes, over the limit", budget=True)
    plan = dataset.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code = plan.get_filter(number)[0]
        if not h5py.h5z.filter_avail(code):  # type: ignore[attr-defined]
            with contextlib.suppress(ImportError):
                import hdf5plugin  # noqa: F401  # type: ignore[import-not-found]
        if not h5py.h5z.filter_avail(code):  # type: ignore[attr-defined]
            raise Refused(
                place, f"is packed by the HDF5 filter {code}, which is not installed (pip install hdf5plugin)"
            )


def _numbers(dataset: Dataset, place: str, limits: Limits) -> np.ndarray:
    import numpy as np

    _inside(dataset, place, limits)
    if dataset.dtype.kind not in "fiub":
        raise Refused(place, f"has the dtype {dataset.dtype}: numbers are expected")
    limits.take(place, _bytes(dataset.shape, dataset.dtype.itemsize))
    return np.asarray(dataset[()])


def _texts(dataset: Dataset, place: str, limits: Limits) -> object:
    """One text, or nested lists of texts, in parts: many references to one text cost what they unpack to."""
    _inside(dataset, place, limits)
    shape = dataset.shape
    limits.take(place, _bytes(shape, max(int(dataset.dtype.itemsize), SMALLEST_CHARGE)))
    if not shape:
        return _text(dataset[()], place, limits)
    whole: list[object] = []
    for start in range(0, shape[0], TEXTS_AT_ONCE):
        whole += _text(dataset[start : start + TEXTS_AT_ONCE].tolist(), place, limits)  # type: ignore[operator]
    return whole


def _text(value: object, place: str, limits: Limits) -> object:
    if isinstance(value, list):
        return [_text(one, place, limits) for one in value]
    if not isinstance(value, (bytes, str)):
        raise Refused(place, f"is {type(value).__name__}: a text is expected")
    limits.take(place, len(value))
    return value.decode("utf8") if isinstance(value, bytes) else value


def _bytes(shape: tuple[int, ...] | None, item: int) -> int:
    size = max(int(item), 1)
    for n in shape:  # type: ignore[union-attr]
        size *= int(n)
    return size


def _mark(group: Group, name: str) -> str:
    kind = group.attrs.get_id(name)
    if kind.shape != () or kind.dtype.kind != "S" or kind.dtype.itemsize != 64:
        return "none"
    return group.attrs[name].decode("ascii", "replace")  # type: ignore[union-attr]


def packed(value: object, arrays: list[np.ndarray]) -> object:
    """The value with every array replaced by its kind and shape; the arrays are collected in order."""
    import numpy as np

    if isinstance(value, dict):
        return {"group": {key: packed(one, arrays) for key, one in value.items()}}
    if isinstance(value, list):
        return {"list": [packed(one, arrays) for one in value]}
    if isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        arrays.append(plain)
        return {"array": [plain.dtype.str, list(value.shape)]}
    return {"plain": value}


OPERATIONS = {"tree": tree, "columns": columns, "rows": rows}


def reply_to(request: Request, files: Files, content: bytes | None) -> tuple[dict[str, object], list[np.ndarray]]:
    """Read one file: what is in it, or why not, and its arrays."""
    arrays: list[np.ndarray] = []
    opened = False
    try:
        import h5py

        limits, path = Limits(request), request["path"]
        if request["do"] == "matrices":
            found = matrices(path, request, limits)
        elif content is None and request["do"] == "rows":
            file, opened = files.open(path), True
            found = rows(file, request, limits)
        elif content is None:
            with h5py.File(path, "r", locking=False) as file:
                opened = True
                found = OPERATIONS[request["do"]](file, request, limits)
        else:
            with h5py.File(io.BytesIO(content), "r") as file:
                opened = True
                found = OPERATIONS[request["do"]](file, request, limits)
        return {"found": packed(found, arrays)}, arrays
    except Refused as refused:
        return {"refused": [refused.place, refused.what, refused.budget]}, []
    except ImportError as missing:
        return {"missing": missing.name or str(missing)}, []
    except Exception as error:  # whatever a damaged file makes a library raise
        with contextlib.suppress(Exception):
            files.close()
        return {"damaged": f"{type(error).__name__}: {error}", "opened": opened}, []


def limit(request: Request) -> None:
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
    room = held + SLACK + 2 * min(request["array"], request["total"]) + 2 * request["total"] + request["bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (min(room, 2**62), resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Serve requests until standard input ends. Ctrl-C is for the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # nothing is computed here, and a process with threads is hard to copy
    with open(0, "rb", buffering=0, closefd=False) as first:  # reads no byte of the requests that follow
        sys.path[:] = json.loads(first.readline())
    with contextlib.suppress(ImportError):
        import h5py  # noqa: F401
    if sys.platform != "linux":
        serve(copied=False)
        return
    copy, asked = 0, False

    def end(number: int, frame: object) -> None:
        """Ends the copy, so that this process waits for it: nobody else would."""
        nonlocal asked
        asked = True
        if copy:
            os.kill(copy, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    while not asked:
        copy = os.fork()
        if copy == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            code = 1
            try:
                code = AGAIN if serve(copied=True) else 0
            finally:
                os._exit(code)
        status = os.waitpid(copy, 0)[1]
        copy, code = 0, os.waitstatus_to_exitcode(status)
        if code < 0:  # as if it had happened here, for whoever asks why
            with contextlib.suppress(OSError):
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        if code != AGAIN:
            return


def serve(*, copied: bool) -> bool:
    """Serve requests until standard input ends, and in a copy until a file has left the library in disorder: True."""
    read, out = sys.stdin.buffer, sys.stdout.buffer
    files = Files()
    while line := read.readline():
        request = json.loads(line)
        limit(request)
        content = read.read(request["bytes"]) if request["bytes"] else None
        reply, arrays = reply_to(request, files, content)
        disorder = copied and reply.get("opened", False)
        if disorder:  # this copy ends, and not the process that is asked
            reply["opened"] = False
        out.write(json.dumps(reply).encode() + b"\n")
        for array in arrays:
            out.write(array.reshape(-1).view("u1").data)
        out.flush()
        if disorder:
            return True
    return False


if __name__ == "__main__":
    main()
