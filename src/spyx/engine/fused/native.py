"""From Numba to XLA: a compiled function over a range of lanes becomes an FFI target that runs inside jit.

The handler is native code from end to end: it reads XLA's call frame, cuts the lanes into blocks and shares them out on
XLA's own threads, so that it needs neither the interpreter's lock nor a second thread pool. Blocks are taken from an
atomic counter; the calling thread takes part, so a busy pool delays nothing.

Layout of the structs: `xla/ffi/api/c_api.h`, which jaxlib ships; every field that is read here is one 64-bit word.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

# Words of a task's context; the buffers follow.
NEXT, DONE, OWNERS, BLOCKS, WIDTH, LANES, STEPS, WORK, BUFFERS = range(9)
SMALLEST_BLOCK, LARGEST_BLOCK = 64, 1024

_lock = threading.Lock()
_kept: dict[str, Any] = {}


def register(name: str, source: str, build: Callable[[], Any]) -> str:
    """The FFI target of a kernel; equal sources share one.

    Args:
        name: for people who read the compiled program.
        source: identifies the kernel.
        build: compiles it to a Numba cfunc `(context, first lane, last lane)`.
    """
    target = f"spyx_{name}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    with _lock:
        if target not in _kept:
            work = build()
            handler = _handler(work.address)
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler.address), platform="cpu")
            _kept[target] = work, handler
    return target


def api_slots() -> dict[str, int]:
    """Position, in words, of the functions of XLA's FFI table, read off the header of this jaxlib."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8")
    table = header[header.index("struct XLA_FFI_Api {") :]
    names = re.findall(r"^ +_XLA_FFI_API_STRUCT_FIELD\(XLA_FFI_(\w+)\)", table, re.MULTILINE)
    return {name: 6 + i for i, name in enumerate(names)}  # after size, extensions, version (3 words), internal table


def pointers() -> dict[str, Any]:
    """Numba functions from an address to a typed pointer, by the name of the type."""
    return {name: _pointer_to(name) for name in ("float32", "float64", "int64")}


def _intrinsic(function: Callable[..., Any]) -> Any:
    """Numba calls the function with its own context first; to a type checker that is another function."""
    from numba.extending import intrinsic

    return intrinsic(function)


@functools.cache
def _pointer_to(name: str) -> Any:
    import numba
    from numba import types

    pointer = types.CPointer(getattr(numba, name))

    @_intrinsic
    def at(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(types.int64), generate

    return at


def _handler(work: int) -> Any:
    import numba

    run = _runtime()

    @numba.cfunc(numba.int64(numba.int64))
    def handler(frame: int) -> int:
        return run(frame, work)

    return handler


@functools.cache
def _runtime() -> Any:
    """`run(frame, work)`: what every handler does."""
    import numba
    from numba import types

    words = _pointer_to("int64")
    slots = api_slots()
    schedule_slot, threads_slot = slots["ThreadPool_Schedule"], slots["ThreadPool_NumThreads"]
    destroy_slot = slots["Error_Destroy"]
    int64, pointer = numba.int64, types.CPointer(numba.int64)
    malloc = types.ExternalFunction("malloc", int64(int64))
    free = types.ExternalFunction("free", types.void(int64))
    give_way = types.ExternalFunction("sched_yield", numba.int32())

    @_intrinsic
    def fetch_add(typing: Any, place: Any, amount: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.atomic_rmw("add", *arguments, "seq_cst")

        return int64(pointer, int64), generate

    def call(arity: int) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            from llvmlite import ir

            kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * arity)
            return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

        return int64(*[int64] * (1 + arity)), generate

    @_intrinsic
    def call1(typing: Any, function: Any, a: Any) -> Any:
        return call(1)

    @_intrinsic
    def call3(typing: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
        return call(3)

    jit: Any = numba.njit
    compiled = functools.partial(jit, nogil=True, error_model="numpy", no_cpython_wrapper=True)

    @compiled(types.void(int64))
    def take_blocks(context):
        c = words(context)
        while True:
            block = fetch_add(c, 1)
            if block >= c[BLOCKS]:
                return
            first = block * c[WIDTH]
            call3(c[WORK], context, first, min(first + c[WIDTH], c[LANES]))
            fetch_add(words(context + 8 * DONE), 1)

    @compiled(types.void(int64))
    def let_go(context):
        """A task may start after the call is over: the last one out frees the context."""
        if fetch_add(words(context + 8 * OWNERS), -1) == 1:
            free(context)

    @numba.cfunc(types.void(int64))
    def task(context):
        take_blocks(context)
        let_go(context)

    task_address = task.address
    _kept["task"] = task

    @compiled(int64(int64, int64))
    def failed(api, error):
        """Was there an error? If so it is ours to destroy; the work is then done without help."""
        if error == 0:
            return 0
        memory = malloc(24)
        arguments = words(memory)
        arguments[0], arguments[1], arguments[2] = 24, 0, error
        call1(words(api)[destroy_slot], memory)
        free(memory)
        return 1

    @compiled(int64(int64, int64))
    def helpers(api, execution):
        """How many threads besides this one."""
        memory = malloc(40)
        arguments = words(memory)
        arguments[0], arguments[1], arguments[2], arguments[3], arguments[4] = 32, 0, execution, memory + 32, 1
        count = 0
        if not failed(api, call1(words(api)[threads_slot], memory)):
            count = arguments[4] - 1
        free(memory)
        return max(count, 0)

    @compiled(types.void(int64, int64, int64, int64))
    def ask_for_help(api, execution, context, count):
        memory = malloc(40)
        arguments = words(memory)
        for _ in range(count):
            arguments[0], arguments[1], arguments[2] = 40, 0, execution
            arguments[3], arguments[4] = task_address, context
            if failed(api, call1(words(api)[schedule_slot], memory)):
                let_go(context)
        free(memory)

    @compiled(int64(int64, int64))
    def run(frame, work):
        f = words(frame)
        if f[1] != 0 and words(f[1])[1] & 0xFFFFFFFF == 1:  # asked which version of the API this speaks: the caller's
            words(words(f[1])[3])[3] = words(f[2])[4]
            return 0
        api, execution, inputs, outputs = f[2], f[3], f[7], f[12]
        dims = words(words(words(f[9])[0])[5])  # the first operand is (time, lanes)
        steps, lanes = dims[0], dims[1]
        if lanes == 0:
            return 0
        count = helpers(api, execution)
        even = (lanes // (4 * (count + 1)) + SMALLEST_BLOCK - 1) // SMALLEST_BLOCK * SMALLEST_BLOCK
        width = min(max(even, SMALLEST_BLOCK), LARGEST_BLOCK)
        blocks = (lanes + width - 1) // width
        count = min(count, blocks - 1)
        context = malloc(8 * (BUFFERS + inputs + outputs))
        c = words(context)
        c[NEXT], c[DONE], c[OWNERS], c[BLOCKS] = 0, 0, count + 1, blocks
        c[WIDTH], c[LANES], c[STEPS], c[WORK] = width, lanes, steps, work
        for i in range(inputs):
            c[BUFFERS + i] = words(words(f[9])[i])[3]
        for i in range(outputs):
            c[BUFFERS + inputs + i] = words(words(f[14])[i])[3]
        ask_for_help(api, execution, context, count)
        take_blocks(context)
        while fetch_add(words(context + 8 * DONE), 0) < blocks:
            give_way()
        let_go(context)
        return 0

    return run
