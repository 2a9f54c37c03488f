"""Whether the traits that a neuron declares are true: `affine` and `local`, found by trying its step."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.core import Tracer

if TYPE_CHECKING:
    from jaxtyping import Array

    from spyx.engine.params import Params
    from spyx.engine.types import State, Units
    from spyx.nn._neuron import Neuron

_verified: weakref.WeakKeyDictionary[type, set[Hashable]] = weakref.WeakKeyDictionary()
"""What was tried of a class, each with what its step reads that is no array: a step may branch on that."""


def verify(neuron: Neuron) -> None:
    """Raise where a declared trait is not true; a class is tried once for equal settings.

    Raises:
        ValueError: the step is affine, or local, in another way than its class says.
    """
    cls = type(neuron)
    settings = neuron.params()._static
    if settings in _verified.setdefault(cls, set()):
        return
    with jax.ensure_compile_time_eval():
        kind, local = affine_kind(neuron), is_local(neuron)
    if kind != neuron.affine and not (kind == "always" and neuron.affine == "given_spikes"):
        raise ValueError(
            f"{cls.__name__}.affine: expected what its step is, {kind!r}; got {neuron.affine!r}. "
            "Correct the trait: spyx.testing.check_neuron checks it."
        )
    if neuron.local and not local:
        raise ValueError(
            f"{cls.__name__}.local: expected False, because a unit reads another unit's state; got True. "
            "Correct the trait: spyx.testing.check_neuron checks it."
        )
    _verified[cls].add(settings)


def affine_kind(neuron: Neuron) -> str:
    """What `affine` should be: is the new state affine in the old, always, given the spikes, or never?

    Tried around rest at three scales: near zero alone every spiking neuron would reset to the same constant and look
    affine.
    """
    keys = jax.random.split(jax.random.key(1), 4)
    rest = _rest(neuron, 4)
    x = jax.random.normal(keys[0], (4, *neuron.hidden_shape), jnp.float32)
    spikes = jax.random.bernoulli(keys[3], 0.5, x.shape).astype(x.dtype)
    known = _concrete(neuron)

    def holds(p: Params, scale: float) -> bool:
        def new_state(s: State) -> State:
            return neuron.step(p, x, s)[1]

        def near(key: Array) -> State:
            leaves, tree = jax.tree.flatten(rest)
            each = jax.random.split(key, len(leaves))
            moved = [
                leaf + scale * jax.random.normal(k, leaf.shape, leaf.dtype)
                for leaf, k in zip(leaves, each, strict=True)
            ]
            return jax.tree.unflatten(tree, moved)

        def mix(u: State, v: State) -> State:
            return jax.tree.map(lambda a, b: 0.3 * a + 0.7 * b, u, v)

        a, b = near(keys[1]), near(keys[2])
        left, right = new_state(mix(a, b)), mix(new_state(a), new_state(b))
        close = jax.tree.map(lambda u, v: bool(jnp.allclose(u, v, rtol=1e-4, atol=1e-4 * scale)), left, right)
        return all(jax.tree.leaves(close))

    for kind, p in (("always", known), ("given_spikes", known.replace(spike=lambda _: spikes))):
        if all(holds(p, scale) for scale in (1.0, 10.0, 100.0)):
            return kind
    return "never"


def is_local(neuron: Neuron) -> bool:
    """Does every unit's new state depend on that unit's state and input alone?"""
    leaves, tree = jax.tree.flatten(_rest(neuron, 1))
    if leaves[0].size == 1:
        return True
    rest = [leaf + 2.0 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape) for leaf in leaves]
    x = jnp.ones((1, *neuron.hidden_shape), jnp.float32)
    p = _concrete(neuron)

    def new(shift: float) -> tuple[Units, State]:
        # Each variable moves by another amount: a membrane and its threshold that move together would not spike.
        by = [shift * (-1.0) ** i for i in range(len(rest))]
        moved = [leaf.reshape(-1).at[0].add(d).reshape(leaf.shape) for leaf, d in zip(rest, by, strict=True)]
        return neuron.step(p, x, jax.tree.unflatten(tree, moved))

    still, *others = (new(shift) for shift in (0.0, 50.0, -50.0))
    for other in others:
        for a, b in zip(jax.tree.leaves(still), jax.tree.leaves(other), strict=True):
            if not bool((a.reshape(-1)[1:] == b.reshape(-1)[1:]).all()):
                return False
    return True


def _rest(neuron: Neuron, batch_size: int) -> State:
    """What a step takes as the state; a stochastic neuron's `initial_state` has keys beside it."""
    from spyx.nn._neuron import Neuron

    return Neuron.initial_state(neuron, batch_size)


def _concrete(neuron: Neuron) -> Params:
    """The neuron's parameters in float32; numbers of the same shape in place of those that are being traced."""

    def known(a: Array) -> Array:
        if not isinstance(a, Tracer):
            return a
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return jnp.zeros(a.shape, a.dtype)
        return jax.random.uniform(jax.random.key(2), a.shape, a.dtype, 0.2, 0.9)

    return jax.tree.map(known, neuron.params()).astype(jnp.float32)
