"""Neurons that never reset: PSU_LIF, AssociativeLIF, and resonate-and-fire with and without its reset."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import leaky_oracle as oracle
from spyx import nn
from spyx.experimental import PSU_LIF, AssociativeLIF, AssociativeResonateFire, ResonateFire

B, T, N = 2, 9, 3
X = jax.random.uniform(jax.random.key(1), (B, T, N)) * 2
BETA = np.array([0.1, 0.5, 0.9])


def psu(**options):
    return PSU_LIF(N, beta=BETA, threshold=0.25, **options)


def test_psu_is_its_equation_E1():
    v = oracle.leak(X, BETA)
    r = oracle.leak(oracle.sigmoid(v), BETA)
    preact, membrane = psu(spike=False)(X)
    np.testing.assert_allclose(membrane, v, atol=1e-5)
    np.testing.assert_allclose(preact, v - r - 0.25, atol=1e-5)
    np.testing.assert_array_equal(psu()(X)[0], v - r > 0.25)
    assert 0 < psu()(X)[0].mean() < 1


def test_psu_stepped_in_chunks_and_at_once():
    layer = psu()
    spikes, v, end = layer(X, return_state=True)
    for mode in ("step", "layer", "parallel"):
        out, state = nn.run(layer, X, mode=mode)
        np.testing.assert_array_equal(out, spikes)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, end)
    assert nn.explain(layer, X, mode="parallel")[0].mode == "parallel"
    first = layer(X[:, :4], return_state=True)
    second = layer(X[:, 4:], start=first[-1], return_state=True)
    np.testing.assert_allclose(jnp.concatenate([first[1], second[1]], 1), v, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), second[-1], end)


def test_psu_gradient_at_once_is_that_of_its_steps():
    graphdef, params = nnx.split(psu())

    def loss(params, mode):
        return jnp.sum(nn.run(nnx.merge(graphdef, params), X, mode=mode)[0] * jnp.cos(X * 9))

    at_once, stepped = (jax.jit(jax.grad(loss), static_argnums=1)(params, mode) for mode in ("parallel", "step"))
    np.testing.assert_allclose(at_once["beta"][...], stepped["beta"][...], rtol=1e-4)


@pytest.mark.parametrize(("batch", "steps"), [(B, 0), (B, 1), (0, T)])
def test_psu_short_and_empty(batch, steps):
    spikes, v = psu()(X[:batch, :steps])
    assert spikes.shape == v.shape == (batch, steps, N)


def test_psu_any_trailing_shape_and_integer_input():
    x = jnp.ones((1, 4, 2, 3), jnp.uint8)
    np.testing.assert_allclose(PSU_LIF((2, 3), beta=0.5)(x)[1], oracle.leak(x, 0.5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: psu()(X[..., :2]),
            ValueError,
            r"expected input of shape \(batch, time, 3\); got \(2, 9, 2\)",
        ),
        (lambda: psu()(None), TypeError, r"PSU_LIF: expected an array \(batch, time, 3\); got NoneType"),
        (lambda: psu()(X, start=jnp.zeros((B, N))), ValueError, r"PSU_LIF\(start=\): expected a state of shape"),
        (lambda: PSU_LIF(N), ValueError, r"spyx.experimental.PSU_LIF\(rngs=\): expected nnx.Rngs"),
        (lambda: PSU_LIF(N, beta=0.5, k=-1), ValueError, r"arctan\(k=\)"),
    ],
)
def test_psu_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_associative_lif_is_its_equation_in_every_mode_E1():
    layer = AssociativeLIF(N, beta=BETA)
    v = oracle.leak(X, BETA)
    for mode in ("step", "layer", "parallel"):
        spikes, end = nn.run(layer, X, mode=mode)
        np.testing.assert_array_equal(spikes, v > 1)
        np.testing.assert_allclose(end, v[:, -1], atol=1e-5)


def test_snntorch_decays_there_and_back():
    theirs = np.array([0.5, 0.9, 1.0])
    np.testing.assert_allclose(AssociativeLIF.beta_from_snntorch(theirs), np.exp(theirs - 1), rtol=1e-6)
    back = AssociativeLIF.snntorch_beta_from_beta(AssociativeLIF.beta_from_snntorch(theirs))
    np.testing.assert_allclose(back, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    ("neuron", "modes"),
    [(ResonateFire, ("step", "layer", "fixed_point")), (AssociativeResonateFire, ("step", "layer", "parallel"))],
)
def test_resonate_and_fire_is_a_rotation(neuron, modes):
    omega = np.array([0.2, 0.7, 1.4])
    layer = neuron(N, omega=omega, beta=0.9, threshold=0.5)
    spikes, states = oracle.rotation(np.asarray(X, np.float64), omega, 0.9, 0.5, reset=neuron is ResonateFire)
    assert 0 < spikes.mean() < 1
    for mode in modes:
        out, end = nn.run(layer, X, mode=mode)
        np.testing.assert_array_equal(out, spikes)
        np.testing.assert_allclose(end.x, states[:, -1].real, atol=1e-5)
        np.testing.assert_allclose(end.y, states[:, -1].imag, atol=1e-5)


def test_a_resonator_answers_to_its_own_frequency():
    layer = AssociativeResonateFire(3, omega=np.array([0.3, 0.6, 1.2]), beta=0.98, threshold=8.0)
    x = jnp.cos(0.6 * jnp.arange(200.0))[None, :, None] * jnp.ones((1, 1, 3))
    assert (nn.run(layer, x, mode="parallel")[0].sum((0, 1)) > 0).tolist() == [False, True, False]


def test_resonators_draw_their_frequencies():
    with pytest.raises(ValueError, match=r"experimental.ResonateFire\(rngs=\): expected nnx.Rngs"):
        ResonateFire(3)
    omega = ResonateFire(1000, rngs=nnx.Rngs(0)).omega[...]
    assert float(omega.min()) >= 0
    assert abs(float(omega.mean()) - np.pi / 4) < 0.05
