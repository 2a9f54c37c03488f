"""Ctrl-C is never lost: it is sent again until the command has noticed.

Python raises `KeyboardInterrupt` wherever the program happens to be. Inside a callback of the garbage collector, a
destructor or a library that swallows every exception, it vanishes, and in the middle of an import it can end the
process with an error of its own. So nothing is raised there, and a thread sends it again until `caught` is called.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import weakref
from collections.abc import Iterator
from types import FrameType

AGAIN_S = 0.2
EXIT_CODE = 130
TERMINATED = 143


class Interrupts:
    """The interrupts of one command; `guard` it from the first line to the last."""

    def __init__(self) -> None:
        self.noticed = threading.Event()
        self.asked = False

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Sends Ctrl-C again until it is caught. Afterwards the operating system ends the process at a Ctrl-C."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            self.caught()
            signal.signal(signal.SIGINT, signal.SIG_IGN if self.asked else signal.SIG_DFL)

    def caught(self) -> None:
        """The command ends: nothing is sent again."""
        self.noticed.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            threading.Thread(target=self._insist, daemon=True).start()
        if not self.noticed.is_set() and not _deaf(frame):
            raise KeyboardInterrupt

    def _insist(self) -> None:
        while not self.noticed.wait(AGAIN_S):
            if hasattr(signal, "pthread_kill"):  # also wakes the main thread where it sleeps
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            else:
                signal.raise_signal(signal.SIGINT)


def _deaf(frame: FrameType | None) -> bool:
    """The program is where an exception does harm or is lost: in an import, a destructor, a callback of a weak
    reference or of the garbage collector.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") or code.co_name in ("__del__", "_xla_gc_callback"):
            return True
        if code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False
