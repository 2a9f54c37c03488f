"""One file per library; each has `DISTRIBUTIONS` and `build(workload, options) -> Steps`.

A file here is imported inside its library's own environment, where no other library exists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Steps(NamedTuple):
    """What is timed.

    Args:
        train: forward, backward and one Adam step; returns the loss of the batch once everything is computed.
        infer: forward; returns once everything is computed.
        compiled_mib: `(kind) -> MiB` that the compiled program needs beside its arguments, where a compiler says so.
    """

    train: Callable[[], float]
    infer: Callable[[], Any]
    compiled_mib: Callable[[str], float] | None = None


class Unsupported(Exception):
    """The library has no such layer."""
