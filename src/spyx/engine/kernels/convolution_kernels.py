"""Two CPU kernels for convolutions of mostly silent maps: a spike adds its patch of weights, or gathers one of `g`.

Both walk over the places of a source (images, height, width, channels) and relate the place (y, x) to the patch of a
target (images, height', width', features) that begins at (y, x) - offset: `scatter` is
`target[y - o + k, x - o' + l] += source[y, x, c] * w[k, c, l]`, `gather` is the same sum for the weights. A row of a
patch is contiguous in the target and in `w` (rows, channels, columns, features), so one loop over it is enough.
Compiled for one dtype, called through XLA's FFI.
"""
# pyright: reportUndefinedVariable=false
# ruff: noqa: F821 - names of the kernel language

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.derivative import together
from spyx.engine.kernels import xla_call
from spyx.engine.kernels.language import kernel
from spyx.engine.kernels.xla_call import BUFFERS

IMAGES, PARTS = xla_call.Share(axis=0, smallest=1, largest=8), xla_call.Share(axis=0, smallest=1, largest=1)

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


def _call(name: str, share: xla_call.Share, out: jax.ShapeDtypeStruct, *operands: jax.Array) -> jax.Array:
    target = xla_call.register(name, name, {"real": out.dtype.name}, share, lambda: _ENTRIES[name])
    return together(jax.ffi.ffi_call(target, out)(*operands), *operands)[0]


@kernel(source="real*", w="real*", target="real*", sizes="int*", of_w="int*", of_target="int*", contract=True)
def _scatter(first, last, sizes, of_w, of_target, down, right, source, w, target):
    height, width, channels = sizes[1], sizes[2], sizes[3]
    rows, columns, features = of_w[0], of_w[2], of_w[3]
    target_height, target_width = of_target[1], of_target[2]
    step = columns * features  # from one channel's row of weights to the next
    named = int_at(malloc(8 * channels + 8))
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
                            target[at_y + o] += (x0 * w[w0 + o] + x1 * w[w1 + o]) + (x2 * w[w2 + o] + x3 * w[w3 + o])
                        e += 4
                    while e < count:
                        x0, w0 = source[at_x + named[e]], at_w + named[e] * step
                        for o in range(n):
                            target[at_y + o] += x0 * w[w0 + o]
                        e += 1
    free(named)


@kernel()
def _enter_scatter(context, first, last):
    c = int_at(context)
    sizes, of_w, of_target = int_at(c[BUFFERS + 1]), int_at(c[BUFFERS + 3]), int_at(c[BUFFERS + 7])
    source, w, target, place = real_at(c[BUFFERS]), real_at(c[BUFFERS + 2]), real_at(c[BUFFERS + 6]), c[BUFFERS + 4]
    offset = int32_at(place)
    _scatter(first, last, sizes, of_w, of_target, int(offset[0]), int(offset[1]), source, w, target)
    return 0


@kernel(source="real*", g="real*", w="real*", sizes="int*", of_g="int*", of_w="int*", contract=True)
def _gather(first, last, parts, sizes, of_g, of_w, down, right, source, g, w):
    images, height, width, channels = sizes[0], sizes[1], sizes[2], sizes[3]
    target_height, target_width, features = of_g[1], of_g[2], of_g[3]
    rows, columns = of_w[1], of_w[3]
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


@kernel()
def _enter_gather(context, first, last):
    c = int_at(context)
    parts, sizes, of_g = int_at(c[BUFFERS + 1]), int_at(c[BUFFERS + 3]), int_at(c[BUFFERS + 5])
    of_w, offset = int_at(c[BUFFERS + 9]), int32_at(c[BUFFERS + 6])
    source, g, w = real_at(c[BUFFERS + 2]), real_at(c[BUFFERS + 4]), real_at(c[BUFFERS + 8])
    _gather(first, last, parts[0], sizes, of_g, of_w, int(offset[0]), int(offset[1]), source, g, w)
    return 0


_ENTRIES = {"scatter": _enter_scatter, "gather": _enter_gather}
