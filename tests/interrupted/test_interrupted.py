"""Ctrl-C is never lost. `python -m interrupted --count 50` is the long run."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref

import pytest

from interrupted.__main__ import interrupts
from spyx.cli.interrupt import Interrupts

COUNT, SEED = int(os.environ.get("SPYX_INTERRUPTS", "4")), int(os.environ.get("SPYX_SEED", "0"))


@pytest.mark.timeout(600 + 60 * COUNT)
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_is_never_lost(tmp_path):
    assert len(list(interrupts(COUNT, SEED, tmp_path))) == COUNT


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")
def test_an_interrupt_in_the_callback_of_a_weak_reference_waits_for_its_end():
    """Python would print what is raised there, and go on."""

    class Interrupted(dict):
        def __delitem__(self, key):
            signal.raise_signal(signal.SIGINT)
            super().__delitem__(key)

    class Key:
        pass

    before = signal.getsignal(signal.SIGINT)
    interrupts, keys, key = Interrupts(), weakref.WeakKeyDictionary(), Key()
    keys.data = Interrupted()
    keys[key] = 1
    unraised, sys.unraisablehook = sys.unraisablehook, lambda lost: seen.append(lost.exc_value)
    seen: list[BaseException | None] = []
    try:
        with interrupts.guard(), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes where one sleeps
            del key
            time.sleep(5)
    finally:
        sys.unraisablehook = unraised
        signal.signal(signal.SIGINT, before)
    assert not seen
    assert not keys
