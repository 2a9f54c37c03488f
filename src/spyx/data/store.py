"""Files to read, in a folder or inside a zip archive, under the same names; nothing is extracted."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

LARGEST_FILE = 1 << 33


class Store:
    """The files below a folder, or inside a zip archive.

    Args:
        root: the folder or the archive.

    Raises:
        ValueError: if `root` is neither.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._archive = zipfile.ZipFile(self.root) if self.root.is_file() and zipfile.is_zipfile(self.root) else None
        if self._archive is None and not self.root.is_dir():
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
            return path.read_bytes()
        size = self._archive.getinfo(name).file_size
        if size > LARGEST_FILE:
            raise ValueError(f"Store: expected files of at most {LARGEST_FILE} bytes; got {size} for {name!r}.")
        try:
            return self._archive.read(name)
        except Exception as fault:  # zipfile raises six kinds for a damaged archive
            raise ValueError(
                f"Store: expected an intact archive; got {fault} for {name!r} in {self.root}. Download it again."
            ) from None

    def label(self, name: str) -> str:
        """How errors name a file."""
        return f"{self.root}!{name}" if self._archive is not None else str(self.root / name)

    def stamp(self, names: list[str]) -> str:
        """A digest that changes when one of the files does: checksums in an archive, sizes and times in a folder."""
        digest = hashlib.sha256()
        for name in names:
            if self._archive is not None:
                info = self._archive.getinfo(name)
                mark: tuple[object, ...] = (name, info.file_size, info.CRC)
            else:
                status = (self.root / name).stat()
                mark = (name, status.st_size, status.st_mtime_ns)
            digest.update(repr(mark).encode())
        return digest.hexdigest()
