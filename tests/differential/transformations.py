"""What is done with a run: each transformation is written once, and applied to the run and to the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Run = Callable[..., Any]
"""`(weights, x, floats, **options) -> (outputs, last state)`; floats are the floating variables of the state."""

WIDE = frozenset({("float32", "float32"), ("float64", "float64")})
DOUBLE = frozenset({("float64", "float64")})
EQUAL = WIDE | {("float16", "float16"), ("bfloat16", "bfloat16")}


class Given(NamedTuple):
    """What a run is called with.

    Args:
        weights: parameters.
        more_weights: two sets of them, stacked.
        x: input (batch, time, ...).
        more_x: two inputs, stacked.
        floats: floating variables of the state before the first step.
        directions: tangents of weights, x and floats.
    """

    weights: Any
    more_weights: Any
    x: Any
    more_x: Any
    floats: Any
    directions: Any


@dataclass(frozen=True)
class Transformation:
    """How a run is called.

    Args:
        function: `(run, given) -> pytree`.
        options: of `spyx.nn.run`.
        tested: a function in the place of `function` for the run, where the oracle is called in a simpler way.
        truncate: of the oracle.
        jit: whether the run is compiled as a whole.
        dtypes: of state and input; None is all. What does not depend on them is tried for a few.
        mode: the only one that it is for; None is all.
        without: a mode that it is not for, or None.
        alive: of the oracle.
        patches: constants of the engine, by module and name, with other values.
    """

    function: Callable[[Run, Given], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    tested: Callable[[Run, Given], Any] | None = None
    truncate: int = 0
    jit: bool = True
    dtypes: frozenset[tuple[str, str]] | None = None
    mode: str | None = None
    without: str | None = None
    alive: Any = None
    patches: Mapping[str, int] = field(default_factory=dict)

    def takes(self, mode: str, state_dtype: str, input_dtype: str) -> bool:
        if mode == self.without or (self.mode is not None and mode != self.mode):
            return False
        return self.dtypes is None or (state_dtype, input_dtype) in self.dtypes


def weighted(tree: Any) -> Any:
    """A sum in which no two errors cancel: a cosine weighs every number differently."""
    wide = jnp.float64 if any(a.dtype == jnp.float64 for a in jax.tree.leaves(tree)) else jnp.float32
    total = jnp.zeros((), wide)
    for number, leaf in enumerate(floating(tree)):
        weights = jnp.cos(jnp.arange(leaf.size, dtype=wide) + number).reshape(leaf.shape)
        total = total + jnp.sum(leaf.astype(wide) * weights)
    return total


def floating(tree: Any) -> list[Any]:
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)]


def value(run: Run, given: Given) -> Any:
    return run(given.weights, given.x, given.floats)


def donated(run: Run, given: Given) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some donated buffers")
        copies = jax.tree.map(jnp.copy, (given.x, given.floats))
        return jax.jit(run, donate_argnums=(1, 2))(given.weights, *copies)


def gradients(run: Run) -> Callable[..., Any]:
    """`(weights, x, floats) -> (values, gradients)`; an input of integers has none."""

    def loss(weights: Any, x: Any, floats: Any) -> Any:
        values = run(weights, x, floats)
        return weighted(values), values

    def both(weights: Any, x: Any, floats: Any) -> Any:
        smooth = (0, 1, 2) if jnp.issubdtype(x.dtype, jnp.floating) else (0, 2)
        (_, values), found = jax.value_and_grad(loss, smooth, has_aux=True)(weights, x, floats)
        return values, found

    return both


def gradient(run: Run, given: Given) -> Any:
    return gradients(run)(given.weights, given.x, given.floats)


def checkpointed(run: Run, given: Given) -> Any:
    return gradient(jax.checkpoint(run), given)


def forward_mode(run: Run, given: Given) -> Any:
    weights, x, floats, d_weights, d_x, d_floats = (*given[:1], given.x, given.floats, *given.directions)
    if jnp.issubdtype(x.dtype, jnp.floating):
        outs, moved = jax.jvp(run, (weights, x, floats), (d_weights, d_x, d_floats))
    else:
        outs, moved = jax.jvp(lambda w, f: run(w, x, f), (weights, floats), (d_weights, d_floats))
    return outs, _of_floating(outs, moved)


def _of_floating(outs: Any, moved: Any) -> list[Any]:
    """Without the tangents of integers."""
    pairs = zip(jax.tree.leaves(outs), jax.tree.leaves(moved), strict=True)
    return [t for a, t in pairs if jnp.issubdtype(a.dtype, jnp.floating)]


def second(run: Run, given: Given) -> Any:
    def loss(weights: Any, x: Any, floats: Any) -> Any:
        return weighted(gradients(run)(weights, x, floats)[1])

    return jax.grad(loss, (0, 1, 2))(given.weights, given.x, given.floats)


def forward_over_reverse(run: Run, given: Given) -> Any:
    arguments = given.weights, given.x, given.floats
    return jax.jvp(lambda *a: gradients(run)(*a)[1], arguments, given.directions)[1]


def reverse_over_forward(run: Run, given: Given) -> Any:
    def loss(weights: Any, x: Any, floats: Any) -> Any:
        outs, moved = jax.jvp(run, (weights, x, floats), given.directions)
        return weighted(_of_floating(outs, moved))

    return jax.grad(loss, (0, 1, 2))(given.weights, given.x, given.floats)


def mapped_input(run: Run, given: Given) -> Any:
    return jax.vmap(gradients(run), (None, 0, None))(given.weights, given.more_x, given.floats)


def mapped_input_in_turn(run: Run, given: Given) -> Any:
    return stacked([gradients(run)(given.weights, x, given.floats) for x in given.more_x])


def mapped_weights(run: Run, given: Given) -> Any:
    return jax.vmap(gradients(run), (0, None, None))(given.more_weights, given.x, given.floats)


def mapped_weights_in_turn(run: Run, given: Given) -> Any:
    each = [jax.tree.map(lambda a, k=k: a[k], given.more_weights) for k in range(2)]
    return stacked([gradients(run)(weights, given.x, given.floats) for weights in each])


def through_map(run: Run, given: Given) -> Any:
    """The gradient of a mapped run: what all its parts share gets the sum of theirs."""
    return gradients(jax.vmap(run, (None, 0, None)))(given.weights, given.more_x, given.floats)


def through_map_in_turn(run: Run, given: Given) -> Any:
    def in_turn(weights: Any, more_x: Any, floats: Any) -> Any:
        return stacked([run(weights, x, floats) for x in more_x])

    return gradients(in_turn)(given.weights, given.more_x, given.floats)


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


ENDS = np.arange(7) < np.array([[4], [7]])
GAPS = np.array([[1, 0, 1, 1, 0, 0, 1], [0, 1, 1, 0, 1, 1, 0]], bool)


TRANSFORMATIONS = {
    "value": Transformation(value, jit=False),
    "grad": Transformation(gradient, jit=False, dtypes=WIDE),
    "jit": Transformation(gradient),
    "jvp": Transformation(forward_mode, dtypes=EQUAL),
    "vmap_input": Transformation(mapped_input_in_turn, tested=mapped_input, dtypes=EQUAL),
    "vmap_weights": Transformation(mapped_weights_in_turn, tested=mapped_weights, dtypes=EQUAL),
    "grad_of_vmap": Transformation(through_map_in_turn, tested=through_map, dtypes=WIDE),
    "chunk": Transformation(gradient, {"chunk": 3}, dtypes=EQUAL),
    "remat": Transformation(gradient, {"remat": True}, dtypes=WIDE),
    "chunk_remat": Transformation(gradient, {"chunk": 3, "remat": True}, dtypes=WIDE),
    "truncate": Transformation(gradient, {"chunk": 3, "truncate": True}, truncate=3, dtypes=WIDE),
    "lengths": Transformation(gradient, {"lengths": ENDS.sum(1)}, alive=ENDS),
    "lengths_chunk": Transformation(gradient, {"lengths": ENDS.sum(1), "chunk": 3}, alive=ENDS, dtypes=WIDE),
    "lengths_jvp": Transformation(forward_mode, {"lengths": ENDS.sum(1)}, alive=ENDS, dtypes=WIDE),
    # A kernel has no form for samples that come back.
    "gaps": Transformation(gradient, {"mask": GAPS}, alive=GAPS, without="fused", dtypes=EQUAL),
    "gaps_chunk": Transformation(gradient, {"mask": GAPS, "chunk": 3}, alive=GAPS, without="fused", dtypes=WIDE),
    "checkpoint": Transformation(gradient, tested=checkpointed, dtypes=WIDE),
    "donate": Transformation(value, tested=donated, jit=False, dtypes=WIDE),
    # Chunks and kernels, as `auto` chooses them for large inputs.
    "auto_large": Transformation(
        gradient,
        dtypes=WIDE | {("float32", "bfloat16")},
        mode="auto",
        patches={"spyx.engine.plan.KERNEL_UPDATES": 1, "spyx.engine.device.CACHE_BYTES": 48},
    ),
    "second": Transformation(second, dtypes=DOUBLE),
    "forward_over_reverse": Transformation(forward_over_reverse, dtypes=DOUBLE),
    "reverse_over_forward": Transformation(reverse_over_forward, dtypes=DOUBLE),
}
