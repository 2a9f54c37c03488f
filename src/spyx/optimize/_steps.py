"""Single steps, for loops of your own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import jax
from flax import nnx

from spyx.optimize._batches import as_batch, call, without_padding
from spyx.optimize._kinds import hold_delays
from spyx.optimize._solver import Objective

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.nn._mask_arguments import Lengths
    from spyx.optimize.types import BatchLike, EvalStep, Loss, Metric, OneBatch, Scores, TrainStep

M = TypeVar("M", bound=nnx.Module)


def make_train_step(loss_fn: Loss) -> TrainStep:
    """One compiled update, in place: `step(model, optimizer, *batch, lengths=None) -> loss`.

    The model is split and merged at every call; `fit` does so once per run and is faster. A loss that is not a number
    is returned, not raised: looking at it would stop the device. A batch of `spyx.data.Loader` is given whole,
    `step(model, optimizer, batch)`.

    Args:
        loss_fn: `(model, *batch) -> loss`, or a loss of `spyx.fn`; of lengths and masks it gets what it would in `fit`.

    Raises:
        TypeError: at the call, on a loss that is more than one number, or takes no lengths where there are some.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from spyx import nn
        >>> model = nn.LI(1, beta=0.5)
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> step = make_train_step(lambda model, x: -nn.run(model, x)[0].mean())
        >>> first = step(model, optimizer, jnp.ones((1, 3, 1)))
        >>> bool(step(model, optimizer, jnp.ones((1, 3, 1))) < first), bool(model.beta[...] > 0.5)
        (True, True)
    """

    @partial(jax.jit, static_argnums=(0, 1))
    def update(
        graphdef: nnx.GraphDef[nnx.Module],
        opt_graphdef: nnx.GraphDef[nnx.Optimizer],
        state: list[nnx.State],
        opt_state: nnx.State,
        batch: OneBatch,
    ) -> tuple[Float[Array, ""], nnx.State, nnx.State]:
        params, rest = state
        objective = Objective("spyx.optimize.make_train_step", loss_fn, graphdef, rest)
        value = jax.value_and_grad(lambda p: objective.with_rest(p, rest, batch), has_aux=True)
        (loss, rest), grads = value(params)
        model, optimizer = nnx.merge(graphdef, params, rest), nnx.merge(opt_graphdef, opt_state)
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes
            optimizer.update(model, grads)
        return loss, hold_delays(nnx.state(model)), nnx.state(optimizer)

    def step(
        model: nnx.Module, optimizer: nnx.Optimizer, *batch: BatchLike, lengths: Lengths | None = None
    ) -> Float[Array, ""]:
        batch = without_padding("spyx.optimize.make_train_step(loss_fn=)", loss_fn, as_batch(batch, lengths))
        graphdef, *state = nnx.split(model, nnx.Param, ...)
        opt_graphdef, opt_state = nnx.split(optimizer)
        loss, after, opt_after = update(graphdef, opt_graphdef, state, opt_state, batch)
        nnx.update(model, after)
        nnx.update(optimizer, opt_after)
        return loss

    return step


def make_eval_step(metric_fn: Metric) -> EvalStep:
    """One compiled evaluation: `step(model, *batch, lengths=None) -> (accuracy, loss)`. The model stays as it is.

    The metric sees a copy of the model in evaluation mode: Dropout passes everything, BatchNorm uses its averages. A
    batch of `spyx.data.Loader` is given whole, `step(model, batch)`.

    Args:
        metric_fn: `(model, *batch) -> (accuracy, loss)`, or any other tree of numbers; or a metric of `spyx.fn`, of
            which the score is returned. Of lengths and masks it gets what a loss would in `fit`.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx import nn
        >>> step = make_eval_step(lambda model, x: (nn.run(model, x)[0].max(), nn.run(model, x)[0].mean()))
        >>> accuracy, loss = step(nn.LI(1, beta=0.5), jnp.ones((1, 2, 1)))
        >>> float(accuracy), float(loss)
        (1.5, 1.25)
    """
    owner = "spyx.optimize.make_eval_step(metric_fn=)"

    @partial(jax.jit, static_argnums=0)
    def evaluate(graphdef: nnx.GraphDef[nnx.Module], state: nnx.State, batch: OneBatch) -> Scores:
        return call(owner, metric_fn, in_evaluation(nnx.merge(graphdef, state)), batch)

    def step(model: nnx.Module, *batch: BatchLike, lengths: Lengths | None = None) -> Scores:
        batch = without_padding(owner, metric_fn, as_batch(batch, lengths))
        graphdef, state = nnx.split(model)
        return evaluate(graphdef, state, batch)

    return step


def in_evaluation(model: M) -> M:
    """The model itself, with Dropout and BatchNorm switched to evaluation; call it on a copy."""
    model.eval()
    return model
