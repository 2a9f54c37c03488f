"""The numbers of Spyx 0.1's `PSU_LIF` and of Spyx 1.0's stochastic neurons: outputs, membranes, gradients."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import experimental

PSU = ["PSU_LIF_vector", "PSU_LIF_clip", "PSU_LIF_thr0p5_k5"]
LIF = [f"StochasticAssociativeLIF_{case}" for case in ("vector", "clip", "k10_thr0p5")]
CUBA = [f"StochasticAssociativeCuBaLIF_{case}" for case in ("vector", "k10_thr0p5")]
SPSN = [f"SPSN_{case}" for case in ("vector", "clip", "single_beta")]


def read(golden, file, case):
    prefix = f"{case}/"
    found = {key.removeprefix(prefix): value for key, value in golden(file).items() if key.startswith(prefix)}
    return found, json.loads(str(found.pop("meta")))


def run(layer, call, x, w):
    """`call(layer, x)`, a tuple of arrays, and for each of them the gradients of `sum(array * w)` by name."""
    graphdef, params = nnx.split(layer)

    @jax.jit
    def values_and_gradients(params, x, w):
        outs, pull = jax.vjp(lambda params, x: call(nnx.merge(graphdef, params), x), params, x)
        chosen = jnp.eye(len(outs), dtype=w.dtype)  # one program for the gradients of every array
        return outs, jax.vmap(lambda row: pull(tuple(c * w for c in row)))(chosen)

    outs, (g_params, g_x) = values_and_gradients(params, x, w)
    named = {"x": g_x, **{name: variable[...] for name, variable in g_params.items()}}
    return outs, [{name: g[i] for name, g in named.items()} for i in range(len(outs))]


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("case", PSU)
def test_psu_lif_E1(golden, case):
    z, meta = read(golden, "experimental_spyx0120", case)
    options = dict(threshold=meta["threshold"], k=meta["k"], beta=z["beta"])
    (spikes, v), (g, _) = run(experimental.PSU_LIF(6, **options), lambda layer, x: layer(x), z["x"], z["w"])
    np.testing.assert_array_equal(spikes, z["spikes"])
    np.testing.assert_allclose(v, z["V"], atol=2e-5)
    close(g["x"], z["grad_x"])
    close(g["beta"], z["grad_beta"])
    graded = experimental.PSU_LIF(6, spike=False, **options)
    (preact, v), (g, _) = run(graded, lambda layer, x: layer(x), z["x"], z["w"])
    np.testing.assert_allclose(preact, z["preact"], atol=2e-5)
    np.testing.assert_allclose(v - preact - meta["threshold"], z["R"], atol=2e-5)
    close(g["x"], z["grad_x_preact"])
    close(g["beta"], z["grad_beta_preact"])


@pytest.mark.parametrize("case", LIF)
def test_stochastic_associative_lif(golden, case):
    z, meta = read(golden, "experimental_stochastic_spyx10", case)
    layer = experimental.StochasticAssociativeLIF(6, threshold=meta["threshold"], k=meta["k"], beta=z["beta"])
    key = jax.random.PRNGKey(int(z["key_seed"]))
    (spikes, v), g = run(layer, lambda layer, x: layer(key, x), z["x"], z["w"])
    np.testing.assert_array_equal(spikes, z["spikes"])
    np.testing.assert_allclose(v, z["V"], atol=2e-5)
    np.testing.assert_allclose(layer.activation.probability(v), z["p"], atol=1e-3)
    for index, what in enumerate(("spikes", "V")):
        close(g[index]["x"], z[f"grad_x_{what}"])
        close(g[index]["beta"], z[f"grad_beta_{what}"])


@pytest.mark.parametrize("case", CUBA)
def test_stochastic_associative_cubalif(golden, case):
    z, meta = read(golden, "experimental_stochastic_spyx10", case)
    decays = dict(alpha=z["alpha"], beta=z["beta"])
    layer = experimental.StochasticAssociativeCuBaLIF(6, threshold=meta["threshold"], k=meta["k"], **decays)
    key = jax.random.PRNGKey(int(z["key_seed"]))

    def call(layer, u):
        spikes, end = layer(key, u, return_state=True)
        return spikes, jnp.stack([end.v, end.i], 1).repeat(10, axis=1)

    (spikes, end), (g, _) = run(layer, call, z["u"], z["w"])
    np.testing.assert_array_equal(spikes, z["spikes"])
    np.testing.assert_allclose(end[:, 0], z["V"][:, -1], atol=2e-5)
    np.testing.assert_allclose(end[:, 10], z["I"][:, -1], atol=2e-5)
    for name, recorded in (("x", "u"), ("alpha", "alpha"), ("beta", "beta")):
        close(g[name], z[f"grad_{recorded}_spikes"])


@pytest.mark.parametrize(("case", "method"), [*((case, "scan") for case in SPSN), (SPSN[1], "fft")])
def test_spsn_E2_E3(golden, case, method):
    z, meta = read(golden, "experimental_stochastic_spyx10", case)
    shape = (1,) if z["beta"].shape == (1,) else (6,)
    layer = experimental.SPSN(shape, meta["threshold"], meta["k"], beta=z["beta"], method=method)
    key = jax.random.PRNGKey(int(z["key_seed"]))
    (spikes, v), g = run(layer, lambda layer, x: layer(key, x), z["x"], z["w"])
    np.testing.assert_array_equal(spikes, z["spikes"])  # no draw of these lies within rounding of its odds
    np.testing.assert_allclose(v, z["V_recurrence_f64"], atol=1e-6)
    np.testing.assert_allclose(v, z["V"], atol=1e-4)
    for index, what in enumerate(("spikes", "V")):
        close(g[index]["x"], z[f"grad_x_{what}"])
        close(g[index]["beta"], z[f"grad_beta_{what}"])
