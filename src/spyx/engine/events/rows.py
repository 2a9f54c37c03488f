"""Two CPU kernels for products with a mostly silent factor: a zero of `x` costs a look, a spike costs one row.

`affine` adds the rows of `w` that a row of `x` names; `outer` adds, for every input, the rows of `g` at which it
spiked. Rows go through the vector units eight or four at a time, so that a sum is stored once for several of them.
Compiled by Numba for one pair of dtypes, called through XLA's FFI.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from spyx.engine import native
from spyx.engine.compiler import entry, kernel, pointer_to, widest_vectors

ROWS, INPUTS = native.Share(axis=0, smallest=8, largest=64), native.Share(axis=1, smallest=16, largest=256)
"""What is shared out: rows of the answer, that is rows of `x` for `affine` and columns of `x` for `outer`."""

TILE = 128
"""Rows of `g` that `outer` visits before it moves on: few enough to stay in the second-level cache."""


def affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """`x @ w + b` for x (rows, inputs), w (inputs, outputs), b (outputs)."""
    return _call("affine", ROWS, jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), w.dtype), x, w, b)


def outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """`x.T @ g` for x (rows, inputs), g (rows, outputs)."""
    return _call("outer", INPUTS, jax.ShapeDtypeStruct((x.shape[1], g.shape[1]), g.dtype), x, g)


def _call(name: str, share: native.Share, out: jax.ShapeDtypeStruct, x: jax.Array, *rest: jax.Array) -> jax.Array:
    spikes = "uint8" if x.dtype == np.bool_ else x.dtype.name
    kind = f"{name}_{spikes}_{out.dtype.name}"
    target = native.register(name, kind, share, lambda: _ENTRIES[name](spikes, out.dtype.name))
    return jax.ffi.ffi_call(target, out)(x, *rest)


@functools.cache
def adding(spikes: str, number: str) -> Any:
    """`add(x, a, w, y, b, inputs, outputs, named)`: `y[b:] += x[a:] @ w` for one row of x, inside a kernel.

    `named` has room for the number of every input. Sums may be contracted to fused multiply-adds, as XLA's are.
    """
    import numba
    from numba import types

    real, int64, wide = getattr(numba, number), numba.int64, widest_vectors()
    array, x_array = types.CPointer(real), types.CPointer(getattr(numba, spikes))
    signature = types.void(x_array, int64, array, array, int64, int64, int64, types.CPointer(int64))

    @kernel(signature, fastmath={"contract"})
    def add(x, a, w, y, b, inputs, outputs, named):
        wide()
        count = 0
        for i in range(inputs):  # without a branch: a wrong guess would cost more than the store
            named[count] = i
            count += 1 if x[a + i] != 0 else 0
        k = 0
        while k + 8 <= count:
            i0, i1, i2, i3 = named[k], named[k + 1], named[k + 2], named[k + 3]
            i4, i5, i6, i7 = named[k + 4], named[k + 5], named[k + 6], named[k + 7]
            x0, x1, x2, x3 = real(x[a + i0]), real(x[a + i1]), real(x[a + i2]), real(x[a + i3])
            x4, x5, x6, x7 = real(x[a + i4]), real(x[a + i5]), real(x[a + i6]), real(x[a + i7])
            i0, i1, i2, i3 = i0 * outputs, i1 * outputs, i2 * outputs, i3 * outputs
            i4, i5, i6, i7 = i4 * outputs, i5 * outputs, i6 * outputs, i7 * outputs
            for o in range(outputs):
                low = (x0 * w[i0 + o] + x1 * w[i1 + o]) + (x2 * w[i2 + o] + x3 * w[i3 + o])
                high = (x4 * w[i4 + o] + x5 * w[i5 + o]) + (x6 * w[i6 + o] + x7 * w[i7 + o])
                y[b + o] += low + high
            k += 8
        while k < count:
            i0, x0 = named[k] * outputs, real(x[a + named[k]])
            for o in range(outputs):
                y[b + o] += x0 * w[i0 + o]
            k += 1

    return add


def _affine(spikes: str, number: str) -> Any:
    """`(context, first, last)`, for `x` of dtype `spikes` and everything else of `number`."""
    import numba
    from numba import types

    real, int64, add = getattr(numba, number), numba.int64, adding(spikes, number)
    array, x_array, events = types.CPointer(real), types.CPointer(getattr(numba, spikes)), types.CPointer(int64)
    words, at, at_spikes = pointer_to("int64"), pointer_to(number), pointer_to(spikes)
    malloc = types.ExternalFunction("malloc", events(int64))
    free = types.ExternalFunction("free", types.void(events))

    @kernel(types.void(*[int64] * 4, x_array, array, array, array))
    def affine(first, last, inputs, outputs, x, w, b, y):
        named = malloc(8 * inputs + 8)
        for row in range(first, last):
            for o in range(outputs):
                y[row * outputs + o] = b[o]
            add(x, row * inputs, w, y, row * outputs, inputs, outputs, named)
        free(named)

    b0 = native.BUFFERS

    @entry
    def enter(context, first, last):
        c = words(context)
        size = words(c[b0 + 3])
        affine(first, last, size[0], size[1], at_spikes(c[b0]), at(c[b0 + 2]), at(c[b0 + 4]), at(c[b0 + 6]))
        return 0

    return enter


def _outer(spikes: str, number: str) -> Any:
    """`(context, first, last)`, for `x` of dtype `spikes` and everything else of `number`."""
    import numba
    from numba import types

    real, int64 = getattr(numba, number), numba.int64
    array, x_array, events = types.CPointer(real), types.CPointer(getattr(numba, spikes)), types.CPointer(int64)
    words, at, at_spikes, wide = pointer_to("int64"), pointer_to(number), pointer_to(spikes), widest_vectors()
    malloc = types.ExternalFunction("malloc", events(int64))
    free = types.ExternalFunction("free", types.void(events))

    @kernel(types.void(*[int64] * 5, x_array, array, array), fastmath={"contract"})
    def outer(first, last, rows, inputs, outputs, x, g, w):
        wide()
        named = malloc(8 * TILE + 8)
        for k in range(first * outputs, last * outputs):
            w[k] = real(0)
        for begin in range(0, rows, TILE):
            end = min(rows, begin + TILE)
            for i in range(first, last):
                at_w, count, k = i * outputs, 0, 0
                for row in range(begin, end):
                    named[count] = row
                    count += 1 if x[row * inputs + i] != 0 else 0
                while k + 4 <= count:
                    r0, r1, r2, r3 = named[k], named[k + 1], named[k + 2], named[k + 3]
                    x0, x1 = real(x[r0 * inputs + i]), real(x[r1 * inputs + i])
                    x2, x3 = real(x[r2 * inputs + i]), real(x[r3 * inputs + i])
                    r0, r1, r2, r3 = r0 * outputs, r1 * outputs, r2 * outputs, r3 * outputs
                    for o in range(outputs):
                        w[at_w + o] += (x0 * g[r0 + o] + x1 * g[r1 + o]) + (x2 * g[r2 + o] + x3 * g[r3 + o])
                    k += 4
                while k < count:
                    r0, x0 = named[k] * outputs, real(x[named[k] * inputs + i])
                    for o in range(outputs):
                        w[at_w + o] += x0 * g[r0 + o]
                    k += 1
        free(named)

    b0 = native.BUFFERS

    @entry
    def enter(context, first, last):
        c = words(context)
        x_size, g_size = words(c[b0 + 1]), words(c[b0 + 3])
        outer(first, last, x_size[0], x_size[1], g_size[1], at_spikes(c[b0]), at(c[b0 + 2]), at(c[b0 + 4]))
        return 0

    return enter


_ENTRIES = {"affine": _affine, "outer": _outer}
