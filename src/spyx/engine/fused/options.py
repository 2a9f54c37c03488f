"""How every kernel is compiled: without the interpreter's lock, and told that XLA's buffers do not overlap."""

from __future__ import annotations

import functools
from typing import Any


def options() -> dict[str, Any]:
    """Keyword arguments of `numba.njit`."""
    return {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "pipeline_class": _pipeline()}


@functools.cache
def _pipeline() -> Any:
    """Numba's compiler, told that pointers do not overlap: without it loops over many arrays stay scalar."""
    from numba.core.compiler import CompilerBase, DefaultPassBuilder

    class NoAlias(CompilerBase):
        def define_pipelines(self) -> Any:
            self.state.flags.noalias = True
            return [DefaultPassBuilder.define_nopython_pipeline(self.state)]

    return NoAlias
