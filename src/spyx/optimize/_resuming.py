"""What `train` and `population` share about checkpoints: the newest is found, compared, and written when it is due."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from spyx.optimize._checkpoint import CheckpointError, Checkpoints
from spyx.optimize._signals import Stopped

if TYPE_CHECKING:
    from jaxtyping import Array, PRNGKeyArray, PyTree, Shaped

    from spyx.engine.types import Shapes
    from spyx.optimize.types import JSON, Info, Notify, Wait

    Saved = PyTree[Shaped[Array, "..."]]
    """The arrays of a checkpoint."""

T = TypeVar("T")
"""A tree of arrays."""


def newest(
    owner: str,
    store: Checkpoints,
    resume: bool,
    like: Callable[[Info, Path], T],
    notify: Notify,
    most: int,
) -> tuple[T, Info] | None:
    """Arrays and numbers of the newest checkpoint that is whole; None at the start of a run.

    Args:
        owner: the public name that errors begin with.
        store: the checkpoints.
        resume: whether they are to be used; a folder that holds some is refused otherwise.
        like: `(numbers, path) -> tree`, as for `Checkpoints.restore`.
        notify: is given a line for each damaged one.
        most: bytes that its arrays can have.

    Raises:
        CheckpointError: the folder holds a run that is not to be resumed, or one of another network or version.
    """
    if resume:
        return store.restore(like, notify, most)
    if store.all():
        raise CheckpointError(
            f"{owner}(folder=): expected a folder without checkpoints; got {store.folder}, which holds a run. "
            "Pass resume=True to go on with it, or name another folder."
        )
    return None


def bytes_of(tree: Shapes) -> int:
    """Bytes of the arrays of a tree, or of the shapes in their place."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_same(owner: str, same: Mapping[str, JSON], info: Info, where: Path | str) -> None:
    """Refuse a checkpoint of a run that was started with other arguments.

    Args:
        owner: the public name that errors begin with.
        same: what JSON can hold, by the name that the message has for it.
        info: the numbers of the checkpoint.
        where: its path.

    Raises:
        CheckpointError: one of them differs.
    """
    for name, mine in same.items():
        if (theirs := info.get(name)) != mine:
            raise CheckpointError(
                f"{owner}(resume=True): expected the same {name} as when the run was started; "
                f"got {_difference(mine, theirs)} in {where}. Call it as it was called; nothing was changed."
            )


def unsound(owner: str, where: Path | str) -> CheckpointError:
    """For numbers that spyx did not write."""
    return CheckpointError(
        f"{owner}(resume=True): expected numbers as spyx writes them; got others in {where}. "
        "Somebody changed it: delete that checkpoint, and the one before is used."
    )


def save_if_due(
    store: Checkpoints | None,
    tree: Callable[[], Saved],
    info: Callable[[], Mapping[str, JSON]],
    notify: Notify,
    *,
    last: bool,
) -> None:
    """Write a checkpoint in the background where one is due, or wait for the `last` one; a fault is a line."""
    if store is not None and (last or store.due()):
        try:
            store.save(tree(), info(), wait=last)
        except OSError as fault:
            notify(f"a checkpoint could not be written: {_reason(fault)}. {_older(store)}")


def save_and_stop(
    store: Checkpoints | None,
    tree: Callable[[], Saved],
    info: Callable[[], Mapping[str, JSON]],
    number: int,
    epoch: int,
    step: int,
) -> NoReturn:
    """End a run for a signal.

    Raises:
        Stopped: always.
    """
    fault = None
    if store is not None:
        try:
            with contextlib.suppress(OSError):  # of an earlier one: this one is newer
                store.finish()
            store.save(tree(), info(), wait=True)
        except OSError as caught:
            fault = caught
    raise Stopped(number, epoch, step, fault)


@contextlib.contextmanager
def waiting() -> Iterator[Wait]:
    """Waits for the device on a thread: a signal reaches Python while the main thread waits for that one."""
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(1, thread_name_prefix="spyx-train")
        stack.callback(pool.shutdown, wait=False)
        yield lambda arrays: pool.submit(jax.block_until_ready, arrays).result()


def words_of(key: PRNGKeyArray) -> list[int]:
    """A random key as JSON has it."""
    raw = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return [int(word) for word in np.asarray(raw).ravel()]


def _older(store: Checkpoints) -> str:
    there = store.all()
    return f"The newest is {there[0]}" if there else "There is none"


def _reason(fault: OSError) -> str:
    return f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault.strerror or fault)


def _difference(mine: JSON, theirs: JSON) -> str:
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        names = [name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)]
        return ", ".join(f"{name}={mine.get(name)!r} in place of {theirs.get(name)!r}" for name in names)
    return f"{mine!r} in place of {theirs!r}"
