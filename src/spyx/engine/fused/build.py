"""From a kernel's source to a call inside jit: compiled by Numba, registered with XLA's FFI."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from spyx.engine import native
from spyx.engine.compiler import entry, kernel, pointer_to
from spyx.engine.fused.exponential import exponential
from spyx.engine.fused.primitives import DTYPES
from spyx.engine.fused.products import by_events, product

_LIBRARY: dict[str, Callable[[str], Any]] = {"exp": exponential, "by_events": by_events, "product": product}
"""Functions that a source may call, by the dtype they compute in."""


def call(
    name: str, source: str, dtype: np.dtype, share: native.Share, arrays: list[jax.Array], shapes: list[Any]
) -> list[jax.Array]:
    """Run the kernel `name(first, last, *dimensions of arrays[0], *pointers)` of a source on arrays of one dtype."""
    rank, pointers = arrays[0].ndim, len(arrays) + len(shapes)
    target = native.register(name, source, share, lambda: _compile(name, source, dtype.name, rank, pointers))
    return list(jax.ffi.ffi_call(target, shapes)(*arrays))


def _compile(name: str, source: str, dtype: str, rank: int, count: int) -> Any:
    """A Numba function `(context, first, last)` that runs the kernel on the buffers of a context."""
    import numba
    from numba import types

    pointer = types.CPointer(getattr(numba, dtype))
    namespace = {
        "scratch": _scratch(pointer),
        "release": types.ExternalFunction("free", types.void(pointer)),
        **names(source, dtype),
    }
    exec(compile(source, f"<spyx {name} kernel>", "exec"), namespace)  # source that this module wrote
    signature = types.void(*[numba.int64] * (2 + rank), *[pointer] * count)
    work = kernel(signature)(namespace[name])
    sizes = ", ".join(f"dims[{k}]" for k in range(rank))
    buffers = ", ".join(f"at(c[{native.BUFFERS + 2 * k}])" for k in range(count))
    text = (
        f"def entry(context, first, last):\n    c = words(context)\n    dims = words(c[{native.BUFFERS + 1}])\n"
        f"    kernel(first, last, {sizes}, {buffers})\n    return 0\n"
    )
    scope = {"kernel": work, "at": pointer_to(dtype), "words": pointer_to("int64")}
    exec(compile(text, f"<spyx {name} entry>", "exec"), scope)
    return entry(scope["entry"])


def names(source: str, dtype: str) -> dict[str, Any]:
    """What the lane programs and products of a source are written in."""
    return {
        "np": np,
        "math": math,
        **{n: function(dtype) for n, function in _LIBRARY.items() if f"{n}(" in source},
        **{n: getattr(np, n) for n in DTYPES if n != "bool"},
    }


def _scratch(pointer: Any) -> Any:
    """`scratch(size)` in bytes: from a cache line's start, because vectors that straddle two cost twice."""
    import numba
    from numba import types

    allocate = types.ExternalFunction("aligned_alloc", pointer(numba.int64, numba.int64))
    jit: Any = numba.njit

    @jit(nogil=True)
    def scratch(size):
        return allocate(64, (size + 63) // 64 * 64)

    return scratch
