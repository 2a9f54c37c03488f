"""A doctor that looks at a training by itself: before the first step, and where the loss no longer falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import spyx
from spyx.fn._traces import TraceFunction

if TYPE_CHECKING:
    from flax import nnx

    from spyx.optimize.types import Doctor, Loss, Notify, OneBatch

PATIENCE, LEAST = 5, 0.01
"""Epochs without a loss that is lower by this share of itself: a plateau."""


class Checkup:
    """When the doctor is asked, and what it is given.

    Args:
        owner: the public name that its lines begin with.
        doctor: True for `spyx.report.doctor`, a function like it, or False for none.
        loss_fn: of the training.
        notify: is given a line for each look that found something.
    """

    def __init__(self, owner: str, doctor: bool | Doctor, loss_fn: Loss, notify: Notify) -> None:
        if not isinstance(doctor, bool) and not callable(doctor):
            raise TypeError(
                f"{owner}(doctor=): expected True, False or a function such as spyx.report.doctor; got "
                f"{type(doctor).__name__}. Pass True."
            )
        # A sibling is not imported here: the namespace of the package loads it, for those who ask for it by True.
        self.doctor: Doctor | None = spyx.report.doctor if doctor is True else doctor or None
        self.owner, self.loss_fn, self.notify = owner, loss_fn, notify
        self.seen: set[tuple[str, str]] = set()
        self.lowest, self.waited = float("inf"), 0

    def __bool__(self) -> bool:
        return self.doctor is not None

    def begins(self, model: nnx.Module, batch: OneBatch) -> None:
        """Before the first step."""
        self._look("before the first step", model, batch, ())

    def plateau(self, history: Sequence[Mapping[str, float]]) -> bool:
        """After an epoch: the training loss no longer falls. True once for every plateau."""
        loss = history[-1]["train_loss"]
        if loss < self.lowest - LEAST * abs(self.lowest) or self.lowest == float("inf"):
            self.lowest, self.waited = loss, 0
        else:
            self.waited += 1
        return self.waited == PATIENCE

    def stalls(self, model: nnx.Module, batch: OneBatch, history: Sequence[Mapping[str, float]]) -> None:
        """At a plateau."""
        self._look(f"the loss has not fallen for {PATIENCE} epochs", model, batch, history)

    def _look(self, when: str, model: nnx.Module, batch: OneBatch, history: Sequence[Mapping[str, float]]) -> None:
        """Notify of the findings that are new."""
        if self.doctor is None:
            return
        how = {"loss": self.loss_fn} if isinstance(self.loss_fn, TraceFunction) else {"objective": self.loss_fn}
        try:
            found = self.doctor(model, batch, history=history, **how)
        except (TypeError, ValueError, NotImplementedError) as error:
            self.notify(f"{self.owner}(doctor=): {when}, the doctor could not look: {error}")
            return
        new = [finding for finding in found if (finding.what, finding.where) not in self.seen]
        self.seen |= {(finding.what, finding.where) for finding in new}
        if new:
            self.notify(f"{self.owner}(doctor=): {when}: " + " | ".join(map(str, new)))
