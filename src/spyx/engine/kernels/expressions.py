"""The table of primitives that a kernel may contain: a new one is a line here.

An expression is text of the kernel language: `{0}`, `{1}` are the operands, `{T}` the result's type. Every primitive
here also lowers through Triton. What is not here makes a neuron run in another mode, and `explain` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Expression = str | Callable[..., str]

DTYPES = ("bool", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32")
"""What a value may be: a step that rounds through another dtype runs in another mode."""


def _power(exponent: int) -> str:
    """Square and multiply from the lowest bit, in the order in which XLA does it, so that results round alike."""
    if exponent < 0:
        return f"({{T}}(1) / {_power(-exponent)})"
    found, square = "", "{0}"
    while exponent:
        if exponent & 1:
            found = f"({found} * {square})" if found else square
        exponent >>= 1
        square = f"({square} * {square})"
    return found or "{T}(1)"


def _convert(operand: np.dtype, result: np.dtype) -> str:
    if result == np.bool_:
        return "{0} != 0"
    return "({T}(1) if {0} else {T}(0))" if operand == np.bool_ else "{T}({0})"


def _logic(operator: str, boolean: str) -> Callable[..., str]:
    return lambda params, dtypes, result: boolean if result == np.bool_ else operator


def _select(params: Mapping[str, object], dtypes: tuple[np.dtype, ...], result: np.dtype) -> str:
    return "({2} if {0} else {1})"


EXPRESSIONS: dict[str, Expression] = {
    "add": "{0} + {1}",
    "add_any": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": lambda params, dtypes, result: "{0} / {1}" if result.kind == "f" else "quotient({0}, {1})",
    "neg": "-{0}",
    "abs": "abs({0})",
    "sign": "({T}(1) if {0} > 0 else ({T}(-1) if {0} < 0 else {0}))",
    "max": "({0} if ({0} > {1}) | ({0} != {0}) else {1})",  # NaN wins, as in XLA
    "min": "({0} if ({0} < {1}) | ({0} != {0}) else {1})",
    "clamp": "({0} if {1} < {0} else ({2} if {1} > {2} else {1}))",
    "square": "{0} * {0}",
    "one_minus_square": "({T}(1) - {0}) * ({T}(1) + {0})",
    "integer_pow": lambda params, dtypes, result: _power(params["y"]),
    "pow": "{0} ** {T}({1})",
    "sqrt": "sqrt({0})",
    "rsqrt": "{T}(1) / sqrt({0})",
    "exp": "exp_{T}({0})",
    "exp2": "exp_{T}({0} * {T}(0.6931471805599453))",
    "expm1": "expm1({0})",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "logistic": "{T}(1) / ({T}(1) + exp_{T}(-{0}))",
    "tanh": "tanh({0})",
    "sin": "sin({0})",
    "cos": "cos({0})",
    "tan": "tan({0})",
    "asin": "asin({0})",
    "acos": "acos({0})",
    "atan": "atan({0})",
    "sinh": "sinh({0})",
    "cosh": "cosh({0})",
    "atan2": "atan2({0}, {1})",
    "floor": "floor({0})",
    "ceil": "ceil({0})",
    "is_finite": "({0} - {0} == 0)",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "and": _logic("{0} & {1}", "{0} and {1}"),
    "or": _logic("{0} | {1}", "{0} or {1}"),
    "xor": _logic("{0} ^ {1}", "{0} != {1}"),
    "not": _logic("~{0}", "not {0}"),
    "select_n": _select,
    "convert_element_type": lambda params, dtypes, result: _convert(dtypes[0], result),
}


def expression(name: str, params: Mapping[str, object], dtypes: tuple[np.dtype, ...], result: np.dtype) -> str:
    """The template of one primitive with its parameters filled in."""
    found = EXPRESSIONS[name]
    return found if isinstance(found, str) else found(params, dtypes, result)
