"""Neurons against the vectors recorded from Spyx 1.0: spikes, states and every gradient, in every mode."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, nn

ACTIVATIONS = {
    "superspike25 (default)": None,
    "arctan2": axn.arctan(2),
    "tanh1": axn.tanh(1),
    "triangular2": axn.triangular(2),
    # Recorded with the edge outside the window (A3): at rest the membrane sits exactly on it.
    "boxcar": axn.custom(lambda x: jnp.where(jnp.abs(x) < 1.0, 0.5, 0.0)),
}
CASES = {
    "nn_li_if_spyx10": [
        *(f"LI_{c}" for c in ("scalar", "vector", "clip", "default", "ctor_scalar", "shape2d")),
        *(f"IF_{c}" for c in ("default", "thr0p7_triangular", "shape2d")),
    ],
    "nn_lif_spyx10": [
        f"LIF_{c}"
        for c in (
            "scalar",
            "ctor_scalar",
            "vector",
            "clip",
            "thr0p5_arctan_state0",
            "tanh_vector",
            "boxcar_vector",
            "shape2d",
            "threshold_vector",
        )
    ],
}


@pytest.mark.parametrize(("file", "case"), [(file, case) for file, cases in CASES.items() for case in cases])
def test_spyx(golden, file, case):
    z = golden(file)
    meta = json.loads(str(z[f"{case}/meta"]))

    def get(key):
        return jnp.asarray(z[f"{case}/{key}"])

    x, w = get("x"), get("w")
    arguments = {"beta": get("beta")} if f"{case}/beta" in z else {}
    if not case.startswith("LI_"):
        trained = f"{case}/grad_threshold" in z
        arguments["threshold"] = nnx.Param(get("threshold")) if trained else meta["threshold"]
        arguments["activation"] = ACTIVATIONS[meta["activation"]]
    neuron = getattr(nn, meta["cls"].split(".")[-1])(x.shape[2:], **arguments)
    graphdef, weights = nnx.split(neuron)

    def loss(weights, x, state, mode):
        out, end = nn.run(nnx.merge(graphdef, weights), x, state, time_axis=0, mode=mode)
        return jnp.sum(out * w), (out, end)

    for mode in ("step", "layer"):
        gradient = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
        (value, (out, end)), (g_weights, g_x, g_state) = gradient(weights, x, get("state0"), mode)
        exact = {"rtol": 0, "atol": 2e-5}
        close = {"rtol": 1e-3, "atol": 2e-4}
        np.testing.assert_allclose(out, get("out"), **exact)
        np.testing.assert_allclose(end, get("final_state"), **exact)
        np.testing.assert_allclose(value, get("loss"), **close)
        np.testing.assert_allclose(g_x, get("grad_x"), **close)
        np.testing.assert_allclose(g_state, get("grad_state0"), **close)
        for name in ("beta", "threshold"):
            if f"{case}/grad_{name}" in z:
                np.testing.assert_allclose(g_weights[name][...], get(f"grad_{name}"), **close)
