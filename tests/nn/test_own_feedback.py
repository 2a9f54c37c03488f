"""A neuron with two recurrent products of its own: every gradient against float64 finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn

UNITS, BATCH, STEPS = 3, 2, 5
RNG = np.random.default_rng(0)
START = {
    "fast": RNG.normal(0, 0.6, (UNITS, UNITS)),
    "slow": RNG.normal(0, 0.6, (UNITS, UNITS)),
    "beta": RNG.uniform(0.3, 0.8, UNITS),
    "x": RNG.normal(0, 1, (BATCH, STEPS, UNITS)),
    "v": RNG.normal(0, 0.5, (BATCH, UNITS)),
    "u": RNG.normal(0, 0.5, (BATCH, UNITS)),
}
G = RNG.normal(0, 1, (BATCH, STEPS, UNITS))


class TwoLoops(nn.Neuron):
    """What a unit feeds back now goes through one matrix, and a trace of it through another; smooth everywhere."""

    state = dict(v=0.0, u=0.0)
    affine = "never"
    local = False

    def __init__(self, fast, slow, beta):
        super().__init__(UNITS)
        self.fast, self.slow, self.beta = (nnx.Param(jnp.asarray(a, jnp.float32)) for a in (fast, slow, beta))

    @staticmethod
    def step(p, x, s):
        z = jnp.tanh(s.v)
        v = p.beta * s.v + x + z @ p.fast + jnp.sin(s.u) @ p.slow
        return z * s.u, s._replace(v=v, u=0.5 * s.u + z)


def by_hand(a):
    """The same, unrolled in double precision, and a loss that weighs every output and both last states."""
    v, u, total = a["v"], a["u"], 0.0
    for t in range(STEPS):
        z = np.tanh(v)
        total += np.sum(G[:, t] * z * u)
        current = z @ a["fast"] + np.sin(u) @ a["slow"]
        v, u = a["beta"] * v + a["x"][:, t] + current, 0.5 * u + z
    return total + np.sum(np.cos(v)) + np.sum(u**2)


def differences(start):
    found = {}
    for name, value in start.items():
        slope = np.zeros(value.shape)
        for place in np.ndindex(*value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += sign * 1e-5
                ends.append(by_hand({**start, name: moved}))
            slope[place] = (ends[0] - ends[1]) / 2e-5
        found[name] = slope
    return found


EXPECTED = differences(START)


@pytest.mark.parametrize("mode", ["step", "layer", "auto"])
def test_every_gradient_is_the_finite_difference(mode):
    graphdef, weights = nnx.split(TwoLoops(START["fast"], START["slow"], START["beta"]))

    def loss(weights, x, v, u):
        layer = nnx.merge(graphdef, weights)
        outs, end = nn.run(layer, x, TwoLoops.State(v=v, u=u), mode=mode)
        return jnp.sum(jnp.asarray(G, jnp.float32) * outs) + jnp.sum(jnp.cos(end.v)) + jnp.sum(end.u**2)

    start = (jnp.asarray(START[name], jnp.float32) for name in ("x", "v", "u"))
    value, (weights, *others) = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(weights, *start)
    got = {name: weights[name][...] for name in ("fast", "slow", "beta")} | dict(zip("xvu", others, strict=True))
    np.testing.assert_allclose(value, by_hand(START), rtol=1e-5)
    for name, expected in EXPECTED.items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)
