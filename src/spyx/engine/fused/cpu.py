"""The CPU kernels: two lane programs written out as Python, compiled by Numba, called through XLA's FFI.

A kernel handles a block of lanes at a time, all of time for each: the state stays in the first-level cache, and the
inner loop over lanes is one the compiler turns into vector instructions. Arrays are (time, lanes), lanes contiguous.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from spyx.engine import native
from spyx.engine.compiler import kernel, pointer_to
from spyx.engine.fused.exponential import exponential
from spyx.engine.fused.primitives import expression
from spyx.engine.fused.program import Operand, Program

if TYPE_CHECKING:
    from spyx.engine.fused.spec import Spec

LANES = native.Share(axis=1, smallest=64, largest=1024)
"""Arrays are (time, lanes): a block's state fits the first-level cache and its loop is made of whole vectors."""


def forward(spec: Spec, xs: Sequence[jax.Array], ps: Sequence[jax.Array], ss: Sequence[jax.Array]) -> list[jax.Array]:
    """Outputs (time, lanes), last states (lanes), checkpoints (chunks, lanes)."""
    return _call("forward", forward_source(spec), spec, [*xs, *ps, *ss], spec.forward_shapes(*xs[0].shape))


def backward(spec: Spec, xs: Any, ps: Any, marks: Any, g_ys: Any, g_ends: Any) -> list[jax.Array]:
    """Cotangents of inputs (time, lanes), parameters (lanes) and first states (lanes)."""
    arrays = [*xs, *ps, *marks, *g_ys, *g_ends]
    return _call("backward", backward_source(spec), spec, arrays, spec.backward_shapes(*xs[0].shape))


@functools.cache
def forward_source(spec: Spec) -> str:
    """The forward kernel as Python."""
    names = _Names(spec)
    body = _Lines()
    body.add(0, "for i in range(first, last):", *(f"    e{k}[i] = s{k}[i]" for k in names.states))
    body.add(0, "for t in range(T):", "    r = t * N")
    body.add(1, f"if t % {spec.chunk} == 0:", f"    m = t // {spec.chunk} * N", "    for i in range(first, last):")
    body.add(3, *(f"m{k}[m + i] = e{k}[i]" for k in names.states))
    body.add(1, "for i in range(first, last):")
    writes = [*(f"y{k}[r + i]" for k in names.outs), *names.each("e", "[i]")]
    _write(body, 2, spec.forward, names.step_inputs("e{k}[i]"), writes)
    arguments = [*names.inputs, "s", "y", "e", "m"]
    return _function(spec, "forward", names.expand(arguments), body)


@functools.cache
def backward_source(spec: Spec) -> str:
    """The backward kernel as Python: states again from the last checkpoint, then the step's vjp in reverse."""
    names = _Names(spec)
    k, ty = names.states, spec.dtype.name
    body = _Lines()
    body.add(0, "width = last - first")
    body.add(0, *(f"b{j} = scratch({spec.chunk} * width * {spec.dtype.itemsize})" for j in k))
    body.add(0, "for i in range(first, last):", *(f"    h{j}[i] = f{j}[i]" for j in k))
    body.add(1, *(f"q{j}[i] = {ty}(0)" for j in names.params))
    body.add(0, f"for chunk in range((T - 1) // {spec.chunk}, -1, -1):")
    body.add(1, f"begin = chunk * {spec.chunk}", f"end = min(T, begin + {spec.chunk})", "m = chunk * N")
    body.add(1, "for i in range(first, last):", *(f"    b{j}[i - first] = m{j}[m + i]" for j in k))
    body.add(1, "for t in range(begin, end - 1):", "    r = t * N", "    o = (t - begin) * width - first")
    body.add(2, "for i in range(first, last):")
    again = names.step_inputs("b{k}[o + i]")
    _write(body, 3, spec.advance, again, names.each("b", "[o + width + i]"))
    body.add(1, "for t in range(end - 1, begin - 1, -1):", "    r = t * N", "    o = (t - begin) * width - first")
    body.add(2, "for i in range(first, last):")
    reads = again + [f"g{j}[r + i]" for j in names.outs] + [f"h{j}[i]" for j in k]
    writes = [*(f"u{j}[r + i]" for j in names.xs), *names.each("h", "[i]")]
    _write(body, 3, spec.backward, reads, writes, [f"q{j}[i]" for j in names.params])
    body.add(0, *(f"release(b{j})" for j in k))
    arguments = [*names.inputs, "m", "g", "f", "u", "q", "h"]
    return _function(spec, "backward", names.expand(arguments), body)


_LEGEND = """\
# T time steps, N lanes; arrays are (T, N) or, one value per lane, (N).
# x input, p parameter, s first state, e last state, y output, m checkpoints, b states since the last checkpoint;
# cotangents: g of y, f of e, u of x, q of p, h of s.
"""


class _Names:
    """One letter per kind of array; the number after it counts arrays of that kind."""

    inputs = ("x", "p")

    def __init__(self, spec: Spec) -> None:
        self.xs, self.params = range(spec.n_x), range(spec.n_p)
        self.states, self.outs = range(spec.n_s), range(spec.n_y)

    def expand(self, letters: Sequence[str]) -> list[str]:
        counts = dict.fromkeys("xu", self.xs) | dict.fromkeys("pq", self.params) | dict.fromkeys("yg", self.outs)
        return [f"{letter}{k}" for letter in letters for k in counts.get(letter, self.states)]

    def each(self, letter: str, index: str) -> list[str]:
        return [f"{letter}{k}{index}" for k in self.states]

    def step_inputs(self, state: str) -> list[str]:
        return [
            *(f"x{k}[r + i]" for k in self.xs),
            *(f"p{k}[i]" for k in self.params),
            *(state.format(k=k) for k in self.states),
        ]


class _Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * (depth + 1) + line for line in lines]


def _write(body: _Lines, depth: int, program: Program, reads: list[str], writes: list[str], sums: Any = ()) -> None:
    """One lane of one step: every read, then the arithmetic, then every write; `sums` are added to."""
    needed = program.needs()
    body.add(depth, *(f"v{k} = {place}" for k, place in enumerate(reads) if k in needed))
    for s in program.statements:
        form = expression(s.primitive.name, s.params, s.operand_dtypes, s.dtype)
        text = form.format(*map(_operand, s.operands), T=s.dtype.name)
        body.add(depth, f"v{s.value} = " + (f"{s.dtype.name}({text})" if s.dtype.kind in "iu" else text))
    values = [_operand(a) for a in program.outputs]
    body.add(depth, *(f"{place} = {value}" for place, value in zip(writes, values, strict=False)))
    body.add(depth, *(f"{p} = {p} + {v}" for p, v in zip(sums, values[len(writes) :], strict=True)))


def _operand(a: Operand) -> str:
    if isinstance(a, int):
        return f"v{a}"
    if a.dtype == np.bool_:
        return str(bool(a))
    return f"{a.dtype.name}({a.item()!r})".replace("inf", "np.inf").replace("nan", "np.nan")


def _function(spec: Spec, name: str, pointers: list[str], body: _Lines) -> str:
    head = f"# {spec.name}, {name}, {spec.dtype.name}\n{_LEGEND}"
    return f"{head}def {name}(first, last, T, N, {', '.join(pointers)}):\n" + "\n".join(body.lines) + "\n"


def _call(name: str, source: str, spec: Spec, arrays: list[jax.Array], shapes: list[Any]) -> list[jax.Array]:
    pointers = len(arrays) + len(shapes)
    target = native.register(name, source, LANES, lambda: _compile(name, source, spec.dtype.name, pointers))
    return list(jax.ffi.ffi_call(target, shapes)(*arrays))


def _compile(name: str, source: str, dtype: str, count: int) -> Any:
    """A cfunc `(context, first, last)` that runs the kernel on the buffers of a context."""
    import numba
    from numba import types

    number = getattr(numba, dtype)
    pointer = types.CPointer(number)
    namespace: dict[str, Any] = {
        "np": np,
        "math": math,
        "scratch": types.ExternalFunction("malloc", pointer(numba.int64)),
        "release": types.ExternalFunction("free", types.void(pointer)),
        "exp": exponential(dtype),
        **{n: getattr(np, n) for n in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32")},
    }
    exec(compile(source, f"<spyx {name} kernel>", "exec"), namespace)  # source that this module wrote
    signature = types.void(*[numba.int64] * 4, *[pointer] * count)
    work = kernel(signature)(namespace[name])
    buffers = ", ".join(f"at(c[{native.BUFFERS + 2 * k}])" for k in range(count))
    entry = (
        f"def entry(context, first, last):\n    c = words(context)\n    dims = words(c[{native.BUFFERS + 1}])\n"
        f"    kernel(first, last, dims[0], dims[1], {buffers})\n    return 0\n"
    )
    scope = {"kernel": work, "at": pointer_to(dtype), "words": pointer_to("int64")}
    exec(compile(entry, f"<spyx {name} entry>", "exec"), scope)
    return numba.cfunc(numba.int64(numba.int64, numba.int64, numba.int64))(scope["entry"])
