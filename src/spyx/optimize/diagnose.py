"""Why a step was not a number: the batch, the parameters, a layer's state, the loss or the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.nn.execution import Execution
from spyx.nn.layer import over_time
from spyx.optimize.solver import Objective, all_finite
from spyx.optimize.watch import refuse_wrong_labels


def stop(objective: Objective, params: Any, rest: Any, batch: tuple[Any, ...], *, epoch: int, step: int) -> NoReturn:
    """Raise the error of a step that was not a number.

    Args:
        objective: the loss that was minimised.
        params: the parameters before the step.
        rest: what else the model held before the step.
        batch: the batch of the step.
        epoch: counted from 0.
        step: counted from 0 within the epoch.

    Raises:
        ValueError: a label that is no class.
        FloatingPointError: says what was not finite first.
    """
    where = f"{objective.owner}: epoch {epoch}, step {step}"
    for at, leaf in nan_leaves(batch):
        raise FloatingPointError(
            f"{where}: expected a batch of numbers; got NaN in {at}, in {int(np.isnan(leaf).sum())} of {leaf.size} "
            "values. Drop or fill the missing values first."
        )
    refuse_wrong_labels(where, lambda: objective(params, batch), batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(params)):
        if not bool(all_finite(leaf)):
            raise FloatingPointError(
                f"{where}: expected finite parameters; got NaN or infinity in {_name(path)}, after the update before. "
                "Lower the learning rate, or clip gradients with optax.clip_by_global_norm(1.0)."
            )
    layer = first_bad_layer(nnx.merge(objective.graphdef, params, rest), batch)
    loss = objective(params, batch)
    if layer is not None:
        raise FloatingPointError(
            f"{where}: expected finite states; got NaN or infinity first in {layer}; the loss is {float(loss)}. "
            "Look at that layer's input and weights: smaller weights or inputs keep a state finite."
        )
    if not bool(jnp.isfinite(loss)):
        raise FloatingPointError(
            f"{where}: expected a finite loss; got {float(loss)} although the input, the parameters and every layer's "
            "state are finite. Look at the loss function and at the targets."
        )
    grads = jax.grad(objective)(params, batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(grads)):
        if not bool(all_finite(leaf)):
            raise FloatingPointError(
                f"{where}: expected a finite gradient; got NaN or infinity in that of {_name(path)}, with a loss of "
                f"{float(loss)}. Clip gradients, use fewer time steps, or a surrogate with a smaller slope."
            )
    raise FloatingPointError(
        f"{where}: expected a finite loss; got NaN or infinity once, not again when the step was repeated. "
        "Something random in the loss is the cause."
    )


def nan_leaves(batch: tuple[Any, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a batch that holds NaN, with its place in words."""
    for index, part in enumerate(batch):
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            array = np.asarray(leaf)
            if jnp.issubdtype(array.dtype, jnp.inexact) and np.isnan(array).any():
                yield f"batch[{index}]{jax.tree_util.keystr(path)}", array


def first_bad_layer(model: Any, batch: tuple[Any, ...]) -> str | None:
    """The first layer of a chain whose output or state is not finite, when the batch's first part is run through it.

    None where every layer is finite, or where the loss feeds the model something else than that part.
    """
    if not hasattr(model, "children"):
        return None
    try:
        xs = jax.tree.map(lambda a: jnp.moveaxis(jnp.asarray(a), 1, 0), batch[0])
        return _walk(model, xs, model.initial_state(jax.tree.leaves(xs)[0].shape[1]), "layer ")[1]
    except (TypeError, ValueError, IndexError):
        return None


def _walk(model: Any, xs: Any, state: Any, prefix: str) -> tuple[Any, str | None]:
    for index, (layer, s) in enumerate(model.children(state)):
        name = f"{prefix}{index}"
        if hasattr(layer, "children") and hasattr(layer, "initial_state"):
            xs, bad = _walk(layer, xs, s, f"{name}.")
        else:
            xs, s = over_time(layer, xs, s, Execution())
            kind = getattr(layer, "__name__", type(layer).__name__)
            bad = None if bool(all_finite((xs, s))) else f"{name} ({kind})"
        if bad is not None:
            return xs, bad
    return xs, None


def _name(path: Any) -> str:
    return ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
