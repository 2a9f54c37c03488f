"""One library in a process of its own: answers one JSON line on stdout for every JSON line on stdin.

`python -m benchmarks.worker LIBRARY`. The library's own prints go to stderr. Linux: memory is read from /proc.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Any

from benchmarks.peers import Unsupported
from benchmarks.workloads import named


class Session:
    """What a worker does: `start`, then `sample` as often as asked, then `memory`."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.step: Callable[[], Any] = lambda: None

    def start(self, workload: str, neuron: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
        """Import, build and take the first step; `first_s` is tracing, compiling and running."""
        began = time.perf_counter()
        peer = importlib.import_module(f"benchmarks.peers.{self.library}")
        imported = time.perf_counter()
        wanted = named([workload], neuron)[0]
        if wanted.delayed != getattr(peer, "DELAYED", wanted.delayed and self.library == "ours"):
            raise Unsupported("no delays that are learned" if wanted.delayed else "compared with delays alone")
        self.kind, self.steps = kind, peer.build(wanted, options)
        built = time.perf_counter()
        self.step = getattr(self.steps, kind)
        first = self.step()
        done = time.perf_counter()
        return {
            "import_s": imported - began,
            "build_s": built - imported,
            "first_s": done - built,
            "loss": float(first) if kind == "train" and first is not None else None,
            "versions": {name: metadata.version(name) for name in peer.DISTRIBUTIONS},
        }

    def sample(self, repeat: int) -> dict[str, Any]:
        """Mean of `repeat` steps in a row: seconds passed, and seconds of all cores, steadier on a busy machine."""
        began, busy = time.perf_counter(), time.process_time()
        for _ in range(repeat):
            self.step()
        return {
            "seconds": (time.perf_counter() - began) / repeat,
            "cpu_seconds": (time.process_time() - busy) / repeat,
        }

    def memory(self) -> dict[str, Any]:
        """`peak_mib`: high-water mark so far. `step_mib`: of one step, above what stands between steps."""
        peak = _memory_mib("VmHWM")
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or the allocator keeps what the step needs, and the step seems to need less
        standing = _memory_mib("VmRSS")
        _forget_peak()
        self.step()
        answer = {"peak_mib": peak, "step_mib": _memory_mib("VmHWM") - standing, "compiled_mib": None}
        if self.steps.compiled_mib is not None:
            answer["compiled_mib"] = self.steps.compiled_mib(self.kind)
        return answer


def _memory_mib(field: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def main(library: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session(library)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(session, request.pop("do"))(**request)
        except Unsupported as error:
            answer = {"unsupported": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
