"""From a kernel to XLA: native code over a range of one axis becomes an FFI target that runs inside jit.

The handler is native code from end to end: it reads XLA's call frame, cuts an axis into blocks and shares them out on
XLA's own threads, so that it needs neither the interpreter's lock nor a second thread pool. Blocks are taken from an
atomic counter; the calling thread takes part, so a busy pool delays nothing.
"""
# pyright: reportUndefinedVariable=false
# ruff: noqa: F821 - names of the kernel language, and those of XLA's structs, which `call_frame` knows

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax

from spyx.engine.kernels import call_frame, kernel_cache, object_code
from spyx.engine.kernels.language import Kernel, kernel

# Words of a task's context; two words per buffer follow, the address of its data and that of its dimensions.
NEXT, DONE, OWNERS, BLOCKS, WIDTH, SIZE, WORK, BUFFERS = range(8)

# Words of a handler's entry: the address of its kernel, 0 while that is being compiled and -1 where that failed; how
# work is shared out; and the address of the message of an error.
KERNEL, AXIS, SMALLEST, LARGEST, MESSAGE, ENTRY = range(6)

HANDLERS = 32
"""Handlers that are made at a time."""


class Share(NamedTuple):
    """What is shared out: an axis of the first operand, in blocks of `smallest` (and its multiples) to `largest`."""

    axis: int
    smallest: int
    largest: int


_log = logging.getLogger("spyx")
_lock = threading.Lock()
_registered: set[str] = set()
_free: list[tuple[int, ctypes.Array[ctypes.c_int64]]] = []
"""Handlers that no kernel has yet, with their entries."""
_used: list[tuple[ctypes.Array[ctypes.c_int64], bytes]] = []
"""Entries and messages that handlers read."""


def register(name: str, source: str, types: Mapping[str, str], share: Share, build: Callable[[], Kernel]) -> str:
    """The FFI target of a kernel; equal sources of equal types share one.

    The kernel is compiled on a thread of its own, while JAX traces and XLA compiles what calls it; its handler waits.

    Args:
        name: for people who read the compiled program.
        source: with `types` and `share`, identifies the kernel.
        types: what its names of types mean.
        share: how its work is cut.
        build: its entry, `(context, first, last)` over a range of the shared axis.
    """
    digest = hashlib.sha256(f"{sorted(types.items())}{share}{source}".encode()).hexdigest()
    target = f"spyx_{name}_{digest[:16]}"
    with _lock:
        if target not in _registered:
            handler, entry = _handler()
            message = f"spyx: the kernel {target} could not be compiled; the log says why".encode()
            _used.append((entry, message))
            entry[AXIS], entry[SMALLEST], entry[LARGEST] = share
            entry[MESSAGE] = ctypes.cast(ctypes.c_char_p(message), ctypes.c_void_p).value or 0
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler), platform="cpu")
            _compiling().submit(_compile, target, build, dict(types), entry)
            _registered.add(target)
    return target


def _compile(target: str, build: Callable[[], Kernel], types: Mapping[str, str], entry: ctypes.Array) -> None:
    try:
        entry[KERNEL] = kernel_cache.address(target, build, types)
    except BaseException:
        entry[KERNEL] = -1
        _log.exception("spyx: the kernel %s could not be compiled", target)


@functools.cache
def _compiling() -> ThreadPoolExecutor:
    """One thread, because LLVM compiles one module at a time here."""
    return ThreadPoolExecutor(1, "spyx-kernels")


def _handler() -> tuple[int, ctypes.Array[ctypes.c_int64]]:
    """The address of a function for XLA to call, and its entry."""
    if not _free:
        run = kernel_cache.address("spyx_run", lambda: _run, {})
        entries = [(ctypes.c_int64 * ENTRY)() for _ in range(HANDLERS)]
        _free.extend(zip(object_code.bound(run, [ctypes.addressof(entry) for entry in entries]), entries, strict=True))
    return _free.pop()


def obstacle() -> str | None:
    """What keeps kernels from reading the calls of this jaxlib; None if nothing does."""
    try:
        call_frame.words()
    except call_frame.UnknownLayout as error:
        return f"kernels do not know how this jaxlib calls them: {error}"
    return None


@kernel()
def _take_blocks(context):
    c = int_at(context)
    while True:
        block = fetch_add(int_at(context + 8 * NEXT), 1)
        if block >= c[BLOCKS]:
            return
        first = block * c[WIDTH]
        call(c[WORK], context, first, min(first + c[WIDTH], c[SIZE]))
        fetch_add(int_at(context + 8 * DONE), 1)


@kernel()
def _let_go(context):
    """A task may start after the call is over: the last one out frees the context."""
    if fetch_add(int_at(context + 8 * OWNERS), -1) == 1:
        free(int_at(context))


@kernel()
def _task(context):
    """What a helping thread does."""
    _take_blocks(context)
    _let_go(context)
    return 0


@kernel()
def _failed(api, error):
    """Was there an error? If so it is ours to destroy; the work is then done without help."""
    if error == 0:
        return 0
    arguments = int_at(malloc(8 * Error_Destroy_Args_WORDS))
    arguments[Error_Destroy_Args_struct_size] = 8 * Error_Destroy_Args_WORDS
    arguments[Error_Destroy_Args_extension_start] = 0
    arguments[Error_Destroy_Args_error] = error
    functions = int_at(api)
    call(functions[Api_Error_Destroy], int(arguments))
    free(arguments)
    return 1


@kernel()
def _helpers(api, execution):
    """How many threads besides this one."""
    arguments, count = int_at(malloc(8 * ThreadPool_NumThreads_Args_WORDS)), int_at(malloc(8))
    arguments[ThreadPool_NumThreads_Args_struct_size] = 8 * ThreadPool_NumThreads_Args_WORDS
    arguments[ThreadPool_NumThreads_Args_extension_start] = 0
    arguments[ThreadPool_NumThreads_Args_ctx] = execution
    arguments[ThreadPool_NumThreads_Args_num_threads] = int(count)
    count[0] = 1
    functions, found = int_at(api), 0
    if _failed(api, call(functions[Api_ThreadPool_NumThreads], int(arguments))) == 0:
        found = count[0] - 1
    free(arguments)
    free(count)
    return max(found, 0)


@kernel()
def _ask_for_help(api, execution, task, context, count):
    arguments, functions = int_at(malloc(8 * ThreadPool_Schedule_Args_WORDS)), int_at(api)
    for _ in range(count):
        arguments[ThreadPool_Schedule_Args_struct_size] = 8 * ThreadPool_Schedule_Args_WORDS
        arguments[ThreadPool_Schedule_Args_extension_start] = 0
        arguments[ThreadPool_Schedule_Args_ctx] = execution
        arguments[ThreadPool_Schedule_Args_task] = task
        arguments[ThreadPool_Schedule_Args_data] = context
        if _failed(api, call(functions[Api_ThreadPool_Schedule], int(arguments))) != 0:
            _let_go(context)
    free(arguments)


@kernel()
def _error(api, message):
    """An error of XLA's, of the kind "internal"."""
    arguments, functions = int_at(malloc(8 * Error_Create_Args_WORDS)), int_at(api)
    arguments[Error_Create_Args_struct_size] = 8 * Error_Create_Args_WORDS
    arguments[Error_Create_Args_extension_start] = 0
    arguments[Error_Create_Args_message] = message
    arguments[Error_Create_Args_errc] = 13
    error = call(functions[Api_Error_Create], int(arguments))
    free(arguments)
    return error


@kernel()
def _run(frame, entry):
    """What every handler does."""
    f, e = int_at(frame), int_at(entry)
    functions = int_at(f[CallFrame_api])
    if f[CallFrame_extension_start] != 0:
        extension = int_at(f[CallFrame_extension_start])
        if extension[Extension_Base_type] & 0xFFFFFFFF == 1:  # asked which version of the API this speaks: the caller's
            metadata = int_at(extension[Metadata_Extension_metadata])
            metadata[Metadata_api_version_major_version] = functions[Api_api_version_major_version]
            return 0
    while fetch_add(int_at(entry + 8 * KERNEL), 0) == 0:
        sched_yield()
    if e[KERNEL] == -1:
        return _error(f[CallFrame_api], e[MESSAGE])
    api, execution, inputs, outputs = f[CallFrame_api], f[CallFrame_ctx], f[CallFrame_args_size], f[CallFrame_rets_size]
    given, made = int_at(f[CallFrame_args_args]), int_at(f[CallFrame_rets_rets])
    first = int_at(given[0])
    dimensions = int_at(first[Buffer_dims])
    size, smallest = dimensions[e[AXIS]], e[SMALLEST]
    if size == 0:
        return 0
    count = _helpers(api, execution)
    even = (size // (4 * (count + 1)) + smallest - 1) // smallest * smallest
    width = min(max(even, smallest), e[LARGEST])
    blocks = (size + width - 1) // width
    count = min(count, blocks - 1)
    c = int_at(malloc(8 * (BUFFERS + 2 * (inputs + outputs))))
    c[NEXT], c[DONE], c[OWNERS], c[BLOCKS] = 0, 0, count + 1, blocks
    c[WIDTH], c[SIZE], c[WORK] = width, size, e[KERNEL]
    for i in range(inputs):
        buffer = int_at(given[i])
        c[BUFFERS + 2 * i], c[BUFFERS + 2 * i + 1] = buffer[Buffer_data], buffer[Buffer_dims]
    for i in range(outputs):
        buffer = int_at(made[i])
        k = BUFFERS + 2 * (inputs + i)
        c[k], c[k + 1] = buffer[Buffer_data], buffer[Buffer_dims]
    context = int(c)
    _ask_for_help(api, execution, address_of(_task), context, count)
    _take_blocks(context)
    while fetch_add(int_at(context + 8 * DONE), 0) < blocks:
        sched_yield()
    _let_go(context)
    return 0
