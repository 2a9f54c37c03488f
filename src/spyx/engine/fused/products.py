"""The two products of a recurrent layer, spikes with W and cotangents with its transpose, inside a kernel.

Rows of the result are sums of rows of W, so that the inner loop runs along memory and becomes vector instructions;
several rows of W are added at a time, because otherwise loading and storing the sum costs more than the arithmetic.
"""

from __future__ import annotations

import functools
from typing import Any

from spyx.engine.compiler import kernel, widest_vectors
from spyx.engine.events.rows import adding


@functools.cache
def by_events(dtype: str) -> Any:
    """`by_events(x, a, w, y, b, size, n)`: `y[b:] = x[a:] @ w` for `size // n` rows of x; zeros of x cost a look.

    Spikes are mostly zeros, and with many of them set it is still a good product.
    """
    from numba import types

    pointer, integer, zero = _types(dtype)
    add = adding(dtype, dtype)
    slots = types.ExternalFunction("malloc", types.CPointer(integer)(integer))
    release = types.ExternalFunction("free", types.void(types.CPointer(integer)))

    def by_events(x, a, w, y, b, size, n):
        named = slots(8 * n + 8)
        for row in range(0, size, n):
            for i in range(n):
                y[b + row + i] = zero
            add(x, a + row, w, y, b + row, n, n, named)
        release(named)

    return _compiled(by_events, pointer, integer)


@functools.cache
def product(dtype: str) -> Any:
    """`product(x, a, w, y, b, size, n)`: the same for an x without zeros: a row of W serves four rows of x."""
    pointer, integer, zero = _types(dtype)
    wide = widest_vectors()
    one_row = by_events(dtype)

    def product(x, a, w, y, b, size, n):
        wide()
        whole, fours = size // n // 4 * 4 * n, n // 4 * 4
        for row in range(0, whole, 4 * n):
            o0, c0 = b + row, a + row
            o1, o2, o3, c1, c2, c3 = o0 + n, o0 + 2 * n, o0 + 3 * n, c0 + n, c0 + 2 * n, c0 + 3 * n
            for i in range(4 * n):
                y[o0 + i] = zero
            for k in range(0, fours, 4):
                r0 = k * n
                r1, r2, r3 = r0 + n, r0 + 2 * n, r0 + 3 * n
                x00, x01, x02, x03 = x[c0 + k], x[c0 + k + 1], x[c0 + k + 2], x[c0 + k + 3]
                x10, x11, x12, x13 = x[c1 + k], x[c1 + k + 1], x[c1 + k + 2], x[c1 + k + 3]
                x20, x21, x22, x23 = x[c2 + k], x[c2 + k + 1], x[c2 + k + 2], x[c2 + k + 3]
                x30, x31, x32, x33 = x[c3 + k], x[c3 + k + 1], x[c3 + k + 2], x[c3 + k + 3]
                for i in range(n):
                    w0, w1, w2, w3 = w[r0 + i], w[r1 + i], w[r2 + i], w[r3 + i]
                    y[o0 + i] = (((y[o0 + i] + x00 * w0) + x01 * w1) + x02 * w2) + x03 * w3
                    y[o1 + i] = (((y[o1 + i] + x10 * w0) + x11 * w1) + x12 * w2) + x13 * w3
                    y[o2 + i] = (((y[o2 + i] + x20 * w0) + x21 * w1) + x22 * w2) + x23 * w3
                    y[o3 + i] = (((y[o3 + i] + x30 * w0) + x31 * w1) + x32 * w2) + x33 * w3
        for row in range(0, whole, n):
            for k in range(fours, n):
                x0 = x[a + row + k]
                for i in range(n):
                    y[b + row + i] += x0 * w[k * n + i]
        one_row(x, a + whole, w, y, b + whole, size - whole, n)

    return _compiled(product, pointer, integer)


def _types(dtype: str) -> tuple[Any, Any, Any]:
    import numba
    import numpy as np
    from numba import types

    return types.CPointer(getattr(numba, dtype)), numba.int64, getattr(np, dtype)(0)


def _compiled(function: Any, pointer: Any, integer: Any) -> Any:
    """Sums may be contracted to fused multiply-adds, twice as fast, as XLA's products are."""
    from numba import types

    signature = types.void(pointer, integer, pointer, pointer, integer, integer, integer)
    return kernel(signature, fastmath={"contract"})(function)
