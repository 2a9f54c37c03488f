"""When to stop: a score by name, and whether it still gets better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spyx.optimize._fit import History
from spyx.optimize._sources import OWNER


def early_stopping(score: str, patience: int, least: float = 0.0) -> Callable[[History], bool]:
    """For `stop_when`: true when `score` has not been better by more than `least` for `patience` epochs.

    It looks at the history alone, so a resumed run stops where it would have stopped.

    Args:
        score: as `best` of `train`: `"eval_acc"`, or `"-eval_loss"` where smaller is better.
        patience: epochs, >= 1.
        least: what counts as better. Default 0.

    Raises:
        ValueError: a patience below 1.

    Example:
        >>> stop = early_stopping("-eval_loss", patience=2)
        >>> stop([{"eval_loss": value} for value in (3.0, 2.0, 2.5)])
        False
        >>> stop([{"eval_loss": value} for value in (3.0, 2.0, 2.5, 2.1)])
        True
    """
    if patience < 1:
        raise ValueError(f"spyx.optimize.early_stopping(patience=): expected 1 or more; got {patience}.")

    def asked(history: History) -> bool:
        best, at = -np.inf, -1
        for epoch, numbers in enumerate(history):
            found = score_of(score, numbers)
            if found > best + least:
                best, at = found, epoch
        return len(history) - 1 - at >= patience

    return asked


def names_of(best: str) -> list[str]:
    """The numbers that `best` names, without their signs."""
    return [name.strip().removeprefix("-") for name in best.split(",")]


def scores_of(best: str, numbers: dict[str, float]) -> list[float]:
    """The numbers that `best` names, separated by commas, larger being better; to be compared in this order."""
    return [score_of(name.strip(), numbers) for name in best.split(",")]


def score_of(score: str, numbers: dict[str, float]) -> float:
    """The number that `score` names, larger being better."""
    name = score.removeprefix("-")
    if name not in numbers:
        raise ValueError(
            f"{OWNER}(best=): expected the name of a number, with a minus where smaller is better; got {score!r}. "
            f"There are: {', '.join(numbers)}."
        )
    return -numbers[name] if score.startswith("-") else numbers[name]
