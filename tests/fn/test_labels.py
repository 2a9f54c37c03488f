"""Labels that are no class: the check before training, and what it finds while a loss runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx import fn
from spyx.fn._labels import find_wrong_labels

TRACES = np.zeros((4, 10, 3), np.float32)


@pytest.mark.parametrize("make", [list, np.array, jnp.array, lambda labels: np.array(labels, np.uint8)])
def test_classes_are_accepted(make):
    assert fn.check_labels(make([0, 1, 2, 1]), 3) is None
    fn.check_labels(np.zeros((2, 5), np.int64), np.int64(1))
    fn.check_labels([], 3)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 3, -1], 3, r"expected labels in 0\.\.2; got 2 of 3 outside, the first 3 at index 1\. Number"),
        ([0, -1, 3, 0], 3, r"got 2 of 4 outside, the first -1 at index 1\."),
        ([[0, 1], [1, 2]], 2, r"expected labels in 0\.\.1; got 1 of 4 outside, the first 2 at index \(1, 1\)\."),
        (np.array([2**40]), 3, r"the first 1099511627776 at index 0"),
        (np.array([255], np.uint8), 10, "the first 255 at index 0"),
        ([0], 0, "expected num_classes to be a whole number, 1 or more; got 0"),
        ([0], 2.5, "expected num_classes to be a whole number, 1 or more; got 2.5"),
    ],
)
def test_what_is_no_class_is_refused(labels, classes, message):
    with pytest.raises(ValueError, match=f"^check_labels: .*{message}"):
        fn.check_labels(labels, classes)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [True, False], np.eye(2), ["a"], [None]])
def test_what_is_no_integer_is_refused(labels):
    with pytest.raises(TypeError, match="^check_labels: expected integer labels; got dtype"):
        fn.check_labels(labels, 2)


def test_under_jit_it_says_that_it_cannot_see():
    with pytest.raises(TypeError, match="check_labels: expected labels whose values are known; .* outside of jit"):
        jax.jit(lambda y: fn.check_labels(y, 3))(np.array([0, 1]))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_tells_which_labels_it_was_given(compiled):
    loss = fn.max_crossentropy()
    call = jax.jit(loss) if compiled else loss
    call(TRACES, np.array([0, 1, 2, 0]))  # compiled before: the second time, nothing is traced
    assert find_wrong_labels(lambda: call(TRACES, np.array([0, 1, 2, 0]))) is None
    wrong = find_wrong_labels(lambda: call(TRACES, np.array([0, 1, 7, -1])))
    assert (wrong.classes, wrong.count, wrong.index, wrong.first) == (3, 2, (2,), 7)
    metric = find_wrong_labels(lambda: fn.rate_accuracy()(TRACES, np.array([0.5, 1, 2, 0])))
    assert (metric.count, metric.index, metric.first) == (1, (0,), 0.5)
    assert find_wrong_labels(lambda: None) is None
    jitted = jax.jit(lambda y: jax.vmap(fn.max_crossentropy(time_axis=0))(TRACES, y).mean())
    assert find_wrong_labels(lambda: jitted(np.array([0, 1, 7, 0]))) is None  # mapped: nobody sees the values


def test_labels_are_looked_at_only_while_somebody_asks():
    from spyx.fn import _labels

    fn.max_crossentropy()(TRACES, np.array([0, 1, 7, 0]))
    assert _labels._given.get() is None
    with pytest.raises(KeyError):
        find_wrong_labels(lambda: {}["no"])
    assert _labels._given.get() is None
