"""The embedded digits: shapes, ranges, and three parts that share no sample."""

from __future__ import annotations

import numpy as np
import pytest

from spyx.data._split import stratified
from spyx.data.sets import load


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    return load("digits")


def test_values_are_what_the_trainer_expects(digits):
    for part in (digits.train, digits.validation, digits.test):
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int32
        assert part.x.shape == (len(part), 64)
        assert part.x.min() == 0.0
        assert part.x.max() == 1.0
        assert set(part.y) == set(range(10))
    assert digits.num_classes == 10
    assert "Kaynak" in digits.citation
    assert digits.licence == "CC BY 4.0"


def test_parts_are_disjoint_and_complete(digits):
    rows = [{tuple(x) for x in part.x} for part in (digits.train, digits.validation, digits.test)]
    assert [len(digits.train), len(digits.validation), len(digits.test)] == [1258, 180, 359]
    assert len(rows[0] | rows[1] | rows[2]) == sum(len(part) for part in rows)


def test_the_seed_decides_the_split(digits):
    assert np.array_equal(load("digits", split_seed=0).test.x, digits.test.x)
    assert not np.array_equal(load("digits", split_seed=1).test.x[:50], digits.test.x[:50])


def test_unknown_names_are_refused_with_the_list():
    with pytest.raises(ValueError, match=r"load: expected the name of a data set; got 'nonsense'. The names are: dig"):
        load("nonsense")


def test_stratified_parts_are_sorted_whole_and_drawn_by_the_seed():
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 20, 33]))
    parts = stratified(y, [0.25, 0.1], seed=1)
    for part in parts:
        assert part.tolist() == sorted(part.tolist())
    assert sorted(np.concatenate(parts).tolist()) == list(range(63))
    counts = [np.bincount(y[part], minlength=3).tolist() for part in parts]
    assert counts == [[2, 5, 8], [2, 2, 4], [6, 13, 21]]  # cut at 0.25 and 0.35 of 10, 20 and 33, halves to even
    again, other = stratified(y, [0.25, 0.1], seed=1), stratified(y, [0.25, 0.1], seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not np.array_equal(parts[0], other[0])
    groups = stratified(y, [0.5], seed=0, groups=np.arange(63) % 2)
    assert [np.bincount(part % 2).tolist() for part in groups] == [[16, 16], [16, 15]]
    with pytest.raises(ValueError, match="expected positive fractions"):
        stratified(y, [0.0], seed=0)


def test_stratified_keeps_proportions_and_refuses_fractions_without_rest():
    y = np.repeat([0, 1, 2], [100, 50, 10])
    parts = stratified(y, [0.2, 0.1], seed=4)
    assert [np.bincount(y[part]).tolist() for part in parts] == [[20, 10, 2], [10, 5, 1], [70, 35, 7]]
    assert sorted(np.concatenate(parts).tolist()) == list(range(160))
    with pytest.raises(ValueError, match="sum to less than 1; got \\[0.5, 0.5\\]"):
        stratified(y, [0.5, 0.5], seed=0)
