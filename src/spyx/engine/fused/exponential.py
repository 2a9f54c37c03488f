"""`exp` as plain arithmetic, so that a loop over lanes stays a vector loop: a call of the C library would end that.

`exp(x) = 2^n exp(r)`, `n` the integer nearest to `x / ln 2` and `|r| <= ln(2) / 2`, where a short Taylor polynomial is
exact to the last bit or two.
"""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from typing import Any

import numpy as np

_LN_2 = Decimal("0.69314718055994530941723212145817656807550013436")
# Degree, bits of the first part of ln 2, the integer type of that size, its exponent's bias and its mantissa's bits,
# and where the result becomes 0 and infinity.
_FORMATS = {
    "float32": (7, 9, "int32", 127, 23, -104.0, 89.0),
    "float64": (13, 32, "int64", 1023, 52, -746.0, 710.0),
}


@functools.cache
def exponential(name: str) -> Any:
    """A Numba function from one `name` ("float32", "float64") to its exponential."""
    import numba
    from numba.extending import intrinsic

    degree, bits, integer_name, bias, mantissa, smallest, largest = _FORMATS[name]
    number, integer = getattr(np, name), getattr(np, integer_name)
    scale = 2.0**bits
    high = round(math.log(2) * scale) / scale  # n * high is exact, so that r loses nothing
    high, low, turns = number(high), number(_LN_2 - Decimal(high)), number(1 / math.log(2))
    coefficients = tuple(number(1 / math.factorial(k)) for k in range(degree, -1, -1))
    smallest, largest, half = number(smallest), number(largest), number(0.5)

    def as_number(typing: Any, pattern: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

        return getattr(numba, name)(getattr(numba, integer_name)), generate

    of_pattern: Any = intrinsic(as_number)
    jit: Any = numba.njit

    @jit(nogil=True, error_model="numpy", forceinline=True)
    def power_of_two(n):
        return of_pattern(integer((n + integer(bias)) << integer(mantissa)))

    @jit(nogil=True, error_model="numpy", forceinline=True)
    def exp(x):
        bounded = x if x > smallest else smallest
        bounded = bounded if bounded < largest else largest
        n = np.floor(bounded * turns + half)
        r = (bounded - n * high) - n * low
        total = coefficients[0]
        for k in range(1, degree + 1):
            total = total * r + coefficients[k]
        whole = integer(n)
        first = integer(whole >> integer(1))  # in two halves: 2^n alone may not be a normal number
        result = total * power_of_two(first) * power_of_two(integer(whole - first))
        return x if x != x else result

    return exp
