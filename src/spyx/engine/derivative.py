"""Functions whose derivative is written down: `call(rule, *args)`.

`jax.custom_vjp` has no forward mode, and `lax.scan` drops the rule of a `jax.custom_jvp` in its body before a second
derivative is taken, which is then wrong without an error. A `Rule` is a primitive of its own instead: it has forward
mode, reverse mode and every higher derivative, also inside `lax.scan`, `jax.checkpoint`, `vmap` and `shard_map`,
because JAX differentiates its methods again by the same rules.

Arguments and results are pytrees. Derivatives are lists: one array per inexact (floating or complex) leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from spyx.engine.jit_cache import jit

if TYPE_CHECKING:
    from jax.core import ShapedArray
    from jaxtyping import PyTree

    from spyx.engine.types import Leaves, Structure, Tree

    Results = tuple[ShapedArray, ...]

    Arguments: TypeAlias = tuple[Tree, ...]
    """Pytrees of arrays, as a rule's function takes them."""

Changes = list[jax.Array]
"""Tangents or cotangents of the inexact leaves of one pytree."""

Tangents = Sequence[jax.Array | None]
"""Tangents of the inexact leaves of one argument; one that is zero is None."""


Axes = Sequence[int | None]
"""Which axis of each array is mapped by `vmap`; None for none."""


class Rule:
    """A function with its derivative. Subclasses are frozen dataclasses: rules are compared by value."""

    def forward(self, *args: Tree, **kwargs: Tree) -> Tree:
        """What runs. It is never differentiated itself."""
        raise NotImplementedError

    def keep(self, *args: Tree, **kwargs: Tree) -> tuple[Tree, Tree]:
        """`(forward(*args), what backward needs beside args)`, of operations that JAX can differentiate."""
        return call(self, *args), None

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        """Forward mode: tangents of the outputs from those of every argument; linear in them."""
        raise NotImplementedError

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        """Reverse mode: cotangents of every argument from those of the outputs."""
        raise NotImplementedError

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
        """`(outputs, their tangents)`, where the second part is transposed by `backward`."""
        outs, residuals = self.keep(*args)
        given, tree = jax.tree.flatten(tangents, is_leaf=lambda t: t is None)
        linear = _OfRule(self, jax.tree.structure((args, residuals)), tree, tuple(t is not None for t in given))
        results = tuple(map(jax.typeof, inexact(outs)[0]))
        stored, moved = jax.tree.leaves((args, residuals)), [t for t in given if t is not None]
        return outs, _linear.bind(*stored, *moved, linear=linear, count=len(stored), results=results)


@dataclass(frozen=True)
class Same(Rule):
    """`fast` where nothing is differentiated, `slow`, an equal function that JAX can differentiate, where it is."""

    fast: Callable[..., Tree]
    slow: Callable[..., Tree]

    def forward(self, *args: Tree) -> Tree:
        return self.fast(*args)

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
        return push(self.slow, args, tangents)


class Bilinear(Rule):
    """A function that is linear in each of its two arguments, with its two transposes as `backward`."""

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        (a, b), ((d_a,), (d_b,)) = args, tangents
        parts = [] if d_a is None else [call(self, d_a, b)]
        parts += [] if d_b is None else [call(self, a, d_b)]
        return [sum(parts[1:], parts[0])]


def call(rule: Rule, *args: Tree) -> Tree:
    """`rule.forward(*args)`, differentiated by the rule."""
    flat, tree = jax.tree.flatten(args)
    traced = _run.trace(rule, tree, *map(jax.typeof, flat))
    return jax.tree.unflatten(traced.out_tree, _call.bind(*flat, rule=rule, tree=tree, jaxpr=traced.jaxpr))


def inexact(tree: Tree) -> tuple[Changes, Callable[[Changes], Tree]]:
    """The leaves that have a derivative, and a function that puts others in their place."""
    leaves, structure = jax.tree.flatten(tree)
    where = [i for i, leaf in enumerate(leaves) if _has_derivative(leaf)]

    def rebuild(values: Changes) -> Tree:
        full = list(leaves)
        for i, value in zip(where, values, strict=True):
            full[i] = value
        return jax.tree.unflatten(structure, full)

    return [leaves[i] for i in where], rebuild


def push(function: Callable[..., Tree], args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
    """Forward mode of a plain function: its outputs and their tangents. What has no tangent is a constant."""
    known, rebuild = inexact(args)
    given = [t for part in tangents for t in part]
    moving = [i for i, t in enumerate(given) if t is not None]

    def partly(*values: jax.Array) -> tuple[Changes, Tree]:
        full = list(known)
        for i, value in zip(moving, values, strict=True):
            full[i] = value
        outs = function(*rebuild(full))
        return inexact(outs)[0], outs

    _, moved, outs = jax.jvp(partly, [known[i] for i in moving], [given[i] for i in moving], has_aux=True)
    return outs, moved


def pull(function: Callable[..., Tree], args: Arguments, cotangents: Changes) -> tuple[Changes, ...]:
    """Reverse mode of a plain function: cotangents of its arguments."""
    known, rebuild = zip(*map(inexact, args), strict=True)

    def partly(*leaves: Changes) -> Changes:
        return inexact(function(*(join(part) for join, part in zip(rebuild, leaves, strict=True))))[0]

    return jax.vjp(partly, *known)[1](cotangents)


def filled(tangents: Tangents, like: Changes) -> Changes:
    """Tangents with zeros in place of None."""
    return [jnp.zeros_like(a) if t is None else t for t, a in zip(tangents, like, strict=True)]


def types(shapes: Iterable[jax.ShapeDtypeStruct], like: ShapedArray) -> list[ShapedArray]:
    """The types of arrays of these shapes that vary over the axes of an enclosing `shard_map` that `like` does."""
    axes = tuple(sorted(like.manual_axis_type.varying))

    def made() -> list[jax.Array]:
        arrays = [jnp.zeros(s.shape, s.dtype) for s in shapes]
        return [jax.lax.pcast(a, axes, to="varying") for a in arrays] if axes else arrays

    return jax.make_jaxpr(made)().out_avals


def together(*trees: Tree) -> tuple[Tree, ...]:
    """The trees, each leaf varying over every axis of an enclosing `shard_map` that one of them varies over.

    A loop carries values of one type, and the gradient of what all devices share is summed over them here.
    """
    types = [jax.typeof(a).manual_axis_type.varying for a in jax.tree.leaves(trees)]
    axes = frozenset().union(*types)
    if not axes:
        return trees

    def vary(a: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - jax.typeof(a).manual_axis_type.varying))
        return jax.lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(vary, trees)


def _has_derivative(a: jax.Array) -> bool:
    return jnp.issubdtype(a.dtype, jnp.inexact)


# `spyx_call`: a rule's function


_run = jit(0, 1)(lambda rule, tree, *flat: rule.forward(*jax.tree.unflatten(tree, flat)))
# For its cache of traces: equal layers, the types of their results and their lowering share one.


_call = Primitive("spyx_call")
_call.multiple_results = True


@jit(0, 1)
def _compiled(rule: Rule, tree: Structure, *flat: jax.Array) -> Leaves:
    return jax.tree.leaves(call(rule, *jax.tree.unflatten(tree, flat)))


@_call.def_impl
def _(*flat: jax.Array, rule: Rule, tree: Structure, jaxpr: ClosedJaxpr) -> Leaves:
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        return jax.tree.leaves(rule.forward(*jax.tree.unflatten(tree, flat)))
    return _compiled(rule, tree, *flat)


_call.def_abstract_eval(lambda *avals, rule, tree, jaxpr: jaxpr.out_avals)


def _call_jvp(
    primals: Leaves, tangents: list[jax.Array | ad.Zero], *, rule: Rule, tree: Structure, jaxpr: ClosedJaxpr
) -> tuple[Leaves, list[jax.Array | ad.Zero]]:
    args = jax.tree.unflatten(tree, primals)
    given = iter([None if isinstance(t, ad.Zero) else t for t in tangents])
    pairs = [[(a, next(given)) for a in jax.tree.leaves(arg)] for arg in args]
    outs, moved = rule.jvp(args, tuple([t for a, t in pair if _has_derivative(a)] for pair in pairs))
    flat, rest = jax.tree.leaves(outs), iter(moved)
    return flat, [next(rest) if _has_derivative(a) else ad.Zero(jax.typeof(a).to_tangent_aval()) for a in flat]


def _call_batched(flat: Leaves, axes: Axes, *, rule: Rule, tree: Structure, jaxpr: ClosedJaxpr) -> tuple[Leaves, Axes]:
    args = jax.tree.unflatten(tree, _to_front(flat, axes))
    outs = jax.tree.leaves(call(_Mapped(rule, tree, _mapped(axes)), *args))
    return outs, [0] * len(outs)


def _call_lowered(*flat: jax.Array, rule: Rule, tree: Structure, jaxpr: ClosedJaxpr) -> Leaves:
    return jaxpr_as_fun(jaxpr)(*flat)


mlir.register_lowering(_call, mlir.lower_fun(_call_lowered, multiple_results=True))
ad.primitive_jvps[_call] = _call_jvp
batching.primitive_batchers[_call] = _call_batched


@dataclass(frozen=True)
class _Mapped(Rule):
    """A rule under `vmap`. `mapped` tells which leaves of its arguments have the mapped axis, as axis 0."""

    rule: Rule
    tree: Structure
    mapped: tuple[int | None, ...]

    def forward(self, *args: Tree) -> Tree:
        return jax.vmap(self.rule.forward, self._axes())(*args)

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
        def axes_of(arg: Tree, axes: PyTree[int | None], given: Tangents) -> Axes:
            found = zip(jax.tree.leaves(arg), jax.tree.leaves(axes, is_leaf=lambda a: a is None), strict=True)
            inner = [axis for a, axis in found if _has_derivative(a)]
            return [None if t is None else axis for t, axis in zip(given, inner, strict=True)]

        axes = tuple(map(axes_of, args, self._axes(), tangents))
        return jax.vmap(self.rule.jvp, (self._axes(), axes))(args, tangents)

    def _axes(self) -> PyTree[int | None]:
        return jax.tree.unflatten(self.tree, self.mapped)


# `spyx_linear`: the tangent of a rule, a linear function with a transpose of its own


class _Linear:
    """`apply(residuals, moved)` is linear in `moved`; all lists are flat."""

    def apply(self, residuals: Changes, moved: Changes) -> Changes:
        raise NotImplementedError

    def transpose(self, residuals: Changes, cotangents: Changes) -> Changes:
        raise NotImplementedError


@dataclass(frozen=True)
class _OfRule(_Linear):
    """The tangent of a rule whose arguments are those of `tree`; `present` tells which of them move."""

    rule: Rule
    residuals: Structure
    tangents: Structure
    present: tuple[bool, ...]

    def apply(self, residuals: Changes, moved: Changes) -> Changes:
        args, _ = jax.tree.unflatten(self.residuals, residuals)
        given = iter(moved)
        return self.rule.tangent(
            args, jax.tree.unflatten(self.tangents, [next(given) if here else None for here in self.present])
        )

    def transpose(self, residuals: Changes, cotangents: Changes) -> Changes:
        args, stored = jax.tree.unflatten(self.residuals, residuals)
        found = self.rule.backward(args, stored, cotangents)
        return [g for g, here in zip([g for part in found for g in part], self.present, strict=True) if here]


@dataclass(frozen=True)
class _MappedLinear(_Linear):
    """A linear function under `vmap`."""

    linear: _Linear
    residuals: tuple[int | None, ...]
    moved: tuple[int | None, ...]

    def apply(self, residuals: Changes, moved: Changes) -> Changes:
        return jax.vmap(self.linear.apply, (list(self.residuals), list(self.moved)))(residuals, moved)

    def transpose(self, residuals: Changes, cotangents: Changes) -> Changes:
        found = jax.vmap(self.linear.transpose, (list(self.residuals), 0))(residuals, cotangents)
        return [g.sum(0) if axis is None else g for g, axis in zip(found, self.moved, strict=True)]


_linear = Primitive("spyx_linear")
_linear.multiple_results = True


def _apply(*flat: jax.Array, linear: _Linear, count: int, results: Results | None) -> Changes:
    return linear.apply(list(flat[:count]), list(flat[count:]))


@jit(0, 1)
def _applied(linear: _Linear, count: int, *flat: jax.Array) -> Changes:
    return _apply(*flat, linear=linear, count=count, results=None)


_linear.def_impl(lambda *flat, linear, count, results: _applied(linear, count, *flat))


_linear.def_abstract_eval(lambda *avals, linear, count, results: list(results))


def _linear_jvp(
    primals: Leaves,
    tangents: list[jax.Array | ad.Zero],
    *,
    linear: _Linear,
    count: int,
    results: Results,
) -> tuple[Leaves, Changes]:
    bind = partial(_linear.bind, linear=linear, count=count, results=results)
    outs = bind(*primals)
    parts: list[Changes] = []
    residuals, moved = list(primals[:count]), list(primals[count:])
    changed = [None if isinstance(t, ad.Zero) else t for t in tangents]
    if any(t is not None for t in changed[count:]):
        parts.append(bind(*residuals, *filled(changed[count:], moved)))
    if any(t is not None for t in changed[:count]):
        smooth = [t for a, t in zip(residuals, changed[:count], strict=True) if _has_derivative(a)]
        parts.append(push(lambda r: linear.apply(r, moved), (residuals,), (smooth,))[1])
    return outs, [sum(terms[1:], terms[0]) for terms in zip(*parts, strict=True)]  # type: ignore[return-value]


def _linear_transpose(
    cotangents: list[jax.Array | ad.Zero],
    *flat: jax.Array | ad.UndefinedPrimal,
    linear: _Linear,
    count: int,
    results: Results,
) -> list[jax.Array | None]:
    wanted = [ad.is_undefined_primal(a) for a in flat]
    full = [ad.instantiate_zeros(g) for g in cotangents]
    found = iter(linear.transpose(list(flat[:count]), full))  # type: ignore[arg-type]
    return [None] * count + [g if w else None for g, w in zip(found, wanted[count:], strict=True)]


def _linear_batched(flat: Leaves, axes: Axes, *, linear: _Linear, count: int, results: Results) -> tuple[Leaves, Axes]:
    size = next(a.shape[axis] for a, axis in zip(flat, axes, strict=True) if axis is not None)
    mapped = _mapped(axes)
    outs = _linear.bind(
        *_to_front(flat, axes),
        linear=_MappedLinear(linear, mapped[:count], mapped[count:]),
        count=count,
        results=tuple(jax.make_jaxpr(lambda a: jnp.broadcast_to(a, (size, *a.shape)))(a).out_avals[0] for a in results),
    )
    return outs, [0] * len(outs)


mlir.register_lowering(_linear, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[_linear] = _linear_jvp
ad.primitive_transposes[_linear] = _linear_transpose
batching.primitive_batchers[_linear] = _linear_batched


def _to_front(flat: Leaves, axes: Axes) -> Leaves:
    return [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(flat, axes, strict=True)]


def _mapped(axes: Axes) -> tuple[int | None, ...]:
    return tuple(None if axis is None else 0 for axis in axes)
