"""Machine code as bytes: an LLVM module becomes one relocatable object, and an object becomes an address.

An object needs nothing of the process that made it but functions of the C library, so that a later one can load it.
"""

from __future__ import annotations

import functools
import itertools
import platform
import struct
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llvmlite.binding import ExecutionEngine, TargetMachine
    from llvmlite.binding.newpassmanagers import ModulePassManager

_MATHS = """
    acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 floor fma fmax fmin fmod
    hypot ldexp lgamma log log10 log1p log2 pow rint round sin sinh sqrt tan tanh tgamma trunc
"""
NEEDS = frozenset(
    ["aligned_alloc", "free", "malloc", "memcpy", "memmove", "memset", "sched_yield"]
    + [name + end for name in _MATHS.split() for end in ("", "f")]
)
"""Functions of the C library that an object on disk may call: a name outside of these could not be found later."""


def symbol(target: str) -> str:
    """The function that the object of a kernel exports."""
    return f"{target}_entry"


def compiled(text: str) -> bytes:
    """The object of an LLVM module given as text, optimised for this CPU."""
    import llvmlite.binding as llvm

    machine = _machine()
    module = llvm.parse_assembly(text, llvm.create_context())  # types and constants live as long as their context
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    passes.run(module, builder)
    _free_passes(passes)
    return machine.emit_object(module)


def load(code: bytes, name: str) -> int:
    """The address of function `name` of an object, which stays in memory as long as the process.

    Raises:
        ValueError: the object is none, or has no such function, or needs one that this process does not have.
    """
    import llvmlite.binding as llvm

    engine = _engine()
    for needed in undefined(code) or ():
        if llvm.address_of_symbol(needed) is None:
            raise ValueError(f"this process has no function {needed}")
    try:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    except RuntimeError as error:
        raise ValueError(f"no object file ({error})") from error
    engine.finalize_object()
    address = engine.get_function_address(name)
    if not address:
        raise ValueError(f"the object has no function {name}")
    return address


def bound(run: int, values: Sequence[int]) -> list[int]:
    """The addresses of functions of one 64-bit word, each of which calls the function at `run` with it and a value."""
    import llvmlite.binding as llvm
    from llvmlite import ir

    engine, word = _engine(), ir.IntType(64)
    module = ir.Module(context=ir.Context())
    module.triple = llvm.get_process_triple()
    names = [f"spyx_bound_{next(_numbers)}" for _ in values]
    for name, value in zip(names, values, strict=True):
        function = ir.Function(module, ir.FunctionType(word, [word]), name)
        builder = ir.IRBuilder(function.append_basic_block())
        called = builder.inttoptr(word(run), ir.FunctionType(word, [word, word]).as_pointer())
        builder.ret(builder.call(called, [*function.args, word(value)]))
    engine.add_module(llvm.parse_assembly(str(module)))
    engine.finalize_object()
    return [engine.get_function_address(name) for name in names]


def undefined(code: bytes) -> list[str] | None:
    """The functions that an object needs; None where its format is not that of 64-bit Linux.

    Raises:
        ValueError: the bytes are no object.
    """
    import llvmlite.binding as llvm

    if code[:6] != b"\x7fELF\x02\x01":
        return None
    try:
        sections = {section.name(): section.data() for section in llvm.ObjectFileRef.from_data(code).sections()}
        names, symbols = (bytes(sections.get(name) or sections[name.encode()]) for name in (".strtab", ".symtab"))
        entries = list(struct.iter_unpack("<IBBHQQ", symbols))[1:]  # place of the name, ..., number of the section, ...
        return [names[e[0] : names.index(b"\0", e[0])].decode() for e in entries if e[3] == 0]
    except (KeyError, RuntimeError, ValueError, struct.error) as error:
        raise ValueError(f"no object file ({error})") from error


def facts() -> dict[str, str]:
    """What an object depends on besides its source: versions, and the CPU."""
    import llvmlite.binding as llvm

    return {
        **{name: metadata.version(name) for name in ("jaxlib", "llvmlite")},
        "system": llvm.get_process_triple(),
        "cpu": llvm.get_host_cpu_name(),
        "features": llvm.get_host_cpu_features().flatten(),
    }


_numbers = itertools.count()


def _free_passes(passes: ModulePassManager) -> None:
    """Free what llvmlite 0.50 loses: its class inherits the release that does nothing before the one that frees."""
    from llvmlite.binding.newpassmanagers import NewPassManager

    free = getattr(NewPassManager, "_dispose", None)
    if free is not None and not passes.closed:
        free(passes)
        passes.detach()  # so that nothing frees it again


def _machine() -> TargetMachine:
    """A new target machine for this CPU: an engine takes possession of its own."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    static = platform.machine() in ("x86_64", "AMD64")  # other processors need position-independent code
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static" if static else "default",
        codemodel="jitdefault",
        jit=True,
    )


@functools.cache
def _engine() -> ExecutionEngine:
    """One for all objects of a process."""
    import llvmlite.binding as llvm

    machine = _machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
