"""Where `train` takes its batches from: arrays on the device in one compiled loop, or a `Loader`, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.data import Batch, Loader, SequenceBatch
from spyx.engine.jit_cache import jit
from spyx.fn._labels import strict_labels
from spyx.optimize._batches import rows_of, without_padding
from spyx.optimize._compiled import (
    batch_of,
    mean_score,
    metric_of,
    order_of,
    rest_of,
    score,
    solver_of,
    staged,
    with_lengths,
    with_rows,
)
from spyx.optimize._devices import OneDevice
from spyx.optimize._watch import Watch, advance

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

    from spyx.optimize.types import (
        AllBatches,
        AllLengths,
        Loss,
        Metric,
        OneBatch,
        Rest,
        Scores,
        Static,
        Trainable,
        Variables,
    )

    Losses = Float[Array, " steps"]
    """The loss of every step of an epoch."""

OWNER = "spyx.optimize.train"


def mark_of(data: AllBatches) -> str:
    """Tells data sets apart: shapes, dtypes, the first and the last batch of each array."""
    seen = hashlib.sha256()
    for leaf in jax.tree.leaves(data):
        seen.update(f"{leaf.dtype}{leaf.shape}".encode())
        batches = np.asarray(leaf) if jax.default_backend() == "cpu" else leaf  # there, no copy of it all
        for batch in (batches[0], batches[-1]):
            seen.update(np.ascontiguousarray(batch).reshape(-1).view(np.uint8).data)
    return seen.hexdigest()


class Arrays:
    """Arrays (batches, batch, ...), shuffled in every epoch where there is a key."""

    def __init__(
        self, static: Static, like: Variables, data: AllBatches, key: PRNGKeyArray, shuffle: bool, place: OneDevice
    ) -> None:
        place.check_rows("train_data", data)
        self.static, self.like, self.key, self.shuffle = static, like, key, shuffle
        self.data = place.everywhere(data)
        self.steps = jax.tree.leaves(data)[0].shape[0]

    def mark(self) -> str:
        """Tells data sets apart."""
        return mark_of(self.data)

    def run(self, watch: Watch, losses: Losses, epoch: int, first: int, last: int) -> tuple[Watch, Losses]:
        """Steps `first` to `last` of an epoch."""
        given = (self.data, self.key, np.int32(epoch), np.int32(first), np.int32(last))
        return _steps(self.static, self.shuffle, watch, losses, *self.like, *given)

    def batch(self, epoch: int, step: int) -> OneBatch:
        """The batch of one step."""
        return batch_of(self.data, order_of(self.data, self.key, epoch, self.shuffle), step)


class Batches:
    """The batches of a `Loader`, whose own key shuffles."""

    def __init__(self, static: Static, like: Variables, loader: Loader, key: PRNGKeyArray, place: OneDevice) -> None:
        self.static, self.like, self.loader, self.key, self.place = static, like, loader, key, place
        self.steps = len(loader)
        self._open: Iterator[Batch | SequenceBatch] = iter(())
        self._at = (-1, -1)

    def mark(self) -> str:
        """Tells data sets apart: how many samples, in what batches, of what kind, in what order."""
        loader = self.loader
        key = None if loader.key is None else np.asarray(_raw(loader.key)).tolist()
        size = loader.batch_size * loader.process_count
        return f"{len(loader.split)} samples by {size}, {loader.split.x.dtype}, key {key}"

    def run(self, watch: Watch, losses: Losses, epoch: int, first: int, last: int) -> tuple[Watch, Losses]:
        """Steps `first` to `last` of an epoch."""
        if self._at != (epoch, first):
            self._open = self._from(epoch, first)
        for step in range(first, last):
            batch = self._next()
            watch, losses = _step(self.static, watch, losses, *self.like, batch, self.key, np.int32(step))
        self._at = (epoch, last)
        return watch, losses

    def batch(self, epoch: int, step: int) -> OneBatch:
        """The batch of one step."""
        self._open, self._at = self._from(epoch, step), (-1, -1)
        return self._next()

    def _next(self) -> OneBatch:
        batch = without_padding(f"{OWNER}(loss_fn=)", self.static[2], next(self._open))
        return self.place.batch("train_data", batch)

    def _from(self, epoch: int, step: int) -> Iterator[Batch | SequenceBatch]:
        self.loader.restore(self.loader.state | {"epoch": epoch, "step": step})
        return iter(self.loader)


class Fed(Arrays):
    """Arrays (batches, batch, ...) of which every process of several reads its own rows of each batch."""

    def __init__(
        self, static: Static, like: Variables, data: AllBatches, key: PRNGKeyArray, shuffle: bool, place: OneDevice
    ) -> None:
        place.check_rows("train_data", data)
        self.static, self.like, self.key, self.shuffle, self.place = static, like, key, shuffle, place
        self.data = jax.tree.map(np.asarray, data)
        self.steps = jax.tree.leaves(self.data)[0].shape[0]
        self._order: tuple[int, Int[np.ndarray, "batches batch"] | None] = (-1, None)

    def run(self, watch: Watch, losses: Losses, epoch: int, first: int, last: int) -> tuple[Watch, Losses]:
        for step in range(first, last):
            batch = self.batch(epoch, step)
            watch, losses = _step(self.static, watch, losses, *self.like, batch, self.key, np.int32(step))
        return watch, losses

    def batch(self, epoch: int, step: int) -> OneBatch:
        if self._order[0] != epoch:
            order = order_of(self.data, self.place.home(self.key), epoch, self.shuffle)
            self._order = (epoch, None if order is None else np.asarray(order))
        size = jax.tree.leaves(self.data)[0].shape[1]
        order = self._order[1]
        places = np.arange(step * size, (step + 1) * size) if order is None else order[step]
        mine = places.reshape(self.place.processes, -1)[jax.process_index()]
        batch = jax.tree.map(lambda a: a[mine // size, mine % size], self.data)
        return self.place.batch("train_data", batch)


@jit(0, 1, donate_argnums=(2, 3))
def _steps(
    static: Static,
    shuffle: bool,
    watch: Watch,
    losses: Losses,
    params: Trainable,
    rest: Rest,
    data: AllBatches,
    key: PRNGKeyArray,
    epoch: Int[Array, ""],
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[Watch, Losses]:
    impl, _ = solver_of(static, params, rest)
    order = order_of(data, key, epoch, shuffle)

    def one_step(step: Int[Array, ""], carry: tuple[Watch, Losses]) -> tuple[Watch, Losses]:
        watch, loss = advance(impl, carry[0], batch_of(data, order, step), key)
        return watch, carry[1].at[step].set(loss)

    return jax.lax.fori_loop(first, last, one_step, (watch, losses))


@jit(0, donate_argnums=(1, 2))
def _step(
    static: Static,
    watch: Watch,
    losses: Losses,
    params: Trainable,
    rest: Rest,
    batch: OneBatch,
    key: PRNGKeyArray,
    step: Int[Array, ""],
) -> tuple[Watch, Losses]:
    watch, loss = advance(solver_of(static, params, rest)[0], watch, batch, key)
    return watch, losses.at[step].set(loss)


def evaluate(
    static: Static, watch: Watch, params: Trainable, rest: Rest, eval_data: AllBatches | Loader, place: OneDevice
) -> Scores:
    """The means of a metric over all samples: of arrays in one compiled loop, of a `Loader` batch by batch."""
    if not isinstance(eval_data, Loader):
        return _over_arrays(static, watch, params, rest, eval_data)
    scores, weights = [], []
    eval_data.restore(eval_data.state | {"epoch": 0, "step": 0})
    for batch in eval_data:
        batch = place.batch("eval_data", without_padding(f"{OWNER}(metric_fn=)", metric_of(static), batch))
        weights.append(float(rows_of(batch)))
        scores.append(_of_batch(static, watch, params, rest, batch))
    return jax.tree.map(lambda *values: np.float32(np.average([float(v) for v in values], weights=weights)), *scores)


@jit(0)
def _over_arrays(static: Static, watch: Watch, params: Trainable, rest: Rest, eval_data: AllBatches) -> Scores:
    scores = jax.lax.map(lambda batch: _metric(static, watch, params, rest, batch), eval_data)
    return mean_score(scores, eval_data)


@jit(0)
def _of_batch(static: Static, watch: Watch, params: Trainable, rest: Rest, batch: OneBatch) -> Scores:
    return _metric(static, watch, params, rest, batch)


def _metric(static: Static, watch: Watch, params: Trainable, rest: Rest, batch: OneBatch) -> Scores:
    impl, _ = solver_of(static, params, rest)
    state = impl.get_params(watch.solver), rest_of(impl, watch, rest)
    with strict_labels():
        return score(static[4], metric_of(static), nnx.merge(static[0], *state), batch)


def as_source(
    static: Static,
    like: Variables,
    data: AllBatches | Loader,
    lengths: AllLengths | None,
    key: PRNGKeyArray,
    shuffle: bool,
    place: OneDevice,
) -> Arrays | Batches:
    """A source of batches from what `train` was given."""
    if isinstance(data, Loader):
        if lengths is not None:
            raise ValueError(f"{OWNER}(lengths=): expected arrays; got a Loader. Put lengths into its Split.")
        return Batches(static, like, data, key, place)
    arrays = on_device("train_data", "lengths", data, lengths, "loss_fn", static[2])
    return (Arrays if place.processes == 1 else Fed)(static, like, arrays, key, shuffle, place)


def on_device(
    name: str, argument: str, data: AllBatches, lengths: AllLengths | None, of: str, function: Loss | Metric
) -> AllBatches:
    """Arrays with their lengths, as the function takes them."""
    return with_rows(OWNER, of, function, with_lengths(OWNER, argument, staged(OWNER, name, data), lengths))


def _raw(key: int | PRNGKeyArray) -> int | UInt32[Array, " words"]:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(key) if typed else key
