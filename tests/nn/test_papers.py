"""The neurons of papers against their equations in NumPy: 500 steps in value and gradient, and their initialisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference.papers_oracle import RULES, simulate
from spyx import axn, nn

STEPS, UNITS = 500, 4
SCALE = {"adLIF": (8, 30), "EFadLIF": (8, 30), "cAdLIF": (4, 8), "SiLIF": (4, 12), "BRF": (30, 200)}
SCALE |= {"AdEx": (1500, 900), "Izhikevich": (6, 12), "SigmaDelta": (0.0, 0.3), "CSiLIF": (0.1, 0.6)}
IN_PLACE = {"adLIF": ("tau_u", "tau_w"), "EFadLIF": ("tau_u", "tau_w")}
"""What is stored is not what the oracle takes: the value in use."""


def made(kind, activation=None):
    return getattr(nn, kind)(UNITS, rngs=nnx.Rngs(0), activation=activation)


def numbers(kind, neuron):
    """The oracle's parameters: those that are stored, in use where they are stored in another form."""
    found = {name: np.asarray(v[...], np.float64) for (name,), v in nnx.to_flat_state(nnx.state(neuron, nnx.Param))}
    for name in IN_PLACE.get(kind, ()):
        low, high = {"tau_u": (5, 25), "tau_w": (60, 300)}[name]
        found[name] = low + (high - low) * found[name]
    return found


def drawn(kind, steps=STEPS):
    mean, spread = SCALE.get(kind, (0.3, 1.0))
    return np.random.default_rng(3).normal(mean, spread, (2, steps, UNITS))


@pytest.mark.parametrize("kind", list(RULES))
def test_values_over_500_steps(kind):
    x = drawn(kind)
    with jax.enable_x64(True):
        graphdef, weights, rest = nnx.split(made(kind), nnx.Param, ...)
        neuron = nnx.merge(graphdef, jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), weights), rest)
        start = neuron.initial_state(2, jnp.float64)
        outs, end = nn.run(neuron, jnp.asarray(x), start)
    expected, state, _ = simulate(kind, x, numbers(kind, neuron))
    assert 0.005 < (expected != 0).mean() < 0.9
    np.testing.assert_allclose(outs, expected, rtol=1e-6, atol=1e-6)
    end = {"v": end} if hasattr(end, "shape") else end._asdict()
    for name, value in end.items():
        np.testing.assert_allclose(value, state[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", list(RULES))
def test_gradients_over_500_steps(kind):
    """A directional derivative of the network with a smooth spike, in input and parameters, by central differences."""

    def fire(u):
        return 1 / (1 + np.exp(-2 * u))

    smooth = axn.custom(
        fwd=lambda u: jax.nn.sigmoid(2 * u), bwd=lambda u: 2 * jax.nn.sigmoid(2 * u) * jax.nn.sigmoid(-2 * u)
    )
    x = drawn(kind)
    draw = np.random.default_rng(5)
    dx = draw.normal(size=x.shape)
    with jax.enable_x64(True):
        neuron = made(kind, smooth)
        graphdef, weights, rest = nnx.split(neuron, nnx.Param, ...)
        weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), weights)
        directions = jax.tree.map(lambda a: jnp.asarray(draw.normal(size=a.shape)), weights)

        def loss(weights, x):
            model = nnx.merge(graphdef, weights, rest)
            outs, _ = nn.run(model, x, model.initial_state(2, jnp.float64))
            return jnp.mean(jnp.cos(outs))

        grads = jax.grad(loss, argnums=(0, 1))(weights, jnp.asarray(x))
        got = sum(
            jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(grads), [*jax.tree.leaves(directions), dx], strict=True)
        )

    held = simulate(kind, x, numbers(kind, nnx.merge(graphdef, weights, rest)), fire)[2] if "adLIF" in kind else None

    def moved(eps):
        shifted = jax.tree.map(lambda a, d: np.asarray(a) + eps * np.asarray(d), weights, directions)
        p = numbers(kind, nnx.merge(graphdef, shifted, rest))
        return np.cos(simulate(kind, x + eps * dx, p, fire, held)[0]).mean()

    eps = 1e-7 if kind == "Izhikevich" else 1e-5  # its upswing is steep
    expected = (8 * (moved(eps) - moved(-eps)) - (moved(2 * eps) - moved(-2 * eps))) / (12 * eps)
    assert abs(expected) > 1e-8
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


def test_the_initialisation_of_the_papers():
    def inside(neuron, **ranges):
        for name, (low, high) in ranges.items():
            values = np.asarray(getattr(neuron.params(), name))
            assert low <= values.min() < low + 0.1 * (high - low), name
            assert high >= values.max() > high - 0.1 * (high - low), name

    def big(cls):
        return cls(400, rngs=nnx.Rngs(1))

    inside(big(nn.adLIF), tau_u=(5, 25), tau_w=(60, 300), a=(0, 1), b=(0, 2))
    inside(big(nn.cAdLIF), alpha=(0.36, 0.96), beta=(0.96, 0.99), a=(0, 1), b=(0, 2))
    inside(big(nn.SiLIF), log_rate_u=(np.log(10), np.log(250)), log_rate_w=(np.log(2.5), np.log(10)))
    inside(big(nn.CSiLIF), log_dt=(np.log(0.01), np.log(0.5)), b=(0, 1))
    inside(big(nn.BRF), omega=(5, 10), b_offset=(2, 3))
    assert nn.adLIF(2, rngs=nnx.Rngs(0)).q == 120
    assert nn.EFadLIF(2, rngs=nnx.Rngs(0)).q == 60


def test_parameters_stay_in_their_range():
    layer = nn.adLIF(2, rngs=nnx.Rngs(0))
    layer.tau_u[...] = jnp.array([-3.0, 7.0])
    np.testing.assert_array_equal(layer.params().tau_u[0], [5.0, 25.0])
    layer = nn.cAdLIF(2, rngs=nnx.Rngs(0))
    layer.alpha[...] = jnp.array([-3.0, 7.0])
    np.testing.assert_allclose(layer.params().alpha[0], [0.36, 0.96])


def test_dh_lif_is_branches_and_a_soma():
    layer = nn.DHLIF(3, branches=2, threshold=0.7, rngs=nnx.Rngs(0))
    dendrites, _, soma = layer.layers
    x = np.random.default_rng(0).normal(1.0, 2.0, (2, 60, 2, 3))
    beta, alpha = (np.asarray(a, np.float64) for a in (dendrites.params().beta[0], soma.params().beta[0]))
    d, v, z = np.zeros((2, 2, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    expected = []
    for t in range(60):
        d = beta * d + (1 - beta) * x[:, t]
        v = alpha * v + (1 - alpha) * d.sum(1) - 0.7 * z
        z = (v > 0.7).astype(float)
        expected.append(z)
    got = nn.run(layer, jnp.asarray(x, jnp.float32))[0]
    np.testing.assert_array_equal(got, np.stack(expected, 1))
    assert 0.05 < got.mean() < 0.95
    with pytest.raises(ValueError, match=r"^spyx\.nn\.DHLIF\(branches=\): expected an int of at least 1; got 0"):
        nn.DHLIF(3, branches=0, rngs=nnx.Rngs(0))


def test_adex_does_not_overflow():
    """One step can carry the membrane far beyond its peak; the reset is exact all the same."""
    spikes, state = nn.run(nn.AdEx(1), jnp.full((1, 3000, 1), 3000.0))
    assert float(spikes.sum()) > 10
    assert bool(jnp.isfinite(state.v).all())
    _, after = nn.AdEx(1)(jnp.zeros((1, 1)), nn.AdEx.State(jnp.full((1, 1), 19.0), jnp.zeros((1, 1))))
    assert after.v.item() == np.float32(-70.6)
