"""Runs libraries side by side: one process each, all alive, one sample each in turn, so that a slow moment hits all."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import HERE, MISSING, python_of
from benchmarks.workloads import Workload

SETTLE_S = 0.05
"""Pause before a sample: thread pools of the library before spin for a while after their last work."""

SAMPLE_S = 0.1
"""Shorter steps are repeated until a sample takes this long."""


@dataclass(frozen=True)
class Contender:
    """A library with options; `name` is its row in the table."""

    name: str
    library: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Result:
    """Everything measured of one contender on one workload, or why there is nothing."""

    workload: str
    kind: str
    name: str
    samples_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    import_s: float | None = None
    build_s: float | None = None
    first_s: float | None = None
    peak_mib: float | None = None
    step_mib: float | None = None
    compiled_mib: float | None = None
    loss: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    missing: str | None = None


class Worker:
    """A library's process, and what it said of itself."""

    def __init__(self, contender: Contender, workload: Workload, kind: str) -> None:
        self.contender = contender
        self.result = Result(workload.name, kind, contender.name)
        self.repeat = 1
        self.process: subprocess.Popen[str] | None = None
        python = python_of(contender.library)
        if python is None:
            self.result.missing = MISSING.get(contender.library, "not installed: python -m benchmarks setup")
            return
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115, as long as the process
        command = [str(python), "-m", "benchmarks.worker", contender.library]
        self.process = subprocess.Popen(
            command, cwd=HERE.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        base = workload.name.removesuffix(f"-{workload.neuron}")
        request = dict(workload=base, neuron=workload.neuron, kind=kind, options=contender.options)
        vars(self.result).update(self.ask("start", **request))

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One line there, one line back; a worker that fails is out of the run, and its result says why."""
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            return {}
        try:
            print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if why := answer.get("unsupported") or answer.get("error"):
            self.result.missing = why
            self.close()
            return {}
        return answer

    def sample(self) -> None:
        if answer := self.ask("sample", repeat=self.repeat):
            self.result.samples_s.append(answer["seconds"])
            self.result.cpu_s.append(answer["cpu_seconds"])

    def warm_up(self) -> None:
        """Steps outside the record (a compiler may be back for the second); the last says how many make a sample."""
        for _ in range(2):
            if answer := self.ask("sample", repeat=1):
                self.repeat = min(50, math.ceil(SAMPLE_S / max(answer["seconds"], 1e-6)))

    def finish(self) -> Result:
        vars(self.result).update(self.ask("memory"))
        self.close()
        return self.result

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return lines[-1] if lines else "the process ended without a word"


def measure(
    contenders: list[Contender], workloads: list[Workload], kinds: list[str], samples: int, say: Callable[[str], None]
) -> Iterator[list[Result]]:
    """Every contender on every workload, interleaved: A B C A B C ... Yields after each workload and kind."""
    for workload in workloads:
        for kind in kinds:
            say(f"{workload.name} {kind}: starting {len(contenders)} processes")
            workers = [Worker(contender, workload, kind) for contender in contenders]
            for worker in workers:
                worker.warm_up()
            for number in range(samples):
                for worker in workers:
                    time.sleep(SETTLE_S)
                    worker.sample()
                say(f"{workload.name} {kind}: sample {number + 1} of {samples}, load {os.getloadavg()[0]:.1f}")
            yield [worker.finish() for worker in workers]


def machine() -> dict[str, Any]:
    """Where and when the numbers were taken."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].split(":", 1)[1].strip() if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def as_json(results: list[Result], where: dict[str, Any], note: str) -> str:
    return json.dumps({"machine": where, "note": note, "results": [asdict(result) for result in results]}, indent=1)
