"""Ctrl-C is never lost. `python -m interrupted --count 50` is the long run."""

from __future__ import annotations

import os

import pytest

from interrupted.__main__ import interrupts

COUNT, SEED = int(os.environ.get("SPYX_INTERRUPTS", "4")), int(os.environ.get("SPYX_SEED", "0"))


@pytest.mark.timeout(600 + 60 * COUNT)
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_is_never_lost(tmp_path):
    assert len(list(interrupts(COUNT, SEED, tmp_path))) == COUNT
