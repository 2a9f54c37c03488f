"""The language that CPU kernels are written in: a small typed part of Python, translated to LLVM's representation.

A kernel is a function over typed pointers and integers, with loops, conditions and arithmetic. Two kinds of text are
translated: functions that people wrote, marked with `kernel`, and functions that `sources` generates from a step. The
translation needs llvmlite alone and takes milliseconds, where inferring types for all of Python takes seconds.

Types are `int` (64 bits, for sizes and indices, which must not overflow), `bool`, NumPy's names, and names that the
caller chooses, such as `real`; `"real*"` is a pointer. A literal takes the type of the other operand, a variable that
of its first value, and nothing is converted without a call such as `real(x)`. Both sides of `a if c else b` are
evaluated.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class KernelError(Exception):
    """A kernel that is no text of the language: an error of whoever wrote or generated it."""


class Type(NamedTuple):
    """A scalar (`kind` b, i, u or f, as in NumPy) or, with `element`, a pointer. An `int` is `exact`."""

    kind: str
    bits: int
    exact: bool = False
    element: Type | None = None

    def pointer(self) -> Type:
        return Type("p", 64, element=self)


INT, BOOL, BYTE = Type("i", 64, exact=True), Type("b", 1), Type("u", 8)
SCALARS = {
    "int": INT,
    "bool": BOOL,
    "byte": BYTE,
    **{f"{name}{bits}": Type(name[0], bits) for name in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": Type("f", bits) for bits in (32, 64)},
}


LITERAL = Type("literal", 0)
"""The type of a number of Python's, until it takes that of another operand."""


class Value(NamedTuple):
    """A value of LLVM's, `llvmlite.ir.Value`, with its type; or a number of Python's, whose type is `LITERAL`."""

    value: Any
    type: Type


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function of the language.

    Args:
        tree: its definition.
        types: of its arguments by name; `int` where none is given.
        returns: type of its result, if it has one.
        scope: what other names of its text mean: kernels, and numbers.
        contract: products and sums may become fused multiply-adds, as XLA's are.
        wide: LLVM uses all of a vector register.
        inline: callers get a copy.
    """

    tree: ast.FunctionDef
    types: Mapping[str, str]
    scope: Mapping[str, object]
    returns: str = "int"
    contract: bool = False
    wide: bool = False
    inline: bool = False

    def __call__(self, *arguments: object) -> Any:
        """In the text of another kernel."""
        raise KernelError(f"{self.tree.name} is a kernel, which only another kernel can call")


def kernel(
    *, returns: str = "int", contract: bool = False, wide: bool = False, inline: bool = False, **types: str
) -> Callable[[Callable[..., object]], Kernel]:
    """Mark a function as a kernel; its text is read, it never runs as Python. Arguments are those of `Kernel`."""

    def mark(function: Callable[..., object]) -> Kernel:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        if not isinstance(tree, ast.FunctionDef):
            raise KernelError("a kernel is a function")
        return Kernel(tree, types, function.__globals__, returns, contract, wide, inline)

    return mark


def parse(
    text: str,
    type_of: Callable[[str, str], str],
    scope: Mapping[str, object],
    *,
    returns: str = "int",
    contract: bool = False,
    wide: bool = False,
    inline: bool = False,
) -> dict[str, Kernel]:
    """The kernels of a generated text by name, which may call each other and those of a scope.

    Args:
        text: functions.
        type_of: the type of an argument, from the names of its function and its own.
        scope: what other names mean.
        returns: of each kernel, as all that follows; see `Kernel`.
        contract: products and sums may become one.
        wide: all of a vector register.
        inline: callers get a copy.
    """
    scope = dict(scope)
    found: dict[str, Kernel] = {}
    for tree in ast.parse(text).body:
        if not isinstance(tree, ast.FunctionDef):
            raise KernelError("a kernel is a function")
        types = {a.arg: type_of(tree.name, a.arg) for a in tree.args.args}
        scope[tree.name] = found[tree.name] = Kernel(tree, types, scope, returns, contract, wide, inline)
    return found
