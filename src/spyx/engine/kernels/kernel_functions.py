"""Functions that kernels call: memory, the exponential, and the products of a recurrent step.

`exp` is plain arithmetic, so that a loop over lanes stays a vector loop: a call of the C library would end that. It is
`exp(x) = 2^n exp(r)`, `n` the integer nearest to `x / ln 2` and `|r| <= ln(2) / 2`, where a short Taylor polynomial is
exact to the last bit or two.

Products are sums of rows of W, so that the inner loop runs along memory and becomes vector instructions; several rows
are added at a time, because otherwise loading and storing the sum costs more than the arithmetic.
"""
# pyright: reportUndefinedVariable=false
# ruff: noqa: F821 - the names are those of the kernel language

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from spyx.engine.kernels.language import Kernel, kernel, parse

inf, nan = math.inf, math.nan

_LN_2 = Decimal("0.69314718055994530941723212145817656807550013436")
# Degree, bits of the first part of ln 2, the integer type of that size, its exponent's bias and its mantissa's bits,
# and where the result becomes 0 and infinity.
_FORMATS = {
    "float32": (7, 9, "int32", 127, 23, -104.0, 89.0),
    "float64": (13, 32, "int64", 1023, 52, -746.0, 710.0),
}


def exponential_source(number: str) -> str:
    """`exp_float32(x)` or `exp_float64(x)` as text."""
    degree, bits, whole, bias, mantissa, smallest, largest = _FORMATS[number]
    scale = 2.0**bits
    high = round(math.log(2) * scale) / scale  # n * high is exact, so that r loses nothing
    low, to = float(_LN_2 - Decimal(high)), getattr(np, number)
    sums = [f"    total = total * r + {float(to(1 / math.factorial(k)))!r}" for k in range(degree - 1, -1, -1)]
    return "\n".join([
        f"def exp_{number}(x):",
        f"    bounded = x if x > {smallest} else {number}({smallest})",
        f"    bounded = bounded if bounded < {largest} else {number}({largest})",
        f"    n = floor(bounded * {float(to(1 / math.log(2)))!r} + 0.5)",
        f"    r = (bounded - n * {high!r}) - n * {float(to(low))!r}",
        f"    total = {number}({float(to(1 / math.factorial(degree)))!r})",
        *sums,
        f"    whole = truncated_{whole}(n)",
        "    half = whole >> 1  # in two halves: 2^n alone may not be a normal number",
        f"    first = reinterpret({number}, (half + {bias}) << {mantissa})",
        f"    second = reinterpret({number}, (whole - half + {bias}) << {mantissa})",
        "    return x if x != x else total * first * second",
        "",
    ])  # fmt: skip


@kernel(returns="byte*")
def scratch(size):
    """Memory of `size` bytes from a cache line's start, because vectors that straddle two cost twice."""
    return aligned_alloc(64, (size + 63) // 64 * 64)


@kernel(x="spikes*", w="real*", y="real*", named="int*", contract=True, wide=True)
def add_rows(x, a, w, y, b, inputs, outputs, named):
    """`y[b:] += x[a:] @ w` for one row of x by its entries that are not 0; `named` has room for all their numbers."""
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


@kernel(x="real*", w="real*", y="real*", contract=True)
def by_events(x, a, w, y, b, size, n):
    """`y[b:] = x[a:] @ w` for `size // n` rows of x; zeros of x cost a look.

    Spikes are mostly zeros, and with many of them set it is still a good product.
    """
    named = int_at(malloc(8 * n + 8))
    for row in range(0, size, n):
        for i in range(n):
            y[b + row + i] = real(0)
        add_rows(x, a + row, w, y, b + row, n, n, named)
    free(named)


@kernel(x="real*", w="real*", y="real*", contract=True, wide=True)
def product(x, a, w, y, b, size, n):
    """The same for an x without zeros: a row of W serves four rows of x."""
    whole, fours = size // n // 4 * 4 * n, n // 4 * 4
    for row in range(0, whole, 4 * n):
        o0, c0 = b + row, a + row
        o1, o2, o3, c1, c2, c3 = o0 + n, o0 + 2 * n, o0 + 3 * n, c0 + n, c0 + 2 * n, c0 + 3 * n
        for i in range(4 * n):
            y[o0 + i] = real(0)
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
    by_events(x, a + whole, w, y, b + whole, size - whole, n)


def _exponential(number: str) -> Kernel:
    text = exponential_source(number)
    return parse(text, lambda function, argument: number, {}, returns=number, inline=True)[f"exp_{number}"]


exp_float32, exp_float64 = _exponential("float32"), _exponential("float64")
