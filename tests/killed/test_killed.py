"""SIGKILL in the middle of a run, then resume: the same bits. `python -m killed --kills 30` is the long run."""

from __future__ import annotations

import os
import signal

import pytest

from killed.__main__ import kills
from killed.trainee import outcome

KILLS, SEED = int(os.environ.get("SPYX_KILLS", "2")), int(os.environ.get("SPYX_SEED", "0"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX alone kills without a word")
def test_a_killed_run_ends_as_one_that_was_left_alone(tmp_path):
    assert len(list(kills(KILLS, SEED, tmp_path, outcome(None)))) == KILLS
