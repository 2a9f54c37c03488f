"""Value and gradients over four devices equal those of one, in every mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import spyx


def test_every_mode_runs_inside_shard_map():
    program = Path(__file__).with_name("over_devices.py")
    source = str(Path(spyx.__file__).parent.parent)
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(program)], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[:-1] == ["compared"], done.stdout
