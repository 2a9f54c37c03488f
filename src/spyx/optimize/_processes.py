"""Several processes that train one network: how they join, agree, and notice that one of them is gone."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import jax
import numpy as np

from spyx.optimize._devices import with_raw
from spyx.optimize._signals import Stopped

if TYPE_CHECKING:
    from jaxtyping import Array, Int32

T = TypeVar("T")

PATIENCE_S = 60.0
BEAT_S = 0.5
LOST = 75
"""Exit code of a process that ends because another one is gone: EX_TEMPFAIL, try again."""
BEATS, ENDS = "spyx/beat", "spyx/end"


class _Client(Protocol):
    """JAX's connection to the first process: texts by key, which all processes share."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool, /) -> None: ...

    def key_value_dir_get(self, key: str, /) -> Sequence[tuple[str, str]]: ...

    def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int, /) -> None: ...


class Job:
    """One process of a job, from `join_processes`; a context manager that leaves the job in order.

    Args:
        index: number of this process.
        count: processes of the job.
        patience_s: how long another process may give no sign of life.
        advice: the end of the line that is printed when one is lost.

    Example:
        >>> with join_processes("10.0.0.1:9000", processes=2, process_id=0) as job:  # doctest: +SKIP
        ...     print(job.index, job.count)
        0 2
    """

    def __init__(self, index: int, count: int, patience_s: float, advice: str) -> None:
        self.index, self.count, self.patience_s, self.advice = index, count, patience_s, advice
        self._client = _client()
        self._over, self._ending = threading.Event(), threading.Lock()
        self._seen = {peer: ("", time.monotonic()) for peer in range(count) if peer != index}
        self._witness = _Witness(f"process {index} of {count}", advice)
        self._thread = threading.Thread(target=self._watch, name="spyx-job", daemon=True)
        self._thread.start()

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Stopped):
            self.leave()
        elif isinstance(error, Exception) and not isinstance(error, jax.errors.JaxRuntimeError):
            self.announce(" ".join(str(error).split()) or type(error).__name__)

    def announce(self, reason: str) -> None:
        """Tells the others that this process ends, and why: they end as well."""
        with contextlib.suppress(Exception):
            self._client.key_value_set(f"{ENDS}/{self.index}", reason[:1000] or "it ended", True)

    def leave(self) -> None:
        """Waits until every process has got here, and leaves the job."""
        with contextlib.suppress(Exception):
            # A day: the first process may be drawing, and one that is lost ends this one.
            self._client.wait_at_barrier("spyx/leave", 24 * 3600 * 1000)
        self._over.set()
        self._thread.join()
        jax.distributed.shutdown()
        self._witness.dismiss()

    @contextlib.contextmanager
    def losses_named(self) -> Iterator[None]:
        """While inside, an error of the connection to another process ends this one, with a line that names it."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            self.blame(error)
            raise

    def blame(self, error: Exception) -> None:
        """Ends this process if another one is lost within the patience; returns if all are alive."""
        until = time.monotonic() + self.patience_s
        while time.monotonic() < until:
            for peer, (_, at) in self._seen.items():
                if time.monotonic() - at > 6 * BEAT_S:
                    self._lost(peer, "has ended, or cannot be reached")
            time.sleep(BEAT_S / 2)

    def _watch(self) -> None:
        beat, failed = 0, 0
        while not self._over.wait(BEAT_S):
            beat += 1
            try:
                self._client.key_value_set(f"{BEATS}/{self.index}", str(beat), True)
                found = {key.rsplit("/", 1)[1]: value for key, value in self._client.key_value_dir_get(BEATS)}
                ends = dict(self._client.key_value_dir_get(ENDS))
                failed = 0
            except Exception:  # whatever the client raises, the first process is not there to reply
                failed += 1
                if failed >= 3 and not self._over.is_set():
                    self._lost(0, "has ended, or cannot be reached")
                continue
            now = time.monotonic()
            for key, reason in ends.items():
                if int(key.rsplit("/", 1)[1]) != self.index:
                    self._lost(int(key.rsplit("/", 1)[1]), f"has ended: {reason}")
            for peer, (value, at) in self._seen.items():
                if (new := found.get(str(peer), "")) != value:
                    self._seen[peer] = (new, now)
                elif now - at > self.patience_s:
                    self._lost(peer, f"has given no sign of life for {self.patience_s:g} s")

    def _lost(self, peer: int, what: str) -> None:
        """The main thread may be inside a collective that never ends: nothing but the end of the process helps."""
        if self._over.is_set():
            return
        self._ending.acquire()  # for good: one of two threads that found out says so
        line = f"spyx: process {peer} of {self.count} {what}; this job ends. {self.advice}"
        sys.stderr.write(f"{line.rstrip()}\n")
        sys.stderr.flush()
        self._witness.dismiss()
        if self.index == 0:  # with it goes what the others ask: they get to know first
            self.announce(f"process {peer} {what}")
            time.sleep(4 * BEAT_S)
        os._exit(LOST)


class _Witness:
    """A process beside this one that says so where this one ends without a word.

    JAX aborts a process whose connection to process 0 breaks, with pages of addresses, and nothing in Python can come
    before that; nor before a kill for want of memory.
    """

    def __init__(self, who: str, advice: str) -> None:
        line = (
            f"spyx: {who} ended without a word: process 0 is gone or cannot be reached, or it was killed; "
            f"this job ends. {advice}"
        )
        code = "import sys; sys.stdin.read() or print(sys.argv[1].rstrip(), file=sys.stderr)"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, line], stdin=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self.dismiss)

    def dismiss(self) -> None:
        """This process ends in order, or has said why it does not."""
        with contextlib.suppress(OSError, ValueError):
            self._process.communicate(b"bye")


def join_processes(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    patience_s: float = PATIENCE_S,
    advice: str = "Start it again with resume=True.",
) -> Job:
    """Make this process one of a job, before anything else of JAX is used; then `device_mesh()` has all devices.

    The same program runs once per process. If one of them ends or hangs, each of the others prints one line and
    ends with exit code 75, at most `patience_s` and a few seconds later.

    Args:
        coordinator: `"host:port"` of process 0, which must be free there. None: SLURM, Kubernetes, Open MPI or a TPU
            pod tell, and JAX reads it from their environment.
        processes: how many; None as for `coordinator`.
        process_id: number of this one, 0 to `processes` - 1; None as for `coordinator`.
        patience_s: seconds without a sign of life after which another process is lost, > 0. Default 60.
        advice: the end of the line that is printed then.

    Returns:
        The job: `with join_processes(...) as job:` leaves it in order at the end, and tells the others of an error.

    Raises:
        ValueError: an argument out of its range; the environment tells nothing.
        RuntimeError: JAX was used before; the processes did not find one another.

    Example:
        One process, which is a job as well; in a real one this is the first thing that a program does:

        >>> join_processes("localhost:1234", processes=2, process_id=2)
        Traceback (most recent call last):
            ...
        ValueError: spyx.optimize.join_processes(process_id=): expected 0 to 1; got 2. Count from 0.
    """
    owner = "spyx.optimize.join_processes"
    if processes is not None and processes < 1:
        raise ValueError(f"{owner}(processes=): expected 1 or more; got {processes}. Count all of the job.")
    if process_id is not None and not 0 <= process_id < (processes or process_id + 1):
        raise ValueError(f"{owner}(process_id=): expected 0 to {(processes or 1) - 1}; got {process_id}. Count from 0.")
    if not patience_s > 0:
        raise ValueError(f"{owner}(patience_s=): expected seconds above 0; got {patience_s}. The default is 60.")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"{owner}(coordinator=): expected host:port; got {coordinator!r}. For example 10.0.0.1:1234.")
    seconds = max(10, int(patience_s) + 10)  # JAX's own watch is the second line: it prints pages
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            initialization_timeout=max(30, int(patience_s)),
            heartbeat_timeout_seconds=seconds,
            shutdown_timeout_seconds=seconds,
        )
    except ValueError as error:
        raise ValueError(
            f"{owner}: expected SLURM, Kubernetes or Open MPI to tell who belongs to the job; got nothing from the "
            f"environment ({error}). Give coordinator, processes and process_id."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise RuntimeError(
            f"{owner}: expected {processes} processes at {coordinator}; got none or not all of them within "
            f"{max(30, int(patience_s))} s. Start all of them, with the same coordinator."
        ) from error
    return Job(jax.process_index(), jax.process_count(), patience_s, advice)


def gathered(values: list[int]) -> Int32[np.ndarray, "processes numbers"]:
    """The numbers of every process, (processes, numbers)."""
    mine = np.asarray([values], np.int32)
    if jax.process_count() == 1:
        return mine
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(mine[0], tiled=False)).reshape(-1, len(values))


def from_first(value: T) -> T:
    """What JSON can hold, as process 0 has it."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    buffer = np.zeros(size, np.uint8)
    buffer[: min(size, len(text))] = text[:size]
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes())


def arrays_from_first(tree: T) -> T:
    """Arrays of the same shapes, as process 0 has them."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    def send(raw: Array | np.ndarray) -> np.ndarray:
        return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(raw)))

    return jax.tree.map(lambda a: with_raw(a, send), tree)


def _client() -> _Client:
    """JAX's connection to the first process. It is not public; Orbax uses it as well."""
    from jax._src import distributed

    return cast("_Client", distributed.global_state.client)  # None before `jax.distributed.initialize` alone
