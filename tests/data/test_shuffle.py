"""The shuffler: pairs stay pairs, batches are full, wrong input is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spyx import data

X = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2)
Y = np.arange(10, dtype=np.int32)
KEY = jax.random.key(0)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 10), st.integers(0, 2**31 - 1))
def test_pairs_stay_pairs_and_no_sample_comes_twice(batch_size, seed):
    obs, labels = data.shuffler((X, Y), batch_size)((X, Y), jax.random.key(seed))
    assert obs.shape == (10 // batch_size, batch_size, 2, 2)
    drawn = np.asarray(labels).ravel()
    assert len(set(drawn.tolist())) == labels.size
    np.testing.assert_array_equal(obs.reshape(-1, 2, 2), X[drawn])


def test_the_result_is_a_state_in_the_dtypes_of_the_data():
    batch = data.shuffler((X, Y), 5)((X, Y), KEY)
    assert isinstance(batch, data.State)
    assert (batch.obs.dtype, batch.labels.dtype) == (jnp.uint8, jnp.int32)
    assert data.State._fields == ("obs", "labels")


def test_a_state_is_a_data_set_too():
    batch = data.shuffler(data.State(X, Y), 5)(data.State(X, Y), KEY)
    np.testing.assert_array_equal(batch.labels, data.shuffler((X, Y), 5)((X, Y), KEY).labels)


def test_every_key_its_own_order_under_jit_and_vmap():
    shuffle = data.shuffler((X, Y), 5)
    orders = jax.jit(jax.vmap(shuffle, in_axes=(None, 0)))((X, Y), jax.random.split(KEY, 4)).labels.reshape(4, 10)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    np.testing.assert_array_equal(np.sort(orders, axis=1), [Y] * 4)
    np.testing.assert_array_equal(shuffle((X, Y), KEY).labels, shuffle((jnp.asarray(X), jnp.asarray(Y)), KEY).labels)


def test_the_samples_left_out_change_with_the_key():
    shuffle = data.shuffler((X, Y), 4)
    left_out = {
        frozenset(Y.tolist()) - set(shuffle((X, Y), jax.random.key(s)).labels.ravel().tolist()) for s in range(6)
    }
    assert len(left_out) > 1


@pytest.mark.parametrize("batch_size", [0, -1, 11, 2.0])
def test_an_impossible_batch_size(batch_size):
    message = f"^shuffler: batch_size must be 1 to the number of samples, 10; got {batch_size}"
    with pytest.raises(ValueError, match=message):
        data.shuffler((X, Y), batch_size)


def test_an_empty_data_set():
    with pytest.raises(ValueError, match="number of samples, 0; got 1.*check that the data set is not empty"):
        data.shuffler((X[:0], Y[:0]), 1)


@pytest.mark.parametrize("pair", [(X, Y[:9]), (X, np.float32(1.0))])
def test_samples_and_labels_that_do_not_pair(pair):
    with pytest.raises(ValueError, match="^shuffler: samples and labels must be as many as each other"):
        data.shuffler(pair, 2)


@pytest.mark.parametrize("dataset", [X, (X,), (X, Y, Y), {"x": X}])
def test_a_data_set_that_is_no_pair(dataset):
    with pytest.raises(TypeError, match=r"^shuffler: dataset must be a pair \(samples, labels\)"):
        data.shuffler(dataset, 2)


def test_another_data_set_than_it_was_made_for():
    with pytest.raises(ValueError, match="^shuffler: expected the 10 samples it was made for; got 8"):
        data.shuffler((X, Y), 2)((X[:8], Y[:8]), KEY)
