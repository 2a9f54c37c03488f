"""Compiled kernels on disk: `compilation_cache` turns it on, together with JAX's own cache of compiled programs.

A file is a magic line, a header in JSON and the object. Nothing of it reaches the machine before the owner and the mode
of folder and file, every fact of the header and the object's digest have been checked. Whatever is wrong with it is
logged in one line, and the kernel is compiled as if there were no cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from spyx.engine.kernels import call_frame, language, object_code, translation

MAGIC = b"spyx kernel 1\n"
LARGEST_FILE = 2**24
"""Bytes. A kernel has some thousands."""
LARGEST_FOLDER = {"kernels": 200 * 2**20, "xla": 2 * 2**30}
"""Bytes; the files that were not used for the longest time go first."""
ABANDONED_S = 3600.0
"""Age of a temporary file whose writer must be gone."""

_log = logging.getLogger("spyx")
_folder: Path | None = None
_jax_settings: tuple[object, ...] | None = None
"""What JAX's cache was set to before it was turned on here."""
_logged: set[str] = set()
_addresses: dict[str, int] = {}
_lock = threading.Lock()


class _Refused(Exception):
    """Why a folder or a file is not used."""


def compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Keep compiled programs and kernels on disk, so that the next process starts without compiling.

    Call it before the first computation. Two caches are turned on: JAX's persistent compilation cache, unless one is
    set already, and the machine code of fused and event-driven CPU kernels. The folder must belong to you and be
    writable for nobody else, because code is executed from it: a new one gets the mode 0700, and one that others can
    write to is not used, which the log `spyx` reports. A damaged file, or one of other versions or of another CPU,
    is not executed either; what it held is compiled again. The command line calls this function.

    Args:
        folder: where; "off" turns both caches off. By default the value of the environment variable SPYX_CACHE, a
            folder or "off", otherwise `spyx/compiled` in the user's folder for caches.

    Returns:
        The folder in use, or None.

    Example:
        >>> import tempfile, spyx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     used = spyx.compilation_cache(folder)
        ...     off = spyx.compilation_cache("off")
        >>> used.name == folder.rpartition("/")[2], off
        (True, None)
    """
    global _folder
    _folder = None
    _jax_cache(None)
    chosen = str(folder or os.environ.get("SPYX_CACHE") or _user_folder())
    if chosen == "off":
        return None
    root = Path(chosen).expanduser().absolute()
    try:
        for path in (root, root / "kernels", root / "xla"):
            _own_folder(path)
    except (OSError, _Refused) as error:
        _say(f"the cache folder {root} is not used: {error}")
        return None
    for name, most in LARGEST_FOLDER.items():
        _prune(root / name, most)
    _folder = root
    _jax_cache(root / "xla")
    return root


def _jax_cache(folder: Path | None) -> None:
    """Turn JAX's cache on, where nobody else did, or off, where it is ours."""
    from jax.experimental.compilation_cache import compilation_cache as jax_cache

    global _jax_settings
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    if folder is None and _jax_settings is not None:
        settings, _jax_settings = _jax_settings, None
    elif folder is not None and getattr(jax.config, names[0]) is None:
        settings, _jax_settings = (str(folder), 0.0), tuple(getattr(jax.config, name) for name in names)
    else:
        return
    for name, value in zip(names, settings, strict=True):
        jax.config.update(name, value)
    jax_cache.reset_cache()  # JAX decides once, at its first compilation, whether it has a cache


def address(target: str, build: Callable[[], language.Kernel], types: Mapping[str, str]) -> int:
    """The address of a kernel: loaded from disk where it is there, otherwise compiled, and stored there.

    Args:
        target: the kernel's name, with the digest of its source.
        build: the kernel; it takes and returns `int` alone.
        types: what its names of types mean.
    """
    with _lock:
        if target in _addresses:
            return _addresses[target]
        name = object_code.symbol(target)
        found = None
        if _folder is not None:
            found = _load(target, name)
        if found is None:
            code = object_code.compiled(translation.translate(build(), types, name, call_frame.words()))
            found = object_code.load(code, name)
            if _folder is not None:
                _store(target, code)
        _addresses[target] = found
        return found


def _load(target: str, name: str) -> int | None:
    path = _path(target)
    try:
        code = _read(path, target)
        return None if code is None else object_code.load(code, name)
    except (OSError, ValueError, _Refused) as error:
        _say(f"the file {path} of the kernel cache is not used: {error}")
        return None


def _read(path: Path, target: str) -> bytes | None:
    """The object in a file; None where there is no file."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(number, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("it is no file")
        _own(status)
        if status.st_size > LARGEST_FILE:
            raise _Refused(f"it has {status.st_size} bytes")
        content = file.read(LARGEST_FILE + 1)
    code = _unpack(content, target)
    with contextlib.suppress(OSError):
        os.utime(path)  # used: the last to be removed
    return code


def _unpack(content: bytes, target: str) -> bytes:
    begin = len(MAGIC) + 8
    size = int.from_bytes(content[len(MAGIC) : begin], "little")
    header, code = content[begin : begin + size], content[begin + size :]
    if not content.startswith(MAGIC) or len(header) != size:
        raise _Refused("it is damaged")
    expected = _header(target, code)
    try:
        found = json.loads(header)
    except ValueError:
        raise _Refused("it is damaged") from None
    if not isinstance(found, dict) or found.keys() != expected.keys():
        raise _Refused("it is damaged")
    if found != expected:
        wrong = next(name for name in expected if found[name] != expected[name])
        damaged = wrong in ("size", "sha256")
        raise _Refused("it is damaged" if damaged else f"{wrong} is {found[wrong]!r}, not {expected[wrong]!r}")
    if not _portable(code):
        raise _Refused("it calls functions that no kernel calls")
    return code


def _store(target: str, code: bytes) -> None:
    if not _portable(code):
        return
    path = _path(target)
    header = json.dumps(_header(target, code)).encode()
    try:
        _own_folder(path.parent)
        number, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)  # mode 0600
        try:
            with open(number, "wb") as file:
                file.write(MAGIC + len(header).to_bytes(8, "little") + header + code)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except (OSError, _Refused) as error:
        _say(f"kernels are not stored in {path.parent}: {error}")


def _portable(code: bytes) -> bool:
    """Needs nothing but the C library, so that another process finds it all."""
    needed = object_code.undefined(code)
    return needed is not None and object_code.NEEDS.issuperset(needed)


def _header(target: str, code: bytes) -> dict[str, str | int]:
    return {"kernel": target, **_facts(), "size": len(code), "sha256": hashlib.sha256(code).hexdigest()}


@functools.cache
def _facts() -> dict[str, str]:
    """Everything besides a kernel's source that its code depends on: the engine as it is installed, too."""
    engine = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        engine.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_bytes()
    return {"engine": engine.hexdigest(), "interface": hashlib.sha256(header).hexdigest(), **object_code.facts()}


def _path(target: str) -> Path:
    key = hashlib.sha256(json.dumps([target, _facts()]).encode()).hexdigest()[:32]
    return Path(str(_folder), "kernels", f"{target}-{key}")


def _own_folder(path: Path) -> None:
    """Make it, for its owner alone, or check that it is a folder to which nobody else can write."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise _Refused(f"{path.name} is no folder")
    _own(status)


def _own(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise _Refused(f"it belongs to user {status.st_uid}")
    if status.st_mode & 0o022:
        raise _Refused(f"others can write to it (mode {stat.S_IMODE(status.st_mode):04o})")


def _prune(folder: Path, most: int) -> None:
    """Remove what was not used for the longest time, until the rest has at most `most` bytes."""
    files = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    files.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    for changed, size, path in sorted(files):
        abandoned = os.path.basename(path).startswith(".") and changed < time.time() - ABANDONED_S
        if total > most or abandoned:
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size


def _user_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "spyx" / "compiled"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spyx" / "compiled"


def _say(line: str) -> None:
    """Once per process for one cause, whatever the file."""
    cause = line.partition(": ")[2]
    if cause not in _logged:
        _logged.add(cause)
        _log.warning("spyx: %s.", line)
