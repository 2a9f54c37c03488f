"""Two CPU kernels for products with a mostly silent factor: a zero of `x` costs a look, a spike costs one row.

`affine` adds the rows of `w` that a row of `x` names; `outer` adds, for every input, the rows of `g` at which it
spiked. Rows go through the vector units eight or four at a time, so that a sum is stored once for several of them.
Compiled for one pair of dtypes, called through XLA's FFI.
"""
# pyright: reportUndefinedVariable=false
# ruff: noqa: F821 - names of the kernel language

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.derivative import together
from spyx.engine.kernels import xla_call
from spyx.engine.kernels.kernel_functions import add_rows as add_rows
from spyx.engine.kernels.language import SCALARS, kernel
from spyx.engine.kernels.xla_call import BUFFERS

ROWS, INPUTS = xla_call.Share(axis=0, smallest=8, largest=64), xla_call.Share(axis=1, smallest=16, largest=256)
"""What is shared out: rows of the result, that is rows of `x` for `affine` and columns of `x` for `outer`."""

ALL = xla_call.Share(axis=0, smallest=2**40, largest=2**40)
"""One thread does everything: it is less work than asking another one."""

TILE = 128
"""Rows of `g` that `outer` visits before it moves on: few enough to stay in the second-level cache."""


def affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """`x @ w + b` for x (rows, inputs), w (inputs, outputs), b (outputs)."""
    return _call("affine", ROWS, jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), w.dtype), x, w, b)


def outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """`x.T @ g` for x (rows, inputs), g (rows, outputs)."""
    return _call("outer", INPUTS, jax.ShapeDtypeStruct((x.shape[1], g.shape[1]), g.dtype), x, g)


def count_nonzero(x: jax.Array, stride: int) -> jax.Array:
    """Entries of `x[::stride]`, for x (rows, ...), that are not zero: int32."""
    if x.dtype.name not in SCALARS:
        return jnp.count_nonzero(x[::stride]).astype(jnp.int32)
    flat = x.reshape(x.shape[0], -1)
    return _call("count", ALL, jax.ShapeDtypeStruct((), np.dtype(np.int32)), flat, jnp.full((), stride, jnp.int32))


def _call(name: str, share: xla_call.Share, out: jax.ShapeDtypeStruct, x: jax.Array, *rest: jax.Array) -> jax.Array:
    types = {"spikes": "uint8" if x.dtype == np.bool_ else x.dtype.name, "real": out.dtype.name}
    target = xla_call.register(name, name, types, share, lambda: _ENTRIES[name])
    return together(jax.ffi.ffi_call(target, out)(x, *rest), x, *rest)[0]


@kernel(x="spikes*", w="real*", b="real*", y="real*")
def _affine(first, last, inputs, outputs, x, w, b, y):
    named = int_at(malloc(8 * inputs + 8))
    for row in range(first, last):
        for o in range(outputs):
            y[row * outputs + o] = b[o]
        add_rows(x, row * inputs, w, y, row * outputs, inputs, outputs, named)
    free(named)


@kernel()
def _enter_affine(context, first, last):
    c = int_at(context)
    x, w, b, y = spikes_at(c[BUFFERS]), real_at(c[BUFFERS + 2]), real_at(c[BUFFERS + 4]), real_at(c[BUFFERS + 6])
    size = int_at(c[BUFFERS + 3])
    _affine(first, last, size[0], size[1], x, w, b, y)
    return 0


@kernel(x="spikes*", g="real*", w="real*", contract=True, wide=True)
def _outer(first, last, rows, inputs, outputs, x, g, w):
    named = int_at(malloc(8 * TILE + 8))
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


@kernel()
def _enter_outer(context, first, last):
    c = int_at(context)
    x_size, g_size = int_at(c[BUFFERS + 1]), int_at(c[BUFFERS + 3])
    x, g, w = spikes_at(c[BUFFERS]), real_at(c[BUFFERS + 2]), real_at(c[BUFFERS + 4])
    _outer(first, last, x_size[0], x_size[1], g_size[1], x, g, w)
    return 0


@kernel()
def _enter_count(context, first, last):
    c = int_at(context)
    x, size, stride, found = (
        spikes_at(c[BUFFERS]),
        int_at(c[BUFFERS + 1]),
        int32_at(c[BUFFERS + 2]),
        real_at(c[BUFFERS + 4]),
    )
    found[0] = _count(x, size[0], size[1], int(stride[0]))
    return 0


@kernel(x="spikes*", returns="real", wide=True)
def _count(x, rows, columns, stride):
    total = real(0)
    for row in range(0, rows, stride):
        at = row * columns
        for i in range(columns):
            total += real(1) if x[at + i] != 0 else real(0)
    return total


_ENTRIES = {"count": _enter_count, "affine": _enter_affine, "outer": _enter_outer}
