"""The kernel language: what it means, what it refuses, and where XLA's structs have their fields."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.engine import device
from spyx.engine.kernels import call_frame, kernel_functions, object_code, xla_call
from spyx.engine.kernels.expressions import EXPRESSIONS, expression
from spyx.engine.kernels.language import KernelError, parse
from spyx.engine.kernels.translation import translate

pytestmark = pytest.mark.skipif(not device.has_compiler(), reason="needs llvmlite: pip install 'spyx-jax[cpu]'")


def compiled(text, pointers=(), number="float32", scope=None, name="main"):
    """The function `name` of a text, called with NumPy arrays and integers."""

    def kind(function, argument):
        return "real*" if argument in pointers else "int"

    tree = parse(text, kind, scope or {})[name]
    code = translate(tree, {"real": number, "spikes": number}, f"test_{id(tree)}", {"FROM_OUTSIDE": 7})
    address = object_code.load(object_code.compiled(code), f"test_{id(tree)}")

    def call(*arguments):
        words = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
        return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(words))(address)(*words)

    return call


@pytest.mark.parametrize(
    "expression_text",
    ["a + b * 3", "a - b", "a // 5", "a % 5", "-a", "a << 2", "a >> 1", "a & b", "a | b", "a ^ b", "~a", "min(a, b)",
     "max(a, b)", "abs(a)", "1 if a < b else 2", "1 if a <= b and b != 3 else 2", "1 if a > 2 or b >= 4 else 2",
     "1 if not a else 2", "1 if a == b else (3 if a else 4)"],
)  # fmt: skip
@pytest.mark.parametrize(("a", "b"), [(7, 3), (-7, 3), (0, 0), (3, 7), (-1, 4)])
def test_integers_are_those_of_python(expression_text, a, b):
    text = f"def main(a, b):\n    return {expression_text}\n"
    scope = {}
    exec(text, scope)
    assert compiled(text)(a, b) == scope["main"](a, b)


STATEMENTS = """
def main(n, k):
    total, i = 0, 0
    for j in range(n - 1, -1, -1):
        if j % 3 == 0:
            total += j
        elif j == 4:
            total -= 100
        else:
            total = total + 1
    while True:
        i += 1
        if i > k:
            return total + helper(i)
        total += 10
    return 0

def helper(x):
    '''Twice.'''
    return x + x
"""


@pytest.mark.parametrize(("n", "k"), [(0, 0), (1, 3), (10, 5)])
def test_statements_are_those_of_python(n, k):
    scope = {}
    exec(STATEMENTS, scope)
    assert compiled(STATEMENTS)(n, k) == scope["main"](n, k)


def test_what_comes_after_and_is_read_only_where_it_matters():
    text = "def main(x, n, i):\n    return 1 if i < n and x[i] != 0 else 0\n"
    x = np.ones(2, np.float32)
    assert [compiled(text, ("x",))(x, 2, i) for i in (0, 1, 2**40)] == [1, 1, 0]


def test_names_of_numbers_may_come_from_outside():
    assert compiled("def main():\n    return FROM_OUTSIDE + HERE\n", scope={"HERE": 3})() == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def main(x):\n    import os\n", "no statement"),
        ("def main(x):\n    return [x]\n", "no expression"),
        ("def main(x):\n    return open(x)\n", "no function"),
        ("def main(x):\n    return x + 0.5\n", "a fraction where an integer"),
        ("def main(x):\n    return x[0]\n", "not a pointer"),
        ("def main(x):\n    y = int32(x)\n    y = x\n", "a value of type"),
        ("def main(x):\n    y = real_at(x)\n    return 1 if x == 0 else int(y[0] if x else y[1])\n", "assign it first"),
        ("def main(x):\n    return unknown\n", "no expression"),
        ("def main(x):\n    return helper(x, x)\ndef helper(x):\n    return x\n", "1 arguments expected"),
    ],
)
def test_what_is_not_of_the_language_is_refused(text, message):
    with pytest.raises(KernelError, match=message):
        compiled(text)


def of_numbers(form, operand, result, *arrays):
    """An expression of the table on arrays."""
    count = len(arrays)
    names = [f"x{k}" for k in range(count)]
    reads = "".join(f"        v{k} = {operand}_at(x{k})[i]\n" for k in range(count))
    text = f"def main(n, y, {', '.join(names)}):\n    for i in range(n):\n{reads}"
    text += f"        {result}_at(y)[i] = {form.format(*(f'v{k}' for k in range(count)), T=result)}\n"
    y = np.zeros(arrays[0].size, result)
    compiled(text, scope=vars(kernel_functions))(y.size, y, *arrays)
    return y


@pytest.mark.parametrize("operand", ["float32", "float64"])
@pytest.mark.parametrize("result", ["int8", "int32", "int64", "uint8", "uint32"])
def test_a_number_that_no_integer_holds_becomes_the_nearest_one(operand, result):
    x = np.array([0.0, -0.5, 0.9, -1.9, 1e3, -1e3, 3e9, -3e9, 1e30, -1e30, np.inf, -np.inf, np.nan], operand)
    with jax.enable_x64(True):
        expected = np.asarray(jax.lax.convert_element_type(x, result))
    form = expression("convert_element_type", {}, (np.dtype(operand),), np.dtype(result))
    np.testing.assert_array_equal(of_numbers(form, operand, result, x), expected)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8"])
def test_integers_are_divided_as_xla_divides_them(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = np.array([low, low + 1, 1, 2, 7, high, 0, high - 1], dtype)
    a, b = (
        np.ascontiguousarray(g.reshape(-1)) for g in np.meshgrid(values, np.array([-1, 0, 1, 3, low]).astype(dtype))
    )
    form = expression("div", {}, (np.dtype(dtype),) * 2, np.dtype(dtype))
    np.testing.assert_array_equal(of_numbers(form, dtype, dtype, a, b), np.asarray(jax.lax.div(jnp.asarray(a), b)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_exponential_is_exact_to_two_last_bits(dtype):
    info = np.finfo(dtype)
    lowest, highest = np.log(float(info.tiny)), np.log(float(info.max))
    x = np.concatenate([np.linspace(lowest, highest, 20_001)[1:-1], np.linspace(-1, 1, 20_001)]).astype(dtype)

    def each(x):
        return of_numbers(EXPRESSIONS["exp"], dtype, dtype, x)

    exact = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(each(x) - exact) / np.spacing(exact.astype(dtype))) < 2
    edge = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, highest + 1, lowest - 1000], dtype)
    np.testing.assert_array_equal(each(edge), [1, 1, np.inf, 0, np.nan, np.inf, 0])


def header() -> str:
    return Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8")


def test_fields_are_where_a_c_compiler_puts_them(tmp_path):
    """Compiled where there is a C compiler: `offsetof` of every field that is read, and every size."""
    import shutil
    import subprocess

    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    lines, expected = [], []
    for name, place in call_frame.words().items():
        struct = next(s for s in sorted(call_frame.FIELDS, key=len, reverse=True) if name.startswith(f"{s}_"))
        rest = name.removeprefix(f"{struct}_")
        field = next((f for f in call_frame.FIELDS[struct] if f.replace(".", "_") == rest), None)
        kind = f"struct XLA_FFI_{struct}"
        prefix = "XLA_FFI_" if struct == "Api" and field and field[0].isupper() else ""
        lines.append(f"offsetof({kind}, {prefix}{field}) / 8" if field else f"(sizeof({kind}) + 7) / 8")
        expected.append(place)
    source = f'#include <stdio.h>\n#include "xla/ffi/api/c_api.h"\nint main() {{ long n[] = {{ {", ".join(lines)} }};\n'
    source += 'for (int i = 0; i < sizeof n / sizeof *n; i++) printf("%ld ", n[i]); }\n'
    (tmp_path / "fields.c").write_text(source)
    command = ["gcc", "-w", "-I", jax.ffi.include_dir(), str(tmp_path / "fields.c"), "-o", str(tmp_path / "fields")]
    subprocess.run(command, check=True)
    found = subprocess.run([str(tmp_path / "fields")], check=True, capture_output=True, text=True).stdout
    assert [int(n) for n in found.split()] == expected


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("XLA_FFI_ExecutionContext* ctx;\n  XLA_FFI_ExecutionStage stage;", "XLA_FFI_Unknown stage;", "no type"),
        ("int64_t rank;", "int64_t rank : 3;", "not understood"),
        ("  void* data;\n  int64_t rank;", "  int64_t rank;", "no field data"),
        ("struct XLA_FFI_Buffer {", "struct XLA_FFI_Array2 {", "no type XLA_FFI_Buffer"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(before, after, message):
    text = header()
    assert before in text
    with pytest.raises(call_frame.UnknownLayout, match=message):
        call_frame.parse(text.replace(before, after))


def test_a_field_in_another_place_is_found_there():
    moved = header().replace("  void* data;\n  int64_t rank;", "  int64_t rank;\n  void* data;")
    assert call_frame.parse(moved)["Buffer_data"] == call_frame.words()["Buffer_data"] + 1


def test_a_header_that_is_not_understood_is_a_line_of_the_plan(monkeypatch):
    from spyx import nn

    def unknown():
        raise call_frame.UnknownLayout("its header declares no type XLA_FFI_New")

    monkeypatch.setattr(call_frame, "words", unknown)
    layer, x = nn.LIF(4, beta=0.5), jnp.ones((2, 5, 4))
    with pytest.raises(ValueError, match="kernels do not know how this jaxlib calls them: its header declares no type"):
        nn.run(layer, x, mode="fused")
    big = jnp.ones((8, 64, 512))
    assert "do not know how this jaxlib" in nn.explain(nn.LIF(512, beta=0.5), big)[0].why


def test_a_kernel_that_cannot_be_compiled_is_an_error_of_the_call(caplog):
    caplog.set_level(logging.ERROR, "spyx")
    share = xla_call.Share(0, 1, 1)
    target = xla_call.register(
        "broken", "broken", {}, share, lambda: parse("def e(c, f, l):\n    oops\n", lambda *_: "int", {})["e"]
    )
    run = jax.jit(lambda x: jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((3,), jnp.float32))(x))
    with pytest.raises(jax.errors.JaxRuntimeError, match="could not be compiled"):
        run(jnp.ones(3)).block_until_ready()
    assert "KernelError" in caplog.text
