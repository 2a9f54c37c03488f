"""One time step of a chain of layers as one native call on NumPy buffers: products by events and lane programs.

Every buffer is allocated once. Their addresses and sizes are entries of a table, the only argument of the compiled
function, so that a call costs less than a microsecond and networks of equal structure share what is compiled.
"""

# pyright: reportUndefinedVariable=false
# ruff: noqa: F821 - names of the kernel language

from __future__ import annotations

import ctypes
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np

from spyx.engine.feedback import Dense, Recurrent
from spyx.engine.kernels import kernel_cache
from spyx.engine.kernels import kernel_functions as library
from spyx.engine.kernels import spec as parts
from spyx.engine.kernels.kernel_functions import add_rows as add_rows
from spyx.engine.kernels.lane_program import Program, Unsupported
from spyx.engine.kernels.lane_source import Lines, write
from spyx.engine.kernels.language import Kernel, kernel, parse
from spyx.engine.kernels.spec import Spec, spec_of
from spyx.engine.params import Params

if TYPE_CHECKING:
    from jaxtyping import ArrayLike

    from spyx.engine.types import State, Step

Buffers = Sequence[np.ndarray]

DTYPE = np.dtype(np.float32)
"""Of every buffer and of the arithmetic."""

TYPES = {"real": DTYPE.name, "spikes": DTYPE.name}

CACHE_LINE = 64
"""Bytes; vectors that straddle two lines cost twice."""

_X, _SIZE, _INDICES, _COUNT = range(4)
"""First entries of the table: the input's address and size, the active indices and their number, -1 for a dense
input."""


@dataclass(frozen=True, eq=False)
class Product:
    """`y = x weight + bias` on the last axis of x.

    Args:
        weight: (inputs, outputs).
        bias: (outputs); None for none.
    """

    weight: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Lanes:
    """One neuron's step.

    Args:
        spec: of the step; of `WithCurrent(step)` where there is a weight.
        params: its parameters, in the order of the spec.
        state: variables before the first step.
        weight: (units, units) of a recurrent neuron, from what is sent to the current.
    """

    spec: Spec
    params: Sequence[ArrayLike]
    state: Sequence[ArrayLike]
    weight: np.ndarray | None = None


def lanes(step: Step, p: Params, x: jax.ShapeDtypeStruct, s: State) -> Lanes:
    """The lanes of a neuron.

    Args:
        step: local, or a `Recurrent` of a local step with a dense weight.
        p: parameters.
        x: shape and dtype of one step's input.
        s: state before the first step.

    Raises:
        Unsupported: the step has no lane program.
    """
    xs, weight, local = jax.ShapeDtypeStruct((1, *x.shape), x.dtype), None, p
    if isinstance(step, Recurrent):
        if not isinstance(step.via, Dense):
            raise Unsupported("a connection that is not a dense weight")
        units, local = math.prod(x.shape[1:]), step.local_parameters(p)
        weight = np.asarray(getattr(p, step.via.name)).reshape(units, units)
    spec = spec_of(step, p, xs, s)
    if spec.dtype != DTYPE or (weight is not None and weight.dtype != DTYPE):
        raise Unsupported("state or parameters of a dtype that is not float32")
    if spec.n_y != (1 if weight is None else 2):
        raise Unsupported("an output that is not one array")
    _ = spec.forward
    return Lanes(spec, jax.tree.leaves(local), jax.tree.leaves(s), weight)


class Chain:
    """Layers one after the other, one time step a call.

    Args:
        shape: of the input, (batch, *features).
        stages: what is between the layers' inputs and outputs, in order.

    Example:
        >>> chain = Chain((1, 2), [Product(np.ones((2, 3), np.float32), None)])
        >>> chain.x[...] = 2.0
        >>> chain.advance()
        >>> chain.y.tolist()
        [4.0, 4.0, 4.0]
    """

    def __init__(self, shape: tuple[int, ...], stages: Sequence[Product | Lanes]) -> None:
        self.x = _buffer(math.prod(shape))
        self.states: list[np.ndarray] = []
        self._buffers: list[np.ndarray] = []
        self._numbers: list[int] = []
        self._functions: dict[str, str] = {}
        self._calls: list[str] = []
        self._indices = np.zeros(self.x.size, np.int64)
        widest = max([self.x.size, *(s.weight.shape[0] for s in stages if s.weight is not None)])
        self._named = np.zeros(widest + 8, np.int64)
        self._numbers += [_address(self.x), self.x.size, _address(self._indices), -1]
        self.y = self.x
        for stage in stages:
            self.y = self._product(stage) if isinstance(stage, Product) else self._neuron(stage)
        self._table = np.asarray(self._numbers, np.int64)
        address = _address_of(self._calls, list(self._functions.values()))
        self._call, self._at = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address), _address(self._table)

    def advance(self) -> None:
        """One step on what is in `x`: the output is in `y`, the new states are in `states`."""
        self._call(self._at)

    def advance_by_events(self, indices: np.ndarray) -> bool:
        """One step on an input that is 1 at `indices` and 0 elsewhere.

        Args:
            indices: integers, at most as many as there are inputs.

        Returns:
            False, and no step was made, where an index is out of range or given twice.
        """
        self._indices[: indices.size] = indices
        self._table[_COUNT] = indices.size
        fine = self._call(self._at) == 0
        self._table[_COUNT] = -1
        return fine

    def _product(self, stage: Product) -> np.ndarray:
        inputs, outputs = stage.weight.shape
        bias = np.zeros(outputs, DTYPE) if stage.bias is None else stage.bias
        y = _buffer(self.y.size // inputs * outputs)
        self._add(self.y, stage.weight, bias, y)
        return y

    def _add(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        """A product by events, among the calls."""
        inputs, outputs = weight.shape
        arrays = ", ".join(self._pointer(a) for a in (x, _copy(weight), _copy(bias), y))
        sizes = ", ".join(self._number(n) for n in (x.size // inputs, inputs, outputs))
        self._calls.append(f"affine({arrays}, {sizes}, int_at(c[{self._slot(self._named)}]))")

    def _neuron(self, stage: Lanes) -> np.ndarray:
        spec, x, size = stage.spec, self.y, math.prod(stage.spec.shape)
        params = [_copy(np.broadcast_to(np.asarray(a, DTYPE), spec.shape)) for a in stage.params]
        states = [_copy(np.asarray(a, DTYPE)) for a in stage.state]
        self.states += [a.reshape(spec.shape) for a in states]
        outs = [_buffer(size) for _ in range(spec.n_y)]
        if stage.weight is None:
            self._lanes(spec.forward, size, [x], params, states, outs)
            return outs[0]
        current, sent, units = _buffer(size), spec.spikes_at, stage.weight.shape[0]
        self._lanes(parts.spikes(spec), size, [x, current], params, states, [outs[sent]], changes=False)
        self._add(outs[sent], stage.weight, np.zeros(units, DTYPE), current)
        rest = [y for k, y in enumerate(outs[: spec.n_y - 1]) if k != sent]
        self._lanes(parts.after_spikes(spec), size, [x, current], params, states, rest)
        return outs[0]

    def _lanes(
        self, program: Program, size: int, xs: Buffers, ps: Buffers, es: Buffers, ys: Buffers, *, changes: bool = True
    ) -> None:
        """A lane program among the calls, which reads `xs`, `ps` and `es` and writes `ys` and, in place, `es`."""
        counts = len(xs), len(ps), len(es), len(ys)
        body = _source("{name}", program, *counts, changes)
        name = f"lanes{list(self._functions).index(body) if body in self._functions else len(self._functions)}"
        self._functions[body] = _source(name, program, *counts, changes)
        pointers = ", ".join(self._pointer(a) for a in (*xs, *ps, *es, *ys))
        self._calls.append(f"{name}({self._number(size)}, {pointers})")

    def _pointer(self, array: np.ndarray) -> str:
        return f"real_at(c[{self._slot(array)}])"

    def _slot(self, array: np.ndarray) -> int:
        self._buffers.append(array)
        self._numbers.append(_address(array))
        return len(self._numbers) - 1

    def _number(self, value: int) -> str:
        self._numbers.append(value)
        return f"c[{len(self._numbers) - 1}]"


def _buffer(size: int) -> np.ndarray:
    """Zeros, from a cache line's start."""
    raw = np.zeros(size * DTYPE.itemsize + CACHE_LINE, np.uint8)
    start = -_address(raw) % CACHE_LINE
    return raw[start : start + size * DTYPE.itemsize].view(DTYPE)


def _copy(array: np.ndarray) -> np.ndarray:
    flat = _buffer(array.size)
    flat.reshape(array.shape)[...] = array
    return flat


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _source(name: str, program: Program, xs: int, ps: int, es: int, ys: int, changes: bool) -> str:
    """A lane program as text: `name(N, x0, ..., p0, ..., e0, ..., y0, ...)`, one value per lane in each."""
    letters = [f"{letter}{k}" for letter, n in zip("xpey", (xs, ps, es, ys), strict=True) for k in range(n)]
    reads = [f"{name}[i]" for name in letters[: xs + ps + es]]
    writes = [f"{name}[i]" for name in letters[xs + ps + es :]]
    text = Lines()
    text.add(0, "for i in range(N):")
    write(text, 1, program, reads, [*writes, *(reads[xs + ps :] if changes else ())])
    return f"def {name}(N, {', '.join(letters)}):\n" + "\n".join(text.lines) + "\n"


def _address_of(calls: Sequence[str], functions: Sequence[str]) -> int:
    """The address of a function of the table's address: all of the calls, one after the other."""
    text = Lines()
    text.add(0, "c = int_at(table)", f"if c[{_COUNT}] >= 0:", f"    indices = int_at(c[{_INDICES}])")
    text.add(1, f"if mark(real_at(c[{_X}]), c[{_SIZE}], indices, c[{_COUNT}]) == 0:", "    return 1")
    text.add(0, *calls, "return 0")
    source = "\n".join([*functions, "def entry(table):", *text.lines]) + "\n"
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    return kernel_cache.address(f"spyx_chain_{digest}", lambda: _parsed(source), TYPES)


def _parsed(source: str) -> Kernel:
    def type_of(function: str, argument: str) -> str:
        return "int" if function == "entry" or argument == "N" else "real*"

    return parse(source, type_of, globals() | vars(library), wide=True)["entry"]


@kernel(x="real*", w="real*", b="real*", y="real*", named="int*", wide=True)
def affine(x, w, b, y, rows, inputs, outputs, named):
    """`y = x @ w + b` by events."""
    for row in range(rows):
        for o in range(outputs):
            y[row * outputs + o] = b[o]
        add_rows(x, row * inputs, w, y, row * outputs, inputs, outputs, named)


@kernel(x="real*", indices="int*")
def mark(x, size, indices, count):
    """Make x 1 at the indices and 0 elsewhere; returns 0 where one of them is out of range or given twice."""
    for i in range(size):
        x[i] = real(0)
    for k in range(count):
        i = indices[k]
        if i < 0 or i >= size or x[i] != 0:
            return 0
        x[i] = real(1)
    return 1
