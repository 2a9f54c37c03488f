"""Memory for batches, used again when nobody holds a batch any more: fresh memory costs more than the copy into it."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np

ALIGNMENT = 64
"""JAX on CPUs takes an array over without a copy where it begins at a multiple of so many bytes."""


def _references(memory: list[np.ndarray], place: int) -> int:
    return sys.getrefcount(memory[place])


UNUSED = _references([np.empty(1)], 0)
"""References to memory that a list alone holds; versions of Python count their own differently."""


class Buffers:
    """Arrays of one shape.

    Memory counts as used as long as anything refers to it: an array of NumPy, or one of JAX, which holds what it was
    made from until it is deleted and every computation with it has ended.

    Args:
        shape: of each array.
        dtype: of each array.
        most: how many this object holds; an array that is asked for while all of them are used belongs to the caller.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, most: int) -> None:
        self.shape, self.dtype, self.most = shape, dtype, most
        self._memory: list[np.ndarray] = []
        self._lock = threading.Lock()

    def get(self) -> np.ndarray:
        """An array that is used nowhere; what is in it is undefined."""
        size = math.prod(self.shape) * self.dtype.itemsize
        with self._lock:
            free = (n for n in range(len(self._memory)) if _references(self._memory, n) <= UNUSED)
            if (place := next(free, None)) is not None:
                memory = self._memory[place]
            else:
                memory = np.empty(size + ALIGNMENT, np.uint8)
                if len(self._memory) < self.most:
                    self._memory.append(memory)
            first = -memory.ctypes.data % ALIGNMENT
            return memory[first : first + size].view(self.dtype).reshape(self.shape)
