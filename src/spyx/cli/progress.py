"""What a run shows while it works: a bar on a terminal, lines with time, rate and time left everywhere else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from spyx.cli.text import safe

LINE_S = 5.0
"""Seconds between two lines where there is no terminal."""


@contextlib.contextmanager
def working(console: Console, what: str) -> Iterator[None]:
    """While inside, says every few seconds that `what` still goes on."""
    if console.is_terminal:
        with console.status(safe(what)):
            yield
        return
    began, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(LINE_S):
            console.print(f"{_now()}  {safe(what)}: {time.monotonic() - began:.0f} s", highlight=False, soft_wrap=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


class Shown:
    """Progress of one training; `start`, `step` and `epoch` are called by `optimize.train`.

    Args:
        console: where it is shown.
        epochs: of the whole run.
        steps: of an epoch.
    """

    def __init__(self, console: Console, epochs: int, steps: int) -> None:
        self.console, self.epochs, self.steps = console, epochs, steps
        self.loss, self.accuracy = "-", "-"
        self._compiling = contextlib.ExitStack()
        self._first = self._done = 0
        self._began: float | None = None
        self._said = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[line]}  left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("compiling", total=epochs * steps, line="")

    def __enter__(self) -> Shown:
        if self._bar is not None:
            self._bar.start()
        else:
            self._compiling.enter_context(working(self.console, "compiling"))
        return self

    def __exit__(self, *error: object) -> None:
        self._compiling.close()
        if self._bar is not None:
            self._bar.stop()

    def start(self, history: list[dict[str, float]]) -> None:
        """The epochs that an earlier part of the run has done."""
        self._done = len(history) * self.steps
        if history:
            self.console.print(f"resumed after {len(history)} of {self.epochs} epochs", highlight=False)

    def step(self, epoch: int, step: int, loss: float) -> None:
        """So many steps of an epoch are done."""
        self._at(epoch * self.steps + step, f"{loss:.3f}", self.accuracy, say=False)

    def epoch(self, epoch: int, numbers: dict[str, float]) -> None:
        """An epoch is done and measured."""
        loss, accuracy = f"{numbers['train_loss']:.3f}", f"{numbers['eval_acc']:.1%}"
        self._at((epoch + 1) * self.steps, loss, accuracy, say=epoch + 1 == self.epochs)

    def _at(self, done: int, loss: str, accuracy: str, *, say: bool) -> None:
        self._compiling.close()
        if self._began is None:  # the first turn is compilation: the rate is that of what follows
            self._began, self._first = time.monotonic(), done
        self._done, self.loss, self.accuracy = done, loss, accuracy
        seen, now = f"loss {loss}  validation {accuracy}", time.monotonic()
        if self._bar is not None and self._task is not None:
            epoch = f"epoch {min(done // self.steps + 1, self.epochs)}/{self.epochs}"
            self._bar.update(self._task, completed=done, description=epoch, line=seen)
        elif say or now - self._said >= LINE_S:
            self._said = now
            self.console.print(f"{_now()}  {self._line(now)}  {seen}", highlight=False, soft_wrap=True)

    def _line(self, now: float) -> str:
        epochs = f"epoch {self._done / self.steps:.1f} of {self.epochs}"
        taken = now - (self._began or now)
        if self._done == self._first or taken <= 0:
            return epochs
        rate = (self._done - self._first) / taken
        left = (self.epochs * self.steps - self._done) / rate
        return f"{epochs}  {rate:.1f} steps/s  {_clock(left)} left"


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
