"""A step as a list of elementwise statements: what every kernel, forward and backward, is generated from.

A unit reads nothing but its own input, state and parameters, so a step is a scalar program that runs on every lane (one
unit of one sample). Tracing finds that program: nested functions are inlined, what no output needs is dropped, and
anything that mixes lanes is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Literal, Primitive

from spyx.engine.kernels.expressions import EXPRESSIONS

if TYPE_CHECKING:
    from jax.core import ShapedArray
    from jax.extend.core import JaxprEqn, Var
    from jaxtyping import DTypeLike

    from spyx.engine.types import Data

_NESTED = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
_SAME_LANE = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "copy", "copy_p", "stop_gradient")

NO_MESH = jax.sharding.AbstractMesh((), ())

Operand = int | np.generic
"""The number of a value, or a constant."""


class Unsupported(Exception):
    """A step that no kernel can be generated from; the message says what is in the way."""


@dataclass(frozen=True, eq=False)
class Statement:
    """`value = primitive(operands)`, on one lane."""

    value: int
    primitive: Primitive
    operands: tuple[Operand, ...]
    params: Mapping[str, object]
    dtype: np.dtype
    operand_dtypes: tuple[np.dtype, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """Values 0, 1, ... are the inputs; every statement adds one.

    Args:
        inputs: dtype of each input.
        statements: in order of execution.
        outputs: what the program returns.
    """

    inputs: tuple[np.dtype, ...]
    statements: tuple[Statement, ...]
    outputs: tuple[Operand, ...]

    def needs(self) -> set[int]:
        """Numbers of the inputs that some output depends on."""
        used = [*self.outputs, *(a for s in self.statements for a in s.operands)]
        return {a for a in used if isinstance(a, int) and a < len(self.inputs)}


def trace(function: Callable[..., Sequence[jax.Array]], shape: tuple[int, ...], dtypes: Sequence[DTypeLike]) -> Program:
    """The lane program of `function`, called with one array of `shape` per dtype and returning arrays of that shape.

    Raises:
        Unsupported: it mixes lanes, loops, or calls a primitive that the table lacks.
    """
    with jax.sharding.use_abstract_mesh(NO_MESH):  # a lane is on one device, whatever the caller is spread over
        closed = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, d) for d in dtypes))
    inputs = tuple(np.dtype(d) for d in dtypes)
    statements: list[Statement] = []
    outputs = _inline(closed, list(range(len(inputs))), shape, len(inputs), statements)
    for aval in closed.out_avals:
        if aval.shape != shape:
            raise Unsupported(f"an output of shape {aval.shape} for lanes of shape {shape}")
    return Program(inputs, _alive(statements, outputs), tuple(outputs))


def select(program: Program, outputs: Sequence[int]) -> Program:
    """The part of a program that computes some of its outputs."""
    chosen = [program.outputs[k] for k in outputs]
    return Program(program.inputs, _alive(list(program.statements), chosen), tuple(chosen))


def evaluate(program: Program, arguments: Sequence[jax.Array]) -> list[jax.Array]:
    """Run a program on arrays of one shape, whatever it is."""
    shape = arguments[0].shape
    values: dict[int, jax.Array] = dict(enumerate(arguments))

    def read(a: Operand) -> jax.Array:
        return values[a] if isinstance(a, int) else jnp.full(shape, a.item(), a.dtype)

    for s in program.statements:
        values[s.value] = s.primitive.bind(*map(read, s.operands), **s.params)
    return [read(a) for a in program.outputs]


def _inline(
    closed: ClosedJaxpr, arguments: list[Operand], shape: tuple[int, ...], first: int, statements: list[Statement]
) -> list[Operand]:
    jaxpr = closed.jaxpr
    values: dict[Var, Operand] = dict(zip(jaxpr.invars, arguments, strict=True))
    for var, constant in zip(jaxpr.constvars, closed.consts, strict=True):
        values[var] = _constant(constant)

    def read(atom: Literal | Var) -> Operand:
        return (
            _constant(atom.val, np.dtype(getattr(atom.aval, "dtype", None)))
            if isinstance(atom, Literal)
            else values[atom]
        )

    for eqn in jaxpr.eqns:
        name, operands = eqn.primitive.name, [read(a) for a in eqn.invars]
        if (inner := _inner(eqn)) is not None:
            results = _inline(inner, operands, shape, first, statements)
        elif name in _SAME_LANE:
            results = [_same_lane(eqn, operands[0], shape)]
        elif all(isinstance(a, np.generic) for a in operands) and eqn.outvars[0].aval.size == 1:
            results = [_fold(eqn, operands)]
        else:
            results = [_statement(eqn, operands, shape, first, statements)]
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _inner(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The function that an equation calls, or what it is made of; None for one operation."""
    name = eqn.primitive.name
    if name in _NESTED:
        inner = next(eqn.params[k] for k in ("call_jaxpr", "jaxpr", "fun_jaxpr") if k in eqn.params)
        return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    if name == "spyx_call":
        return eqn.params["jaxpr"]
    if name == "select_n" and len(eqn.invars) > 3:
        return jax.make_jaxpr(_select_in_pairs)(*(a.aval for a in eqn.invars))
    return None


def _select_in_pairs(which: jax.Array, *cases: jax.Array) -> jax.Array:
    chosen = cases[-1]
    for number in range(len(cases) - 2, -1, -1):
        chosen = jax.lax.select(which == number, cases[number], chosen)
    return chosen


def _fold(eqn: JaxprEqn, operands: list[Operand]) -> np.generic:
    with jax.ensure_compile_time_eval():
        return _constant(eqn.primitive.bind(*map(jnp.asarray, operands), **eqn.params))


def _same_lane(eqn: JaxprEqn, operand: Operand, shape: tuple[int, ...]) -> Operand:
    """Reshaping a constant, or nothing at all, changes no lane; every other change of shape moves values about."""
    before, after = _type(eqn.invars[0]), _type(eqn.outvars[0])
    if isinstance(operand, int) and before.shape != after.shape and before.size * after.size != 1:
        raise Unsupported(f"primitive '{eqn.primitive.name}' from shape {before.shape} to {after.shape}")
    return operand


def _statement(
    eqn: JaxprEqn, operands: list[Operand], shape: tuple[int, ...], first: int, statements: list[Statement]
) -> int:
    name = eqn.primitive.name
    if name not in EXPRESSIONS:
        raise Unsupported(f"primitive '{name}'")
    aval = _type(eqn.outvars[0])
    if aval.shape != shape and any(isinstance(a, int) for a in operands):
        raise Unsupported(f"primitive '{name}' of shape {aval.shape} for lanes of shape {shape}")
    value = first + len(statements)
    dtypes = tuple(np.dtype(_type(a).dtype) for a in eqn.invars)
    statements.append(Statement(value, eqn.primitive, tuple(operands), dict(eqn.params), np.dtype(aval.dtype), dtypes))
    return value


def _type(atom: Literal | Var) -> ShapedArray:
    return atom.aval  # type: ignore[return-value]


def _constant(value: Data, dtype: DTypeLike | None = None) -> np.generic:
    if isinstance(value, Tracer):
        raise Unsupported("a traced value that step closes over")
    array = np.asarray(value, dtype)
    if array.size != 1:
        raise Unsupported(f"an array constant of shape {array.shape}")
    return array.dtype.type(array.item())


def _alive(statements: list[Statement], outputs: list[Operand]) -> tuple[Statement, ...]:
    wanted = {a for a in outputs if isinstance(a, int)}
    alive = []
    for s in reversed(statements):
        if s.value in wanted:
            wanted.update(a for a in s.operands if isinstance(a, int))
            alive.append(s)
    return tuple(reversed(alive))
