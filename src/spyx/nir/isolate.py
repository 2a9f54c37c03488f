"""Reading HDF5 in a process of its own that may hang or crash: it is ended, and the file is refused."""

from __future__ import annotations

import atexit
import contextlib
import json
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

WAIT = 20
"""How much longer than it may compute a process may take, on a machine that has other things to do."""


class Damaged(Exception):
    """A file that is no HDF5 file any more."""


class Refused(Exception):
    """A file that holds what is not read."""


class _Reader:
    """One process that reads files one after the other; started when first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""

    def ask(self, request: dict[str, Any], timeout_s: float) -> Any:
        """The contents of a file as nested dicts, and the digests in it."""
        with self.lock:
            deadline = time.monotonic() + WAIT * timeout_s
            try:
                return self._ask(request, deadline)
            except (Damaged, OSError):
                self._end()
                raise

    def _ask(self, request: dict[str, Any], deadline: float) -> Any:
        if self.process is None or self.process.poll() is not None:
            self._start()
        pipe = self.process.stdin if self.process else None
        if pipe is None:
            raise Damaged("the process that reads files did not start")
        with contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()
        while b"\n" not in self.buffer:
            self._more(deadline)
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply = json.loads(line)
        if "refused" in reply:
            raise Refused(reply["refused"])
        if "damaged" in reply:
            raise Damaged(reply["damaged"])
        return self._unpacked(reply["tree"], deadline), reply["digests"]

    def _unpacked(self, tree: Any, deadline: float) -> Any:
        if "group" in tree:
            return {key: self._unpacked(value, deadline) for key, value in tree["group"].items()}
        if "text" in tree:
            return tree["text"]
        kind, shape = np.dtype(tree["array"][0]), tuple(tree["array"][1])
        size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        parts = [self.buffer]
        held = len(self.buffer)
        while held < size:
            self.buffer = b""
            self._more(deadline)
            parts.append(self.buffer)
            held += len(self.buffer)
        data = b"".join(parts)
        self.buffer = data[size:]
        return np.frombuffer(data[:size], kind).reshape(shape).copy()

    def _more(self, deadline: float) -> None:
        pipe = self.process.stdout if self.process else None
        left = deadline - time.monotonic()
        if pipe is None or left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise Damaged("it does not come to an end")
        chunk = pipe.read1(2**20)  # type: ignore[attr-defined]
        if not chunk:
            slow = self.process is not None and self.process.wait() == -getattr(signal, "SIGXCPU", 0)
            raise Damaged("it does not come to an end" if slow else "it crashes the HDF5 library")
        self.buffer += chunk

    def _start(self) -> None:
        script = str(Path(__file__).with_name("hdf.py"))
        command = [sys.executable, "-I", script]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=-1
        )
        self.buffer = b""

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()


_reader = _Reader()


def contents(
    path: str, *, array: int, total: int, members: int, timeout_s: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """The group 'node' of a file as nested dicts of arrays and texts, and the digests in it by node.

    Raises:
        Refused: the file asks for more than it may, or leads out of itself.
        Damaged: HDF5 cannot read it, does not return, or crashes.
    """
    request = {"path": path, "array": array, "total": total, "members": members, "seconds": timeout_s}
    return _reader.ask(request, timeout_s)


def end() -> None:
    """End the process; the next file starts another."""
    with _reader.lock:
        _reader._end()


atexit.register(end)
