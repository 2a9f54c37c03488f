"""Recurrence is declared: `Recurrent` around any neuron, and the names that stand for it."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.reference.loop_oracle import unrolled

from spyx import nn

X = jax.random.normal(jax.random.key(0), (2, 7, 3))
FAMILY = {"RIF": nn.IF, "RLIF": nn.LIF, "RALIF": nn.ALIF, "RCuBaLIF": nn.CuBaLIF}


class After(nn.Neuron):
    """It spikes from the updated membrane."""

    affine = "given_spikes"

    @staticmethod
    def step(p, x, v):
        v = 0.9 * v + x
        z = p.spike(v - 1.0)
        return z, v - z


class Symmetric(nnx.Module):
    """A connection without self-connections, the same both ways."""

    def __init__(self, size, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (size, size)))

    def __call__(self, z):
        w = self.weight[...] + self.weight[...].T
        return z @ (w * (1 - jnp.eye(w.shape[0])))


class ReadsItsWeight(nn.Neuron):
    """A user's own recurrence, in the step: a mask, no self-connections, and a symmetric second weight."""

    affine, local = "given_spikes", False

    def __init__(self, size, rngs):
        super().__init__(size)
        self.recurrent_w = nnx.Param(0.5 * jax.random.normal(rngs.params(), (size, size)))
        self.other = nnx.Param(0.5 * jax.random.normal(rngs.params(), (size, size)))

    @staticmethod
    def step(p, x, v):
        z = p.spike(v - 1.0)
        mask = 1 - jnp.eye(p.recurrent_w.shape[0], dtype=v.dtype)
        return z, 0.9 * v + x + z @ (p.recurrent_w * mask) + z @ (p.other + p.other.T) - z


def make(kind):
    rngs, init = nnx.Rngs(0), nnx.initializers.normal(0.5)
    if kind in FAMILY:
        return getattr(nn, kind)(3, recurrent_init=init, rngs=rngs)
    return {
        "dense": lambda: nn.Recurrent(nn.LIF(3, beta=0.9), recurrent_init=init, rngs=rngs),
        "late": lambda: nn.Recurrent(After(3), recurrent_init=init, rngs=rngs),
        "late, two variables": lambda: nn.Recurrent(nn.ALIF(3, rngs=rngs), via=nnx.Linear(3, 3, rngs=rngs)),
        "linear": lambda: nn.Recurrent(nn.LIF(3, beta=0.9), via=nnx.Linear(3, 3, rngs=rngs)),
        "symmetric": lambda: nn.Recurrent(nn.CuBaLIF(3, rngs=rngs), via=Symmetric(3, rngs)),
        "symmetric, late": lambda: nn.Recurrent(After(3), via=Symmetric(3, rngs)),
        "function": lambda: nn.Recurrent(nn.IF(3), via=lambda z: 0.5 * jnp.roll(z, 1, axis=-1)),
        "reads its weight": lambda: ReadsItsWeight(3, rngs),
    }[kind]()


KINDS = [*FAMILY, "dense", "late", "linear", "symmetric", "symmetric, late", "function", "reads its weight"]


def everything(neuron, run):
    """Values and every gradient, in double precision."""
    graphdef, weights, rest = nnx.split(neuron, nnx.Param, ...)
    weights, rest = (jax.tree.map(lambda a: a.astype(jnp.float64), tree) for tree in (weights, rest))

    def loss(weights, x):
        outs, end = run(nnx.merge(graphdef, weights, rest), x)
        leaves = jax.tree.leaves((outs, end))
        return sum(jnp.sum(a * jnp.cos(jnp.arange(float(a.size))).reshape(a.shape)) for a in leaves), (outs, end)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(weights, X.astype(jnp.float64))


def oracle(neuron, x):
    outs, end = unrolled(neuron.step, neuron.params(), x.swapaxes(0, 1), neuron.initial_state(2, jnp.float64))
    return outs.swapaxes(0, 1), end


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_every_gradient_are_those_of_the_unrolled_loop(kind):
    with jax.enable_x64(True):
        neuron = make(kind)
        expected = everything(neuron, oracle)
        assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(expected[1]))
        for options in ({"mode": "layer"}, {"mode": "step"}, {"chunk": 3}, {"remat": True}):
            got = everything(
                neuron, lambda n, x, options=options: nn.run(n, x, n.initial_state(2, jnp.float64), **options)
            )
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FAMILY)
def test_a_name_of_the_family_is_its_parent_fed_back(name):
    short = make(name)
    wrapped = nn.Recurrent(FAMILY[name](3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    for parameter in ("alpha", "beta", "gamma"):
        if hasattr(short, parameter):
            setattr(wrapped.neuron, parameter, getattr(short, parameter))
    wrapped.recurrent_w = short.recurrent_w
    for a, b in zip(jax.tree.leaves(nn.run(short, X)), jax.tree.leaves(nn.run(wrapped, X)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(short, FAMILY[name])
    assert jax.tree.structure(short.initial_state(2)) == jax.tree.structure(
        FAMILY[name](3, rngs=nnx.Rngs(0)).initial_state(2)
    )


def test_signatures_and_parameters_are_as_documented():
    names = {name: list(inspect.signature(getattr(nn, name)).parameters) for name in FAMILY}
    last = ["dynamics", "recurrent_init", "rngs", "name"]
    assert names == {
        "RIF": ["hidden_shape", "threshold", "activation", *last],
        "RLIF": ["hidden_shape", "beta", "threshold", "activation", *last[:2], "tau_ms", "dt_ms", *last[2:]],
        "RALIF": [
            *("hidden_shape", "beta", "gamma", "threshold", "activation", "adaptation", *last[:2]),
            *("tau_ms", "tau_adaptation_ms", "dt_ms", *last[2:]),
        ],
        "RCuBaLIF": [
            *("hidden_shape", "alpha", "beta", "threshold", "activation", *last[:2]),
            *("tau_syn_ms", "tau_ms", "dt_ms", *last[2:]),
        ],
    }
    assert set(nnx.to_pure_dict(nnx.state(make("RLIF"), nnx.Param))) == {"beta", "recurrent_w"}
    with pytest.raises(ValueError, match=r"^spyx\.nn\.RLIF\(rngs=\): expected nnx\.Rngs, because recurrent_w"):
        nn.RLIF(3, beta=0.9)


def test_a_spike_that_needs_this_steps_input_is_carried_by_the_state():
    layer = make("late")
    state = layer.initial_state(2)
    assert layer.State._fields == ("v", "z")
    x = jnp.full((2, 1, 3), 2.0)
    first, state = nn.run(layer, x, state)
    np.testing.assert_array_equal(state.z, first[:, 0])
    v = 0.9 * state.v + x[:, 0] + first[:, 0] @ layer.recurrent_w[...]
    np.testing.assert_array_equal(nn.run(layer, x, state)[0][:, 0], v > 1.0)


def test_a_stream_of_a_carried_spike_goes_on():
    layer = make("late")
    whole, end = nn.run(layer, X)
    first, state = nn.run(layer, X[:, :4])
    second, last = nn.run(layer, X[:, 4:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    np.testing.assert_allclose(last.z, end.z, atol=1e-6)


def test_feature_maps_are_connected_by_a_convolution():
    rngs = nnx.Rngs(0)
    layer = nn.Recurrent(nn.LIF((4, 5, 2), beta=0.9), via=nn.Conv(2, 2, (3, 3), rngs=rngs))
    x = jax.random.normal(jax.random.key(1), (2, 6, 4, 5, 2))
    outs, _ = nn.run(layer, x)
    v, expected = jnp.zeros((2, 4, 5, 2)), []
    for t in range(6):
        z = (v > 1.0).astype(jnp.float32)
        v = 0.9 * v + x[:, t] + layer.via(z) - z
        expected.append(z)
    np.testing.assert_array_equal(outs, jnp.stack(expected, 1))


def test_equal_recurrent_layers_share_one_trace():
    @jax.jit
    def f(model, x):
        return nn.run(model, x)[0]

    for _ in range(2):
        f(nn.Sequential(make("late"), make("symmetric")), X)
    assert f._cache_size() == 1


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: nn.Recurrent(nnx.Linear(3, 3, rngs=nnx.Rngs(0))), TypeError, "expected a spyx.nn.Neuron; got Linear"),
        (lambda: nn.Recurrent(make("RLIF"), rngs=nnx.Rngs(0)), ValueError, "expected a local neuron; got RLIF"),
        (lambda: nn.Recurrent(nn.IF(3), via=nn.LIF(3, beta=0.9)), TypeError, r"via=\): expected a layer without state"),
        (lambda: nn.Recurrent(nn.IF(3), via=nnx.BatchNorm(3, rngs=nnx.Rngs(0))), TypeError, "that does not change it"),
        (lambda: nn.Recurrent(nn.IF(3), via=nnx.Dropout(0.5, rngs=nnx.Rngs(0))), TypeError, "that does not change it"),
        (lambda: nn.Recurrent(nn.IF(3)), ValueError, r"Recurrent\(rngs=\): expected nnx.Rngs"),
        (
            lambda: nn.run(nn.Recurrent(nn.IF(3), via=nnx.Linear(3, 2, rngs=nnx.Rngs(0))), X),
            ValueError,
            r"via=\): expected a current of shape \(2, 3\), that of the spikes; got \(2, 2\) from Linear",
        ),
    ],
)
def test_what_cannot_be_fed_back_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_step_that_asks_p_for_feedback_is_told_about_recurrent():
    class Old(nn.Neuron):
        @staticmethod
        def step(p, x, v):
            z = p.spike(v - 1.0)
            return z, v + p.feedback(z)

    with pytest.raises(AttributeError, match=r"p\.feedback: .* Feed a neuron back with spyx\.nn\.Recurrent"):
        nn.run(Old(3), X)
