"""Files to read, in a folder or inside a zip archive, under the same names; nothing is extracted."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from spyx.data._archive import Bad, faults, members, unzip
from spyx.data._budget import LARGEST, budget
from spyx.data._disk import opened


class Store:
    """The files below a folder, or inside a zip archive.

    Args:
        root: the folder or the archive.

    Raises:
        ValueError: if `root` is neither, or a damaged archive.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._archive = None
        if self.root.is_file():
            try:
                with faults():
                    self._archive = zipfile.ZipFile(self.root)
                    members(self._archive)
            except Bad as fault:
                raise ValueError(
                    f"Store: expected a folder or a zip archive; got {self.root}, which cannot be read ({fault}). "
                    "Download it again."
                ) from None
        elif not self.root.is_dir():
            raise ValueError(f"Store: expected a folder or a zip archive; got {self.root}. Check the path.")

    def names(self, prefix: str = "", suffix: str = "") -> list[str]:
        """Sorted names of files, with '/' between folders, that start and end so."""
        if self._archive is not None:
            found = [info.filename for info in self._archive.infolist() if not info.is_dir()]
        else:
            found = [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()]
        return sorted(name for name in found if name.startswith(prefix) and name.endswith(suffix))

    def read(self, name: str) -> bytes:
        """The content of one file."""
        if self._archive is None:
            path = (self.root / name).resolve()
            if not path.is_relative_to(self.root.resolve()):
                raise ValueError(f"Store: expected a name inside {self.root}; got {name!r}. Use names().")
            if not path.is_file():
                raise ValueError(f"Store: expected the file {name!r} in {self.root}; got none. Check the path.")
            try:
                with opened(path, "Store", LARGEST) as file:
                    return file.read()
            except MemoryError:
                raise ValueError(
                    f"Store: expected a file that fits into memory; got {name!r} in {self.root}."
                ) from None
        info = self._info(name)
        most = budget(info.compress_size)
        if info.file_size > most:
            raise ValueError(
                f"Store: expected at most {most} bytes; got {info.file_size} for {name!r} in {self.root}. "
                "Unpack the archive yourself if you trust it."
            )
        try:
            with faults():
                return bytes(unzip(self._archive, info))
        except Bad as fault:
            raise ValueError(
                f"Store: expected an intact archive; got {fault} for {name!r} in {self.root}. Download it again."
            ) from None

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._archive.getinfo(name)  # type: ignore[union-attr]
        except KeyError:
            raise ValueError(f"Store: expected {name!r} in {self.root}; got no such file. Download it again.") from None

    def label(self, name: str) -> str:
        """How errors name a file."""
        return f"{self.root}!{name}" if self._archive is not None else str(self.root / name)

    def stamp(self, names: list[str]) -> str:
        """A digest that changes when one of the files does: checksums in an archive, sizes and times in a folder."""
        digest = hashlib.sha256()
        for name in names:
            if self._archive is not None:
                info = self._info(name)
                mark: tuple[object, ...] = (name, info.file_size, info.CRC)
            else:
                status = (self.root / name).stat()
                mark = (name, status.st_size, status.st_mtime_ns)
            digest.update(repr(mark).encode())
        return digest.hexdigest()
