"""Two CPU kernels for convolutions of mostly silent maps: a spike adds its patch of weights, or gathers one of `g`.

Both walk over the places of a source (images, height, width, channels) and relate the place (y, x) to the patch of a
target (images, height', width', features) that begins at (y, x) - offset: `scatter` is
`target[y - o + k, x - o' + l] += source[y, x, c] * w[k, c, l]`, `gather` is the same sum for the weights. A row of a
patch is contiguous in the target and in `w` (rows, channels, columns, features), so one loop over it is enough.
Compiled by Numba, called through XLA's FFI.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine import native
from spyx.engine.compiler import entry, kernel, pointer_to

IMAGES, PARTS = native.Share(axis=0, smallest=1, largest=8), native.Share(axis=0, smallest=1, largest=1)

SUMMANDS = 16
"""Sums that `gather` keeps, each over some of the images, so that threads need not share one."""

Offset = tuple[int, int]


def scatter(source: jax.Array, w: jax.Array, offset: Offset, size: tuple[int, int]) -> jax.Array:
    """The target of `size` (height', width')."""
    out = jax.ShapeDtypeStruct((source.shape[0], *size, w.shape[-1]), w.dtype)
    return _call("scatter", IMAGES, out, source, w, _place(offset))


def gather(source: jax.Array, g: jax.Array, offset: Offset, window: tuple[int, int]) -> jax.Array:
    """The gradient of `w` (rows, channels, columns, features), for `window` (rows, columns)."""
    (rows, columns), channels, features = window, source.shape[-1], g.shape[-1]
    parts = jnp.zeros(min(SUMMANDS, source.shape[0]), g.dtype)
    out = jax.ShapeDtypeStruct((*parts.shape, rows, channels, columns, features), g.dtype)
    return _call("gather", PARTS, out, parts, source, g, _place(offset)).sum(0)


def _place(offset: Offset) -> jax.Array:
    return jnp.asarray(np.asarray(offset, np.int32))


def _call(name: str, share: native.Share, out: jax.ShapeDtypeStruct, *operands: jax.Array) -> jax.Array:
    kind = f"{name}_{out.dtype.name}"
    target = native.register(name, kind, share, lambda: _ENTRIES[name](out.dtype.name))
    return jax.ffi.ffi_call(target, out)(*operands)


def _scatter(number: str) -> Any:
    import numba
    from numba import types

    real, int64 = getattr(numba, number), numba.int64
    array, named_type = types.CPointer(real), types.CPointer(int64)
    words, at, place = pointer_to("int64"), pointer_to(number), pointer_to("int32")
    malloc = types.ExternalFunction("malloc", named_type(int64))
    free = types.ExternalFunction("free", types.void(named_type))
    sizes = types.UniTuple(int64, 4)

    @kernel(types.void(int64, int64, sizes, sizes, sizes, int64, int64, array, array, array), fastmath={"contract"})
    def scatter(first, last, source_size, w_size, target_size, down, right, source, w, target):
        _, height, width, channels = source_size
        rows, _, columns, features = w_size
        _, target_height, target_width, _ = target_size
        step = columns * features  # from one channel's row of weights to the next
        named = malloc(8 * channels + 8)
        for image in range(first, last):
            begin = image * target_height * target_width * features
            for o in range(begin, begin + target_height * target_width * features):
                target[o] = real(0)
            for y in range(height):
                for x in range(width):
                    at_x, count = ((image * height + y) * width + x) * channels, 0
                    for c in range(channels):
                        named[count] = c
                        count += 1 if source[at_x + c] != 0 else 0
                    left = max(0, x - right)
                    n = (min(target_width, x - right + columns) - left) * features
                    inside = (left - (x - right)) * features
                    for k in range(max(0, down - y), min(rows, target_height - y + down)):
                        at_y = begin + ((y - down + k) * target_width + left) * features
                        at_w = k * channels * step + inside
                        e = 0
                        while e + 4 <= count:
                            c0, c1, c2, c3 = named[e], named[e + 1], named[e + 2], named[e + 3]
                            x0, x1, x2, x3 = source[at_x + c0], source[at_x + c1], source[at_x + c2], source[at_x + c3]
                            w0, w1, w2, w3 = at_w + c0 * step, at_w + c1 * step, at_w + c2 * step, at_w + c3 * step
                            for o in range(n):
                                target[at_y + o] += (x0 * w[w0 + o] + x1 * w[w1 + o]) + (
                                    x2 * w[w2 + o] + x3 * w[w3 + o]
                                )
                            e += 4
                        while e < count:
                            x0, w0 = source[at_x + named[e]], at_w + named[e] * step
                            for o in range(n):
                                target[at_y + o] += x0 * w[w0 + o]
                            e += 1
        free(named)

    b = native.BUFFERS

    @entry
    def enter(context, first, last):
        c = words(context)
        s, w, t, o = words(c[b + 1]), words(c[b + 3]), words(c[b + 7]), place(c[b + 4])
        scatter(
            first, last, (s[0], s[1], s[2], s[3]), (w[0], w[1], w[2], w[3]), (t[0], t[1], t[2], t[3]),
            o[0], o[1], at(c[b]), at(c[b + 2]), at(c[b + 6]),
        )  # fmt: skip
        return 0

    return enter


def _gather(number: str) -> Any:
    import numba
    from numba import types

    real, int64 = getattr(numba, number), numba.int64
    array = types.CPointer(real)
    words, at, place = pointer_to("int64"), pointer_to(number), pointer_to("int32")
    sizes = types.UniTuple(int64, 4)

    @kernel(
        types.void(int64, int64, int64, sizes, sizes, sizes, int64, int64, array, array, array), fastmath={"contract"}
    )
    def gather(first, last, parts, source_size, g_size, w_size, down, right, source, g, w):
        images, height, width, channels = source_size
        _, target_height, target_width, features = g_size
        rows, _, columns, _ = w_size
        step = columns * features
        size = rows * channels * step
        for part in range(first, last):
            own = part * size
            for o in range(own, own + size):
                w[o] = real(0)
            for image in range(part * images // parts, (part + 1) * images // parts):
                for y in range(height):
                    for x in range(width):
                        left = max(0, x - right)
                        n = (min(target_width, x - right + columns) - left) * features
                        inside = (left - (x - right)) * features
                        at_x = ((image * height + y) * width + x) * channels
                        for c in range(channels):
                            value = source[at_x + c]
                            if value != 0:
                                for k in range(max(0, down - y), min(rows, target_height - y + down)):
                                    at_g = ((image * target_height + y - down + k) * target_width + left) * features
                                    at_w = own + (k * channels + c) * step + inside
                                    for o in range(n):
                                        w[at_w + o] += value * g[at_g + o]

    b = native.BUFFERS

    @entry
    def enter(context, first, last):
        c = words(context)
        p, s, g, w, o = words(c[b + 1]), words(c[b + 3]), words(c[b + 5]), words(c[b + 9]), place(c[b + 6])
        gather(
            first, last, p[0], (s[0], s[1], s[2], s[3]), (g[0], g[1], g[2], g[3]), (w[1], w[2], w[3], w[4]),
            o[0], o[1], at(c[b + 2]), at(c[b + 4]), at(c[b + 8]),
        )  # fmt: skip
        return 0

    return enter


_ENTRIES = {"scatter": functools.cache(_scatter), "gather": functools.cache(_gather)}
