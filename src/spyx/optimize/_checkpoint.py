"""Checkpoints of a run: arrays by Orbax and a JSON of numbers, whole or not at all, with a SHA-256 for every file.

Orbax writes atomically and does not notice a flipped byte, so every file is listed in SHA256SUMS and checked before
anything is read from it. What is read is arrays of numbers and JSON: neither can run code.

    folder/lock
    folder/000007/SHA256SUMS  info.json  arrays/...
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    import orbax.checkpoint as ocp
    from jax.tree_util import KeyPath
    from jaxtyping import Array, PyTree, Shaped

    from spyx.optimize.types import JSON, Info, Notify

    Arrays = PyTree[Shaped[Array, "..."]]
    """What is saved and restored: arrays and random keys."""

T = TypeVar("T")
"""A tree of arrays."""

FORMAT = 1
SUMS, INFO, ARRAYS, LOCK = "SHA256SUMS", "info.json", "arrays", "lock"
PART = ".part"
DIGITS = 6
LATE_S = 0.1
"""How long arrays are waited for that are read beside one that cannot be."""
LARGEST = 1 << 26
"""Bytes of a checkpoint beside four times its arrays."""
SHARE = 30
"""A checkpoint is due when training has taken so many times as long as the last one took to write: with the first and
the last of a run, 5 % at most."""
FIRST_S = 0.1
"""What the first one is taken to cost: a run of less than three seconds has its last one alone."""


class CheckpointError(ValueError):
    """A checkpoint, or a folder of them, that cannot be used as asked.

    Example:
        >>> raise CheckpointError("spyx.optimize.train: expected a folder; got a file. Name another.")
        Traceback (most recent call last):
            ...
        spyx.optimize._checkpoint.CheckpointError: spyx.optimize.train: expected a folder; got a file. Name another.
    """


class Damaged(Exception):
    """A checkpoint that is incomplete or not as it was written."""


class Checkpoints:
    """The checkpoints in one folder, which one process at a time may use.

    Args:
        folder: made if it is not there.
        keep: how many are kept, >= 1.
        owner: the public name that errors begin with.

    Raises:
        ImportError: there is no orbax-checkpoint.
    """

    def __init__(self, folder: str | Path, keep: int, owner: str) -> None:
        self.folder, self.keep, self.owner = Path(folder).absolute(), keep, owner
        if find_spec("orbax") is None or find_spec("orbax.checkpoint") is None:
            raise ImportError(
                f"{owner}(folder=): expected orbax-checkpoint; got no such package. Run pip install 'spyx-jax[train]'."
            )
        self.damaged: set[Path] = set()
        self.newest: Path | None = None
        self._cost_s, self._saved_at = FIRST_S, time.monotonic()
        self._writer: threading.Thread | None = None
        self._fault: Exception | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; the operating system lets go of it when the process ends, however.

        Raises:
            CheckpointError: another process holds it, or it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = _open_lock(self.folder / LOCK)
        except OSError as fault:
            raise CheckpointError(
                f"{self.owner}: expected a folder that can be written; got {self.folder}: {fault.strerror}. "
                "Nothing was changed: give yourself the right to write, or copy the folder to another place."
            ) from fault
        try:
            try:
                _lock(file)
            except OSError as fault:
                holder = os.read(file, 20).decode("ascii", "replace").strip()
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise CheckpointError(
                    f"{self.owner}: expected a folder that no other run uses; got {self.folder}, in which {who} "
                    "trains. Wait for its end, or name another folder."
                ) from fault
            with contextlib.suppress(OSError):  # a full disk: the number is for the message above alone
                os.truncate(file, 0)
                os.pwrite(file, f"{os.getpid()}\n".encode(), 0) if hasattr(os, "pwrite") else None
            for part in self.folder.glob(f"*{PART}"):  # of a process that was killed
                shutil.rmtree(part, ignore_errors=True)
            yield
        finally:
            os.close(file)

    def all(self) -> list[Path]:
        """Every checkpoint, the newest first."""
        found = [path for path in self.folder.iterdir() if re.fullmatch(f"[0-9]{{{DIGITS},18}}", path.name)]
        return sorted(found, key=lambda path: int(path.name), reverse=True)

    def restore(self, like: Callable[[Info, Path], T], notify: Notify, most: int = 0) -> tuple[T, Info] | None:
        """Arrays in the place of those of `like` and the numbers of the newest checkpoint that is whole, or None.

        Args:
            like: `(numbers, path) -> tree` of arrays of the same structure, shapes and dtypes.
            notify: is given a line for each damaged one that is passed over.
            most: bytes that its arrays can have; a checkpoint that takes far more is not read.

        Raises:
            CheckpointError: it is of another network, or was written by another version.
        """
        for path in self.all():
            try:
                info = _info(path, LARGEST + 4 * most)
                tree = like(info, path)
                self._suits(path, info, tree)
                leaves = _read(path, info["arrays"])
            except Damaged as fault:
                self.damaged.add(path)
                notify(f"the checkpoint {path} is damaged and is passed over: {fault}.")
                continue
            self.newest = path
            return _replaced(tree, leaves), info
        return None

    def due(self) -> bool:
        """Whether enough time has gone by since the last checkpoint, and none is being written."""
        busy = self._writer is not None and self._writer.is_alive()
        return not busy and time.monotonic() - self._saved_at >= SHARE * self._cost_s

    def save(self, tree: Arrays, info: Mapping[str, JSON], *, wait: bool = False) -> None:
        """Writes a checkpoint on a thread; `wait` returns when it is there.

        Raises:
            OSError: this one (with `wait`) or the one before could not be written; those that are there stay.
        """
        named = _named(tree)
        # Copies: the loop gives its buffers away while the thread writes.
        arrays = {name: np.array(_raw(leaf)) for name, leaf in named.items()}
        info = {
            "format": FORMAT,
            "versions": _versions(),
            "arrays": [[name, str(a.dtype), list(a.shape)] for name, a in arrays.items()],
            **info,
        }
        self.finish()
        self._saved_at = time.monotonic()
        self._writer = threading.Thread(target=self._write, args=(arrays, info), daemon=True)
        self._writer.start()
        if wait:
            self.finish()

    def finish(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
            OSError: it could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _write(self, arrays: dict[str, np.ndarray], info: Mapping[str, JSON]) -> None:
        checkpointer = _orbax()  # the first import takes a second, which no later checkpoint does
        began = time.monotonic()
        number = max((int(path.name) for path in self.all()), default=0) + 1
        path = self.folder / f"{number:0{DIGITS}d}"
        part = path.with_name(path.name + PART)
        try:
            part.mkdir()
            kept = {str(number): a for number, a in enumerate(arrays.values()) if a.size}
            with _quiet(), checkpointer:
                checkpointer.save(part / ARRAYS, kept)
            (part / INFO).write_text(json.dumps(info), encoding="utf-8")
            (part / SUMS).write_bytes(_sums(_digests(part)))
            part.replace(path)
            self.newest = path
            whole = [p for p in self.all() if p not in self.damaged and (p / SUMS).is_file()]
            for old in whole[self.keep :]:
                shutil.rmtree(old, ignore_errors=True)
            self.damaged.clear()
        except Exception as fault:  # Orbax passes on what its parts raise, ValueError for a full disk too
            shutil.rmtree(part, ignore_errors=True)
            self._fault = fault if isinstance(fault, OSError) else _as_os_error(fault, path)
        self._cost_s = time.monotonic() - began

    def _suits(self, path: Path, info: Info, like: Arrays) -> None:
        written = info["versions"].get("spyx-jax", "?")
        if info["format"] != FORMAT:
            raise CheckpointError(
                f"{self.owner}: expected a checkpoint in format {FORMAT}; got format {info['format']}, of spyx "
                f"{written}, in {path}. Go on with that version; nothing was changed."
            )
        here = {name: (str(_raw(leaf).dtype), list(leaf.shape)) for name, leaf in _named(like, raw=True).items()}
        there = {name: (dtype, shape) for name, dtype, shape in info["arrays"]}
        for name in (*here, *there):
            if here.get(name) != there.get(name):
                got, wanted = (
                    "nothing" if kind is None else f"{kind[0]} {tuple(kind[1])}"
                    for kind in (there.get(name), here.get(name))
                )
                raise CheckpointError(
                    f"{self.owner}: expected a checkpoint of this network and optimiser; got {name} as {got} in place "
                    f"of {wanted} in {path}, of spyx {written}. Build them as they were; nothing was changed."
                )


def _orbax() -> ocp.Checkpointer:
    import orbax.checkpoint as ocp

    # Arrays are whole here, and of several processes one alone reads and writes: nobody is to be waited for.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="spyx"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs the traceback of every thread that fails, and what a damaged file holds, and raises besides."""

    def ours(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(ours)
    try:
        yield
    finally:
        logger.removeFilter(ours)


@contextlib.contextmanager
def _unread() -> Iterator[None]:
    """Orbax reads all arrays at once. Where one cannot be read, the others report to a loop that is closed by then."""

    def ours(record: logging.LogRecord) -> bool:
        return "never retrieved" not in str(record.msg)

    def told(unraisable: sys.UnraisableHookArgs) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            before(unraisable)

    logger, before = logging.getLogger("asyncio"), sys.unraisablehook
    logger.addFilter(ours)
    sys.unraisablehook = told
    try:
        yield
    except Exception:
        time.sleep(LATE_S)
        gc.collect()
        raise
    finally:
        sys.unraisablehook = before
        logger.removeFilter(ours)


def _as_os_error(fault: Exception, path: Path) -> OSError:
    code = re.search(r"os_error_code='(\d+)'", str(fault))
    return OSError(int(code[1]), os.strerror(int(code[1])), str(path)) if code else OSError(0, _line(fault), str(path))


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("spyx-jax", "jax", "jaxlib", "flax", "optax", "numpy")}


def _info(path: Path, largest: int) -> Info:
    """The numbers of a checkpoint all of whose files, of `largest` bytes together, are as they were written."""
    try:
        files = _files(path)
        if (size := sum(file.stat().st_size for file in files)) > largest:
            raise Damaged(f"it takes {size} bytes, and such a network at most {largest}")
        written = (path / SUMS).read_bytes()
        sums = dict(line.split("  ", 1)[::-1] for line in written.decode().split("\n") if line)
        found = _digests(path)
        for name in sorted({*found, *sums}):
            if name not in found or name not in sums:
                raise Damaged(f"{name} is {'missing' if name in sums else 'not one of its files'}")
            if found[name] != sums[name]:
                raise Damaged(f"{name} has another SHA-256 than was written")
        if _sums(found) != written:
            raise Damaged(f"{SUMS} is not as it was written")
        info = json.loads((path / INFO).read_bytes())
        listed = [(str(name), str(dtype), [int(size) for size in shape]) for name, dtype, shape in info["arrays"]]
        if not isinstance(info["format"], int) or not isinstance(info["versions"], dict):
            raise Damaged(f"{INFO} is not as spyx writes it")
        return info | {"arrays": listed}
    except OSError as fault:
        raise Damaged(f"{Path(fault.filename or path).name}: {fault.strerror}") from fault
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise Damaged(f"its lists cannot be read ({_line(fault)})") from fault


def _read(path: Path, listed: list[tuple[str, str, list[int]]]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    wanted = {str(number): entry for number, entry in enumerate(listed) if 0 not in entry[2]}
    try:
        with _quiet(), _unread(), _orbax() as checkpointer:
            found = checkpointer.metadata(path / ARRAYS).item_metadata
            for key, (name, dtype, shape) in wanted.items():  # before memory is taken for it
                if (str(np.dtype(found[key].dtype)), list(found[key].shape)) != (dtype, shape):
                    raise Damaged(f"{name} is another array than {INFO} says")
            how = {key: ocp.RestoreArgs(restore_type=np.ndarray) for key in wanted}
            saved = checkpointer.restore(path / ARRAYS, restore_args=how)
    except (Damaged, MemoryError):
        raise
    except Exception as fault:  # the digests fit, so what is raised here is about a file that spyx did not write
        raise Damaged(f"Orbax cannot read it ({_line(fault)})") from fault
    return {
        name: np.asarray(saved[str(number)]) if str(number) in wanted else np.zeros(shape, dtype)
        for number, (name, dtype, shape) in enumerate(listed)
    }


def _replaced(like: T, saved: dict[str, np.ndarray]) -> T:
    """`like` with the saved arrays, random keys made keys again, on the devices of `like`."""

    def put(path: KeyPath, leaf: Array) -> Array:
        value = saved[_name(path)]
        spread = len(leaf.sharding.device_set) > 1
        array = jax.device_put(value, leaf.sharding) if spread else jnp.asarray(value)
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array

    return jax.tree_util.tree_map_with_path(put, like)


def _named(tree: Arrays, *, raw: bool = False) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): _raw(leaf) if raw else leaf for path, leaf in leaves}


def _name(path: KeyPath) -> str:
    words = (str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)
    return ".".join(words)


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _files(folder: Path) -> list[Path]:
    """Every file below; a link, a pipe or a device is none that spyx writes."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(path)
        elif not stat.S_ISDIR(mode):
            raise Damaged(f"{path.relative_to(folder).as_posix()} is no regular file")
    return found


def _sums(digests: dict[str, str]) -> bytes:
    """What `sha256sum -c` checks."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def _digests(folder: Path) -> dict[str, str]:
    files = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    return {name: _digest(file) for name, file in files.items() if name != SUMS}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200] or type(fault).__name__


def _open_lock(path: Path) -> int:
    """A file that is one: what a link leads to is not written, and a pipe or a device is not opened."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, f"{LOCK} is no regular file", str(path))
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)


def _lock(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
