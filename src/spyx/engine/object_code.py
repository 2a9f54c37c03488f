"""Machine code as bytes: what Numba typed becomes one relocatable object, and an object becomes an address.

An object needs nothing of Numba and nothing of the process that made it. So a later process can load it with llvmlite
alone, which takes milliseconds where importing Numba and compiling take seconds.
"""

from __future__ import annotations

import functools
import itertools
import os
import platform
import struct
from collections.abc import Callable
from importlib import metadata
from typing import Any

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


def compiled(build: Callable[[], Any], name: str) -> bytes:
    """The object of the Numba function of 64-bit integers that `build` compiles, exported as `name`.

    Numba types it and writes it down; LLVM's passes run once, over all of it, and not once more for every function.
    """
    from numba.core import config
    from numba.core.compiler_lock import global_compiler_lock

    settings: Any = config
    with global_compiler_lock:  # nobody else compiles while Numba's own passes are off
        level, settings.OPT = settings.OPT, type(settings.OPT)(0)
        try:
            dispatcher = build()
        finally:
            settings.OPT = level
    return _emit(dispatcher, name)


def _emit(dispatcher: Any, name: str) -> bytes:
    """The object of a compiled function, exported in C's convention.

    Numba's functions return a status and write their result through a pointer; the exported one has neither. All others
    become internal: what raises an error in them is then seen to be dead, and with it every call of the interpreter.
    """
    import llvmlite.binding as llvm
    from llvmlite import ir

    ((arguments, compiled),) = dispatcher.overloads.items()
    module = llvm.parse_bitcode(compiled.library._final_module.as_bitcode())
    native = compiled.fndesc.llvm_func_name

    word = ir.IntType(64)
    around = ir.Module()
    around.triple, around.data_layout = module.triple, module.data_layout
    result, error = word.as_pointer(), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.IntType(32), [result, error.as_pointer(), *[word] * len(arguments)])
    inner = ir.Function(around, kind, native)
    outer = ir.Function(around, ir.FunctionType(word, [word] * len(arguments)), name)
    builder = ir.IRBuilder(outer.append_basic_block())
    place = builder.alloca(word)
    builder.store(word(0), place)
    builder.call(inner, [place, builder.alloca(error), *outer.args])
    builder.ret(builder.load(place))

    module.link_in(llvm.parse_assembly(str(around)))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != name:
            value.linkage = "internal"
    machine = _machine()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
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


def bind(run: int, *values: int) -> int:
    """The address of a function of one 64-bit word that calls the function at `run` with it and with `values`."""
    import llvmlite.binding as llvm
    from llvmlite import ir

    engine, word = _engine(), ir.IntType(64)
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    name = f"spyx_bound_{next(_numbers)}"
    function = ir.Function(module, ir.FunctionType(word, [word]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    kind = ir.FunctionType(word, [word] * (1 + len(values)))
    called = builder.inttoptr(word(run), kind.as_pointer())
    builder.ret(builder.call(called, [*function.args, *(word(value) for value in values)]))
    engine.add_module(llvm.parse_assembly(str(module)))
    engine.finalize_object()
    return engine.get_function_address(name)


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
    """What an object depends on besides its source: versions, the CPU, and Numba's settings."""
    import llvmlite.binding as llvm

    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("jaxlib", "llvmlite", "numba")},
        "system": llvm.get_process_triple(),
        "cpu": llvm.get_host_cpu_name(),
        "features": llvm.get_host_cpu_features().flatten(),
        "settings": " ".join(settings),
    }


_numbers = itertools.count()


def _machine() -> Any:
    """A new target machine for this CPU: an engine takes possession of its own."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    options: dict[str, Any] = dict(opt=3, jit=True, codemodel="jitdefault")
    if platform.machine() in ("x86_64", "AMD64"):
        options["reloc"] = "static"  # as Numba has it: other processors need position-independent code
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, **options
    )


@functools.cache
def _engine() -> Any:
    """One for all objects of a process."""
    import llvmlite.binding as llvm

    machine = _machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
