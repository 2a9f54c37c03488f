"""Every neuron against its equations in plain NumPy, and its gradients against finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference.neurons_oracle import finite_difference, simulate
from spyx import axn, nn

SHAPES = [(4,), (2, 3)]
KINDS = ["IF", "LIF", "LI", "ALIF", "CuBaLIF", "RIF", "RLIF", "RALIF", "RCuBaLIF"]
DECAYS = {
    "LIF": ("beta",),
    "LI": ("beta",),
    "ALIF": ("beta", "gamma"),
    "CuBaLIF": ("alpha", "beta"),
    "RLIF": ("beta",),
    "RALIF": ("beta", "gamma"),
    "RCuBaLIF": ("alpha", "beta"),
}


def make(kind, shape, seed=0):
    random = np.random.default_rng(seed)
    values = {name: random.uniform(0.2, 0.95, shape).astype(np.float32) for name in DECAYS.get(kind, ())}
    arguments = dict(values)
    if kind != "LI":
        arguments["threshold"] = values["threshold"] = 0.8
    if kind.startswith("R"):
        values["w"] = (0.4 * random.standard_normal(shape * 2)).astype(np.float32)
        arguments.update(recurrent_init=lambda key, size: jnp.asarray(values["w"]), rngs=nnx.Rngs(0))
    return getattr(nn, kind)(shape, **arguments), values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind, shape):
    neuron, values = make(kind, shape)
    x = np.random.default_rng(1).normal(0.4, 0.8, (3, 9, *shape)).astype(np.float32)
    expected, state = simulate(kind, x, **values)
    if kind != "LI":
        assert 0.05 < expected.mean() < 0.95
    for mode in ("step", "layer"):
        outs, end = nn.run(neuron, x, mode=mode)
        np.testing.assert_allclose(outs, expected, atol=2e-5)
        end = {"v": end} if isinstance(end, jax.Array) else end._asdict()
        for name, value in end.items():
            np.testing.assert_allclose(value, state[name], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_input_of_a_spiking_neuron_never_reaches_the_output(kind):
    neuron, _ = make(kind, (4,))
    x = jax.random.normal(jax.random.key(0), (2, 6, 4))
    gradient = jax.grad(lambda x: nn.run(neuron, x)[0].sum())(x)
    assert bool((gradient[:, -1] != 0).all()) == (kind == "LI")


@pytest.mark.parametrize("kind", ["LIF", "ALIF", "CuBaLIF", "RLIF", "RALIF", "RCuBaLIF"])
def test_gradients_of_a_relaxed_neuron_equal_finite_differences(kind):
    """With a smooth forward function and its true slope, the gradient of every parameter is the true one."""
    smooth = axn.custom(
        fwd=lambda u: jax.nn.sigmoid(4 * u), bwd=lambda u: 4 * jax.nn.sigmoid(4 * u) * jax.nn.sigmoid(-4 * u)
    )
    neuron, _ = make(kind, (3,))
    neuron.activation = smooth
    graphdef, weights = nnx.split(neuron)
    x = np.random.default_rng(2).normal(0.4, 0.8, (2, 5, 3))
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), weights)

        def loss(weights, mode):
            model = nnx.merge(graphdef, weights)
            state = model.initial_state(2, jnp.float64)
            return jnp.sum(jnp.cos(nn.run(model, jnp.asarray(x, jnp.float64), state, mode=mode)[0]))

        got = jax.grad(loss)(weights, "layer")
        plain = jax.grad(loss)(weights, "step")
        flat, tree = jax.tree.flatten(weights)
        for index, (a, b) in enumerate(zip(jax.tree.leaves(got), jax.tree.leaves(plain), strict=True)):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
            f = jax.jit(
                lambda value, i=index: loss(jax.tree.unflatten(tree, [*flat[:i], value, *flat[i + 1 :]]), "step")
            )
            np.testing.assert_allclose(a, finite_difference(f, flat[index]), rtol=1e-5, atol=1e-7)


def test_cubalif_resets_once():
    """HK subtracted the threshold inside the leak and again outside; here it is subtracted once, inside."""
    _, state = nn.CuBaLIF(1, alpha=0.0, beta=0.5)(
        jnp.zeros((1, 1)), nn.CuBaLIF.State(jnp.full((1, 1), 2.0), jnp.zeros((1, 1)))
    )
    assert state.v.item() == 0.5
