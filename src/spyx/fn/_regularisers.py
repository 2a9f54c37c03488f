"""Regularisers: what keeps neurons from falling silent or firing all the time, and where their counts come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from spyx.fn._traces import as_float

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Num, PyTree

    from spyx.engine.types import State


class RegFn(Protocol):
    """A regulariser of `spyx.fn`: `(spike counts of any structure) -> penalty`.

    Example:
        >>> penalty: RegFn = silence_reg(3.0)
        >>> float(penalty({"first": jnp.array([[1.0, 3.0]])}))
        4.0
    """

    def __call__(self, spikes: PyTree[Num[Array, "batch ..."]], /) -> Float[Array, ""]: ...


def spike_counts(model: Callable[..., object], state: State) -> list[Num[Array, "batch ..."]]:
    """The spike counts inside a network's state, in the order of its layers; membranes and currents are left out.

    Counts are the states of the layers that say `counts_spikes = True`, as `spyx.nn.ActivityRegularization` does. A
    container tells which state belongs to which layer through `children(state) -> [(layer, its state), ...]`.

    Args:
        model: the network.
        state: its final state, as `spyx.nn.run` returns it.

    Shapes:
        each count (batch, *hidden_shape).

    Raises:
        ValueError: if there is no count.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.IF(3), nn.ActivityRegularization(3), nn.LI(3))
        >>> _, state = nn.run(net, 2 * jnp.ones((2, 4, 3)))
        >>> [count.tolist()[0] for count in spike_counts(net, state)]
        [[3.0, 3.0, 3.0]]
    """
    counts = _counts_of(model, state)
    if not counts:
        raise ValueError(
            f"spike_counts: expected a layer that counts spikes; got {type(model).__name__} without one. Put "
            "spyx.nn.ActivityRegularization behind the neurons to be regularised."
        )
    return counts


def silence_reg(min_spikes: float) -> RegFn:
    """Squared penalty on neurons that fire too little: `sum_n max(0, min_spikes - mean_b c_bn)**2`.

    c is the number of spikes each neuron emitted over the whole sequence. The mean runs over the batch, the sum over
    neurons and over all arrays of the structure; no root is taken.

    Args:
        min_spikes: spikes per neuron and sample below which the penalty begins, >= 0.

    Shapes:
        any structure of arrays (batch, ...), as the list from `spike_counts`; loss (), float32. Every array counts as
        spikes, so do not pass a whole network state: it holds membranes.

    Raises:
        ValueError: on a negative `min_spikes`; at the call, on a structure without arrays, or an array that has no
            batch axis or is empty.

    Example:
        >>> counts = jnp.array([[0.0, 4.0], [2.0, 6.0]])  # means 1 and 5
        >>> float(silence_reg(3.0)([counts]))
        4.0
    """
    _check_spikes("silence_reg", "min_spikes", min_spikes)

    def penalty(counts: jax.Array) -> jax.Array:
        return jnp.sum(jnp.maximum(0.0, min_spikes - counts.mean(0)) ** 2)

    return _regulariser("silence_reg", penalty)


def sparsity_reg(max_spikes: float, norm: Callable[[jax.Array], jax.Array] = optax.huber_loss) -> RegFn:
    """Penalty on layers that fire too much: `sum_b norm(max(0, mean_n c_bn - max_spikes))`.

    c is the number of spikes each neuron emitted over the whole sequence. The mean runs over all neurons of a layer,
    **the sum over the batch**, so the penalty grows with the batch size, and over all arrays of the structure.

    Args:
        max_spikes: mean spikes per neuron of a layer above which the penalty begins, >= 0.
        norm: elementwise loss of the excess, called with one array. Default `optax.huber_loss`: x**2 / 2 up to
            1, then x - 1/2.

    Shapes:
        any structure of arrays (batch, ...), as the list from `spike_counts`; loss (), float32. Every array counts as
        spikes, so do not pass a whole network state: it holds membranes.

    Raises:
        ValueError: on a negative `max_spikes`; at the call, on a structure without arrays, or an array that has no
            batch axis or is empty.
        TypeError: if `norm` cannot be called.

    Example:
        >>> counts = jnp.array([[0.0, 4.0], [2.0, 6.0]])  # layer means 2 and 4
        >>> float(sparsity_reg(1.0)([counts]))
        3.0
    """
    _check_spikes("sparsity_reg", "max_spikes", max_spikes)
    if not callable(norm):
        raise TypeError(f"sparsity_reg: norm must be a function of one array; got {norm!r}. Try optax.l2_loss.")

    def penalty(counts: jax.Array) -> jax.Array:
        return jnp.sum(norm(jnp.maximum(0.0, counts.mean(-1) - max_spikes)))

    return _regulariser("sparsity_reg", penalty)


def synops_reg(max_synops: float = 0.0, *, fan_out: PyTree[ArrayLike] | None = None, scale: float = 1e-6) -> RegFn:
    """Penalty on synaptic operations: `scale * mean_b max(0, sum_l f_l sum_n c_bln - max_synops)`.

    c is the number of spikes that each neuron n of layer l emitted over the whole sequence, and each of them is an
    operation at all f_l connections behind it: what `spyx.report.cost` counts as effective ACs of dense layers.

    Args:
        max_synops: operations per sample that are free, >= 0. Default 0.
        fan_out: connections behind a neuron of each layer, a number, or one for each array, or arrays (*hidden_shape)
            where neurons differ; None (default) is 1, which counts spikes.
        scale: of the penalty, above 0. Default 1e-6, for operations are many.

    Shapes:
        any structure of arrays (batch, ...), as the list from `spike_counts`; loss (), float32.

    Raises:
        ValueError: numbers out of range; at the call, another number of fan-outs than arrays, or an array that has no
            batch axis or is empty.

    Example:
        >>> counts = [jnp.array([[0.0, 4.0], [2.0, 6.0]]), jnp.array([[1.0], [3.0]])]
        >>> float(synops_reg(fan_out=[10, 2], scale=1.0)(counts))  # (40 + 2 + 80 + 6) / 2
        64.0
    """
    _check_spikes("synops_reg", "max_synops", max_synops)
    if not 0.0 < scale < float("inf"):
        raise ValueError(f"synops_reg: scale must be a finite number above 0; got {scale}. Try 1e-6.")

    def regularise(spikes: PyTree[Num[Array, "batch ..."]]) -> Float[Array, ""]:
        layers = _checked_layers("synops_reg", spikes)
        if fan_out is None or np.isscalar(fan_out):
            sizes = [1.0 if fan_out is None else fan_out] * len(layers)
        else:
            sizes = list(fan_out)
        if len(sizes) != len(layers):
            raise ValueError(
                f"synops_reg: expected a fan-out for each of {len(layers)} arrays; got {len(sizes)}. Give one for each."
            )
        operations = jnp.zeros(layers[0].shape[0], jnp.float32)
        for layer, size in zip(layers, sizes, strict=True):
            each = jnp.broadcast_to(jnp.asarray(size, jnp.float32), layer.shape[1:])[None]
            operations += (as_float(layer) * each).reshape(layer.shape[0], -1).sum(1).astype(jnp.float32)
        return scale * jnp.mean(jnp.maximum(0.0, operations - max_synops))

    return regularise


def _counts_of(layer: Callable[..., object], state: State) -> list[Num[Array, "batch ..."]]:
    if getattr(layer, "counts_spikes", False):
        return jax.tree.leaves(state)
    children = getattr(layer, "children", None)
    return [c for child, inner in children(state) for c in _counts_of(child, inner)] if children is not None else []


def _regulariser(name: str, penalty: Callable[[jax.Array], jax.Array]) -> RegFn:
    def regularise(spikes: PyTree[Num[Array, "batch ..."]]) -> Float[Array, ""]:
        layers = _checked_layers(name, spikes)
        return jnp.stack([penalty(as_float(layer.reshape(layer.shape[0], -1))) for layer in layers]).sum()

    return jax.jit(regularise)


def _checked_layers(name: str, spikes: PyTree[Num[Array, "batch ..."]]) -> list[jax.Array]:
    layers = [jnp.asarray(layer) for layer in jax.tree.leaves(spikes)]
    if not layers:
        raise ValueError(
            f"{name}: expected at least one array of spike counts; got an empty structure. "
            "Collect them with spike_counts."
        )
    for layer in layers:
        if layer.ndim < 1 or layer.size == 0:
            raise ValueError(
                f"{name}: every array must have a batch axis and hold something; got shape {layer.shape}. "
                "Give counts of shape (batch, ...)."
            )
    return layers


def _check_spikes(name: str, argument: str, value: float) -> None:
    if not 0.0 <= value < float("inf"):
        raise ValueError(
            f"{name}: {argument} must be a finite number of spikes, 0 or more; got {value}. "
            "Count spikes over the whole sequence, not per step."
        )
