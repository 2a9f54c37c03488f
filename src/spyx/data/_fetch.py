"""Fetching files: resumed where it stopped, checked against a checksum, unpacked inside one folder and nowhere else."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from spyx.data._archive import BLOCK, DISK, Bad, Forward, Refused, block_of, copy, faults, members
from spyx.data._budget import budget
from spyx.data._disk import naming, part_of, size_of
from spyx.data._tar import Tar

LARGEST_ARCHIVE = 1 << 37
SLACK = 1 << 24
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


Progress = Callable[[int, int | None], object]


def download(
    url: str | Sequence[str],
    path: str | Path,
    checksum: str,
    *,
    timeout_s: float = 60.0,
    progress: Progress | None = None,
) -> Path:
    """Fetches a file once; a broken transfer continues where it stopped.

    Args:
        url: an http, https or file address, or several of the same file: the next one is tried where one fails.
        path: where the file appears when it is complete and its checksum is right.
        checksum: "sha256:<hex>", or "md5:<hex>" where publishers give no other.
        timeout_s: seconds without a response before giving up, > 0. Default 60.
        progress: called as `(bytes that are there, bytes of the file or None)` while it is fetched.

    Returns:
        The path.

    Raises:
        ValueError: if the content has another checksum, or the address or checksum is of an unknown kind.
        OSError: if the transfer fails; calling again resumes it. With several addresses, the error of the last.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "from").write_bytes(b"spikes")
        >>> checksum = "sha256:" + hashlib.sha256(b"spikes").hexdigest()
        >>> download((folder / "from").as_uri(), folder / "to", checksum).read_bytes()
        b'spikes'
    """
    path = Path(path)
    kind, _, expected = checksum.partition(":")
    urls = [url] if isinstance(url, str) else list(url)
    if (
        kind not in ("sha256", "md5")
        or not urls
        or any(one.split(":")[0] not in ("http", "https", "file") for one in urls)
    ):
        shown = ", ".join(urls) or "no address"
        raise ValueError(
            f"download: expected an http(s) or file address and a sha256: or md5: checksum; got {shown} and {checksum}."
        )
    if path.exists() and _digest(path, kind) == expected:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for number, one in enumerate(urls, 1):
        try:
            _fetch(one, part, timeout_s, progress)
            _check(part, one, kind, expected)
            break
        except (OSError, ValueError):
            if number == len(urls):
                raise
    part.replace(path)
    return path


def _check(part: Path, url: str, kind: str, expected: str) -> None:
    found = _digest(part, kind)
    if found != expected:
        part.unlink()
        raise ValueError(
            f"download: expected {kind} {expected} for {url}; got {found}. "
            "Nothing was stored: try again, and if it happens again the publisher has changed the file."
        )


def extract(archive: str | Path, folder: str | Path, *, largest_bytes: int | None = None) -> list[Path]:
    """Unpacks the regular files of a zip or tar archive into a folder, and refuses the rest.

    A new folder appears whole or not at all. In a folder that exists, no file appears before all are unpacked and
    their checksums are right.

    Args:
        archive: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file.
        folder: where files go.
        largest_bytes: most bytes that all files together may unpack to. Default: 64 MiB and 100 times the size of the
            archive, at most 128 GiB.

    Returns:
        The files.

    Raises:
        ValueError: if a member would leave the folder, is a link, a device or sparse, unpacks to too much, or the
            archive is damaged.
        OSError: if the disk is full or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "a.zip", "w") as file:
        ...     file.writestr("inside/b.txt", "hello")
        >>> [path.read_text() for path in extract(folder / "a.zip", folder / "out")]
        ['hello']
    """
    archive, folder = Path(archive), Path(folder)
    most = budget(size_of(archive, "extract"), largest_bytes, LARGEST_ARCHIVE)
    there = folder.is_dir()
    work = part_of(folder / "unpacked" if there else folder)
    work.mkdir(parents=True)
    unpacking = _Unpacking(archive, folder, work, most)
    try:
        names = unpacking.run()
        if not there:
            work.rename(folder)
        for name in names if there else ():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).replace(folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return [folder / name for name in names]


class _Unpacking:
    """One archive on its way into a folder of its own, `work`; `folder` is where its files go in the end."""

    def __init__(self, archive: Path, folder: Path, work: Path, most: int) -> None:
        self.archive, self.folder, self.work, self.most = archive, folder, work, most
        self.names: list[str] = []
        self.member = ""

    def run(self) -> list[str]:
        """Names of the files, all of them written and checked."""
        try:
            with faults():
                if zipfile.is_zipfile(self.archive):
                    self._zip()
                else:
                    self._tar()
        except Bad as fault:
            where = f" at {self.member!r}" if self.member else ""
            raise ValueError(
                f"extract: expected an intact zip or tar archive; got {fault}{where} in {self.archive}. "
                "Nothing was unpacked: fetch it again."
            ) from None
        return self.names

    def _zip(self) -> None:
        with zipfile.ZipFile(self.archive) as opened:
            for info in opened.infolist():
                self._check(info.filename, _is_plain(info))
            found = members(opened)
            self._afford(sum(info.file_size for info in found))
            for info in found:
                if not info.is_dir():
                    self.member = info.filename
                    with opened.open(info) as source:
                        self._write(info.filename, source, info.file_size, block_of(info))

    def _tar(self) -> None:
        room = self.most + self.most // 4 + SLACK  # headers and padding come on top of the files
        total = 0
        with self.archive.open("rb") as file:
            whole = Forward(file, room)
            tar = Tar(whole)
            for info in tar:
                self.member = info.name
                self._check(info.name, info.kind != "other")
                if info.kind == "file":
                    total += info.size
                    self._afford(total)
                    self._write(info.name, tar, info.size, BLOCK)
            self.member = ""
            whole.finish()

    def _check(self, name: str, plain: bool) -> None:
        if not plain or not _stays_inside(name):
            raise Refused(
                f"extract: expected plain files inside {self.folder}; got member {name!r} in {self.archive}. "
                "Do not trust it."
            )

    def _afford(self, size: int) -> None:
        if size > self.most:
            raise Refused(
                f"extract: expected at most {self.most} bytes; got {size} in {self.archive}. "
                "Raise largest_bytes if you trust the archive."
            )

    def _write(self, name: str, source: IO[bytes] | Tar, size: int, block: int) -> None:
        self.member = name
        path, goal = self.work / name, self.folder / name
        if not goal.resolve().is_relative_to(self.folder.resolve()):
            raise Refused(f"extract: expected plain folders in {self.folder}; got a link on the way to {name!r}.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = path.open("xb")
        except OSError as fault:
            if fault.errno in DISK:
                raise
            raise Bad(f"a name that cannot be a file here ({fault.strerror})") from None
        with target, naming(goal):
            copy(source, target.write, size, block)
        self.names.append(name)


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    if not name.isprintable() or not path.parts:
        return False
    return not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def _is_plain(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG)


def _fetch(url: str, part: Path, timeout_s: float, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as refused:
        if refused.code == RANGE_NOT_SATISFIABLE and have:
            return  # all bytes are here; the checksum decides
        raise
    with response:
        resumed = getattr(response, "status", None) == PARTIAL_CONTENT
        have = have if resumed else 0
        left = response.headers.get("Content-Length", "")
        total = have + int(left) if left.isdigit() else None
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, total)
            file.flush()
            os.fsync(file.fileno())


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
