"""spyx's own neurons: input gain 1, so `r = 1 / (1 - beta)` and `w_in = 1 / (1 - alpha)`, and spikes one step late.

The raw parameters are written beside NIR's, so that a file read back gives them bit by bit. They count only as long as
NIR's own fields are exactly what they would export to; a file that someone edited is read by its equations.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir._discrete import AFTER_LEAK
from spyx.nir._flat import PER_UNIT, Shape
from spyx.nir._rules.table import Rule, Site
from spyx.nn._fields import Within

if TYPE_CHECKING:
    from jaxtyping import Array, Float

NEVER = 2.0**60
"""Time constant, in steps, of a unit that does not leak in a layer where others do: `1 - 1 / NEVER` is exactly 1."""

DECAYS: dict[type[nn.Neuron], tuple[str, ...]] = {
    nn.LI: ("beta",),
    nn.LIF: ("beta",),
    nn.CuBaLIF: ("alpha", "beta"),
    nn.IF: (),
    nn.RIF: (),
    nn.RLIF: ("beta",),
    nn.RCuBaLIF: ("alpha", "beta"),
}
RECURRENT: dict[type[nn.Neuron], type[nn.Neuron]] = {nn.RIF: nn.IF, nn.RLIF: nn.LIF, nn.RCuBaLIF: nn.CuBaLIF}

Stored = float | np.ndarray | jax.Array | nnx.Variable
"""How a neuron holds a parameter."""


class Ours(Protocol):
    """What is read of a neuron of `DECAYS`, which says what decays it has; a readout has no threshold."""

    dynamics: nn.Dynamics
    threshold: Stored
    alpha: Stored
    beta: Stored


class HasFeedback(Protocol):
    """What is read of a layer of `RECURRENT` beside that."""

    recurrent_w: nnx.Param


def save(layer: Ours, site: Site) -> nir.NIRNode:
    """NIR's node with the same input gain, leak and threshold; integration, reset and spike are written beside it."""
    kind: type[nn.Neuron] = type(layer)  # type: ignore[assignment]
    plain = RECURRENT.get(kind, kind)
    spiking = plain is not nn.LI
    if spiking and layer.dynamics != nn.Dynamics():
        raise ValueError(f"has {layer.dynamics}; only Spyx's own dynamics are written, the defaults of nn.Dynamics")
    layer = _in_use(layer)
    metadata: dict[str, object] = {"integration": "euler"}
    fields: dict[str, np.ndarray] = {}
    if spiking:
        threshold = np.asarray(_array(layer.threshold), np.float64)
        if np.any(threshold < 0):
            raise ValueError("has a threshold below 0: it spikes before any input, which NIR's equations do not")
        metadata |= {"reset": _reset(plain), "spike": "pre", **_raw("threshold", layer.threshold)}
        fields = {"v_threshold": site.units(threshold), "v_reset": site.units(0.0)}
    for name in DECAYS[kind]:
        metadata |= _raw(name, getattr(layer, name))
    dt = site.meaning.dt
    if plain is nn.IF or (plain is not nn.CuBaLIF and bool(np.all(_decay(layer.beta) >= 1))):
        return (nir.IF if spiking else nir.I)(r=site.units(1 / dt), **fields, metadata=metadata)
    tau = site.units(tau_of(_decay(layer.beta), dt))
    fields |= {"r": _gain(tau, dt), "v_leak": site.units(0.0)}
    if plain is nn.CuBaLIF:
        tau_syn = site.units(tau_of(_decay(layer.alpha), dt))
        return nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, w_in=_gain(tau_syn, dt), **fields, metadata=metadata)
    return (nir.LIF if spiking else nir.LI)(tau=tau, **fields, metadata=metadata)


def _reset(plain: type[nn.Neuron]) -> str:
    return AFTER_LEAK if plain is nn.LIF else "subtract"


def _in_use(layer: Ours) -> Ours:
    """A copy whose decays and threshold are stored as the values in use, where a declaration stores another form."""
    names = (*DECAYS[type(layer)], "threshold")  # type: ignore[index]
    held = {name: variable for name in names if isinstance(variable := getattr(layer, name, None), nnx.Variable)}
    held = {name: v for name, v in held.items() if v.get_metadata().get("constraint") not in (None, Within())}
    copy = nnx.clone(layer) if held else layer
    for name, variable in held.items():
        setattr(copy, name, type(variable)(variable.get_metadata()["constraint"](variable[...])))
    return copy


def load(
    node: nir.NIRNode, site: Site, *, layer: type[nn.Neuron], weight: Float[Array, "units units"] | None = None
) -> nn.Neuron | None:
    """The layer that was saved here, of the class that the file names; None when it cannot do what the node says."""
    plain, how = RECURRENT.get(layer, layer), site.meaning
    spiking = plain is not nn.LI
    own = ("pre", _reset(plain), False, None)
    if how.integration != "euler" or (spiking and (how.spike, how.reset, how.multi_spike, how.v_min) != own):
        return None
    extra: dict[str, object] = {} if layer is plain else {"recurrent_init": lambda *_: weight, "rngs": nnx.Rngs(0)}
    shape = site.taken.spyx_shape(site.shape)
    exact = {"threshold": site.taken.to_spyx(np.asarray(node.v_threshold))} if spiking else {}  # type: ignore[attr-defined]
    exact |= {name: site.taken.to_spyx(1 - how.dt / tau) for name, tau in _taus(node, layer)}
    derived = {name: np.asarray(value, np.float32) for name, value in exact.items()}
    for values in ({name: _read(node, name, value, shape) for name, value in derived.items()}, derived):
        made = layer(shape, **{name: _variable(name, value, node) for name, value in values.items()}, **extra)
        if _same(node, save(made, site)):  # type: ignore[arg-type]
            return made
    return None


def _same(ours: nir.NIRNode, theirs: nir.NIRNode) -> bool:
    """Do two nodes hold the same numbers?"""
    fields = PER_UNIT[type(ours)]
    return type(ours) is type(theirs) and all(np.array_equal(getattr(ours, f), getattr(theirs, f)) for f in fields)


def tau_of(decay: np.ndarray, dt: float) -> np.ndarray:
    """The time constant with which an Euler step decays so much."""
    return dt * (1 / np.where(decay < 1, 1 - decay, 1 / NEVER))


def _gain(tau: np.ndarray, dt: float) -> np.ndarray:
    """`tau / dt`, never so rounded that an input of exactly the threshold would cross it: `dt / tau * gain <= 1`."""
    gain = tau / dt
    for _ in range(4):
        gain = np.where(np.maximum(dt / tau * gain, dt * gain / tau) > 1, np.nextafter(gain, 0), gain)
    return gain


def _decay(decay: Stored) -> np.ndarray:
    return np.clip(np.asarray(_array(decay), np.float64), 0, 1)


def _array(value: Stored) -> float | np.ndarray | jax.Array:
    return value[...] if isinstance(value, nnx.Variable) else value


def _raw(name: str, value: Stored) -> dict[str, object]:
    array = np.asarray(_array(value))
    known: dict[str, object] = {name: array if array.ndim else array.item()}  # HDF5 does not compress a scalar
    return {**known, f"{name}_fixed": True} if isinstance(value, nn.Constant) else known


def _read(node: nir.NIRNode, name: str, derived: np.ndarray, shape: Shape) -> np.ndarray:
    """The raw parameter beside the node, if there is one that fits, else what the equations give."""
    raw = np.asarray(node.metadata.get(name, derived))
    try:
        fits = raw.dtype.kind == "f" and np.all(np.isfinite(raw)) and np.broadcast_shapes(raw.shape, shape) == shape
    except ValueError:
        fits = False
    return raw if fits else derived


def _taus(node: nir.NIRNode, layer: type[nn.Neuron]) -> list[tuple[str, np.ndarray]]:
    names = DECAYS[layer]
    if "beta" in names and isinstance(node, (nir.I, nir.IF)):
        return [("beta", np.full(np.shape(node.r), np.inf))]
    fields = {"alpha": "tau_syn", "beta": "tau_mem" if "alpha" in names else "tau"}
    return [(name, np.asarray(getattr(node, fields[name]), np.float64)) for name in names]


def _variable(name: str, value: np.ndarray, node: nir.NIRNode) -> float | np.ndarray | jax.Array | nn.Fixed:
    if name == "threshold":
        return float(value) if value.ndim == 0 else value
    array = jnp.asarray(value, jnp.float32)
    return nn.Fixed(array) if f"{name}_fixed" in node.metadata else array


def _rules(layer: type[nn.Neuron], *nodes: type) -> list[Rule]:
    latency = 0 if layer is nn.LI else 1
    return [Rule(layer, node, save=save, load=partial(load, layer=layer), latency=latency) for node in nodes]


RULES = [
    *_rules(nn.IF, nir.IF),
    *_rules(nn.LIF, nir.IF, nir.LIF),
    *_rules(nn.LI, nir.I, nir.LI),
    *_rules(nn.CuBaLIF, nir.CubaLIF),
    *(Rule(layer, None, save=save, latency=1) for layer in RECURRENT),
]
