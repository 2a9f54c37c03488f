"""One case: the run and the oracle on the same numbers, compared."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from differential import oracle
from differential.cases import STARTS, Case, Group, Program
from differential.neurons import SUBJECTS, Subject
from differential.transformations import TRANSFORMATIONS, Given, floating
from spyx import nn

BATCH, STEPS, CANDIDATES = 2, 7, 128

TOLERANCES = {"float64": 1e-11, "float32": 2e-5, "float16": 8 * 2**-10, "bfloat16": 8 * 2**-7}
"""Of a difference, relative to 1 + the largest number: eight times the rounding of bfloat16 and of float16, and more,
for sums in another order, of float32 and of float64. A mode that forgets a term is off by far more."""


class Prepared(NamedTuple):
    """What a group of cases shares, for one state before the first step.

    Args:
        given: numbers to call a run with.
        run: `(mode, options) -> Run`, the library's.
        expected: `transformation -> pytree`, the oracle's.
    """

    given: Given
    run: Any
    expected: Any


@contextlib.contextmanager
def precision(group: Group) -> Iterator[None]:
    """Float64 where the group asks for it."""
    with jax.enable_x64("float64" in group[1:]):
        yield


@functools.cache
def layer_of(name: str) -> Any:
    with jax.enable_x64(False):
        return SUBJECTS[name].build()


def legal(program: Program) -> bool:
    """`explain` says that the layer runs in this mode for these dtypes and this mask."""
    if program.mode in ("auto", "layer", "step"):
        return True
    masked = {"lengths", "mask"} & set(TRANSFORMATIONS[program.transformation].options)
    return _legal(program.group, program.mode, program.transformation if masked else "")


@functools.lru_cache(maxsize=64)
def _legal(group: Group, mode: str, masked: str) -> bool:
    with precision(group):
        layer = layer_of(group.subject)
        state = layer.initial_state(BATCH, jnp.dtype(group.state_dtype))
        x = jnp.zeros((BATCH, STEPS, *layer.hidden_shape), group.input_dtype)
        options = TRANSFORMATIONS[masked].options if masked else {}
        masks = {name: value for name, value in options.items() if name in ("lengths", "mask")}
        try:
            return [plan.mode for plan in nn.explain(layer, x, state, mode=mode, **masks)] == [mode]
        except ValueError as error:
            if "expected a neuron that can run so" not in str(error):
                raise
            return False


@functools.lru_cache(maxsize=2)
def prepare(group: Group) -> dict[str, Prepared]:
    """For every state before the first step. Input is drawn again where a spike would be decided by rounding."""
    subject, layer = SUBJECTS[group.subject], layer_of(group.subject)
    graphdef, weights, rest = nnx.split(layer, nnx.Param, ...)
    # Not weakly typed: with x64 JAX itself takes a weak float32 for a float64.
    wide = group.state_dtype == "float64"
    weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64 if wide else a.dtype), weights)
    other = jax.tree.map(lambda a: (0.9 * a).astype(a.dtype), weights)
    return {start: _prepared(group, subject, (graphdef, rest), weights, other, start) for start in STARTS}


def _prepared(group: Group, subject: Subject, parts: Any, weights: Any, other: Any, start: str) -> Prepared:
    graphdef, rest = parts
    layer = nnx.merge(graphdef, weights, rest, copy=True)
    step = subject.step
    many = _start(group, layer, start)
    candidates = _input(group, layer, subject)

    def model(weights: Any) -> Any:
        return nnx.merge(graphdef, weights, rest, copy=True)

    def by_oracle(weights: Any, x: Any, state: Any, **options: Any) -> Any:
        layer = model(weights)
        return oracle.run(layer, None if step is None else step(layer), x, state, **options)

    margins = np.minimum(*(_margins(by_oracle, w, candidates, many) for w in (weights, other)))
    # Candidates share the state of the sample that they may become: even ones the first, odd ones the second.
    best = [np.argsort(-margins[k::BATCH], kind="stable")[:2] * BATCH + k for k in range(BATCH)]
    chosen = [jnp.asarray([b[k] for b in best]) for k in range(2)]
    more_x = jnp.stack([candidates[index] for index in chosen])
    state = jax.tree.map(lambda a: a[:BATCH], many)
    leaves, structure = jax.tree.flatten(state)
    fixed = [None if jnp.issubdtype(a.dtype, jnp.floating) else a for a in leaves]

    def joined(floats: Any) -> Any:
        known = iter(floats)
        return jax.tree.unflatten(structure, [next(known) if a is None else a for a in fixed])

    def run(mode: str, options: Any) -> Any:
        return lambda weights, x, floats: nn.run(model(weights), x, joined(floats), mode=mode, **options)

    def expected(name: str) -> Any:
        rule = TRANSFORMATIONS[name]
        return rule.function(
            lambda w, x, floats: by_oracle(w, x, joined(floats), truncate=rule.truncate, alive=rule.alive), given
        )

    given = Given(
        weights,
        jax.tree.map(lambda a, b: jnp.stack([a, b]), weights, other),
        more_x[0],
        more_x,
        floating(state),
        _directions((weights, more_x[0], floating(state))),
    )
    return Prepared(given, run, functools.cache(expected))


def _start(group: Group, layer: Any, start: str) -> Any:
    """The state of every candidate: the same two samples again and again."""
    rest = layer.initial_state(BATCH, jnp.dtype(group.state_dtype))
    leaves, structure = jax.tree.flatten(rest)
    if start == "other":
        draw = np.random.default_rng(7)

        def moved(name: str, a: Any) -> Any:
            if not jnp.issubdtype(a.dtype, jnp.floating):
                return jnp.asarray(draw.integers(0, 3, a.shape), a.dtype)
            by = draw.integers(0, 2, a.shape) if name in ("z", "z_before") else 0.6 * draw.normal(size=a.shape)
            return a + jnp.asarray(by, a.dtype)

        names = getattr(rest, "_fields", ("v",))
        leaves = [moved(name, a) for name, a in zip(names, leaves, strict=True)]
    many = [jnp.tile(a, (CANDIDATES // BATCH, *(1,) * (a.ndim - 1))) for a in leaves]
    return jax.tree.unflatten(structure, many)


def _input(group: Group, layer: Any, subject: Subject) -> Any:
    draw = np.random.default_rng(11)
    shape = (CANDIDATES, STEPS, *layer.hidden_shape)
    if group.input_dtype == "uint8":
        return jnp.asarray(draw.integers(0, 2, shape), jnp.uint8)
    most = float(jnp.finfo(group.input_dtype).max) / 2  # currents in picoampere may pass what float16 holds
    return jnp.asarray(np.clip(0.3 + subject.scale * draw.normal(size=shape), -most, most), group.input_dtype)


def _margins(by_oracle: Any, weights: Any, x: Any, state: Any) -> np.ndarray:
    """How far from a change of any output each candidate is, in units of the rounding of its numbers.

    The distance of every spike from its threshold; and what a change of the input by a little does, because a step may
    branch or round in places that nothing tells of.
    """
    heard: list[Any] = []
    outs, end = by_oracle(weights, x, state, heard=heard)
    eps = float(jnp.finfo(oracle.compute_dtype(state)).eps)
    each = [np.abs(np.asarray(u, np.float64)).reshape(CANDIDATES, -1).min(1) for u in heard]
    margin = np.minimum.reduce(each) if each else np.full(CANDIDATES, np.inf)
    size = 1 + max(float(jnp.max(jnp.abs(a.astype(jnp.float32)))) for a in jax.tree.leaves(end))
    margin = np.minimum(margin / (eps * size), 1e6)
    if jnp.issubdtype(x.dtype, jnp.floating):
        near = by_oracle(weights, x * jnp.asarray(1 + 4 * eps, x.dtype), state)
        for a, b in zip(jax.tree.leaves((outs, end)), jax.tree.leaves(near), strict=True):
            moved = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).reshape(CANDIDATES, -1).max(1)
            margin = np.where(moved > 100 * eps * size, margin - 1e9, margin)
    return margin


def _directions(tree: Any) -> Any:
    draw = np.random.default_rng(13)

    def direction(a: Any) -> Any:
        return jnp.asarray(draw.normal(size=a.shape), a.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(direction, tree)


def failures(program: Program) -> list[str]:
    """What is wrong with the cases of a program, a line each; empty if nothing is."""
    found = []
    with precision(program.group):
        prepared = prepare(program.group)
        rule = TRANSFORMATIONS[program.transformation]
        ready = None
        for start in STARTS:
            case = Case(program, start)
            known = prepared[start]
            function = rule.tested or rule.function
            try:
                expected = known.expected(program.transformation)
                # The first run is compiled for both states: they differ in numbers alone, integers included.
                if ready is None or not rule.jit or _integers(program.group):
                    ready = functools.partial(function, known.run(program.mode, rule.options))
                    ready = jax.jit(ready) if rule.jit else ready
                with patched(rule.patches):
                    got = ready(known.given)
            except Exception as error:  # a case that cannot run has failed like one that is wrong
                found.append(f"{case}: {type(error).__name__}: {str(error)[:300]}")
                continue
            wrong = compared(got, expected, SUBJECTS[program.group.subject], program.group)
            found += [f"{case}: {wrong}"] if wrong else []
    return found


@contextlib.contextmanager
def patched(constants: Mapping[str, int]) -> Iterator[None]:
    """Constants of the engine with other values."""
    with contextlib.ExitStack() as stack:
        for name, number in constants.items():
            stack.enter_context(mock.patch(name, number))
        yield


def _integers(group: Group) -> bool:
    layer = layer_of(group.subject)
    return not all(jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves(layer.initial_state(1)))


def compared(got: Any, expected: Any, subject: Subject, group: Group) -> str:
    """In words what differs; empty if nothing does."""
    a_leaves, b_leaves = jax.tree.leaves(got), jax.tree.leaves(expected)
    if len(a_leaves) != len(b_leaves):
        return f"{len(a_leaves)} arrays for {len(b_leaves)}"
    for number, (a, b) in enumerate(zip(a_leaves, b_leaves, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"array {number}: {a.shape} {a.dtype} for {b.shape} {b.dtype}"
        a64, b64 = np.asarray(a, np.float64), np.asarray(b, np.float64)
        exact = not jnp.issubdtype(b.dtype, jnp.floating) or (subject.binary and set(np.unique(b64)) <= {0.0, 1.0})
        if exact and (a64 != b64).any():
            return f"array {number}: {int((a64 != b64).sum())} of {b64.size} spikes differ"
        if not np.isfinite(b64).all():
            return f"array {number}: the oracle is not finite"
        worst = float(np.max(np.abs(a64 - b64), initial=0.0) / (1 + np.max(np.abs(b64), initial=0.0)))
        if not worst <= tolerance(subject, group):
            return (
                f"array {number} of {len(b_leaves)}: differs by {worst:.1e} (tolerance {tolerance(subject, group):.0e})"
            )
    return ""


def tolerance(subject: Subject, group: Group) -> float:
    """That of the narrowest dtype among state and input."""
    return subject.tolerance * max(TOLERANCES[d] for d in group[1:] if d in TOLERANCES)
