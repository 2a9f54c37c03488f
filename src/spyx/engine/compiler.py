"""What our CPU kernels ask of Numba: typed pointers into XLA's buffers, and loops that become vector instructions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def intrinsic(function: Callable[..., Any]) -> Any:
    """Numba calls the function with its own context first; to a type checker that is another function."""
    from numba.extending import intrinsic

    return intrinsic(function)


@functools.cache
def pointer_to(name: str) -> Any:
    """A Numba function from an address to a pointer of that type: "float32", "float64", "int64", "uint8"."""
    import numba
    from numba import types

    pointer = types.CPointer(getattr(numba, name))

    @intrinsic
    def at(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(types.int64), generate

    return at


def kernel(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` for a kernel: no interpreter, C's arithmetic, and arrays that do not overlap."""
    import numba

    jit: Any = numba.njit
    return jit(
        signature,
        nogil=True,
        error_model="numpy",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=_no_alias(),
        **options,
    )


def entry(function: Callable[..., Any]) -> Any:
    """A kernel's entry `(context, first, last)`, which `object_code` makes callable from outside of Numba."""
    import numba

    jit: Any = numba.njit
    signature = numba.int64(numba.int64, numba.int64, numba.int64)
    return jit(signature, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@functools.cache
def _no_alias() -> Any:
    """Numba's compiler, told that XLA's buffers do not overlap: without it loops over many arrays stay scalar."""
    from numba.core.compiler import CompilerBase, DefaultPassBuilder

    class NoAlias(CompilerBase):
        def define_pipelines(self) -> Any:
            self.state.flags.noalias = True
            return [DefaultPassBuilder.define_nopython_pipeline(self.state)]

    return NoAlias


@functools.cache
def widest_vectors() -> Any:
    """A Numba function that asks LLVM to use all of a vector register in its caller, as XLA's products do."""
    from numba import types

    @intrinsic
    def wide(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite lists no such attribute
            return context.get_dummy_value()

        return types.void(), generate

    return wide
