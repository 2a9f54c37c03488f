"""Every neuron of spyx.nn, and one that a user would write, through the public conformance suite."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from spyx import nn
from spyx.testing import check_layer, check_neuron

NEURONS = [
    name
    for name in nn.__all__
    if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Neuron) and name != "Neuron"
]


def build(name, shape=(2, 3)):
    cls = getattr(nn, name)
    if name == "LI":
        return cls(shape)
    if name == "IF":
        return cls(shape)
    init = {"recurrent_init": nnx.initializers.normal(0.5)} if name.startswith("R") else {}
    if name == "Refractory":
        return cls(nn.LIF(shape, rngs=nnx.Rngs(0)), steps=2)
    if name == "Recurrent":
        return cls(nn.LIF(shape, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0), **init)
    return cls(shape, rngs=nnx.Rngs(0), **init)


@pytest.mark.parametrize("name", NEURONS)
def test_neuron(name):
    check_neuron(build(name), docstring=True)


def test_dendrites_and_soma():
    check_layer(nn.DHLIF(3, branches=2, rngs=nnx.Rngs(0)), (2, 3))


def test_a_neuron_in_twelve_lines():
    class Bursting(nn.Neuron):
        """Izhikevich (2003), doi:10.1109/TNN.2003.820440. v in mV, time in ms."""

        state = dict(v=-65.0, u=-13.0)
        a: float = 0.02
        b: float = 0.2
        c: float = -50.0
        d: float = 2.0

        @staticmethod
        def step(p, x, s):
            v = s.v + 0.5 * (0.04 * s.v**2 + 5 * s.v + 140 - s.u + x)
            u = s.u + 0.5 * p.a * (p.b * s.v - s.u)
            z = p.spike(v - 30.0)
            return z, s._replace(v=v + z * (p.c - v), u=u + z * p.d)

    check_neuron(Bursting((3,)))
    x = jnp.full((1, 400, 2), 15.0)
    regular, bursting = nn.run(nn.Izhikevich(2), x)[0], nn.run(Bursting(2), x)[0]
    assert 3 < float(regular.sum(1)[0, 0]) < 20  # regular spiking: a handful of spikes in 200 ms
    assert float(bursting.sum()) > 1.5 * float(regular.sum())


def test_the_suite_finds_a_wrong_trait():
    class Wrong(nn.Neuron):
        affine = "always"

        @staticmethod
        def step(p, x, v):
            z = p.spike(v - 1.0)
            return z, 0.9 * v + x - z

    with pytest.raises(AssertionError, match="affine='always'; the step is 'given_spikes'"):
        check_neuron(Wrong(3))

    class Global(nn.Neuron):
        affine = "always"

        @staticmethod
        def step(p, x, v):
            return v, 0.5 * v.mean(-1, keepdims=True) + x

    with pytest.raises(AssertionError, match="reads another unit's state"):
        check_neuron(Global(3))


def test_the_suite_finds_a_batch_leak():
    class Leak:
        def initial_state(self, batch_size):
            return jnp.zeros((batch_size, 2))

        def __call__(self, x, v):
            v = v + x - x.mean(0, keepdims=True)
            return v, v

    with pytest.raises(AssertionError, match="do not see each other"):
        check_layer(Leak(), (2,))


def test_equal_layers_trace_once():
    calls = []

    class Counted(nn.Neuron):
        affine = "given_spikes"

        @staticmethod
        def step(p, x, v):
            calls.append(1)
            z = p.spike(v - 1.0)
            return z, 0.9 * v + x - z

    def loss(model, x):
        return nn.run(model, x)[0].sum()

    def traces(layers):
        jax.clear_caches()
        calls.clear()
        jax.jit(jax.grad(loss, argnums=1))(nn.Sequential(*(Counted(4) for _ in range(layers))), jnp.ones((2, 5, 4)))
        return len(calls)

    assert traces(4) == traces(1)


def test_equal_networks_compile_once():
    @jax.jit
    def f(model, x):
        return nn.run(model, x)[0]

    for _ in range(2):
        f(nn.Sequential(nn.LIF(4, 0.9), nn.LI(4)), jnp.ones((2, 5, 4)))
    assert f._cache_size() == 1
