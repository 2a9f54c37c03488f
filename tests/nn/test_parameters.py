"""Constructor arguments: what trains, what is shared, what is refused. Decisions N3, N4, N14, N16, N19."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, nn


def trained(layer):
    return {k: v.shape for k, v in nnx.to_flat_state(nnx.state(layer, nnx.Param))} and {
        ".".join(map(str, path)): leaf[...].shape for path, leaf in nnx.to_flat_state(nnx.state(layer, nnx.Param))
    }


def test_N3_a_number_is_one_trainable_value_and_an_array_one_per_unit():
    assert trained(nn.LIF(3, 0.9)) == {"beta": ()}
    assert trained(nn.LIF(3, np.full(3, 0.9))) == {"beta": (3,)}
    assert trained(nn.LIF((2, 3), np.full((1, 3), 0.9))) == {"beta": (1, 3)}
    assert trained(nn.LIF(3, rngs=nnx.Rngs(0))) == {"beta": (3,)}


def test_N3_fixed_holds_a_parameter():
    for value in (0.9, np.full(3, 0.9)):
        layer = nn.LIF(3, nn.Fixed(value))
        assert trained(layer) == {}
        same = nn.run(nn.LIF(3, value), jnp.ones((1, 8, 3)))[0]
        np.testing.assert_array_equal(nn.run(layer, jnp.ones((1, 8, 3)))[0], same)


def test_N4_zero_is_zero_and_an_int_is_a_float():
    assert nn.LIF(3, 0.0).beta[...] == 0.0
    one = nn.LIF(3, 1)
    assert one.beta[...].dtype == jnp.float32
    graphdef, weights = nnx.split(one)
    x = jnp.ones((1, 3, 3))
    jax.grad(lambda w: nn.run(nnx.merge(graphdef, w), x)[0].sum())(weights)


def test_N4_a_decay_outside_the_unit_interval_is_clipped_without_gradient():
    graphdef, weights = nnx.split(nn.LI(6, np.float32([-0.2, 0.0, 0.3, 0.9, 1.0, 1.3])))
    x = jnp.ones((1, 5, 6))
    out = nn.run(nnx.merge(graphdef, weights), x)[0]
    np.testing.assert_allclose(out[0, -1, 0], 1.0)
    np.testing.assert_allclose(out[0, -1, 5], 5.0)
    gradient = jax.grad(lambda w: nn.run(nnx.merge(graphdef, w), x)[0].sum())(weights)["beta"][...]
    inside = jax.grad(lambda w: nn.run(nnx.merge(graphdef, w), x)[0].sum())(
        nnx.split(nn.LI(6, np.full(6, 1e-6, np.float32)))[1]
    )
    assert gradient[0] == 0.0
    assert gradient[5] == 0.0
    np.testing.assert_allclose(gradient[1], 0.5 * inside["beta"][...][1], rtol=1e-3)  # the tie rule of clip


@pytest.mark.parametrize("kind", [nn.LIF, nn.LI])
def test_a_decay_is_clipped_whatever_variable_holds_it(kind):
    layer = kind(2, 0.5)
    layer.beta = nnx.Param(jnp.array([1.5, -0.5]))
    np.testing.assert_array_equal(layer.params().beta[0], [1.0, 0.0])


def test_every_decay_of_every_neuron_is_clipped():
    for kind, names in (
        (nn.ALIF, "beta gamma"),
        (nn.CuBaLIF, "alpha beta"),
        (nn.RALIF, "beta gamma"),
        (nn.RLIF, "beta"),
    ):
        layer = kind(2, rngs=nnx.Rngs(0))
        for name in names.split():
            setattr(layer, name, nnx.Param(jnp.array([1.5, -0.5])))
            np.testing.assert_array_equal(getattr(layer.params(), name)[0], [1.0, 0.0])


@pytest.mark.parametrize("shape", [4, (4,), [4], np.int64(4)])
def test_N14_a_hidden_shape_is_an_int_a_list_or_a_tuple(shape):
    assert nn.IF(shape).hidden_shape == (4,)


@pytest.mark.parametrize(
    ("shape", "error"),
    [("4", TypeError), (4.0, TypeError), (True, TypeError), ((4, 0), ValueError), ((), ValueError), (-1, ValueError)],
)
def test_N14_an_impossible_hidden_shape_raises(shape, error):
    with pytest.raises(error, match=r"^spyx\.nn\.IF\(hidden_shape=\): expected"):
        nn.IF(shape)


def test_N2_decays_start_inside_the_unit_interval():
    beta = np.asarray(nn.LIF(20_000, rngs=nnx.Rngs(3)).beta[...])
    assert beta.min() >= 0
    assert beta.max() <= 1
    assert abs(beta.mean() - 0.5) < 0.02
    assert abs(beta.std() - 0.22) < 0.02
    np.testing.assert_array_equal(nn.LI(3).beta[...], np.full(3, 0.8, np.float32))


def test_N16_recurrent_weights_start_small_and_take_an_initialiser():
    weight = np.asarray(nn.RLIF(64, 0.9, rngs=nnx.Rngs(0)).recurrent_w[...])
    assert np.abs(weight).max() <= 0.0228
    assert 0.008 < weight.std() < 0.011
    ones = nn.RLIF((2, 2), 0.9, recurrent_init=nnx.initializers.ones, rngs=nnx.Rngs(0)).recurrent_w[...]
    np.testing.assert_array_equal(ones, np.ones((2, 2, 2, 2)))


def test_N19_name_is_kept_and_rngs_is_asked_for_only_where_it_is_needed():
    assert nn.LIF(3, 0.9, name="hidden").name == "hidden"
    assert nn.IF(3, rngs=nnx.Rngs(0)).name is None
    with pytest.raises(
        ValueError, match=r"^spyx\.nn\.LIF\(rngs=\): expected nnx\.Rngs, because beta .*; got None\. Pass rngs"
    ):
        nn.LIF(3)
    with pytest.raises(ValueError, match="because recurrent_w starts"):
        nn.RIF(3)
    with pytest.raises(TypeError, match=r"got 0\. Write nnx\.Rngs\(0\)"):
        nn.LIF(3, rngs=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"beta": "0.9"}, TypeError, r"^spyx\.nn\.LIF\(beta=\): expected a number or an array; got '0.9'"),
        ({"beta": np.ones(4)}, ValueError, r"broadcasts to hidden_shape \(3,\); got shape \(4,\)"),
        ({"beta": 0.9, "threshold": float("nan")}, ValueError, r"\(threshold=\): expected a finite number; got nan"),
        ({"beta": 0.9, "threshold": np.ones((2, 3))}, ValueError, r"\(threshold=\)"),
        ({"beta": 0.9, "activation": "superspike"}, TypeError, r"\(activation=\): expected a surrogate"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        nn.LIF(3, **arguments)


def test_N18_thresholds_may_be_arrays_and_may_train():
    per_unit = nn.LIF(2, 1.0, threshold=np.array([0.5, 5.0], np.float32))
    assert nn.run(per_unit, jnp.ones((1, 4, 2)))[0][0].sum(0).tolist() == [3.0, 0.0]
    assert trained(per_unit) == {"beta": ()}
    assert trained(nn.LIF(2, 1.0, threshold=nnx.Param(jnp.ones(2)))) == {"beta": (), "threshold": (2,)}


def test_li_takes_its_documented_keyword():
    assert nn.LI(layer_shape=3).hidden_shape == (3,)
    with pytest.raises(TypeError, match="expected one shape"):
        nn.LI()


def test_activation_is_the_neurons_spike():
    steep = nn.IF(1, activation=axn.straight_through())
    assert jax.grad(lambda v: steep(jnp.zeros((1, 1)), v)[0].sum())(jnp.full((1, 1), -7.0)).item() == 1.0


def test_a_parameter_that_cannot_be_hashed_is_named():
    class Wrong(nn.Neuron):
        def __init__(self):
            super().__init__(3)
            self.taus = {1: 2}

    with pytest.raises(TypeError, match=r"^Wrong\.taus: expected a number, an array"):
        Wrong().params()


def test_an_unknown_parameter_is_named():
    with pytest.raises(AttributeError, match=r"p\.alpha: expected a parameter of this neuron \(beta, "):
        nn.LIF(3, 0.9).params().alpha  # noqa: B018
