"""The CPU kernels of a step written out: lane programs as text of the kernel language.

A kernel handles a block of samples at a time, all of time for each, so that states stay in the first-level cache; the
inner loop over lanes is one that LLVM turns into vector instructions. Arrays are (time, samples, units). The units of a
sample belong to one block, so that the products of a recurrent step need nobody else; a sample of a local step is one
lane.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spyx.engine.jit_cache import cache
from spyx.engine.kernels import spec as parts
from spyx.engine.kernels.expressions import DTYPES, expression
from spyx.engine.kernels.lane_program import Operand, Program, Unsupported
from spyx.engine.kernels.spec import SPECS, Spec

_LEGEND = """\
# T time steps, B samples, U units, N lanes; arrays are (T, N) or, one value per lane, (N).
# x input, p parameter, s first state, e last state, y output, m checkpoints, b states since the last checkpoint;
# cotangents: g of y, f of e, u of x, q of p, h of s; v values of the step, d of its derivative.
"""
_RECURRENT_LEGEND = """\
# w recurrent weight, wt its transpose, z spikes fed back (some y), c their current z w, a cotangent of z;
# the cotangent of c is that of some x, or the last u.
"""
_LANES = ("N = B * U", "first = first * U", "last = last * U", "width = last - first")


def check_dtypes(*programs: Program) -> None:
    """Refuse values that the kernel language has no type for, such as those of a step that rounds through bfloat16.

    Raises:
        Unsupported: names the dtype.
    """
    for program in programs:
        for statement in program.statements:
            for dtype in (*statement.operand_dtypes, statement.dtype):
                if dtype.name not in DTYPES:
                    raise Unsupported(f"a value of dtype {dtype.name}")


@cache(SPECS)
def forward_source(spec: Spec) -> str:
    """The forward kernel."""
    names, text = _Names(spec), Lines()
    text.add(0, *_LANES)
    text.add(0, "for i in range(first, last):", *(f"    e{k}[i] = s{k}[i]" for k in names.states))
    if spec.recurrent:
        text.add(0, f"c = real_at(scratch(width * {spec.dtype.itemsize}))")
    text.add(0, "for t in range(T):", "    r = t * N")
    text.add(1, f"if t % {spec.chunk} == 0:", f"    m = t // {spec.chunk} * N", "    for i in range(first, last):")
    text.add(3, *(f"m{k}[m + i] = e{k}[i]" for k in names.states))
    text.add(1, "for i in range(first, last):")
    reads, program, done = names.step_inputs("e{k}[i]", "c[i - first]"), spec.forward, ()
    if spec.recurrent:
        z = spec.spikes_at
        write(text, 2, parts.spikes(spec), reads, [f"y{z}[r + i]"])
        text.add(1, f"by_events(y{z}, r + first, w, c, 0, width, U)", "for i in range(first, last):")
        program, done = parts.after_spikes(spec), (z,)
    writes = [*(f"y{k}[r + i]" for k in names.outs if k not in done), *names.each("e", "[i]")]
    write(text, 2, program, reads, writes)
    if spec.recurrent:
        text.add(0, "free(c)")
    outs = [f"y{k}" for k in range(spec.outputs)]
    return _function(spec, "forward", [*names.expand("xps"), *names.weight[:1], *outs, *names.expand("em")], text)


@cache(SPECS)
def backward_source(spec: Spec) -> str:
    """The backward kernel: states again from the last checkpoint, then the step's derivative in reverse."""
    names, text, size = _Names(spec), Lines(), spec.dtype.itemsize
    scratch = {f"b{j}": f"{spec.chunk + 1} * width" for j in names.states}
    if spec.recurrent:
        scratch |= {"a": "width", "c": f"{spec.chunk} * width"}
    text.add(0, *_LANES, *(f"{name} = real_at(scratch({many} * {size}))" for name, many in scratch.items()))
    text.add(0, "for i in range(first, last):", *(f"    h{j}[i] = f{j}[i]" for j in names.states))
    text.add(1, *(f"q{j}[i] = real(0)" for j in names.params))
    text.add(0, f"for chunk in range((T - 1) // {spec.chunk}, -1, -1):")
    text.add(1, f"begin = chunk * {spec.chunk}", f"end = min(T, begin + {spec.chunk})", "m = chunk * N")
    text.add(1, "for i in range(first, last):", *(f"    b{j}[i - first] = m{j}[m + i]" for j in names.states))

    again = names.step_inputs("b{k}[o + i]", "c[o + i]")
    last = "end" if spec.recurrent else "end - 1"  # the last current is needed, the last state is not
    text.add(1, f"for t in range(begin, {last}):", "    r = t * N", "    o = (t - begin) * width - first")
    if spec.recurrent:
        text.add(2, "by_events(z, r + first, w, c, o + first, width, U)")
    text.add(2, "for i in range(first, last):")
    write(text, 3, spec.advance, again, names.each("b", "[o + width + i]"))

    text.add(1, "for t in range(end - 1, begin - 1, -1):", "    r = t * N", "    o = (t - begin) * width - first")
    text.add(2, "for i in range(first, last):")
    of_spikes = ["a[i - first]"] if spec.recurrent else []
    reads = [*again, *(f"g{j}[r + i]" for j in names.outs), *of_spikes, *names.each("h", "[i]")]
    program, done = spec.backward, ()
    if spec.recurrent:
        c = spec.current_at
        write(text, 3, parts.current_cotangent(spec), reads, [f"u{c}[r + i]"], letter="d")
        text.add(2, f"product(u{c}, r + first, wt, a, 0, width, U)", "for i in range(first, last):")
        program, done = parts.after_current(spec), (c,)
    writes = [*(f"u{j}[r + i]" for j in names.xs if j not in done), *names.each("h", "[i]")]
    write(text, 3, program, reads, writes, [f"q{j}[i]" for j in names.params], letter="d")
    text.add(0, *(f"free({name})" for name in scratch))
    inputs = [f"u{k}" for k in range(spec.inputs)]
    given = [*names.expand("xpmgf"), *(["z"] if spec.recurrent else []), *names.weight]
    return _function(spec, "backward", [*given, *inputs, *names.expand("qh")], text)


def _function(spec: Spec, name: str, pointers: list[str], text: Lines) -> str:
    kind = f"recurrent {name}" if spec.recurrent else name
    head = f"# {spec.name}, {kind}, {spec.dtype.name}\n{_LEGEND}{_RECURRENT_LEGEND if spec.recurrent else ''}"
    return f"{head}def {name}(first, last, T, B, U, {', '.join(pointers)}):\n" + "\n".join(text.lines) + "\n"


class _Names:
    """One letter per kind of array; the number after it counts arrays of that kind.

    The current and the spikes fed back, last of inputs and outputs, have names of their own.
    """

    def __init__(self, spec: Spec) -> None:
        self.xs, self.outs = range(spec.n_x - spec.recurrent), range(spec.n_y - spec.recurrent)
        self.params, self.states = range(spec.n_p), range(spec.n_s)
        self.weight = ["w", "wt"] if spec.recurrent else []

    def expand(self, letters: Sequence[str]) -> list[str]:
        counts = dict.fromkeys("xu", self.xs) | dict.fromkeys("pq", self.params) | dict.fromkeys("yg", self.outs)
        return [f"{letter}{k}" for letter in letters for k in counts.get(letter, self.states)]

    def each(self, letter: str, index: str) -> list[str]:
        return [f"{letter}{k}{index}" for k in self.states]

    def step_inputs(self, state: str, current: str) -> list[str]:
        """Where a step reads from: its inputs, a recurrent current if it has one, parameters, state."""
        return [
            *(f"x{k}[r + i]" for k in self.xs),
            *([current] if self.weight else []),
            *(f"p{k}[i]" for k in self.params),
            *(state.format(k=k) for k in self.states),
        ]


class Lines:
    """Lines of text, indented; depth 0 is the body of the kernel."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * (depth + 1) + line for line in lines]


def write(
    text: Lines,
    depth: int,
    program: Program,
    reads: list[str],
    writes: list[str],
    sums: Sequence[str] = (),
    letter: str = "v",
) -> None:
    """One lane of one step: every read, then the arithmetic, then every write; `sums` are added to.

    Values are named by the letter and their numbers; programs of one kernel whose numbers differ need two letters.
    """
    needed = program.needs()
    text.add(depth, *(f"{letter}{k} = {place}" for k, place in enumerate(reads) if k in needed))
    for s in program.statements:
        form = expression(s.primitive.name, s.params, s.operand_dtypes, s.dtype)
        operands = [_operand(a, letter) for a in s.operands]
        text.add(depth, f"{letter}{s.value} = {form.format(*operands, T=s.dtype.name)}")
    values = [_operand(a, letter) for a in program.outputs]
    text.add(depth, *(f"{place} = {value}" for place, value in zip(writes, values, strict=False)))
    text.add(depth, *(f"{p} = {p} + {v}" for p, v in zip(sums, values[len(writes) :], strict=True)))


def _operand(a: Operand, letter: str) -> str:
    if isinstance(a, int):
        return f"{letter}{a}"
    if a.dtype == np.bool_:
        return str(bool(a))
    return f"{a.dtype.name}({a.item()!r})"
