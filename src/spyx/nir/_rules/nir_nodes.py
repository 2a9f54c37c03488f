"""NIR's neurons as they are, `NIRLIF` and its sisters, and the nodes without weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx.axn import superspike
from spyx.nir._discrete import AFTER_LEAK, whole_steps
from spyx.nir._flat import PER_UNIT, SPIKING, Identity
from spyx.nir._neurons import NIRI, NIRIF, NIRLI, NIRLIF, NIRCubaLI, NIRCubaLIF, NIRNeuron
from spyx.nir._rules.table import Rule, Site
from spyx.nn import Constant, Delayed

NEURONS = (NIRI, NIRIF, NIRLI, NIRLIF, NIRCubaLI, NIRCubaLIF)


class Scale(nnx.Module):
    """`y = scale x`, unit by unit; the scale is trained."""

    def __init__(self, scale: np.ndarray) -> None:
        self.scale = nnx.Param(jnp.asarray(scale, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale[...][None].astype(x.dtype)


class Threshold(nnx.Module):
    """`z = H(x - threshold)`, unit by unit; no state."""

    def __init__(self, threshold: np.ndarray) -> None:
        self.threshold = Constant(jnp.asarray(threshold, jnp.float32))
        self.activation = superspike()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.activation(x - self.threshold[...][None].astype(x.dtype))


class Pass(nnx.Module):
    """`y = x`. What takes time is the edge that leads here."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def load_neuron(node: nir.NIRNode, site: Site, *, layer: type[NIRNeuron]) -> NIRNeuron:
    """The exact neuron, with its parameters on spyx's axes."""
    arrays = {name: site.taken.to_spyx(np.asarray(getattr(node, name))) for name in PER_UNIT[type(node)]}
    tau = arrays.get("tau", arrays.get("tau_mem"))
    loses_all = tau is not None and site.meaning.integration == "euler" and np.any(site.meaning.dt / tau >= 1)
    if site.meaning.reset == AFTER_LEAK and loses_all:
        raise ValueError("subtracts after the leak, but the leak takes everything: no reset before it is the same")
    if site.meaning.multi_spike and isinstance(node, SPIKING) and np.any(node.v_threshold <= 0):
        raise ValueError("spikes several times in a step: its v_threshold must be above 0")
    return layer(site.meaning, **arrays)


def save_neuron(layer: NIRNeuron, site: Site) -> nir.NIRNode:
    """NIR's node with the same parameters; what it does with them is written beside it."""
    kind, make = layer.node, cast(Callable[..., nir.NIRNode], layer.node)
    if abs(layer.dt / site.meaning.dt - 1) > 1e-6:
        raise ValueError(f"runs at dt = {layer.dt:g}, not at {site.meaning.dt:g}: export with its own dt")
    metadata: dict[str, object] = {"integration": layer.integration}
    if kind in SPIKING:
        metadata |= {"reset": layer.reset, "spike": "post"}
        metadata |= {"multi_spike": True} if layer.multi_spike else {}
        metadata |= {} if layer.v_min is None else {"v_min": layer.v_min}
    arrays = {name: site.units(getattr(layer, name)[...], np.float32) for name in PER_UNIT[kind]}
    return make(**arrays, metadata=metadata)


def load_delay(node: nir.Delay, site: Site) -> Pass | Delayed:
    """Nothing when all units wait alike: then the edge that leads here does it."""
    extra = site.taken.to_spyx(extra_steps(node, site.meaning.dt))
    return Delayed(extra.shape, int(extra.max()), kernel="fixed", delays=extra) if extra.any() else Pass()


def extra_steps(node: nir.Delay, dt: float) -> np.ndarray:
    """Steps of each unit's delay beyond the shortest, which the edge to the node takes already."""
    steps = np.array([whole_steps(d, dt) for d in np.ravel(node.delay)]).reshape(np.shape(node.delay))
    return steps - steps.min()


def save_delay(layer: Delayed, site: Site) -> nir.Delay:
    """Units that wait by themselves; the edge before them becomes a `Delay` of its own."""
    return nir.Delay(site.units(np.asarray(layer.delays[...]) * site.meaning.dt))


RULES = [
    *(Rule(n, n.node, save=save_neuron, load=partial(load_neuron, layer=n), default=True) for n in NEURONS),
    Rule(
        Scale,
        nir.Scale,
        save=lambda layer, site: nir.Scale(site.units(layer.scale[...], np.float32)),
        load=lambda node, site: Scale(site.taken.to_spyx(node.scale)),
        default=True,
    ),
    Rule(
        Threshold,
        nir.Threshold,
        save=lambda layer, site: nir.Threshold(site.units(layer.threshold[...], np.float32)),
        load=lambda node, site: Threshold(site.taken.to_spyx(node.threshold)),
        default=True,
    ),
    Rule(Delayed, nir.Delay, save=save_delay, load=load_delay, default=True),
    Rule(Pass, Identity, save=lambda layer, site: Identity(site.shape), load=lambda node, site: Pass(), default=True),
]
