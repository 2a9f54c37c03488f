"""Parameters declared as fields: constructors, ranges, time constants, documentation and errors."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, nn
from spyx.testing import check_neuron


class Leaky(nn.Neuron):
    """A leak and a gain that train.

    Shapes:
        x, state v: (batch, *hidden_shape).
    """

    affine = "given_spikes"
    beta = nn.decay(default=0.9, doc="membrane decay per step")
    gain = nn.positive(2.0)
    threshold = nn.constant(1.0)
    offset: float = 0.0

    @staticmethod
    def step(p, x, v):
        z = p.spike(v - p.threshold)
        return z, p.beta * v + p.gain * x + p.offset - z


def trained(layer):
    return {".".join(map(str, path)): v[...].shape for path, v in nnx.to_flat_state(nnx.state(layer, nnx.Param))}


def test_a_declared_neuron_has_constructor_parameters_and_documentation():
    assert str(inspect.signature(Leaky)) == (
        "(hidden_shape, beta=None, gain=None, threshold=1.0, offset=0.0, activation=None, *, rngs=None, name=None)"
    )
    assert trained(Leaky(3)) == {"beta": (3,), "gain": (3,)}
    np.testing.assert_allclose(Leaky(3).beta[...], 0.9)
    assert trained(Leaky(3, 0.5, nn.Fixed(1.0))) == {"beta": ()}
    assert Leaky(3, offset=0.25).params().offset == 0.25
    assert "    beta: membrane decay per step in [0, 1]. None: one trainable value per unit, 0.9." in Leaky.__doc__
    assert Leaky.__doc__.index("Args:") < Leaky.__doc__.index("Shapes:")
    check_neuron(Leaky((2, 2)))


def test_a_subclass_adds_fields_and_changes_defaults():
    class More(Leaky):
        gain = 3.0
        scale = nn.per_unit(lambda key, shape: jnp.full(shape, 0.5))

    assert list(inspect.signature(More).parameters) == [
        *("hidden_shape", "beta", "gain", "threshold", "offset", "scale", "activation", "rngs", "name")
    ]
    more = More(2, rngs=nnx.Rngs(0))
    assert more.gain[...].item() == 3.0
    np.testing.assert_array_equal(more.scale[...], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"^More\(rngs=\): expected nnx\.Rngs, because scale starts"):
        More(2)


def test_a_constructor_of_its_own_passes_fields_on():
    class Own(Leaky):
        def __init__(self, units, beta):
            super().__init__(units, beta, activation=axn.arctan())

    own = Own(2, 0.25)
    assert own.beta[...] == 0.25
    assert own.activation == axn.arctan()
    assert list(inspect.signature(Own).parameters) == ["units", "beta"]


@pytest.mark.parametrize("by", ["clip", "unit", "sigmoid", "exp"])
def test_a_decay_in_a_range(by):
    layer = nn.LIF(3, beta=nn.decay(0.85, low=0.8, high=0.9, by=by))
    np.testing.assert_allclose(layer.params().beta, np.full((1, 3), 0.85), rtol=1e-6)
    for stored in (-50.0, 50.0):
        layer.beta[...] = jnp.full(3, stored)
        beta = np.asarray(layer.params().beta)
        assert (beta >= np.float32(0.8)).all()
        assert (beta <= np.float32(0.9)).all()


def test_stored_values_are_as_documented():
    layer = nn.LIF(1, beta=nn.decay(0.9, by="exp"))
    np.testing.assert_allclose(np.exp(-np.exp(layer.beta[...])), 0.9, rtol=1e-6)
    layer = nn.LIF(1, beta=nn.decay(0.85, low=0.8, high=0.9, by="sigmoid"))
    np.testing.assert_allclose(layer.beta[...], 0.0, atol=1e-5)


def test_a_variable_from_elsewhere_is_clipped_to_the_range():
    layer = nn.LIF(2, beta=nn.decay(0.9, by="sigmoid"))
    layer.beta = nnx.Param(jnp.array([1.5, 0.5]))
    np.testing.assert_array_equal(layer.params().beta[0], [1.0, 0.5])


def test_a_threshold_learns():
    layer = nn.LIF(3, beta=0.9, threshold=nn.positive(1.0))
    assert trained(layer) == {"beta": (), "threshold": (3,)}
    slope = jax.grad(lambda layer: nn.run(layer, jnp.full((1, 9, 3), 0.4))[0].sum())(layer)
    assert (slope.threshold[...] < 0).all()
    layer.threshold[...] = -jnp.ones(3)
    assert (layer.params().threshold == 0).all()


def test_time_constants_in_milliseconds():
    layer = nn.LIF(2, tau_ms=20.0, dt_ms=1.0)
    np.testing.assert_allclose(layer.beta[...], np.exp(-1 / 20), rtol=1e-6)
    assert trained(layer) == {"beta": ()}
    layer = nn.CuBaLIF(2, tau_syn_ms=np.array([5.0, 10.0]), tau_ms=nn.Fixed(20.0), dt_ms=2.0)
    np.testing.assert_allclose(layer.alpha[...], np.exp([-2 / 5, -2 / 10]), rtol=1e-6)
    assert trained(layer) == {"alpha": (2,)}
    layer = nn.ALIF(2, tau_ms=20.0, tau_adaptation_ms=200.0, dt_ms=1.0)
    np.testing.assert_allclose(layer.gamma[...], np.exp(-1 / 200), rtol=1e-6)
    np.testing.assert_allclose(nn.LI(2, tau_ms=20.0, dt_ms=1.0).beta[...], np.exp(-1 / 20), rtol=1e-6)
    np.testing.assert_allclose(nn.RLIF(2, tau_ms=9.0, dt_ms=1.0, rngs=nnx.Rngs(0)).beta[...], np.exp(-1 / 9), rtol=1e-6)


def test_a_neuron_may_declare_the_length_of_its_step():
    assert nn.Izhikevich(2, dt_ms=0.1).dt_ms == 0.1
    assert nn.AdEx(2, dt_ms=0.05).dt_ms == 0.05

    class Own(nn.LIF):
        dt_ms = nn.constant(2.0)

    for layer, step in ((Own(2, tau_ms=20.0), 2.0), (Own(2, tau_ms=20.0, dt_ms=1.0), 1.0)):
        assert layer.dt_ms == step
        np.testing.assert_allclose(layer.beta[...], np.exp(-step / 20), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.LIF(2, tau_ms=20.0), ValueError, r"^spyx\.nn\.LIF\(tau_ms=\): expected times above 0, and the len"),
        (lambda: nn.LIF(2, tau_ms=-1.0, dt_ms=1.0), ValueError, r"^spyx\.nn\.LIF\(tau_ms=\): expected times above 0"),
        (lambda: nn.LIF(2, 0.9, tau_ms=20.0, dt_ms=1.0), ValueError, r"expected it alone; got beta=0\.9 beside it"),
        (lambda: nn.LIF(2, 0.9, dt_ms=1.0), ValueError, r"^spyx\.nn\.LIF\(dt_ms=\): expected a time constant"),
        (lambda: nn.LIF(2, betta=0.9), TypeError, r"^spyx\.nn\.LIF: expected the arguments \(hidden_shape, beta=None"),
        (lambda: nn.decay(low=0.9, high=0.1), ValueError, r"^spyx\.nn\.decay: expected 0 <= low <= high <= 1; got"),
        (
            lambda: nn.decay(by="tanh"),
            ValueError,
            r"^spyx\.nn\.decay\(by=\): expected one of clip, unit, sigmoid, exp",
        ),
        (lambda: nn.per_unit(1.0, low=0.0, by="sigmoid"), ValueError, r"expected low and high; got 0\.0 and None"),
        (
            lambda: nn.LIF(2, beta=nn.decay(0.95, high=0.9, by="sigmoid")),
            ValueError,
            r"^spyx\.nn\.LIF\(beta=\): expected values strictly between 0\.0 and 0\.9",
        ),
        (lambda: nn.Neuron(2, beta=1.0), TypeError, r"expected arguments of its fields"),
    ],
)
def test_wrong_declarations(make, error, message):
    with pytest.raises(error, match=message):
        make()
