"""What a training loop asks of an optimiser: three pure functions over a network's parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from spyx.fn._labels import strict_labels
from spyx.optimize._batches import call
from spyx.optimize._kinds import hold_delays

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

    from spyx.optimize.types import Loss, OneBatch, Optimiser, ParameterLoss, Rest, SolverState, Trainable

    Descent = tuple[Trainable, Rest, optax.OptState]
    """The state of gradient descent: parameters, what else the network holds, and what the optimiser keeps."""


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

    init: Callable[[PRNGKeyArray], SolverState]
    step: Callable[[SolverState, OneBatch, PRNGKeyArray], tuple[SolverState, Float[Array, ""]]]
    get_params: Callable[[SolverState], Trainable]
    get_rest: Callable[[SolverState], Rest] | None = None
    put_rest: Callable[[SolverState, Rest], SolverState] | None = None


Solver: TypeAlias = Callable[["ParameterLoss", "Trainable"], SolverImpl]
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
    loss_fn: Loss
    graphdef: nnx.GraphDef
    rest: Rest

    def __call__(self, params: Trainable, batch: OneBatch) -> Float[Array, ""]:
        return self.with_rest(params, self.rest, batch)[0]

    def with_rest(self, params: Trainable, rest: Rest, batch: OneBatch) -> tuple[Float[Array, ""], Rest]:
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

    def build(loss: ParameterLoss, params: Trainable) -> SolverImpl:
        rest = loss.rest if isinstance(loss, Objective) else ()

        def value(params: Trainable, rest: Rest, batch: OneBatch) -> tuple[Float[Array, ""], Rest]:
            return loss.with_rest(params, rest, batch) if isinstance(loss, Objective) else (loss(params, batch), rest)

        def step(state: Descent, batch: OneBatch, key: PRNGKeyArray) -> tuple[Descent, Float[Array, ""]]:
            params, rest, opt_state = state
            (found, rest), grads = jax.value_and_grad(value, has_aux=True)(params, rest, batch)
            with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes; strict promotion is not its business
                updates, opt_state = tx.update(grads, opt_state, params)
            # A gradient may be infinite where the loss is not; the loops watch the loss alone.
            found = jnp.where(all_finite(grads), found, jnp.nan)
            return (hold_delays(optax.apply_updates(params, updates)), rest, opt_state), found

        def init(key: PRNGKeyArray) -> Descent:
            return params, rest, tx.init(params)

        def put_rest(state: Descent, rest: Rest) -> Descent:
            return state[0], rest, state[2]

        return SolverImpl(init, step, lambda state: state[0], lambda state: state[1], put_rest)

    return build


def as_solver(owner: str, solver: Optimiser) -> Solver:
    """An Optax optimiser wrapped, a `Solver` as it is, or a TypeError that names `owner`."""
    if isinstance(solver, optax.GradientTransformation):
        return backprop(solver)
    if not callable(solver):
        raise TypeError(
            f"{owner}: expected an Optax optimiser or a solver; got {type(solver).__name__}. Try optax.adam(1e-3)."
        )
    return solver


def all_finite(tree: PyTree[Shaped[Array, "..."]]) -> Bool[Array, ""]:
    """Is every floating number of the tree finite?"""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves], dtype=bool))
