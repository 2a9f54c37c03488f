"""Kinds of parameters: labels for an optimiser of each, and the range that delays are held in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import jax
from flax import nnx

from spyx.nn import Delays
from spyx.nn._fields import Within

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

    from spyx.optimize.types import Trainable


def parameter_kinds(params: Trainable | nnx.Module) -> PyTree[str]:
    """A label for every parameter: "delays", "decays" or "weights"; for `optax.multi_transform`.

    Delays are `spyx.nn.Delays`. Decays are what neurons hold in a range inside [0, 1]. Weights are all others.

    Args:
        params: parameters of a network, as an optimiser is given them, or a network.

    Returns:
        A tree like `params` with a label in the place of every parameter.

    Example:
        >>> import optax
        >>> from spyx import nn
        >>> rates = {"weights": optax.adam(1e-3), "decays": optax.adam(1e-3), "delays": optax.adam(0.1)}
        >>> tx = optax.multi_transform(rates, parameter_kinds)
        >>> net = nn.Sequential(nn.Delayed(2, 5, rngs=nnx.Rngs(0)), nn.LIF(2, rngs=nnx.Rngs(1)))
        >>> sorted(jax.tree.leaves(parameter_kinds(net)))
        ['decays', 'delays']
    """
    if isinstance(params, nnx.Module):
        params = nnx.state(params, nnx.Param)
    return jax.tree.map(_kind, params, is_leaf=_variable)


def hold_delays(params: Trainable) -> Trainable:
    """The same parameters, delays clipped to their range: what `fit`, `compile_fit` and train steps do after an update.

    Args:
        params: parameters of a network.

    Example:
        >>> from spyx import nn
        >>> layer = nn.Delayed(2, 5, rngs=nnx.Rngs(0))
        >>> layer.delays[...] = jax.numpy.array([-1.0, 9.0])
        >>> hold_delays(nnx.state(layer, nnx.Param)).delays[...].tolist()
        [0.0, 5.0]
    """
    return jax.tree.map(_held, params, is_leaf=_variable)


def _variable(node: object) -> TypeGuard[nnx.Variable]:
    return isinstance(node, nnx.Variable)


def _kind(variable: nnx.Variable | Array) -> str:
    if isinstance(variable, Delays):
        return "delays"
    within = variable.get_metadata().get("constraint") if _variable(variable) else None
    low, high = (within.low, within.high) if isinstance(within, Within) else (None, None)
    return "decays" if low is not None and high is not None and low >= 0 and high <= 1 else "weights"


def _held(variable: nnx.Variable | Array) -> nnx.Variable | Array:
    if not isinstance(variable, Delays):
        return variable
    return variable.replace(variable.get_metadata()["constraint"](variable[...]))
