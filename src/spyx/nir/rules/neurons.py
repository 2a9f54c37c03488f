"""spyx's own neurons: input gain 1, so `r = 1 / (1 - beta)` and `w_in = 1 / (1 - alpha)`, and spikes one step late.

The raw parameters travel beside NIR's, so that a file read back gives them bit by bit. They are believed only as long
as NIR's own fields are exactly what they would export to; a file that someone edited is read by its equations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

import nir
from spyx import nn
from spyx.nir.meaning import AFTER_LEAK
from spyx.nir.rule import Rule, Site
from spyx.nir.sizes import PER_UNIT
from spyx.nn.fields import Within

NEVER = 2.0**60
"""Time constant, in steps, of a unit that does not leak in a layer where others do: `1 - 1 / NEVER` is exactly 1."""

DECAYS = {nn.LI: ("beta",), nn.LIF: ("beta",), nn.CuBaLIF: ("alpha", "beta"), nn.IF: ()}
DECAYS |= {nn.RIF: (), nn.RLIF: ("beta",), nn.RCuBaLIF: ("alpha", "beta")}
RECURRENT = {nn.RIF: nn.IF, nn.RLIF: nn.LIF, nn.RCuBaLIF: nn.CuBaLIF}


def save(layer: Any, site: Site) -> Any:
    """NIR's node with the same input gain, leak and threshold; the rest of the meaning is written beside it."""
    plain = RECURRENT.get(type(layer), type(layer))
    if plain is not nn.LI and layer.dynamics != nn.Dynamics():
        raise ValueError(f"has {layer.dynamics}; only Spyx's own dynamics are written, the defaults of nn.Dynamics")
    layer = _in_use(layer)
    metadata: dict[str, Any] = {"integration": "euler"}
    fields: dict[str, Any] = {}
    if plain is not nn.LI:
        reset = AFTER_LEAK if plain is nn.LIF else "subtract"
        metadata |= {"reset": reset, "spike": "pre"}
        fields = _spiking(layer, site, metadata)
    for name in DECAYS[type(layer)]:
        metadata |= _raw(name, getattr(layer, name))
    dt = site.meaning.dt
    if plain is nn.IF:
        return nir.IF(r=site.units(1 / dt), **fields, metadata=metadata)
    tau = _tau(layer.beta, site)
    fields["v_leak"] = site.units(0.0)
    if plain is nn.CuBaLIF:
        tau_syn = _tau(layer.alpha, site)
        gains = {"r": _gain(tau, dt), "w_in": _gain(tau_syn, dt)}
        return nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, **gains, **fields, metadata=metadata)
    if bool(np.all(_decay(layer.beta) >= 1)):
        fields.pop("v_leak")
        kind = nir.I if plain is nn.LI else nir.IF
        return kind(r=site.units(1 / dt), **fields, metadata=metadata)
    kind = nir.LI if plain is nn.LI else nir.LIF
    return kind(tau=tau, r=_gain(tau, dt), **fields, metadata=metadata)


def _in_use(layer: Any) -> Any:
    """A copy whose decays and threshold are stored as the values in use, where a declaration stores another form."""
    names = (*DECAYS[type(layer)], "threshold")
    held = {name: variable for name in names if isinstance(variable := getattr(layer, name, None), nnx.Variable)}
    held = {name: v for name, v in held.items() if v.get_metadata().get("constraint") not in (None, Within())}
    copy = nnx.clone(layer) if held else layer
    for name, variable in held.items():
        setattr(copy, name, type(variable)(variable.get_metadata()["constraint"](variable[...])))
    return copy


def load(node: Any, site: Site, *, layer: type, weight: Any = None) -> Any:
    """The layer that was saved here; None when the node says something that it cannot.

    Args:
        node: NIR's node.
        site: where it stands.
        layer: the class that the file names.
        weight: the recurrent matrix of a recurrent layer.
    """
    plain = RECURRENT.get(layer, layer)
    extra: dict[str, Any] = {} if layer is plain else {"recurrent_init": lambda *_: weight, "rngs": nnx.Rngs(0)}
    if site.meaning.integration != "euler":
        return None
    if plain is not nn.LI and not (
        site.meaning.spike == "pre"
        and site.meaning.reset == (AFTER_LEAK if plain is nn.LIF else "subtract")
        and not site.meaning.multi_spike
        and site.meaning.v_min is None
    ):
        return None
    arguments: dict[str, Any] = {}
    shape = site.taken.spyx_shape(site.shape)
    if plain is not nn.LI:
        arguments["threshold"] = _read(node, "threshold", site.taken.to_spyx(np.asarray(node.v_threshold)), shape)
    for name, tau in _taus(node, layer):
        derived = site.taken.to_spyx(1 - site.meaning.dt / tau)
        arguments[name] = _read(node, name, derived, shape)
    for values in (arguments, {**arguments, **_without_raw(node, layer, site)}):
        made = layer(shape, **{k: _variable(k, v, node) for k, v in values.items()}, **extra)
        if same(node, save(made, site)):
            return made
    return None


def same(ours: Any, theirs: Any) -> bool:
    """Do two nodes of one type hold the same numbers?"""
    if type(ours) is not type(theirs):
        return False
    fields = PER_UNIT[type(ours)]
    return all(np.array_equal(getattr(ours, f), getattr(theirs, f)) for f in fields)


def _spiking(layer: Any, site: Site, metadata: dict[str, Any]) -> dict[str, Any]:
    threshold = np.asarray(_array(layer.threshold), np.float64)
    if np.any(threshold < 0):
        raise ValueError("has a threshold below 0: it spikes before any input, which NIR's equations do not")
    metadata |= _raw("threshold", layer.threshold)
    return {"v_threshold": site.units(threshold), "v_reset": site.units(0.0)}


def _tau(decay: Any, site: Site) -> np.ndarray:
    beta = _decay(decay)
    steps = 1 / np.where(beta < 1, 1 - beta, 1 / NEVER)
    return site.units(site.meaning.dt * steps)


def _gain(tau: np.ndarray, dt: float) -> np.ndarray:
    """`tau / dt`, never so rounded that an input of exactly the threshold would cross it: `dt / tau * gain <= 1`."""
    gain = tau / dt
    for _ in range(4):
        gain = np.where(np.maximum(dt / tau * gain, dt * gain / tau) > 1, np.nextafter(gain, 0), gain)
    return gain


def _decay(decay: Any) -> np.ndarray:
    return np.clip(np.asarray(_array(decay), np.float64), 0, 1)


def _array(value: Any) -> Any:
    return value[...] if isinstance(value, nnx.Variable) else value


def _raw(name: str, value: Any) -> dict[str, Any]:
    array = np.asarray(_array(value))
    known: dict[str, Any] = {name: array if array.ndim else array.item()}  # HDF5 does not compress a scalar
    return {**known, f"{name}_fixed": True} if isinstance(value, nn.Constant) else known


def _read(node: Any, name: str, derived: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The raw parameter beside the node, if there is one that fits, else what the equations give."""
    raw = np.asarray(node.metadata.get(name, derived))
    if raw.dtype.kind != "f" or not np.all(np.isfinite(raw)):
        return np.asarray(derived, np.float32)
    try:
        fits = np.broadcast_shapes(raw.shape, shape) == shape
    except ValueError:
        fits = False
    return raw if fits else np.asarray(derived, np.float32)


def _without_raw(node: Any, layer: type, site: Site) -> dict[str, np.ndarray]:
    """What NIR's fields alone say."""
    said = {name: site.taken.to_spyx(1 - site.meaning.dt / tau).astype(np.float32) for name, tau in _taus(node, layer)}
    if layer is not nn.LI:
        said["threshold"] = site.taken.to_spyx(np.asarray(node.v_threshold, np.float32))
    return said


def _taus(node: Any, layer: type) -> list[tuple[str, np.ndarray]]:
    names = DECAYS[layer]
    if "beta" in names and isinstance(node, (nir.I, nir.IF)):
        return [("beta", np.full(np.shape(node.r), np.inf))]
    fields = {"alpha": "tau_syn", "beta": "tau_mem" if "alpha" in names else "tau"}
    return [(name, np.asarray(getattr(node, fields[name]), np.float64)) for name in names]


def _variable(name: str, value: np.ndarray, node: Any) -> Any:
    if name == "threshold":
        return float(value) if value.ndim == 0 else value
    array = jnp.asarray(value, jnp.float32)
    return nn.Fixed(array) if f"{name}_fixed" in node.metadata else array


def _rules(layer: type, *nodes: type) -> list[Rule]:
    latency = 0 if layer is nn.LI else 1
    return [Rule(layer, node, save=save, load=partial(load, layer=layer), latency=latency) for node in nodes]


RULES = [
    *_rules(nn.IF, nir.IF),
    *_rules(nn.LIF, nir.IF, nir.LIF),
    *_rules(nn.LI, nir.I, nir.LI),
    *_rules(nn.CuBaLIF, nir.CubaLIF),
    *(Rule(layer, None, save=save, latency=1) for layer in RECURRENT),
]
