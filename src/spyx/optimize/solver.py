"""What a training loop asks of an optimiser: three pure functions over a network's parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from spyx.fn.labels import strict_labels
from spyx.optimize.batches import call
from spyx.optimize.kinds import hold_delays


class SolverImpl(NamedTuple):
    """The pure functions that a `Solver` hands to a training loop.

    Args:
        init: `(key) -> state`, the optimiser's state before the first step, the parameters inside.
        step: `(state, batch, key) -> (state, loss)`, one update.
        get_params: `(state) -> params`, the current best guess.
        get_rest: `(state) -> rest`, what else the network changes as it trains (BatchNorm's averages, Dropout's
            counters); None where the solver leaves it alone.
        put_rest: `(state, rest) -> state`, with that in its place; None where the solver leaves it alone.

    Example:
        >>> impl = backprop(optax.sgd(0.5))(lambda params, batch: (params - batch) ** 2, jnp.float32(0.0))
        >>> state, loss = impl.step(impl.init(jax.random.key(0)), jnp.float32(1.0), jax.random.key(0))
        >>> float(loss), float(impl.get_params(state))
        (1.0, 1.0)
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]
    get_params: Callable[[Any], Any]
    get_rest: Callable[[Any], Any] | None = None
    put_rest: Callable[[Any, Any], Any] | None = None


Solver = Callable[[Callable[[Any, Any], jax.Array], Any], SolverImpl]
"""Type alias: `(loss(params, batch), params) -> SolverImpl`; builds an optimiser for one network."""


@dataclass(frozen=True)
class Objective:
    """`loss_fn(model, *batch)`, or a loss of `spyx.fn` of the model's outputs, as a function of the model's parameters.

    Args:
        owner: the public name that errors begin with.
        loss_fn: `(model, *batch) -> loss`, or a loss of `spyx.fn`.
        graphdef: the structure of the model.
        rest: everything in the model that is no parameter.
    """

    owner: str
    loss_fn: Callable[..., jax.Array]
    graphdef: Any
    rest: Any

    def __call__(self, params: Any, batch: tuple[Any, ...]) -> jax.Array:
        return self.with_rest(params, self.rest, batch)[0]

    def with_rest(self, params: Any, rest: Any, batch: tuple[Any, ...]) -> tuple[jax.Array, Any]:
        """The loss, and what the model changed on itself."""
        model = nnx.merge(self.graphdef, params, rest, copy=True)  # variables of this trace, which BatchNorm may change
        with strict_labels():  # a label that is no class makes the loss NaN, which the loops watch
            loss = call(f"{self.owner}(loss_fn=)", self.loss_fn, model, batch)
        if isinstance(loss, tuple) or jnp.shape(loss) != ():
            got = f"{len(loss)} values" if isinstance(loss, tuple) else f"shape {jnp.shape(loss)}"
            raise TypeError(f"{self.owner}(loss_fn=): expected one number per batch; got {got}. Return the mean.")
        return loss, nnx.split(model, nnx.Param, ...)[2]


def backprop(tx: optax.GradientTransformation) -> Solver:
    """Gradient descent as a `Solver`: `params' = params + tx(dloss / dparams)`, delays clipped to their range.

    `compile_fit` and `fit` wrap an Optax optimiser in it by themselves.

    Args:
        tx: an Optax optimiser, for instance `optax.adam(1e-3)`.

    Raises:
        TypeError: `tx` is no Optax optimiser.

    Example:
        >>> from spyx import nn
        >>> from spyx.optimize import compile_fit
        >>> model, data = nn.LI(1, beta=0.5), (jnp.ones((1, 2, 3, 1)),)
        >>> loss = lambda model, x: -nn.run(model, x)[0].mean()
        >>> trained, history = compile_fit(model, backprop(optax.sgd(0.1)), loss, data, epochs=2)
        >>> bool(history["train_loss"][1] < history["train_loss"][0])
        True
    """
    if not isinstance(tx, optax.GradientTransformation):
        raise TypeError(
            f"spyx.optimize.backprop: expected an Optax optimiser; got {type(tx).__name__}. Try optax.adam(1e-3)."
        )

    def build(loss: Callable[[Any, Any], jax.Array], params: Any) -> SolverImpl:
        rest = loss.rest if isinstance(loss, Objective) else ()

        def value(params: Any, rest: Any, batch: Any) -> tuple[jax.Array, Any]:
            return loss.with_rest(params, rest, batch) if isinstance(loss, Objective) else (loss(params, batch), rest)

        def step(state: Any, batch: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            params, rest, opt_state = state
            (found, rest), grads = jax.value_and_grad(value, has_aux=True)(params, rest, batch)
            with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes; strict promotion is not its business
                updates, opt_state = tx.update(grads, opt_state, params)
            # A gradient may be infinite where the loss is not; the loops watch the loss alone.
            found = jnp.where(all_finite(grads), found, jnp.nan)
            return (hold_delays(optax.apply_updates(params, updates)), rest, opt_state), found

        def init(key: jax.Array) -> Any:
            return params, rest, tx.init(params)

        def put_rest(state: Any, rest: Any) -> Any:
            return state[0], rest, state[2]

        return SolverImpl(init, step, lambda state: state[0], lambda state: state[1], put_rest)

    return build


def as_solver(owner: str, solver: Any) -> Solver:
    """An Optax optimiser wrapped, a `Solver` as it is, or a TypeError that names `owner`."""
    if isinstance(solver, optax.GradientTransformation):
        return backprop(solver)
    if not callable(solver):
        raise TypeError(
            f"{owner}: expected an Optax optimiser or a solver; got {type(solver).__name__}. Try optax.adam(1e-3)."
        )
    return cast(Solver, solver)


def all_finite(tree: Any) -> jax.Array:
    """Is every floating number of the tree finite?"""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves], dtype=bool))
