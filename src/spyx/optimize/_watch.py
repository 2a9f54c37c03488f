"""One watched update: from the first step whose loss or batch is not a number on, nothing changes any more.

The loop keeps the device busy and looks at `Watch.bad_step` only now and then; because the state stands still at the
bad step, the parameters that caused it are still there to be examined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.fn._labels import find_wrong_labels
from spyx.optimize._devices import pinned, split_rows
from spyx.optimize._solver import SolverImpl

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Bool, Float, Inexact, Int, PRNGKeyArray, PyTree, Shaped

    from spyx.optimize.types import OneBatch, Rest, SolverState, Trainable

M = TypeVar("M", bound=nnx.Module)
E = TypeVar("E", bound="int | Int[Array, '']")


class Watch(NamedTuple):
    """What a loop carries from step to step.

    Args:
        solver: the solver's state.
        steps: steps taken in this run.
        loss_sum: sum of the losses of this epoch.
        bad_step: the first step that was not a number, -1 as long as there is none.
    """

    solver: SolverState
    steps: Int[Array, ""]
    loss_sum: Float[Array, ""]
    bad_step: Int[Array, ""]


def start(impl: SolverImpl, key: PRNGKeyArray) -> Watch:
    """Before the first step, on copies: the loops donate their buffers, and the model must not lose its own."""
    return Watch(jax.tree.map(_copy, impl.init(key)), jnp.int32(0), jnp.float32(0), jnp.int32(-1))


def advance(impl: SolverImpl, watch: Watch, batch: OneBatch, key: PRNGKeyArray) -> tuple[Watch, Float[Array, ""]]:
    """One step and its loss, unless a step went wrong before."""
    batch = split_rows(batch)
    solver, loss = impl.step(watch.solver, batch, jax.random.fold_in(key, watch.steps))
    loss = jnp.asarray(loss, jnp.float32)
    healthy = (watch.bad_step < 0) & jnp.isfinite(loss) & ~any_nan(batch)
    solver = jax.tree.map(lambda new, old: jnp.where(healthy, new, old), solver, watch.solver)
    bad_step = jnp.where((watch.bad_step < 0) & ~healthy, watch.steps, watch.bad_step)
    return pinned(Watch(solver, watch.steps + 1, watch.loss_sum + loss, bad_step)), loss


def begin(
    owner: str,
    impl: SolverImpl,
    model: tuple[nnx.GraphDef[M], Trainable, Rest],
    watch: Watch,
    hook: Callable[[E, M], object],
    epoch: E,
) -> Watch:
    """The state at the start of an epoch, once `hook(epoch, model)` has set what is not trained.

    Args:
        owner: the public name that errors begin with.
        impl: of the solver.
        model: `(graphdef, params, rest)` of the network.
        watch: the state before.
        hook: changes the model that it is given, in place.
        epoch: counted from 0.
    """
    if impl.put_rest is None:
        raise TypeError(
            f"{owner}(on_epoch_start=): expected a solver that carries what is not trained; got one without put_rest. "
            "Use an Optax optimiser, or give the SolverImpl get_rest and put_rest."
        )
    copy = nnx.merge(*model, copy=True)
    hook(epoch, copy)
    return watch._replace(solver=impl.put_rest(watch.solver, nnx.split(copy, nnx.Param, ...)[2]))


def split(owner: str, model: M) -> tuple[nnx.GraphDef[M], Trainable, Rest]:
    """`(graphdef, params, rest)` of a network that has something to train."""
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"{owner}: expected a Flax NNX module, such as spyx.nn.Sequential; got {type(model).__name__}. "
            "Wrap other layers in spyx.nn.Sequential."
        )
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    if not jax.tree.leaves(params):
        raise ValueError(f"{owner}: expected a model with parameters; got none to train. Add a layer with weights.")
    return graphdef, params, rest


def _copy(leaf: Shaped[ArrayLike, "*shape"]) -> Shaped[Array, "*shape"]:
    # A weak type (a parameter made from a Python float) would change after the first update, and trace a second time.
    return jnp.array(leaf, dtype=jnp.result_type(leaf))


def any_nan(batch: PyTree[Shaped[ArrayLike, "..."]]) -> Bool[Array, ""]:
    """Does a batch hold NaN? A spike's step function would hide it from the loss. Infinity may be a spike time."""
    leaves = [leaf for leaf in jax.tree.leaves(batch) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    if not leaves:
        return jnp.bool_(False)
    # A sum is NaN where a number is, costs a fifth of looking at each, and is NaN of two infinities too: then each is.
    suspect = jnp.any(jnp.array([jnp.isnan(jnp.sum(leaf)) for leaf in leaves]))
    return jax.lax.cond(suspect, _look_at_each, lambda _: jnp.bool_(False), leaves)


def _look_at_each(leaves: list[Inexact[Array, "..."]]) -> Bool[Array, ""]:
    return jnp.any(jnp.array([jnp.any(jnp.isnan(leaf)) for leaf in leaves]))


def refuse_wrong_labels(where: str, call: Callable[[], object], batch: OneBatch) -> None:
    """Raise if a loss or metric of `spyx.fn`, in `call`, is given a label of the batch that is no class.

    Inside `strict_labels` losses and scores are NaN then, which is what the loops notice; this names the label.
    """
    wrong = find_wrong_labels(call)
    if wrong is None:
        return
    places = (
        f"batch[{index}]{jax.tree_util.keystr(path)}"
        for index, part in enumerate(batch)
        for path, leaf in jax.tree_util.tree_leaves_with_path(part)
        if np.array_equal(np.asarray(leaf), wrong.labels)
    )
    raise ValueError(
        f"{where}: expected labels in 0..{wrong.classes - 1}, for {wrong.classes} classes; got {wrong.first} at "
        f"{next(places, 'labels')}{list(wrong.index)}, and {wrong.count} of {wrong.labels.size} labels outside. "
        "Check all labels with spyx.fn.check_labels before training."
    )
