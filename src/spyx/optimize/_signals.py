"""Ctrl-C and SIGTERM ask a loop to stop after the step; a second Ctrl-C stops it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spyx.optimize.types import OnSignal

    Handler = Callable[[int, FrameType | None], object] | int
    """What Python calls for a signal, or `signal.SIG_DFL`."""


class Stopped(KeyboardInterrupt):
    """A signal has ended `train` after a step; what it had reached is saved.

    Args:
        signal: number of the signal.
        epoch: counted from 0.
        step: steps taken in that epoch.
        fault: why nothing could be saved, or None.

    Example:
        >>> Stopped(15, 3, 7, None).signal
        15
    """

    def __init__(self, signal: int, epoch: int, step: int, fault: OSError | None) -> None:
        self.signal, self.epoch, self.step, self.fault = signal, epoch, step, fault
        saved = "saved" if fault is None else f"not saved ({fault.strerror})"
        super().__init__(f"training was stopped in epoch {epoch} after {step} steps, and {saved}")


class Asked:
    """Whether a signal asked for a stop: its number, or None."""

    def __init__(self) -> None:
        self.number: int | None = None


@contextlib.contextmanager
def listening(on_signal: OnSignal | None = None) -> Iterator[Asked]:
    """While inside, the first SIGINT or SIGTERM is noted and a second SIGINT does what the first did before.

    Does nothing outside the main thread, and leaves a signal alone that the process ignores.

    Args:
        on_signal: called with the number of the first signal.
    """
    asked = Asked()
    before: dict[int, Handler] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if asked.number is None:
            asked.number = number
            if on_signal is not None:
                on_signal(number)
        elif number == signal.SIGINT:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            old = signal.getsignal(number)
            if old is not None and old is not signal.SIG_IGN:
                before[number] = old
                signal.signal(number, note)
    try:
        yield asked
    finally:
        restore()
