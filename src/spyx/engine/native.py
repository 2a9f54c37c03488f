"""From Numba to XLA: a compiled function over a range of one axis becomes an FFI target that runs inside jit.

The handler is native code from end to end: it reads XLA's call frame, cuts an axis into blocks and shares them out on
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
from typing import Any, NamedTuple

import jax

from spyx.engine import kernel_cache, object_code
from spyx.engine.compiler import intrinsic, pointer_to

# Words of a task's context; two words per buffer follow, the address of its data and that of its dimensions.
NEXT, DONE, OWNERS, BLOCKS, WIDTH, SIZE, WORK, BUFFERS = range(8)


class Share(NamedTuple):
    """What is shared out: an axis of the first operand, in blocks of `smallest` (and its multiples) to `largest`."""

    axis: int
    smallest: int
    largest: int


_lock = threading.Lock()
_registered: set[str] = set()


def register(name: str, source: str, share: Share, build: Callable[[], Any]) -> str:
    """The FFI target of a kernel; equal sources share one.

    Args:
        name: for people who read the compiled program.
        source: with `share`, identifies the kernel.
        share: how its work is cut.
        build: compiles it to a Numba function `(context, first, last)` over a range of the shared axis.
    """
    target = f"spyx_{name}_{hashlib.sha256(f'{share}{source}'.encode()).hexdigest()[:16]}"
    with _lock:
        if target not in _registered:
            work = kernel_cache.address(target, build)
            run, task = (kernel_cache.address(f"spyx_{part}", RUNTIME[part]) for part in ("run", "task"))
            handler = object_code.bind(run, work, task, *share)
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler), platform="cpu")
            _registered.add(target)
    return target


def api_slots() -> dict[str, int]:
    """Position, in words, of the functions of XLA's FFI table, read off the header of this jaxlib."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8")
    table = header[header.index("struct XLA_FFI_Api {") :]
    names = re.findall(r"^ +_XLA_FFI_API_STRUCT_FIELD\(XLA_FFI_(\w+)\)", table, re.MULTILINE)
    return {name: 6 + i for i, name in enumerate(names)}  # after size, extensions, version (3 words), internal table


@functools.cache
def _runtime() -> dict[str, Any]:
    """What every handler does, `run(frame, work, task, axis, smallest, largest)`, and what a helping thread does."""
    import numba
    from numba import types

    words = pointer_to("int64")
    slots = api_slots()
    schedule_slot, threads_slot = slots["ThreadPool_Schedule"], slots["ThreadPool_NumThreads"]
    destroy_slot = slots["Error_Destroy"]
    int64, pointer = numba.int64, types.CPointer(numba.int64)
    malloc = types.ExternalFunction("malloc", int64(int64))
    free = types.ExternalFunction("free", types.void(int64))
    give_way = types.ExternalFunction("sched_yield", numba.int32())

    @intrinsic
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

    @intrinsic
    def call1(typing: Any, function: Any, a: Any) -> Any:
        return call(1)

    @intrinsic
    def call3(typing: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
        return call(3)

    jit: Any = numba.njit
    compiled = functools.partial(jit, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

    @compiled(types.void(int64))
    def take_blocks(context):
        c = words(context)
        while True:
            block = fetch_add(c, 1)
            if block >= c[BLOCKS]:
                return
            first = block * c[WIDTH]
            call3(c[WORK], context, first, min(first + c[WIDTH], c[SIZE]))
            fetch_add(words(context + 8 * DONE), 1)

    @compiled(types.void(int64))
    def let_go(context):
        """A task may start after the call is over: the last one out frees the context."""
        if fetch_add(words(context + 8 * OWNERS), -1) == 1:
            free(context)

    @compiled(int64(int64))
    def task(context):
        take_blocks(context)
        let_go(context)
        return 0

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

    @compiled(types.void(int64, int64, int64, int64, int64))
    def ask_for_help(api, execution, task, context, count):
        memory = malloc(40)
        arguments = words(memory)
        for _ in range(count):
            arguments[0], arguments[1], arguments[2] = 40, 0, execution
            arguments[3], arguments[4] = task, context
            if failed(api, call1(words(api)[schedule_slot], memory)):
                let_go(context)
        free(memory)

    @compiled(int64(int64, int64, int64, int64, int64, int64))
    def run(frame, work, task, axis, smallest, largest):
        f = words(frame)
        if f[1] != 0 and words(f[1])[1] & 0xFFFFFFFF == 1:  # asked which version of the API this speaks: the caller's
            words(words(f[1])[3])[3] = words(f[2])[4]
            return 0
        api, execution, inputs, outputs = f[2], f[3], f[7], f[12]
        size = words(words(words(f[9])[0])[5])[axis]
        if size == 0:
            return 0
        count = helpers(api, execution)
        even = (size // (4 * (count + 1)) + smallest - 1) // smallest * smallest
        width = min(max(even, smallest), largest)
        blocks = (size + width - 1) // width
        count = min(count, blocks - 1)
        context = malloc(8 * (BUFFERS + 2 * (inputs + outputs)))
        c = words(context)
        c[NEXT], c[DONE], c[OWNERS], c[BLOCKS] = 0, 0, count + 1, blocks
        c[WIDTH], c[SIZE], c[WORK] = width, size, work
        for i in range(inputs + outputs):
            buffer = words(words(f[9])[i] if i < inputs else words(f[14])[i - inputs])
            c[BUFFERS + 2 * i], c[BUFFERS + 2 * i + 1] = buffer[3], buffer[5]
        ask_for_help(api, execution, task, context, count)
        take_blocks(context)
        while fetch_add(words(context + 8 * DONE), 0) < blocks:
            give_way()
        let_go(context)
        return 0

    return {"run": run, "task": task}


RUNTIME: dict[str, Callable[[], Any]] = {part: lambda part=part: _runtime()[part] for part in ("run", "task")}
"""The two functions that all handlers share, compiled like kernels."""
