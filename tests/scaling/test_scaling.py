"""Training over several devices and processes equals that of one, and a job that loses a process ends and resumes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import spyx
from scaling import trainee

HERE = Path(__file__).parent
EPOCHS = 5  # of four batches: twenty steps
BOUND = 1e-5
LIMIT_S = 240
LOST = 75


def start(program: str, *arguments: object, slow_s: float = 0.0) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(spyx.__file__).parent.parent), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "SLOW_S": str(slow_s)}
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def job(count: int, folder: Path, epochs: int, slow_s: float = 0.0) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{probe.getsockname()[1]}"
    return [start("process.py", folder, epochs, where, count, number, slow_s=slow_s) for number in range(count)]


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What they say on standard error, once all have ended well."""
    said = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said[0][-3000:]
    return said


def results(folder: Path) -> list[np.ndarray]:
    with np.load(folder / "weights.npz") as saved:
        return [saved[name] for name in saved.files]


def worst(a: Path, b: Path) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(results(a), results(b), strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """One process on one device."""
    folder = tmp_path_factory.mktemp("alone")
    finish([start("process.py", folder, EPOCHS)])
    return folder


def test_four_devices_equal_one():
    process = start("over_devices.py")
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err[-3000:]
    assert out.split("\n")[:-1] == ["compared"], out


def test_a_lost_process_of_three_ends_the_job_and_two_go_on(alone, tmp_path):
    three = job(3, tmp_path, EPOCHS, slow_s=0.4)
    while "training 1" not in (line := three[0].stdout.readline()):
        assert line, three[0].stderr.read()[-3000:]
    three[2].send_signal(signal.SIGKILL)
    began = time.monotonic()
    said = [process.communicate(timeout=LIMIT_S)[1] for process in three]
    assert time.monotonic() - began < trainee.PATIENCE_S + 10
    assert [process.returncode for process in three] == [LOST, LOST, -signal.SIGKILL]
    for line in said[:2]:
        assert line.endswith(
            "spyx: process 2 of 3 has ended, or cannot be reached; this job ends. Start it again with resume=True.\n"
        ), line
    assert any(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())
    assert not (tmp_path / "weights.npz").exists()
    finish(job(2, tmp_path, EPOCHS))
    assert worst(alone, tmp_path) < BOUND


def test_two_processes_equal_one(alone, tmp_path):
    finish(job(2, tmp_path, EPOCHS))
    assert worst(alone, tmp_path) < BOUND
