"""The table of primitives, expression by expression, where they are easy to get wrong: ties, ends, NaN, powers."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.engine.kernels.expressions import EXPRESSIONS, expression
from spyx.engine.kernels.lane_source import _operand

NAN, INF = float("nan"), float("inf")


def value(name, *operands, params=None, result=np.float64, operand=np.float64):
    """What the expression answers for plain numbers, in double precision."""
    text = expression(name, params or {}, (np.dtype(operand),) * len(operands), np.dtype(result))
    known = ["expm1", "log", "log1p", "tanh", "sin", "cos", "tan", "sinh", "cosh", "floor", "ceil", "sqrt"]
    known += ["float64", "int32", "float32"]
    scope = {"np": np} | {n: getattr(np, n) for n in known} | {"exp_float64": np.exp, "atan2": math.atan2}
    scope |= {f"a{n}": getattr(np, f"arc{n}") for n in ("sin", "cos", "tan")}
    return eval(text.format(*(f"({o!r})" for o in map(operand, operands)), T=np.dtype(result).name), scope)


ONE = [-3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 2.0]
TWO = [(a, b) for a in (-1.0, 0.0, 2.0) for b in (-1.0, 0.0, 2.0)]


def table(name, cases, expected, **options):
    for case in cases:
        operands = case if isinstance(case, tuple) else (case,)
        np.testing.assert_allclose(
            float(value(name, *operands, **options)), float(expected(*operands)), rtol=1e-15, atol=1e-300, err_msg=name
        )


def test_one_operand():
    within, positive = [-1.0, -0.5, 0.0, 0.3, 1.0], [1e-3, 0.5, 1.0, 7.0]
    for name, expected in {
        "neg": lambda a: -a, "abs": abs, "sign": np.sign, "square": lambda a: a * a, "exp": math.exp,
        "exp2": lambda a: math.exp(a * math.log(2)), "expm1": math.expm1, "tanh": math.tanh, "sin": math.sin,
        "cos": math.cos, "tan": math.tan, "atan": math.atan, "sinh": math.sinh, "cosh": math.cosh,
        "floor": math.floor, "ceil": math.ceil, "one_minus_square": lambda a: 1 - a * a,
        "logistic": lambda a: 1 / (1 + math.exp(-a)), "not": lambda a: not a,
    }.items():  # fmt: skip
        table(name, ONE, expected, **({"result": np.bool_} if name == "not" else {}))
    for name, expected in {"asin": math.asin, "acos": math.acos}.items():
        table(name, within, expected)
    for name, expected in {
        "sqrt": math.sqrt, "rsqrt": lambda a: 1 / math.sqrt(a), "log": math.log, "log1p": math.log1p
    }.items():  # fmt: skip
        table(name, positive, expected)


def test_two_operands():
    for name, expected in {
        "add": lambda a, b: a + b, "add_any": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
        "max": max, "min": min, "atan2": math.atan2, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
        "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    }.items():  # fmt: skip
        table(name, TWO, expected)
    table("div", [(1.0, 2.0), (-3.0, 4.0)], lambda a, b: a / b)
    table("pow", [(2.0, -3.0), (0.5, 0.5)], lambda a, b: a**b)
    table("clamp", [(-1.0, x, 2.0) for x in (-2.0, -1.0, 0.0, 2.0, 3.0)], lambda low, x, high: min(max(x, low), high))


def test_logic_is_of_truths_and_of_bits():
    for name, truth, bits in (("and", all, 0b1000), ("or", any, 0b1110), ("xor", lambda t: t[0] != t[1], 0b0110)):
        for case in ((0, 0), (0, 1), (1, 0), (1, 1)):
            assert bool(value(name, *case, result=np.bool_, operand=np.int32)) is bool(truth(case))
        assert int(value(name, 0b1100, 0b1010, result=np.int32, operand=np.int32)) == bits
    assert int(value("not", 5, result=np.int32, operand=np.int32)) == ~5


@pytest.mark.parametrize("number", [-2.0, -0.5, -0.0, 0.0, 0.5, 3.0])
def test_a_number_is_true_unless_it_is_zero(number):
    assert bool(value("convert_element_type", number, result=np.bool_)) is (number != 0)
    assert int(value("convert_element_type", number, result=np.int32)) == int(number)  # towards zero, as XLA does
    for truth in (False, True):
        converted = value("convert_element_type", truth, operand=np.bool_)
        assert (converted, type(converted)) == (float(truth), np.float64)


def test_what_is_not_a_number_wins():
    scope = {"a": np.float64(NAN), "b": np.float64(1.0), "inf": np.float64(INF)}
    for name in ("max", "min"):
        text = EXPRESSIONS[name]
        assert np.isnan(eval(text.format("a", "b"), scope))
        assert np.isnan(eval(text.format("b", "a"), scope))
    with np.errstate(invalid="ignore"):
        finite = [bool(eval(EXPRESSIONS["is_finite"].format(x), scope)) for x in ("a", "b", "inf", "-inf")]
    assert finite == [False, True, False, False]
    assert np.isnan(eval(EXPRESSIONS["sign"].format("a", T="float"), scope))


def test_a_case_is_chosen_by_its_number():
    assert [value("select_n", which, 5.0, 7.0, operand=float) for which in (0, 1)] == [5.0, 7.0]


X = np.random.default_rng(0).uniform(0.5, 1.6, 400).astype(np.float32) * np.float32([1, -1] * 200)


def power(exponent, x):
    text = expression("integer_pow", {"y": exponent}, (x.dtype,), x.dtype)
    return eval(text.format("x", T=x.dtype.name), {"x": x, "float32": np.float32}) * np.ones_like(x)


@pytest.mark.parametrize("exponent", [*range(-9, 18), 31, -31, 64])
def test_powers(exponent):
    """Right to a rounding per product; and where XLA multiplies in one order only, to the last bit of XLA's."""
    got = power(exponent, X)
    np.testing.assert_allclose(got, X.astype(np.float64) ** exponent, rtol=(abs(exponent) + 1) * 6e-8)
    if exponent in (-4, -3, -2, -1, 0, 1, 2, 3, 4, 7, 8, 15, 16):
        np.testing.assert_array_equal(got, jax.jit(lambda x: jax.lax.integer_pow(x, exponent))(jnp.asarray(X)))


@pytest.mark.parametrize(
    ("operand", "text"),
    [
        (3, "v3"),
        (np.float32(0.5), "float32(0.5)"),
        (np.float64(-2.0), "float64(-2.0)"),
        (np.float32(INF), "float32(inf)"),
        (np.float32(-INF), "float32(-inf)"),
        (np.float32(NAN), "float32(nan)"),
        (np.bool_(True), "True"),
        (np.bool_(False), "False"),
        (np.int32(-7), "int32(-7)"),
    ],
)
def test_a_constant_is_written_as_itself(operand, text):
    assert _operand(operand, "v") == text
