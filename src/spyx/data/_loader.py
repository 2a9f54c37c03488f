"""From a split to batches on the device, in an order that a key decides and a checkpoint can resume."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spyx.data._buffers import Buffers
from spyx.data._lengths import buckets_of, has_time, is_list_of_samples, lengths_of, padded
from spyx.data._split import Split


class Batch(NamedTuple):
    """One step's worth of samples.

    Args:
        x: samples, shape (batch, ...).
        y: labels, shape (batch,) or (batch, time).
        mask: shape (batch,), bool; False marks padding in the last batch, where x and y are zero.

    Example:
        >>> batch = Batch(x=jnp.ones((2, 3)), y=jnp.array([4, 0]), mask=jnp.array([True, False]))
        >>> int(batch.mask.sum())
        1
    """

    x: jax.Array | np.ndarray
    y: jax.Array | np.ndarray
    mask: jax.Array | np.ndarray


class SequenceBatch(NamedTuple):
    """One step's worth of samples of unequal length; a `Batch` with `lengths`.

    Args:
        x: samples, shape (batch, time, ...), zero from each one's length on.
        y: labels, shape (batch,), or (batch, time), zero from each sample's length on.
        mask: shape (batch,), bool; False marks rows that are padding.
        lengths: shape (batch,), int32; how many steps are the sample's own, 0 for rows that are padding.

    Example:
        >>> split = Split([np.ones((3, 1)), np.ones((2, 1))], np.array([4, 0]))
        >>> batch = next(iter(Loader(split, 2)))
        >>> batch.x.shape, batch.lengths.tolist()
        ((2, 3, 1), [3, 2])
    """

    x: jax.Array | np.ndarray
    y: jax.Array | np.ndarray
    mask: jax.Array | np.ndarray
    lengths: jax.Array | np.ndarray


class Loader:
    """Batches of one split; each `for` loop over it is one whole epoch, with an order of its own.

    A loop that was left early does not shorten the next: a `break`, or a look at one batch with `next(iter(loader))`,
    uses up its epoch, and the next loop is all of the epoch after it. Only the first loop after `restore` continues in
    the middle; `loader.restore(loader.state)` does so for a loop that was left.

    Every batch has the same shape: the last is padded and its `mask` says where, so nothing is dropped and
    nothing is traced twice. Packed samples travel packed and are unpacked on the device.

    Samples of unequal length (a split whose `x` is a list of arrays, or that has `lengths`) come as `SequenceBatch`,
    padded with zeros: to the longest of all, or with `buckets` to the longest of those of similar length. There are
    then at most `buckets` shapes, the same in every epoch, and as many batches as without.

    Args:
        split: what to read; its `x` is an array, a `Packed` cache, or a list of arrays (time, ...).
        batch_size: samples per batch and process, >= 1.
        key: seed or JAX key of the shuffle and of `augment`; None reads in order. Each epoch has its own order.
        augment: `f(x, key) -> x` applied to each batch on the device, jit-safe. Needs a `key`.
        buckets: groups of samples of similar length, >= 1; batches are drawn within a group, and come in an order
            that the key decides; without a key, from short to long. Default 1.
        prefetch: batches prepared ahead in a background thread, >= 0. Default 2.
        sharding: where a global batch lives, for several devices; None puts batches on the default device.
        process_index: which share of each global batch to read. Default: `jax.process_index()`.
        process_count: how many processes share each global batch. Default: `jax.process_count()`.

    Raises:
        ValueError: if the split is empty, a number is out of its range, samples do not fit one another, or `buckets`
            are asked for where no sample is shorter than another.
        TypeError: if the split holds undecoded events.

    Example:
        >>> split = Split(np.arange(5, dtype=np.float32), np.arange(5, dtype=np.int32))
        >>> [batch.mask.tolist() for batch in Loader(split, 4)]
        [[True, True, True, True], [True, False, False, False]]
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        key: int | jax.Array | None = None,
        augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
        buckets: int = 1,
        prefetch: int = 2,
        sharding: jax.sharding.Sharding | None = None,
        process_index: int | None = None,
        process_count: int | None = None,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.key = key
        self.augment = augment
        self.buckets = buckets
        self.prefetch = prefetch
        self.sharding = sharding
        self.process_index = jax.process_index() if process_index is None else process_index
        self.process_count = jax.process_count() if process_count is None else process_count
        self._check()
        self._lengths = lengths_of(split)
        if self._lengths is None and self.buckets > 1:
            raise ValueError(
                f"Loader: expected buckets=1 for samples of one length; got {self.buckets}. Give the split lengths."
            )
        samples = np.zeros(len(split)) if self._lengths is None else self._lengths
        self._groups = buckets_of(samples, self.batch_size * self.process_count, self.buckets)
        x = split.x
        plain = type(x) is np.ndarray and x.flags.c_contiguous and not x.dtype.hasobject
        plain = plain and self._lengths is None and sharding is None
        # One is being filled, one is with the caller, and one with the computation of the batch before.
        most = self.prefetch + 3
        self._buffers = Buffers((self.batch_size, *x.shape[1:]), x.dtype, most) if plain else None
        self._epoch = 0
        self._step = 0
        self._begun = False
        self._prepare = jax.jit(self._on_device, static_argnums=3)

    def __len__(self) -> int:
        """Batches in one epoch, the same number in every process."""
        return -(-len(self.split) // (self.batch_size * self.process_count))

    @property
    def state(self) -> dict[str, int]:
        """Where the running loop stands, as plain numbers for a checkpoint: the batch that it would give next."""
        groups = {"buckets": self.buckets} if self.buckets > 1 else {}
        return {
            "epoch": self._epoch,
            "step": self._step,
            "batch_size": self.batch_size,
            "samples": len(self.split),
            **groups,
        }

    def restore(self, state: dict[str, int]) -> None:
        """Continues from a saved `state`: the next loop gives the rest of that epoch, the loops after it whole ones.

        Raises:
            ValueError: if the state was saved with another batch size, number of samples or of buckets.
        """
        mine, state = ({"buckets": 1} | given for given in (self.state, state))
        for name in ("batch_size", "samples", "buckets"):
            if state.get(name) != mine[name]:
                raise ValueError(
                    f"Loader.restore: expected a state saved with {name} {mine[name]}; got {state.get(name)}. "
                    "Build the loader as it was when the state was saved."
                )
        if state["epoch"] < 0 or not 0 <= state["step"] <= len(self):
            raise ValueError(
                f"Loader.restore: expected epoch >= 0 and step in 0..{len(self)}; "
                f"got {state['epoch']} and {state['step']}. The state is damaged."
            )
        self._epoch, self._step, self._begun = state["epoch"], state["step"], False

    def __iter__(self) -> Iterator[Batch | SequenceBatch]:
        if self._begun or self._step >= len(self):
            self._epoch, self._step = self._epoch + 1, 0
        epoch = self._epoch
        order = self._order(epoch)
        for step, batch in self._ahead(order, epoch, range(self._step, len(self))):
            self._epoch, self._step, self._begun = epoch, step + 1, True
            yield batch
        self._epoch, self._step, self._begun = epoch + 1, 0, False

    def _ahead(
        self, order: list[tuple[np.ndarray, int]], epoch: int, steps: range
    ) -> Iterator[tuple[int, Batch | SequenceBatch]]:
        if self.prefetch == 0:
            for step in steps:
                yield step, self._batch(order, epoch, step)
            return
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spyx-loader")
        pending: deque[tuple[int, Future[Batch | SequenceBatch]]] = deque()
        try:
            for step in steps:
                pending.append((step, pool.submit(self._batch, order, epoch, step)))
                if len(pending) > self.prefetch:
                    ready, future = pending.popleft()
                    yield ready, future.result()
            while pending:
                ready, future = pending.popleft()
                yield ready, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, epoch: int) -> list[tuple[np.ndarray, int]]:
        """The samples of each global batch, and how many steps it has."""
        draw = None if self.key is None else np.random.default_rng([*_key_words(self.key), epoch])
        size = self.batch_size * self.process_count
        batches: list[tuple[np.ndarray, int]] = []
        for group in self._groups:
            rows = group if draw is None else group[draw.permutation(len(group))]
            steps = 0 if self._lengths is None else int(self._lengths[group].max())
            batches += [(rows[first : first + size], steps) for first in range(0, len(rows), size)]
        if draw is None or len(self._groups) == 1:
            return batches
        return [batches[i] for i in draw.permutation(len(batches))]

    def _batch(self, order: list[tuple[np.ndarray, int]], epoch: int, step: int) -> Batch | SequenceBatch:
        rows, steps = order[step]
        first = self.process_index * self.batch_size
        rows = rows[first : first + self.batch_size]
        mask = np.arange(self.batch_size) < len(rows)
        lengths = None if self._lengths is None else self._lengths[rows]
        x, y = self._samples(rows, lengths, steps), self._filled(self._labels(rows, lengths, steps))
        lengths = None if lengths is None else self._put(self._filled(lengths))
        key = None
        if self.augment is not None:
            key = jax.random.key(0) if self.key is None else _as_key(self.key)
            for number in (epoch, step, self.process_index):
                key = jax.random.fold_in(key, number)
        x, y, mask = self._put(x, fresh=type(self.split.x) is np.ndarray), self._put(y), self._put(mask)
        if self.augment is not None or hasattr(self.split.x, "unpack"):  # a program that changes nothing would copy
            x = self._prepare(x, key, lengths, steps)
        return Batch(x, y, mask) if lengths is None else SequenceBatch(x, y, mask, lengths)

    def _samples(self, rows: np.ndarray, lengths: np.ndarray | None, steps: int) -> np.ndarray:
        x = self.split.x
        if self._buffers is not None:
            filled = self._buffers.get()
            np.take(x, rows, axis=0, out=filled[: len(rows)], mode="clip")  # another mode would copy once more
            filled[len(rows) :] = 0
            return filled
        if hasattr(x, "gather"):
            return self._filled(x.gather(rows))
        return self._filled(np.asarray(x[rows]) if lengths is None else padded(x, rows, lengths, steps))

    def _labels(self, rows: np.ndarray, lengths: np.ndarray | None, steps: int) -> np.ndarray:
        x, y = self.split.x, self.split.y
        return y[rows] if lengths is None or not has_time(y, x) else padded(y, rows, lengths, steps)

    def _filled(self, values: np.ndarray) -> np.ndarray:
        """With rows of zeros up to the size of a batch."""
        missing = self.batch_size - len(values)
        return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)]) if missing else values

    def _put(self, array: np.ndarray, *, fresh: bool = False) -> jax.Array:
        if self.sharding is None:  # what nobody else holds needs no second copy
            return jax.device_put(array, may_alias=True) if fresh else jnp.asarray(array)
        return jax.make_array_from_process_local_data(self.sharding, array)

    def _on_device(self, x: jax.Array, key: jax.Array | None, lengths: jax.Array | None, steps: int) -> jax.Array:
        if hasattr(self.split.x, "unpack"):
            x = self.split.x.unpack(x)
            if lengths is not None:
                inside = jnp.arange(steps, dtype=jnp.int32)[None] < lengths[:, None]
                x = jnp.where(inside.reshape(*inside.shape, *[1] * (x.ndim - 2)), x[:, :steps], 0)
        return x if self.augment is None else self.augment(x, key)  # type: ignore[arg-type]

    def _check(self) -> None:
        x = self.split.x
        if not (hasattr(x, "gather") or hasattr(x, "dtype") or is_list_of_samples(x)):
            raise TypeError(
                f"Loader: expected a split whose x is an array or a Packed cache; got {type(x).__name__}. "
                "Turn events into frames first with spyx.data.rasterise, and lists of numbers into arrays."
            )
        if len(self.split) == 0:
            raise ValueError("Loader: expected at least one sample; got an empty split. Check how it was made.")
        for name, value, low in (
            ("batch_size", self.batch_size, 1),
            ("buckets", self.buckets, 1),
            ("prefetch", self.prefetch, 0),
            ("process_count", self.process_count, 1),
        ):
            if value < low:
                raise ValueError(f"Loader: expected {name} >= {low}; got {value}.")
            if not isinstance(value, Integral):
                raise ValueError(f"Loader: expected {name} to be a whole number; got {value}.")
            setattr(self, name, int(value))
        if not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"Loader: expected process_index in 0..{self.process_count - 1}; got {self.process_index}."
            )
        if self.augment is not None and self.key is None:
            raise ValueError("Loader: expected a key, which augment needs; got None. Pass key=0 or a JAX key.")


def _as_key(key: int | jax.Array) -> jax.Array:
    return jax.random.key(int(key)) if isinstance(key, (int, np.integer)) else key


def _key_words(key: int | jax.Array) -> list[int]:
    if isinstance(key, (int, np.integer)):
        return [int(key)]
    raw = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return [int(word) for word in np.asarray(raw).ravel()]
