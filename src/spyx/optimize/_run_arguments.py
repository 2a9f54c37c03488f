"""Checks of arguments that `train` and `population` share."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING

from spyx.optimize._stopping import names_of

if TYPE_CHECKING:
    from spyx.data import Loader
    from spyx.optimize.types import AllBatches, Metric


def check_run(
    owner: str,
    counts: Mapping[str, object],
    eval_data: AllBatches | Loader | None,
    metric_fn: Metric | None,
    best: str | None,
) -> None:
    """Refuse counts below 1, evaluation data without a metric or the reverse, and a best number that is not measured.

    Args:
        owner: the public name that errors begin with.
        counts: whole numbers by the name of their argument.
        eval_data: as for `train`.
        metric_fn: as for `train`.
        best: as for `train`.

    Raises:
        TypeError: `best` is no text.
        ValueError: one of them is wrong.
    """
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{owner}({name}=): expected a whole number, 1 or more; got {value!r}. Give at least 1.")
    if (eval_data is None) != (metric_fn is None):
        raise ValueError(
            f"{owner}: expected eval_data and metric_fn together; got only "
            f"{'metric_fn' if eval_data is None else 'eval_data'}. Give both, or neither."
        )
    if best is not None and not isinstance(best, str):
        raise TypeError(
            f"{owner}(best=): expected the name of a number, or several with commas between; got {best!r}. "
            "Write 'eval_acc,-eval_loss'."
        )
    names = [] if best is None else names_of(best)
    if eval_data is None and any(name != "train_loss" for name in names):
        raise ValueError(
            f"{owner}(best=): expected '-train_loss' without eval_data; got {best!r}. Give eval_data and metric_fn."
        )
