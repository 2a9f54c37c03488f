"""Surrogates against the vectors recorded from Spyx 1.0 and SNNAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx import axn

SPYX = {
    **{f"superspike_k{k}": axn.superspike(k) for k in (1, 10, 25, 100)},
    **{f"arctan_k{k}": axn.arctan(k) for k in (1, 2, 5)},
    **{f"tanh_k{k}": axn.tanh(k) for k in (0.5, 1, 2, 5)},
    **{f"triangular_k{k}": axn.triangular(k) for k in (0.5, 1, 2, 5)},
    "superspike_default": axn.superspike(),
    "arctan_default": axn.arctan(),
    "tanh_default": axn.tanh(),
    "triangular_default": axn.triangular(),
    "custom_ste": axn.custom(),
    "custom_default": axn.custom(bwd=lambda x: x),
    "custom_sigmoid_fwd": axn.custom(fwd=jax.nn.sigmoid, bwd=lambda x: jax.nn.sigmoid(x) * (1 - jax.nn.sigmoid(x))),
}
BOXCAR = {
    "boxcar_default": (2.0, 0.5),
    "boxcar_w2_h0.5": (2.0, 0.5),
    "boxcar_w1_h0.5": (1.0, 0.5),
    "boxcar_w1_h1": (1.0, 1.0),
    "boxcar_w0.5_h2.0": (0.5, 2.0),
    "boxcar_w4_h0.25": (4.0, 0.25),
}
SNNAX = {
    **{f"superspike_b{b}": axn.superspike_surrogate(b) for b in (1.0, 10.0, 25.0, 100.0)},
    "superspike_default": axn.superspike_surrogate(),
}


def check(spike, z, case, where=slice(None)):
    x, g = jnp.asarray(z[f"{case}/x"]), jnp.asarray(z[f"{case}/cotangent"])
    out, pull = jax.vjp(spike, x)
    np.testing.assert_allclose(out, z[f"{case}/out"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(spike.slope(x)[where], z[f"{case}/grad"][where], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(pull(g)[0][where], z[f"{case}/vjp"][where], rtol=1e-3, atol=1e-6)
    if f"{case}/jvp" in z:
        np.testing.assert_allclose(jax.jvp(spike, (x,), (g,))[1][where], z[f"{case}/jvp"][where], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", SPYX)
def test_spyx(golden, case):
    check(SPYX[case], golden("axn_spyx10"), case)


@pytest.mark.parametrize("case", BOXCAR)
def test_A3_boxcar_includes_its_edge(golden, case):
    width, height = BOXCAR[case]
    z = golden("axn_spyx10")
    x = z[f"{case}/x"]
    edge = np.abs(x) == np.float32(width / 2)
    spike = axn.boxcar(width, height)
    check(spike, z, case, ~edge)
    assert edge.any()
    np.testing.assert_array_equal(spike.slope(x)[edge], np.float32(height))
    np.testing.assert_array_equal(z[f"{case}/grad"][edge], 0)


def test_heaviside(golden):
    z = golden("axn_spyx10")
    np.testing.assert_array_equal(axn.heaviside(z["heaviside/x"]), z["heaviside/out"])
    np.testing.assert_array_equal(axn.heaviside(z["heaviside/x_int"]), z["heaviside/out_int"])


def test_A1_custom_without_arguments_is_straight_through():
    x = jnp.array([-2.0, 0.0, 0.5])
    np.testing.assert_array_equal(axn.custom().slope(x), [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(axn.custom(bwd=lambda x: x).slope(x), x)


@pytest.mark.parametrize(
    ("case", "spike"), [("superspike_k25", axn.superspike()), ("arctan_k2", axn.arctan()), ("tanh_k1", axn.tanh())]
)
def test_A8_second_order_is_consistent(golden, case, spike):
    z = golden("axn_spyx10")
    x = jnp.asarray(z[f"second_order_{case}/x"])
    second = jax.vmap(jax.grad(jax.grad(lambda u: spike(u) ** 2 * u)))(x)
    np.testing.assert_allclose(second, z[f"second_order_{case}/out_consistent"], rtol=1e-3, atol=2e-4)
    curvature = jax.vmap(jax.grad(jax.grad(spike)))(x)
    np.testing.assert_allclose(curvature, z[f"second_order_{case}/dsurrogate"], rtol=1e-3, atol=2e-4)


def test_A8_forward_mode_works():
    assert float(jax.jacfwd(axn.superspike())(jnp.float32(0.0))) == 1.0


@pytest.mark.parametrize("case", SNNAX)
def test_snnax_superspike(golden, case):
    check(SNNAX[case], golden("snnax_surrogates"), case)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_X4_piecewise_includes_its_edge(golden, beta):
    z = golden("snnax_surrogates")
    x = z[f"piecewise_b{beta}/x"]
    edge = np.abs(x) == np.float32(beta)
    spike = axn.piecewise_surrogate(beta)
    check(spike, z, f"piecewise_b{beta}", ~edge)
    np.testing.assert_array_equal(spike.slope(x)[edge], 1.0)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 10.0])
def test_X3_sigmoid_is_the_derivative_for_every_beta(golden, beta):
    z = golden("snnax_surrogates")
    x = z[f"sigmoid_analytic_b{beta}/x"]
    slope = axn.sigmoid_surrogate(beta).slope(x)
    np.testing.assert_allclose(slope, z[f"sigmoid_analytic_b{beta}/derivative_of_sigmoid"], rtol=1e-3, atol=1e-6)
    if beta == 1.0:
        np.testing.assert_allclose(slope, z[f"sigmoid_analytic_b{beta}/doc_formula"], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["superspike", "piecewise", "sigmoid"])
def test_snnax_spikes_at_zero(golden, name):
    z = golden("snnax_surrogates")
    spike = getattr(axn, f"{name}_surrogate")()
    np.testing.assert_array_equal(spike(z["forward/x"]), z[f"forward/{name}"])
