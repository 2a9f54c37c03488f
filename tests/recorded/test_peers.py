"""Neurons with the dynamics of other libraries against what those libraries did, recorded by `record.py`."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, nn

with np.load(Path(__file__).with_name("peers.npz"), allow_pickle=False) as file:
    RECORDED = {name: file[name] for name in file.files}
CASES = sorted({name.rpartition("/")[0] for name in RECORDED} - {""})
UNITS = 4


def exponential(u):
    """The slope of Sinabs' SingleExponential at a threshold of 1."""
    return 2 * jnp.exp(-2 * jnp.abs(u))


def atan(u):
    """The slope of SpikingJelly's ATan(2)."""
    return 1 / (1 + (jnp.pi * u) ** 2)


MULTI = axn.custom(bwd=exponential, fwd=lambda u: jnp.maximum(jnp.floor(u + 1), 0.0))
"""Sinabs' MultiSpike at a threshold of 1."""


def built(case, get, meta):
    """Our neuron, and how its parameters are named in the record."""
    library, kind, _ = case.split("/")
    if library == "snntorch":
        names = {"beta": "beta", "threshold": "threshold"}
        loses = meta["reset"] == "zero" and kind != "Leaky"
        arguments = dict(
            beta=get("value_beta"),
            threshold=nnx.Param(get("value_threshold")),
            activation=axn.superspike(25),
            dynamics=nn.Dynamics.preset("snntorch", reset=meta["reset"], loses_input=loses),
        )
        if kind == "Leaky":
            return nn.LIF(UNITS, **arguments), names
        if kind == "Synaptic":
            return nn.CuBaLIF(UNITS, alpha=get("value_alpha"), **arguments), names | {"alpha": "alpha"}
        weight = get("value_recurrent").T
        return (
            nn.RLIF(UNITS, recurrent_init=lambda *_: weight, rngs=nnx.Rngs(0), **arguments),
            names | {"recurrent_w": "recurrent"},
        )
    if library == "spikingjelly":
        changes = dict(reset="zero" if meta["hard"] else "subtract", detach_reset=meta["detach"])
        known = dict(threshold=0.8, activation=axn.custom(bwd=atan))
        if kind == "IFNode":
            return nn.IF(UNITS, **known, dynamics=nn.Dynamics.preset("spikingjelly", gain="one", **changes)), {}
        gain = "complement" if meta["decay_input"] else "one"
        known["dynamics"] = nn.Dynamics.preset("spikingjelly", gain=gain, **changes)
        if kind == "LIFNode":
            return nn.LIF(UNITS, 1 - 1 / meta["tau"], **known), {}
        return nn.LIF(UNITS, nn.decay(1 - 1 / meta["tau"], by="sigmoid", shared=True), **known), {"beta": "w"}
    if library == "norse":
        dynamics = nn.Dynamics.preset("norse", reset=meta["reset"])
        return nn.LIF(UNITS, meta["beta"], 0.8, axn.superspike(1), dynamics=dynamics), {}
    dynamics = nn.Dynamics.preset(
        "sinabs",
        reset=meta["reset"],
        gain="complement" if meta["norm_input"] else "one",
        detach_reset=meta["reset"] == "zero",
    )
    activation = MULTI if meta["spike"] == "MultiSpike" else axn.custom(bwd=exponential)
    return nn.LIF(UNITS, get("value_beta"), 1.0, activation, dynamics=dynamics), {"beta": "beta"}


@pytest.mark.parametrize("case", CASES)
def test_recorded(case):
    def get(name):
        return jnp.asarray(RECORDED[f"{case}/{name}"])

    neuron, names = built(case, get, json.loads(str(RECORDED[f"{case}/meta"])))
    graphdef, weights = nnx.split(neuron)

    def loss(weights, x):
        spikes, end, seen = nn.observe(nnx.merge(graphdef, weights), x, what="v")
        end = end if hasattr(end, "shape") else end.v
        return jnp.sum(spikes * get("w")) + jnp.sum(end * get("w_end")), (spikes, seen)

    gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (spikes, seen)), (g_weights, g_x) = gradient(weights, get("x"))
    np.testing.assert_array_equal(spikes, get("spikes"))
    (membranes,) = seen.values()
    np.testing.assert_allclose(membranes, get("membranes"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(g_x, get("grad_x"), rtol=1e-4, atol=1e-4)
    for ours, theirs in names.items():
        got, expected = g_weights[ours][...], get(f"grad_{theirs}")
        if ours == "recurrent_w":
            expected = expected.T
        if theirs == "w":
            expected = -expected  # theirs is the logit of 1 / tau, ours that of the decay
        np.testing.assert_allclose(got, np.reshape(expected, got.shape), rtol=1e-4, atol=1e-4)
