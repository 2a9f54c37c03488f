"""Writing a .nir file: complete or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import nir
from spyx.data._disk import naming, part_of
from spyx.nir.digest import mark
from spyx.nir.validate import validated


def write(path: Any, graph: nir.NIRGraph) -> None:
    """Write a graph to a .nir file. It is checked first, and an old file of that name stays until the new one is whole.

    The file carries a digest of every node, which `read` compares with what it finds.

    Args:
        path: the file.
        graph: what `to_nir` made, or any `nir.NIRGraph`.

    Raises:
        ValueError: a graph that could not be read back; all reasons in one list.
        FileNotFoundError: no such folder.

    Example:
        >>> import tempfile
        >>> from spyx import nn
        >>> from spyx.nir import from_nir, to_nir
        >>> path = tempfile.mkdtemp() + "/model.nir"
        >>> write(path, to_nir(nn.Sequential(nn.LIF(3, beta=0.5)), dt=1.0))
        >>> from_nir(path).nodes["lif_0"].beta[...].item()
        0.5
    """
    validated(graph, "spyx.nir.write")
    path = os.fspath(path)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise FileNotFoundError(f"spyx.nir.write: expected a folder that exists; got {path!r}. Make it first.")
    temporary = str(part_of(Path(path)))
    try:
        with naming(path):
            nir.write(temporary, graph)
            mark(temporary)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
