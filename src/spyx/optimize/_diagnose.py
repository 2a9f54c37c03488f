"""Why a step was not a number: the batch, the parameters, a layer's state, the loss or the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.nn._layer import as_layer
from spyx.optimize._solver import Objective, all_finite
from spyx.optimize._watch import refuse_wrong_labels

if TYPE_CHECKING:
    from jax.tree_util import KeyPath
    from jaxtyping import Array, Shaped

    from spyx.engine.types import State
    from spyx.optimize.types import OneBatch, Rest, Trainable


def stop(objective: Objective, params: Trainable, rest: Rest, batch: OneBatch, *, epoch: int, step: int) -> NoReturn:
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


def nan_leaves(batch: OneBatch) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a batch that holds NaN, with its place in words."""
    for index, part in enumerate(batch):
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            array = np.asarray(leaf)
            if jnp.issubdtype(array.dtype, jnp.inexact) and np.isnan(array).any():
                yield f"batch[{index}]{jax.tree_util.keystr(path)}", array


def first_bad_layer(model: nnx.Module, batch: OneBatch) -> str | None:
    """The first layer whose output or state is not finite at the earliest time step, when the batch's first part is
    run through the network.

    None where every layer is finite, or where the loss feeds the model something else than that part.
    """
    try:
        layer = as_layer("spyx.optimize", model)
        seen = nn.observe(layer, batch[0], what=("outputs", "state"), mode="layer")[2]
        kinds = _kinds(layer, layer.state_for(jax.tree.map(lambda a: jnp.asarray(a)[:, 0], batch[0])))
    except (TypeError, ValueError, IndexError):
        return None
    earliest: dict[str, int] = {}
    for order, path in enumerate(kinds):
        values = [v for at, v in seen.items() if at == path or at.startswith(f"{path}.")]
        steps = [_first_bad_step(leaf) for leaf in jax.tree.leaves(values)]
        found = min((step for step in steps if step is not None), default=None)
        if found is not None:
            earliest[path] = found * len(kinds) + order
    if not earliest:
        return None
    path = min(earliest, key=earliest.__getitem__)
    return f"layer {path} ({kinds[path]})" if path else kinds[path]


def _first_bad_step(values: Shaped[Array, "batch time ..."]) -> int | None:
    """The first time step (axis 1) with a number that is not finite."""
    array = np.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return None
    bad = ~np.isfinite(array).all(axis=tuple(i for i in range(array.ndim) if i != 1))
    return int(bad.argmax()) if bad.any() else None


def _kinds(layer: nn.Layer, state: State, prefix: str = "") -> dict[str, str]:
    """Path and class of every layer that is no container, in the order in which the containers list them."""
    if not layer.container:
        return {prefix.rstrip("."): layer._kind}
    found: dict[str, str] = {}
    for name, (module, inner) in layer.named_children(state).items():
        found |= _kinds(as_layer("spyx.optimize", module), inner, f"{prefix}{name}.")
    return found


def _name(path: KeyPath) -> str:
    return ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
