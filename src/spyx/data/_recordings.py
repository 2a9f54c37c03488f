"""A list of recordings that are decoded when they are asked for, so that a data set never has to fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from spyx.data._events import Events


class Recordings:
    """A lazy sequence of `Events`.

    Args:
        names: one name for each recording.
        read: decodes the recording of a name.
        stamp: changes whenever the files behind the names do; part of the name of every cache made from them.
        sensor_size: (width, height) or (units,), the same for all.

    Example:
        >>> one = Recordings(["a"], lambda name: Events(t=[5], unit=[0]), stamp="", sensor_size=(1,))
        >>> len(one), one[0].t.tolist()
        (1, [5])
    """

    def __init__(
        self, names: Sequence[str], read: Callable[[str], Events], *, stamp: str, sensor_size: tuple[int, ...]
    ) -> None:
        self.names = list(names)
        self.read = read
        self.sensor_size = sensor_size
        self._stamp = stamp

    @property
    def stamp(self) -> str:
        """Digest of the files and of which of them are in this list, in which order."""
        return hashlib.sha256("\0".join([self._stamp, *self.names]).encode("utf-8", "surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index):
        """One recording for an integer, a shorter list for an array of indices or a slice."""
        if isinstance(index, (int, np.integer)):
            return self.read(self.names[index])
        chosen = np.asarray(self.names, dtype=object)[index].tolist()
        return Recordings(chosen, self.read, stamp=self._stamp, sensor_size=self.sensor_size)

    def __iter__(self) -> Iterator[Events]:
        return (self.read(name) for name in self.names)
