"""The guarded reader: HDF5 and MATLAB files are opened in a process of its own that may hang, crash or be lied to.

`spyx.data` and `spyx.nir` share it. One process reads many files one after the other. A file that takes too much
memory, computing time or output, or that kills the process, is refused; the next file starts another process. On Linux
the process that has the libraries loaded reads nothing itself: a copy of it does, and after a damaged file another
copy, which costs milliseconds. What comes back is plain arrays and texts. Computing time is limited on Linux and macOS,
memory by the operating system on Linux; the size of every array is limited everywhere, before it is read, and so is
the time on the clock.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spyx.data._budget import budget

if TYPE_CHECKING:
    from subprocess import Popen

PATIENCE_S = 1.5
BYTES_PER_S = 5e6
"""A file may take `PATIENCE_S` seconds of computing, and one more for every `BYTES_PER_S` bytes."""
WAIT = 20 if os.name == "posix" else 3
"""How much longer than it may compute a process may take, on a machine that has other things to do."""
GROUPS = os.name == "posix"
"""Whether the process has a group of its own, with the copies that it makes of itself on Linux."""
END_S = 5.0
LONGEST_LINE = 1 << 20
WORKER = Path(__file__).with_name("_guarded_worker.py")


Request = dict[str, Any]
"""A question to the process that reads files: JSON."""


class Damaged(Exception):
    """A file that the library cannot read, or not to the end.

    Args:
        found: what was found.
        opened: whether the library got as far as the contents, and may be in disorder.
    """

    def __init__(self, found: str, opened: bool = True) -> None:
        super().__init__(found)
        self.opened = opened


class Refused(Exception):
    """A file that asks for more than it may, or leads out of itself.

    Args:
        place: where in the file.
        what: what is wrong there, to be read after the place.
        budget: whether a larger limit would help.
    """

    def __init__(self, place: str, what: str, budget: bool = False) -> None:
        super().__init__(f"{place} {what}")
        self.place, self.what, self.budget = place, what, budget


@dataclass(frozen=True)
class Limits:
    """What reading one file may take: bytes of all arrays and texts, of one array, members, seconds of computing."""

    total: int
    array: int
    members: int
    seconds: float


def limits_for(size: int, max_bytes: int | None = None) -> Limits:
    """The usual limits of a file of `size` bytes."""
    total = budget(size, max_bytes)
    return Limits(total, total, 10_000, PATIENCE_S + size / BYTES_PER_S)


class _Reader:
    """One process that reads files one after the other; started when first needed."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.late = False

    def ask(self, request: Request, content: bytes | memoryview | None, limits: Limits) -> Any:
        """What is in a file. Whatever goes wrong on the way, Ctrl-C included, ends the process."""
        size = 0 if content is None else len(content)
        request = request | vars(limits) | {"bytes": size}
        with self.lock:
            try:
                process = self._started()
                timer = threading.Timer(WAIT * limits.seconds, self._stop, [process])
                timer.daemon = True
                timer.start()
                try:
                    return self._reply(process, request, content, limits)
                finally:
                    timer.cancel()
            except BaseException as error:
                if getattr(error, "opened", not isinstance(error, Refused)):
                    self._end()
                raise

    def _reply(
        self, process: Popen[bytes], request: Request, content: bytes | memoryview | None, limits: Limits
    ) -> Any:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
            if content is not None:
                process.stdin.write(content)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        line = process.stdout.readline(LONGEST_LINE + 8 * limits.total)  # type: ignore[union-attr]
        if not line.endswith(b"\n"):
            raise Damaged(self._reason(process))
        reply = json.loads(line)
        if "refused" in reply:
            raise Refused(*reply["refused"])
        if "damaged" in reply:
            raise Damaged(reply["damaged"], reply["opened"])
        if "missing" in reply:
            raise ImportError(reply["missing"], name=reply["missing"])
        return self._unpacked(reply["found"], process, [limits.total])

    def _unpacked(self, value: Any, process: Popen[bytes], left: list[int]) -> Any:
        if "group" in value:
            return {key: self._unpacked(one, process, left) for key, one in value["group"].items()}
        if "list" in value:
            return [self._unpacked(one, process, left) for one in value["list"]]
        if "plain" in value:
            return value["plain"]
        array = np.empty(tuple(value["array"][1]), np.dtype(value["array"][0]))
        if array.dtype.kind not in "fiub" or (array.nbytes > left[0]):
            raise Damaged("the process that reads it returned more than it may")
        left[0] -= array.nbytes
        room = array.reshape(-1).view(np.uint8).data
        while len(room):
            taken = process.stdout.readinto(room)  # type: ignore[union-attr]
            if not taken:
                raise Damaged(self._reason(process))
            room = room[taken:]
        return array

    def _reason(self, process: Popen[bytes]) -> str:
        slow = self.late or process.wait() == -getattr(signal, "SIGXCPU", 0)
        return "it does not come to an end" if slow else "it crashes the library that reads it"

    def _started(self) -> Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self._end()
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(WORKER)],
                process_group=0 if GROUPS else None,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=1 << 16,
            )
            folders = [folder for folder in sys.path if folder and os.path.isabs(folder)]
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(json.dumps(folders).encode() + b"\n")  # type: ignore[union-attr]
        self.late = False
        return self.process

    def _stop(self, process: Popen[bytes]) -> None:
        self.late = True
        _kill(process)

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            _kill(process)
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            process.wait()


def _kill(process: Popen[bytes]) -> None:
    """End a process with its copy; one that was waited for has none, and its number may be another's."""
    try:
        process.terminate()  # it takes its copy along, and reads no file itself that could keep it
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if GROUPS else process.kill()


_readers: list[_Reader] = []
_choosing = threading.Lock()


def _reader() -> _Reader:
    """The reader of this process: one that a fork inherited belongs to the parent."""
    if not _readers or _readers[-1].owner != os.getpid():
        with _choosing:
            if not _readers:
                atexit.register(end)
            if not _readers or _readers[-1].owner != os.getpid():
                _readers[:] = [_Reader()]
    return _readers[-1]


def tree(path: str, root: str, mark: str, limits: Limits) -> tuple[dict[str, object], dict[str, str]]:
    """An HDF5 group as nested dicts of arrays and texts, and the attribute `mark` of it ("") and of its nodes.

    Args:
        path: the file.
        root: the group.
        mark: name of an attribute that holds a digest.
        limits: what reading may take.

    Raises:
        Refused: the file asks for more than it may, or leads out of itself.
        Damaged: the library cannot read it, does not return, or crashes.
        ImportError: no h5py.
    """
    whole, marks = _reader().ask({"do": "tree", "path": path, "root": root, "mark": mark}, None, limits)
    return whole, marks


def columns(
    file: str | memoryview, names: list[str], limits: Limits, *, shapes: tuple[str, ...] = ()
) -> tuple[dict[str, np.ndarray], dict[str, list[int]], list[str]]:
    """Whole datasets of an HDF5 file, shapes of others, and what lies at its top; what is missing is left out.

    Args:
        file: its path, or its bytes.
        names: paths of the datasets to read.
        limits: what reading may take.
        shapes: paths of the datasets whose shape is enough.

    Raises:
        Refused, Damaged, ImportError: as `tree`.
    """
    request = {"do": "columns", "names": names, "shapes": list(shapes)}
    values, sizes, top = _ask(request, file, limits)
    return values, sizes, top


def rows(
    file: str | memoryview, names: tuple[str, ...], start: int, stop: int, limits: Limits
) -> list[list[np.ndarray]]:
    """Rows of ragged datasets of an HDF5 file: a list of rows for each name.

    Raises:
        Refused, Damaged, ImportError: as `tree`.
    """
    found = _ask({"do": "rows", "names": list(names), "start": start, "stop": stop}, file, limits)
    return [_split(*found[name]) for name in names]


def matrices(path: str, names: list[str], limits: Limits) -> dict[str, np.ndarray]:
    """Variables of a MATLAB file, without those that are not there.

    Raises:
        Refused, Damaged: as `tree`.
        ImportError: no SciPy.
    """
    return _reader().ask({"do": "matrices", "path": path, "names": names}, None, limits)


def end() -> None:
    """End the process; the next file starts another."""
    if _readers and _readers[-1].owner == os.getpid():
        with _readers[-1].lock:
            _readers[-1]._end()


def _split(lengths: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    stops = np.cumsum(lengths)
    return [values[stop - length : stop] for stop, length in zip(stops, lengths, strict=True)]


def _ask(request: Request, file: str | memoryview, limits: Limits) -> Any:
    by_path = isinstance(file, str)
    content = None if by_path else file
    return _reader().ask(request | {"path": os.path.abspath(file) if by_path else ""}, content, limits)
