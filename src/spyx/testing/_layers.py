"""`check_layer`: what anything with `initial_state` and `layer(x, state)` must satisfy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from spyx import nn
from spyx.testing._agreement import require, require_close

if TYPE_CHECKING:
    from jaxtyping import Array

    from spyx.engine.types import Input, Leaves, Output, State, Tree


class Stepped(Protocol):
    """What is checked: a `spyx.nn.Layer`, or an object of any class with these two methods."""

    def initial_state(self, batch_size: int, /) -> State: ...

    def __call__(self, x: Input, state: State, /) -> tuple[Output, State]: ...


def check_layer(layer: Stepped, input_shape: tuple[int, ...], *, tolerance: float = 1e-4) -> None:
    """Check a layer: batch elements are independent, modes agree in value and every gradient, streams can be cut.

    Args:
        layer: has `initial_state(batch_size)` and `layer(x, state) -> (out, state)`; must be deterministic.
        input_shape: shape of one sample at one time step.
        tolerance: largest difference, relative to 1 + the largest value.

    Raises:
        AssertionError: names the promise that is broken.

    Example:
        >>> check_layer(nn.Sequential(nn.IF(3), nn.LI(3)), (3,))
    """
    name = type(layer).__name__
    batch, steps = 3, 6
    x = 1.5 * jax.random.normal(jax.random.key(0), (batch, steps, *input_shape))
    state = layer.initial_state(batch)
    leaves = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    require(all(leaf.shape[0] == batch for leaf in leaves), name, "every state array has the batch on axis 0")

    outs, after = nn.run(layer, x, state, mode="step")
    same = jax.tree.structure(after) == jax.tree.structure(state)
    require(same, name, "the state keeps its structure")
    require(outs.shape[:2] == (batch, steps), name, "one output per sample and time step")

    y, one = layer(x[:, 0], state)
    require_close(y, outs[:, 0], name, "`run` calls the layer once per time step", tolerance)
    shapes = [[leaf.shape for leaf in jax.tree.leaves(s)] for s in (one, state)]
    require(shapes[0] == shapes[1], name, "the state keeps its shapes")

    check_batch_independence(name, layer, x, tolerance)
    check_streaming(name, layer, x, tolerance)
    check_gradients(name, layer, x, ("layer", "auto"), tolerance)


def check_batch_independence(name: str, layer: Stepped, x: jax.Array, tolerance: float) -> None:
    """Changing one sample changes no other one; an empty batch gives an empty output."""
    outs = nn.run(layer, x)[0]
    changed = nn.run(layer, x.at[0].add(5.0))[0]
    require_close(changed[1:], outs[1:], name, "samples of a batch do not see each other", tolerance)
    empty = nn.run(layer, x[:0])[0]
    require(empty.shape == (0, *outs.shape[1:]), name, "an empty batch gives an empty output")


def check_streaming(name: str, layer: Stepped, x: jax.Array, tolerance: float) -> None:
    """Two chunks with the state carried over equal one run; no time at all gives back the state."""
    whole, end = nn.run(layer, x)
    first, middle = nn.run(layer, x[:, :2])
    second, end_of_chunks = nn.run(layer, x[:, 2:], middle)
    require_close(jnp.concatenate([first, second], 1), whole, name, "a stream may be cut anywhere", tolerance)
    require_close(end_of_chunks, end, name, "the state carries a stream over a cut", tolerance)
    nothing, same = nn.run(layer, x[:, :0], middle)
    require(nothing.shape == (whole.shape[0], 0, *whole.shape[2:]), name, "zero time steps give an empty output")
    require_close(same, middle, name, "zero time steps leave the state alone", 0.0)


def check_gradients(name: str, layer: Stepped, x: jax.Array, modes: tuple[str, ...], tolerance: float) -> None:
    """Every mode gives the plain scan's outputs, final state and gradients (input, parameters, initial state)."""
    state = layer.initial_state(x.shape[0])
    graphdef, weights, rest = nnx.split(layer, nnx.Param, ...) if isinstance(layer, nnx.Module) else (None, {}, {})
    inexact, others = _split_floating(state)

    def outcome(weights: Tree, x: jax.Array, inexact: Leaves, mode: str) -> tuple[jax.Array, tuple[Tree, State]]:
        model: Stepped = layer if graphdef is None else nnx.merge(graphdef, weights, rest)
        outs, end = nn.run(model, x, _join(inexact, others, state), mode=mode)
        floats = [leaf for leaf in jax.tree.leaves((outs, end)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        # A cosine weighs every output differently, so that no two errors cancel.
        total = sum(
            jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)) for leaf in floats
        )
        return jnp.asarray(total), (outs, end)

    def evaluate(mode: str) -> tuple[Tree, Tree]:
        (_, values), gradients = jax.value_and_grad(outcome, argnums=(0, 1, 2), has_aux=True)(weights, x, inexact, mode)
        return values, gradients

    values, gradients = evaluate("step")
    finite = all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    require(finite, name, "gradients are finite")
    for mode in modes:
        got_values, got_gradients = evaluate(mode)
        require_close(got_values, values, name, f"mode {mode!r} gives the outputs and state of 'step'", tolerance)
        require_close(got_gradients, gradients, name, f"mode {mode!r} gives the gradients of 'step'", tolerance)


def _split_floating(state: State) -> tuple[Leaves, list[Array | None]]:
    leaves = jax.tree.leaves(state)
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    return (
        [leaf for leaf, f in zip(leaves, floating, strict=True) if f],
        [None if f else leaf for leaf, f in zip(leaves, floating, strict=True)],
    )


def _join(inexact: Leaves, others: list[Array | None], like: State) -> State:
    rest = iter(inexact)
    leaves = [next(rest) if leaf is None else leaf for leaf in others]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
