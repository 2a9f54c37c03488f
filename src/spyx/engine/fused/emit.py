"""Lane programs written out as Python: what the sources of all CPU kernels are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spyx.engine.fused.primitives import DTYPES, expression
from spyx.engine.fused.program import Operand, Program, Unsupported


class Names:
    """One letter per kind of array; the number after it counts arrays of that kind."""

    inputs = ("x", "p")

    def __init__(self, xs: int, params: int, states: int, outs: int) -> None:
        self.xs, self.params, self.states, self.outs = range(xs), range(params), range(states), range(outs)

    def expand(self, letters: Sequence[str]) -> list[str]:
        counts = dict.fromkeys("xu", self.xs) | dict.fromkeys("pq", self.params) | dict.fromkeys("yg", self.outs)
        return [f"{letter}{k}" for letter in letters for k in counts.get(letter, self.states)]

    def each(self, letter: str, index: str) -> list[str]:
        return [f"{letter}{k}{index}" for k in self.states]

    def step_inputs(self, state: str, *current: str) -> list[str]:
        """Where a step reads from: its inputs, a recurrent current if it has one, parameters, state."""
        return [
            *(f"x{k}[r + i]" for k in self.xs),
            *current,
            *(f"p{k}[i]" for k in self.params),
            *(state.format(k=k) for k in self.states),
        ]


class Lines:
    """Lines of Python, indented; depth 0 is the body of the kernel."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * (depth + 1) + line for line in lines]


def check_dtypes(*programs: Program) -> None:
    """Refuse values that Numba has no type for, such as those of a step that rounds through bfloat16.

    Raises:
        Unsupported: names the dtype.
    """
    for program in programs:
        for statement in program.statements:
            for dtype in (*statement.operand_dtypes, statement.dtype):
                if dtype.name not in DTYPES:
                    raise Unsupported(f"a value of dtype {dtype.name}")


def write(body: Lines, depth: int, program: Program, reads: list[str], writes: list[str], sums: Any = ()) -> None:
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
