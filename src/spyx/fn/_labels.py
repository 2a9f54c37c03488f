"""Labels that are no class: a check before training, and how a training loop notices and names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike


class WrongLabels(NamedTuple):
    """Labels that name no class.

    Args:
        labels: all of them, as the loss or the metric was given them.
        classes: number of classes.
        count: how many are wrong.
        index: where the first one is.
    """

    labels: np.ndarray
    classes: int
    count: int  # type: ignore[assignment]
    index: tuple[int, ...]  # type: ignore[assignment]

    @property
    def first(self) -> float:
        """The first wrong label, as a Python number."""
        return self.labels[self.index].item()


_given: ContextVar[list[WrongLabels | None] | None] = ContextVar("spyx_labels_given", default=None)


def check_labels(labels: ArrayLike, num_classes: int) -> None:
    """Raise unless every label is a class: a whole number in 0, ..., num_classes - 1.

    Call it once on the labels of a data set, before training. It reads the values, so it is for arrays outside of
    `jax.jit`; where values are traced it raises, because it could not check them. The losses and metrics of `spyx.fn`
    are compiled and cannot raise: a label that is no class has no true class there, and `spyx.optimize.fit` and
    `compile_fit` stop at it.

    Args:
        labels: whole numbers of any shape: an array of JAX or NumPy, or a list. -1 is no class.
        num_classes: number of classes, >= 1.

    Raises:
        ValueError: on labels outside 0, ..., num_classes - 1; says how many, and which comes first and where. On
            `num_classes` below 1.
        TypeError: on labels that are not integers (floats, booleans, one-hot rows of floats), or traced by JAX.

    Example:
        >>> check_labels([0, 2, 1], num_classes=3)
        >>> check_labels([0, 3, -1], num_classes=3)
        Traceback (most recent call last):
        ValueError: check_labels: expected labels in 0..2; got 2 of 3 outside, the first 3 at index 1. ...
    """
    if not isinstance(num_classes, Integral) or num_classes < 1:
        raise ValueError(f"check_labels: expected num_classes to be a whole number, 1 or more; got {num_classes!r}.")
    if isinstance(labels, Tracer):
        raise TypeError(
            "check_labels: expected labels whose values are known; got an array traced by JAX. Call it outside of jit."
        )
    array = np.asarray(labels)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(
            f"check_labels: expected integer labels; got dtype {array.dtype}. Convert class numbers with astype(int), "
            "one-hot rows with argmax(-1)."
        )
    if wrong := wrong_labels(array, int(num_classes)):
        at = wrong.index[0] if array.ndim == 1 else wrong.index
        raise ValueError(
            f"check_labels: expected labels in 0..{wrong.classes - 1}; got {wrong.count} of {array.size} outside, the "
            f"first {wrong.first} at index {at}. Number the classes from 0, and leave samples without a class out."
        )


def wrong_labels(labels: np.ndarray, classes: int, counts: np.ndarray | bool = True) -> WrongLabels | None:
    """The labels that count and are not in 0, ..., classes - 1, or None; a fraction and NaN are no class."""
    outside = counts & ~((labels >= 0) & (labels < classes) & (labels == np.floor(labels)))
    if not outside.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(outside.argmax()), labels.shape))
    return WrongLabels(labels, classes, int(outside.sum()), index)


def note(labels: Array | np.ndarray, classes: int, which_count: Callable[[], Array | np.ndarray]) -> None:
    """Called by every loss and metric with its labels: remembers them while `find_wrong_labels` runs."""
    given = _given.get()
    if given is None or isinstance(labels, Tracer):
        return
    counts = which_count()
    if not isinstance(counts, Tracer):
        given.append(wrong_labels(np.asarray(labels), classes, np.asarray(counts)))


def find_wrong_labels(call: Callable[[], object]) -> WrongLabels | None:
    """The first wrong labels that a loss or metric of `spyx.fn` is given while `call` runs.

    Where the labels are traced inside of `call` (it is compiled), it runs once more without compilation.
    """
    for uncompiled in (False, True):
        with _noting() as given, jax.disable_jit(uncompiled):
            try:
                call()
            except Exception:
                if not uncompiled:
                    raise
        if given:
            break
    return next((wrong for wrong in given if wrong is not None), None)


_strict: ContextVar[bool] = ContextVar("spyx_labels_strict", default=False)


def labels_are_strict() -> bool:
    """A loss or metric is being traced by a training loop: a label that is no class shall make it NaN."""
    return _strict.get()


@contextmanager
def strict_labels() -> Iterator[None]:
    """Losses and metrics that are traced inside are NaN for a label that is no class."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


@contextmanager
def _noting() -> Iterator[list[WrongLabels | None]]:
    given: list[WrongLabels | None] = []
    token = _given.set(given)
    try:
        yield given
    finally:
        _given.reset(token)
