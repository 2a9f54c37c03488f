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

from spyx.data.split import Split


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

    x: jax.Array
    y: jax.Array
    mask: jax.Array


class Loader:
    """Batches of one split; each `for` loop over it is one whole epoch, with an order of its own.

    A loop that was left early does not shorten the next: a `break`, or a look at one batch with `next(iter(loader))`,
    uses up its epoch, and the next loop is all of the epoch after it. Only the first loop after `restore` continues in
    the middle; `loader.restore(loader.state)` does so for a loop that was left.

    Every batch has the same shape: the last is padded and its `mask` says where, so nothing is dropped and
    nothing is traced twice. Packed samples travel packed and are unpacked on the device.

    Args:
        split: what to read; its `x` is an array or a `Packed` cache.
        batch_size: samples per batch and process, >= 1.
        key: seed or JAX key of the shuffle and of `augment`; None reads in order. Each epoch has its own order.
        augment: `f(x, key) -> x` applied to each batch on the device, jit-safe. Needs a `key`.
        prefetch: batches prepared ahead in a background thread, >= 0. Default 2.
        sharding: where a global batch lives, for several devices; None puts batches on the default device.
        process_index: which share of each global batch to read. Default: `jax.process_index()`.
        process_count: how many processes share each global batch. Default: `jax.process_count()`.

    Raises:
        ValueError: if the split is empty or a number is out of its range.
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
        prefetch: int = 2,
        sharding: jax.sharding.Sharding | None = None,
        process_index: int | None = None,
        process_count: int | None = None,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.key = key
        self.augment = augment
        self.prefetch = prefetch
        self.sharding = sharding
        self.process_index = jax.process_index() if process_index is None else process_index
        self.process_count = jax.process_count() if process_count is None else process_count
        self._check()
        self._epoch = 0
        self._step = 0
        self._begun = False
        self._prepare = jax.jit(self._on_device)

    def __len__(self) -> int:
        """Batches in one epoch, the same number in every process."""
        return -(-len(self.split) // (self.batch_size * self.process_count))

    @property
    def state(self) -> dict[str, int]:
        """Where the running loop stands, as plain numbers for a checkpoint: the batch that it would give next."""
        return {"epoch": self._epoch, "step": self._step, "batch_size": self.batch_size, "samples": len(self.split)}

    def restore(self, state: dict[str, int]) -> None:
        """Continues from a saved `state`: the next loop gives the rest of that epoch, the loops after it whole ones.

        Raises:
            ValueError: if the state was saved with another batch size or another number of samples.
        """
        mine = self.state
        for name in ("batch_size", "samples"):
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

    def __iter__(self) -> Iterator[Batch]:
        if self._begun or self._step >= len(self):
            self._epoch, self._step = self._epoch + 1, 0
        epoch = self._epoch
        order = self._order(epoch)
        for step, batch in self._ahead(order, epoch, range(self._step, len(self))):
            self._epoch, self._step, self._begun = epoch, step + 1, True
            yield batch
        self._epoch, self._step, self._begun = epoch + 1, 0, False

    def _ahead(self, order: np.ndarray, epoch: int, steps: range) -> Iterator[tuple[int, Batch]]:
        if self.prefetch == 0:
            for step in steps:
                yield step, self._batch(order, epoch, step)
            return
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spyx-loader")
        pending: deque[tuple[int, Future[Batch]]] = deque()
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

    def _order(self, epoch: int) -> np.ndarray:
        if self.key is None:
            return np.arange(len(self.split))
        return np.random.default_rng([*_key_words(self.key), epoch]).permutation(len(self.split))

    def _batch(self, order: np.ndarray, epoch: int, step: int) -> Batch:
        first = (step * self.process_count + self.process_index) * self.batch_size
        rows = order[first : first + self.batch_size]
        missing = self.batch_size - len(rows)
        mask = np.arange(self.batch_size) < len(rows)
        x = self.split.x.gather(rows) if hasattr(self.split.x, "gather") else np.asarray(self.split.x[rows])
        y = self.split.y[rows]
        if missing:
            x, y = (np.concatenate([a, np.zeros((missing, *a.shape[1:]), a.dtype)]) for a in (x, y))
        key = None
        if self.augment is not None:
            key = jax.random.key(0) if self.key is None else _as_key(self.key)
            for number in (epoch, step, self.process_index):
                key = jax.random.fold_in(key, number)
        return Batch(self._prepare(self._put(x), key), self._put(y), self._put(mask))

    def _put(self, array: np.ndarray) -> jax.Array:
        if self.sharding is None:
            return jnp.asarray(array)
        return jax.make_array_from_process_local_data(self.sharding, array)

    def _on_device(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        if hasattr(self.split.x, "unpack"):
            x = self.split.x.unpack(x)
        return x if self.augment is None else self.augment(x, key)  # type: ignore[arg-type]

    def _check(self) -> None:
        if not hasattr(self.split.x, "gather") and not hasattr(self.split.x, "dtype"):
            raise TypeError(
                f"Loader: expected a split whose x is an array or a Packed cache; got {type(self.split.x).__name__}. "
                "Turn events into frames first with spyx.data.rasterise."
            )
        if len(self.split) == 0:
            raise ValueError("Loader: expected at least one sample; got an empty split. Check how it was made.")
        for name, value, low in (
            ("batch_size", self.batch_size, 1),
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
