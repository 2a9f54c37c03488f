"""The loader: every sample once, an order that the key decides, and a resume that changes nothing."""

from __future__ import annotations

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.data._cache import Packed, write_packed
from spyx.data._loader import Loader, SequenceBatch
from spyx.data._split import Split


def numbered(count: int) -> Split:
    return Split(np.arange(1, count + 1, dtype=np.float32), np.arange(1, count + 1, dtype=np.int32))


def seen(loader: Loader) -> list[list[int]]:
    return [batch.y[np.asarray(batch.mask)].tolist() for batch in loader]


def test_last_batch_is_padded_with_zeros_and_masked():
    *_, last = Loader(numbered(6), 4)
    assert last.x.tolist() == [5.0, 6.0, 0.0, 0.0]
    assert last.y.tolist() == [5, 6, 0, 0]
    assert last.mask.tolist() == [True, True, False, False]


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_an_epoch_holds_each_sample_once(prefetch):
    loader = Loader(numbered(11), 4, key=3, prefetch=prefetch)
    assert len(loader) == 3
    assert sorted(sum(seen(loader), [])) == list(range(1, 12))


def test_the_key_decides_the_order_and_epochs_differ():
    first, again, other = (Loader(numbered(50), 10, key=k) for k in (0, jax.random.key(0), 1))
    epochs = [seen(first), seen(first)]
    assert epochs[0] != epochs[1]
    assert seen(Loader(numbered(50), 10, key=0)) == epochs[0]
    assert seen(Loader(numbered(50), 10, key=jax.random.key(0))) == seen(again)
    assert seen(other) != epochs[0]


def test_resume_in_the_middle_of_an_epoch_continues_exactly():
    whole = Loader(numbered(20), 4, key=7)
    expected = seen(whole) + seen(whole)
    broken = Loader(numbered(20), 4, key=7)
    got = []
    for batch in broken:
        got.append(batch.y.tolist())
        if len(got) == 2:
            break
    resumed = Loader(numbered(20), 4, key=7)
    resumed.restore(broken.state)
    assert got + seen(resumed) + seen(resumed) == expected


@pytest.mark.parametrize("taken", [0, 1, 4, 5])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loop_that_was_left_does_not_shorten_the_next(taken, prefetch):
    loader = Loader(numbered(18), 4, key=7, prefetch=prefetch)
    left = iter(loader)
    for _ in range(taken):
        next(left)
    left.close()
    reference = Loader(numbered(18), 4, key=7)
    epochs = [seen(reference) for _ in range(4)]
    first = 1 if taken else 0  # a loop that gave a batch has used its epoch up: a `break` must not repeat its samples
    assert [seen(loader), seen(loader)] == epochs[first : first + 2]
    for batch in loader:
        assert batch.y.tolist() == epochs[first + 2][0]
        break
    assert loader.state == {"epoch": first + 2, "step": 1, "batch_size": 4, "samples": 18}
    loader.restore(loader.state)
    assert seen(loader) == epochs[first + 2][1:]
    assert len(seen(loader)) == 5


def test_resume_after_the_last_batch_starts_the_next_epoch():
    loader = Loader(numbered(8), 4, key=7)
    batches = iter(loader)
    next(batches), next(batches)
    state = loader.state
    assert state["step"] == 2
    resumed = Loader(numbered(8), 4, key=7)
    resumed.restore(state)
    reference = Loader(numbered(8), 4, key=7)
    seen(reference)
    assert seen(resumed) == seen(reference)


def test_processes_share_each_global_batch():
    shares = [Loader(numbered(10), 2, key=5, process_index=i, process_count=2) for i in range(2)]
    assert [len(share) for share in shares] == [3, 3]
    got = [seen(share) for share in shares]
    assert sorted(sum(sum(got, []), [])) == list(range(1, 11))
    assert [a + b for a, b in zip(*got, strict=True)] == seen(Loader(numbered(10), 4, key=5))


def test_augment_gets_a_new_key_each_step_and_is_traced_once():
    traces = []

    def add_noise(x, key):
        traces.append(1)
        return x + jax.random.uniform(key, x.shape)

    split = Split(np.zeros((6, 2), np.float32), np.zeros(6, np.int32))
    loader = Loader(split, 2, key=0, augment=add_noise)
    values = np.stack([batch.x for batch in loader])
    assert len(np.unique(values)) == values.size
    assert len(traces) == 1
    assert np.array_equal(values, np.stack([b.x for b in Loader(split, 2, key=0, augment=add_noise)]))


def test_augment_differs_between_processes_epochs_and_keys():
    def noise(loader):
        return [batch.x.tobytes() for batch in loader]

    split = Split(np.zeros((8, 2), np.float32), np.zeros(8, np.int32))
    shares = [
        Loader(
            split, 2, key=k, augment=lambda x, key: jax.random.uniform(key, x.shape), process_index=i, process_count=2
        )
        for k, i in ((0, 0), (0, 1), (1, 0))
    ]
    drawn = [batch for share in shares for _ in range(2) for batch in noise(share)]
    assert len(set(drawn)) == len(drawn) == 12
    again = Loader(split, 2, key=np.int64(0), augment=shares[0].augment, process_index=0, process_count=2)
    assert noise(again) == drawn[:2]


@pytest.mark.parametrize(
    ("options", "ahead"), [({"prefetch": 0}, 0), ({"prefetch": 1}, 1), ({}, 2), ({"prefetch": 4}, 4)]
)
def test_as_many_batches_as_asked_are_prepared_ahead_and_no_more(options, ahead):
    """The one that is taken, and `prefetch` behind it (2 by default); a loop that is left prepares no others."""
    read, split = [], numbered(20)

    class Recorded:
        dtype = np.float32

        def __len__(self):
            return 20

        def __getitem__(self, rows):
            read.append(rows.tolist())
            return split.x[rows]

    batches = iter(Loader(Split(Recorded(), split.y), 2, **options))
    for taken in (1, 2):
        next(batches)
        deadline = time.monotonic() + 5.0
        while len(read) < taken + ahead and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(read) == taken + ahead
    batches.close()
    assert len(read) == 2 + ahead


def test_a_loop_that_is_left_does_not_wait_for_batches_that_nobody_takes():
    read, gate = [], threading.Event()

    class Slow:
        dtype = np.float32

        def __len__(self):
            return 20

        def __getitem__(self, rows):
            read.append(rows.tolist())
            assert len(read) == 1 or gate.wait(10)
            return np.zeros(len(rows), np.float32)

    batches = iter(Loader(Split(Slow(), np.zeros(20, np.int32)), 2, prefetch=4))
    next(batches)
    threading.Timer(0.3, gate.set).start()
    batches.close()
    assert len(read) <= 2  # the one that was taken, and the one under way


def test_abandoned_epoch_leaves_no_thread():
    batches = iter(Loader(numbered(100), 2))
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("spyx-loader")]


def test_an_error_in_the_background_reaches_the_loop():
    class Broken:
        dtype = np.float32

        def __len__(self):
            return 4

        def __getitem__(self, rows):
            raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        list(Loader(Split(Broken(), np.zeros(4, np.int32)), 2))


def test_sharding_places_the_batch():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    batch = next(iter(Loader(numbered(4), 4, sharding=sharding)))
    assert batch.x.sharding == sharding
    assert isinstance(batch.mask, jnp.ndarray)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"Loader: expected batch_size >= 1; got 0"),
        ({"batch_size": 2.5}, r"Loader: expected batch_size to be a whole number; got 2.5"),
        ({"prefetch": -1}, r"Loader: expected prefetch >= 0; got -1"),
        ({"process_index": 2, "process_count": 2}, r"Loader: expected process_index in 0..1; got 2"),
        ({"augment": lambda x, key: x}, r"Loader: expected a key, which augment needs; got None"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Loader(numbered(4), **{"batch_size": 2, **options})


def test_empty_and_undecoded_splits_are_refused():
    with pytest.raises(ValueError, match="Loader: expected at least one sample; got an empty split"):
        Loader(numbered(0), 2)
    with pytest.raises(TypeError, match="Loader: expected a split whose x is an array or a Packed cache; got list"):
        Loader(Split([1, 2], np.zeros(2, np.int32)), 2)


def test_restore_refuses_another_batch_size_and_damage():
    state = Loader(numbered(8), 4).state
    with pytest.raises(ValueError, match="expected a state saved with batch_size 2; got 4"):
        Loader(numbered(8), 2).restore(state)
    with pytest.raises(ValueError, match="expected epoch >= 0 and step in 0..2; got -1 and 0"):
        Loader(numbered(8), 4).restore({**state, "epoch": -1})
    with pytest.raises(ValueError, match="step in 0..2; got 0 and 9"):
        Loader(numbered(8), 4).restore({**state, "step": 9})


def test_split_refuses_labels_that_do_not_match():
    with pytest.raises(ValueError, match="got 3 samples and 2 labels"):
        Split(np.zeros(3), np.zeros(2))


# Samples of unequal length

LENGTHS = np.array([3, 9, 1, 5, 5, 7, 2, 9, 4, 6], np.int64)


def sequences(kind: str = "list", per_step: bool = False) -> Split:
    """Sample i holds i + 1 at each of its steps; its label, or its label of every step, is i + 1."""
    x = [np.full((n, 2), i + 1, np.float32) for i, n in enumerate(LENGTHS)]
    y = [np.full(n, i + 1) for i, n in enumerate(LENGTHS)] if per_step else np.arange(1, len(LENGTHS) + 1)
    if kind == "list":
        return Split(x, y)
    whole = np.full((len(x), 12, 2), np.nan, np.float32)  # what lies beyond a sample's end is not given
    labels = np.full((len(x), 12), -5) if per_step else y
    for i, n in enumerate(LENGTHS):
        whole[i, :n] = x[i]
        if per_step:
            labels[i, :n] = y[i]
    return Split(whole, labels, LENGTHS)


@pytest.mark.parametrize("kind", ["list", "array"])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("buckets", [1, 3])
def test_samples_of_unequal_length_are_padded_with_zeros_and_come_with_their_lengths(kind, per_step, buckets):
    loader = Loader(sequences(kind, per_step), 4, key=0, buckets=buckets)
    assert len(loader) == 3
    found = {}
    for batch in loader:
        assert isinstance(batch, SequenceBatch)
        x, y, mask, lengths = (np.asarray(part) for part in batch)
        assert len(x) == len(y) == 4
        assert not lengths[~mask].any()
        assert not x[~mask].any()
        for i in np.flatnonzero(mask):
            label = int(y[i, 0]) if per_step else int(y[i])
            found[label] = lengths[i]
            inside = np.arange(x.shape[1]) < lengths[i]
            np.testing.assert_array_equal(x[i], np.where(inside, label, 0)[:, None] * np.ones(2))
            if per_step:
                np.testing.assert_array_equal(y[i], np.where(inside, label, 0))
    assert [found[i] for i in range(1, 11)] == LENGTHS.tolist()


def test_buckets_hold_similar_lengths_in_few_shapes_that_no_epoch_changes():
    loader = Loader(sequences(), 2, key=1, buckets=3)
    epochs = [[(b.x.shape[1], b.lengths.tolist(), b.y.tolist()) for b in loader] for _ in range(3)]
    for epoch in epochs:
        assert len(epoch) == 5
        assert {steps for steps, _, _ in epoch} == {2, 5, 9}
        assert all(max(lengths) <= steps for steps, lengths, _ in epoch)
        assert sorted(label for _, _, labels in epoch for label in labels) == list(range(1, 11))
    assert epochs[0] != epochs[1]
    assert [steps for steps, _, _ in epochs[0]] != [steps for steps, _, _ in epochs[1]]  # batches are shuffled too
    again = Loader(sequences(), 2, key=1, buckets=3)
    assert [(b.x.shape[1], b.lengths.tolist(), b.y.tolist()) for b in again] == epochs[0]
    padding = [sum(steps * 2 for steps, _, _ in epoch) - LENGTHS.sum() for epoch in epochs]
    assert padding == [9] * 3  # 39 with one bucket
    in_order = [(b.x.shape[1], b.y.tolist()) for b in Loader(sequences(), 2, buckets=3)]
    assert in_order == [(2, [3, 7]), (5, [1, 4]), (5, [5, 9]), (9, [2, 6]), (9, [8, 10])]
    assert len(list(Loader(sequences(), 8, buckets=5))) == 2  # no more groups than batches


def test_processes_share_the_batches_of_a_bucket():
    shares = [Loader(sequences(), 1, key=5, buckets=3, process_index=i, process_count=2) for i in range(2)]
    pairs = list(zip(*shares, strict=True))
    assert all(a.x.shape == b.x.shape for a, b in pairs)
    assert sorted(int(b.y[0]) for pair in pairs for b in pair) == list(range(1, 11))


def test_resume_with_buckets():
    whole = Loader(sequences(), 2, key=7, buckets=2)
    expected = seen(whole)
    broken = Loader(sequences(), 2, key=7, buckets=2)
    next(iter(broken))
    resumed = Loader(sequences(), 2, key=7, buckets=2)
    resumed.restore(broken.state)
    assert seen(resumed) == expected[1:]
    with pytest.raises(ValueError, match="expected a state saved with buckets 1; got 2"):
        Loader(sequences(), 2, key=7).restore(broken.state)


@pytest.mark.parametrize("buckets", [1, 2])
def test_packed_samples_are_cut_on_the_device(tmp_path, buckets):
    write_packed(tmp_path / "a.spyx", np.ones((10, 12, 2), np.uint8))
    split = Split(Packed(tmp_path / "a.spyx"), np.arange(1, 11), LENGTHS)
    batches = list(Loader(split, 4, buckets=buckets))
    assert [batch.x.shape[1] for batch in batches] == ([9, 9, 9] if buckets == 1 else [4, 9, 9])
    for batch in batches:
        steps = np.arange(batch.x.shape[1]) < np.asarray(batch.lengths)[:, None]
        np.testing.assert_array_equal(batch.x, steps[..., None] * np.ones(2))


def test_augment_sees_padded_samples():
    loader = Loader(sequences(), 2, key=0, augment=lambda x, key: x + 1)
    batch = next(iter(loader))
    assert batch.x.min() == 1


def test_take_keeps_the_lengths():
    for kind in ("list", "array"):
        part = sequences(kind, per_step=True).take([7, 2])
        (batch,) = Loader(part, 2)
        assert batch.lengths.tolist() == [9, 1]
        assert batch.y[:, 0].tolist() == [8, 3]


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        (
            Split([np.zeros((2, 3)), np.zeros((2, 4))], np.zeros(2)),
            {},
            "differ in their number of steps alone; got 2 k",
        ),
        (Split([np.zeros((2, 3)), np.zeros((0, 3))], np.zeros(2)), {}, "lengths of 1 step or more; got 0 for sample 1"),
        (Split(np.zeros((2, 3)), np.zeros(2), np.array([1, 4])), {}, "or more, at most the 3 of x; got 4 for sample 1"),
        (Split(np.zeros(2), np.zeros(2), np.array([1, 1])), {}, r"expected x \(samples, time, ...\) for lengths"),
        (Split([np.zeros(3)], np.zeros(1), np.array([3])), {}, "expected lengths for samples in one array; got a list"),
        (Split([np.zeros(3)], [np.zeros(2)]), {}, "one label for each of the 3 steps of sample 0; got 2"),
        (Split(np.zeros((1, 3)), [np.zeros(3)]), {}, "expected labels in one array, as the samples; got a list"),
        (numbered(4), {"buckets": 2}, "expected buckets=1 for samples of one length; got 2"),
        (numbered(4), {"buckets": 0}, "expected buckets >= 1; got 0"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(split, options, message):
    with pytest.raises(ValueError, match=f"Loader: .*{message}"):
        Loader(split, 2, **options)


def test_lengths_are_whole_numbers_one_for_each_sample():
    with pytest.raises(TypeError, match="Loader: expected lengths to be whole numbers; got dtype float64"):
        Loader(Split(np.zeros((2, 3)), np.zeros(2), np.ones(2)), 2)
    with pytest.raises(ValueError, match="Split: expected one length for each sample; got 2 samples and 3 lengths"):
        Split(np.zeros((2, 3)), np.zeros(2), np.ones(3, int))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_memory_is_used_again_only_once_nobody_holds_the_batch(prefetch):
    x = np.arange(40 * 64, dtype=np.float32).reshape(40, 64)
    loader = Loader(Split(x, np.arange(40)), 3, key=0, prefetch=prefetch)
    held, views, addresses = [], [], set()
    for step, batch in enumerate(loader):
        if step < 4:
            held.append(batch)
        elif step < 8:
            views.append((np.asarray(batch.y), np.asarray(batch.x)))  # of NumPy, on the memory of JAX's array
        addresses.add(batch.x.unsafe_buffer_pointer())
    for y, rows in [*((batch.y, batch.x) for batch in held), *views]:
        np.testing.assert_array_equal(rows, x[np.asarray(y)])
    assert len(addresses) <= 8 + prefetch + 3
    last = list(loader)[-1]
    np.testing.assert_array_equal(last.x, np.concatenate([x[np.asarray(last.y)[:1]], np.zeros((2, 64))]))


def test_a_batch_is_the_same_from_every_layout_of_memory():
    x = np.random.default_rng(0).random((7, 5, 6)).astype(np.float32)
    turned = np.asfortranarray(x)
    plain, other = (Loader(Split(layout, np.arange(7)), 3, key=0) for layout in (x, turned))
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_array_equal(one.x, two.x)
