"""Fetching files: resumed where it stopped, checked against a checksum, unpacked inside one folder and nowhere else."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

BLOCK = 1 << 20
LARGEST_ARCHIVE = 1 << 37
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


def download(url: str, path: str | Path, checksum: str, *, timeout_s: float = 60.0) -> Path:
    """Fetches a file once; a broken transfer continues where it stopped.

    Args:
        url: an http, https or file address.
        path: where the file appears when it is complete and its checksum is right.
        checksum: "sha256:<hex>", or "md5:<hex>" where publishers give no other.
        timeout_s: seconds without an answer before giving up, > 0. Default 60.

    Returns:
        The path.

    Raises:
        ValueError: if the content has another checksum, or the address or checksum is of an unknown kind.
        OSError: if the transfer fails; calling again resumes it.

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
    if kind not in ("sha256", "md5") or url.split(":")[0] not in ("http", "https", "file"):
        raise ValueError(
            f"download: expected an http(s) or file address and a sha256: or md5: checksum; got {url} and {checksum}."
        )
    if path.exists() and _digest(path, kind) == expected:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _fetch(url, part, timeout_s)
    found = _digest(part, kind)
    if found != expected:
        part.unlink()
        raise ValueError(
            f"download: expected {kind} {expected} for {url}; got {found}. "
            "Nothing was kept: try again, and if it happens again the publisher has changed the file."
        )
    part.replace(path)
    return path


def extract(archive: str | Path, folder: str | Path, *, largest_bytes: int = LARGEST_ARCHIVE) -> list[Path]:
    """Unpacks the regular files of a zip or tar archive into a folder, and refuses the rest.

    Args:
        archive: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file.
        folder: where files go.
        largest_bytes: most bytes that all files together may unpack to. Default 128 GiB.

    Returns:
        The files.

    Raises:
        ValueError: if a member would leave the folder, is a link or a device, unpacks to too much, or the archive is
            damaged. All names are checked before the first byte is written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "a.zip", "w") as file:
        ...     file.writestr("inside/b.txt", "hello")
        >>> [path.read_text() for path in extract(folder / "a.zip", folder / "out")]
        ['hello']
    """
    archive, folder = Path(archive), Path(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                members = [(i.filename, i.file_size, _is_plain(i), i) for i in opened.infolist() if not i.is_dir()]
                return list(_unpack(archive, folder, members, opened.open, largest_bytes))
        with tarfile.open(archive) as opened:
            members = [(m.name, m.size, m.isreg(), m) for m in opened.getmembers() if not m.isdir()]
            return list(_unpack(archive, folder, members, opened.extractfile, largest_bytes))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as fault:
        raise ValueError(f"extract: expected an intact zip or tar archive; got {fault} in {archive}.") from None


def _unpack(archive: Path, folder: Path, members: list, open_member, largest_bytes: int) -> Iterator[Path]:
    room = largest_bytes
    for name, size, plain, _ in members:
        if not plain or not _stays_inside(name):
            raise ValueError(
                f"extract: expected plain files inside {folder}; got member {name!r} in {archive}. Do not trust it."
            )
        room -= size
    if room < 0:
        raise ValueError(
            f"extract: expected at most {largest_bytes} bytes; got {largest_bytes - room} in {archive}. "
            "Raise largest_bytes if you trust the archive."
        )
    for name, size, _, member in members:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"extract: expected plain folders in {folder}; got a link on the way to {name!r}.")
        with open_member(member) as source, path.open("wb") as target:
            if _copy(source, target, size) != size:
                raise ValueError(f"extract: expected {size} bytes for {name!r}; got fewer or more in {archive}.")
        yield path


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def _is_plain(info: zipfile.ZipInfo) -> bool:
    mode = info.external_attr >> 16
    return stat.S_IFMT(mode) in (0, stat.S_IFREG)


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> int:
    copied = 0
    while copied <= most and (block := source.read(min(BLOCK, most + 1 - copied))):
        copied += len(block)
        target.write(block)
    return copied


def _fetch(url: str, part: Path, timeout_s: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as refused:
        if refused.code == RANGE_NOT_SATISFIABLE and have:
            return  # all bytes are here; the checksum decides
        raise
    with answer:
        resumed = getattr(answer, "status", None) == PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
