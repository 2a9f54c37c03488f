"""`nn.Conv` is `nnx.Conv`: same parameters, values and gradients, for every geometry."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from spyx import nn
from spyx.engine import convolution, device
from spyx.engine.events import choice

GEOMETRIES = [
    {},
    {"padding": "VALID"},
    {"padding": [(2, 1), (0, 3)]},
    {"strides": (2, 3), "padding": "SAME"},
    {"kernel_dilation": 2, "padding": "VALID", "strides": 2},
    {"padding": "CIRCULAR"},
    {"use_bias": False, "feature_group_count": 2},
    {"input_dilation": 2, "padding": [(1, 1), (1, 1)]},
]


@pytest.mark.parametrize("budget", [2**19, 500])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_it_equals_flax(geometry, budget, monkeypatch):
    monkeypatch.setattr(convolution, "PATCH_ELEMENTS", budget)  # the small one cuts the batch into padded pieces
    ours = nn.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), **geometry)
    theirs = nnx.Conv(2, 4, (3, 2), rngs=nnx.Rngs(0), **geometry)
    x = jax.random.normal(jax.random.key(0), (5, 9, 8, 2))

    def outcome(layer):
        graphdef, weights = nnx.split(layer)

        def loss(weights, x):
            out = nnx.merge(graphdef, weights)(x)
            return jnp.sum(jnp.cos(out)), out

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(weights, x)

    for a, b in zip(jax.tree.leaves(outcome(ours)), jax.tree.leaves(outcome(theirs)), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_one_and_three_dimensions_and_narrow_floats():
    for size in ((3,), (2, 2, 2)):
        x = jax.random.normal(jax.random.key(0), (2, *(5,) * len(size), 3))
        ours, theirs = (cls(3, 4, size, rngs=nnx.Rngs(0)) for cls in (nn.Conv, nnx.Conv))
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    narrow = nn.Conv(3, 4, (3,), rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    assert narrow(jnp.ones((2, 5, 3), jnp.bfloat16)).dtype == jnp.bfloat16


def test_forward_mode_and_an_empty_batch():
    layer = nn.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0))
    x = jnp.ones((2, 6, 6, 2))
    tangent = jax.jvp(layer, (x,), (x,))[1]
    np.testing.assert_allclose(tangent, layer(x) - layer.bias[...].reshape(1, 1, 1, 4), rtol=1e-4, atol=1e-5)
    assert layer(x[:0]).shape == (0, 6, 6, 4)


@pytest.mark.parametrize("kind", [nn.Conv, nnx.Conv])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_over_time_it_equals_flax_too(geometry, kind, monkeypatch):
    """Where `run` may convolve by events (it says so), the answer and the gradients stay."""
    monkeypatch.setattr(choice, "SMALLEST", 1)
    net = nn.Sequential(kind(2, 4, (3, 2), rngs=nnx.Rngs(0), **geometry), nn.IF((1,)))
    net.layers[1] = nn.IF(jax.eval_shape(net.layers[0], jnp.zeros((1, 9, 8, 2))).shape[1:])
    x = (jax.random.uniform(jax.random.key(0), (3, 4, 9, 8, 2)) < 0.15).astype(jnp.float32)
    moves = {"strides", "kernel_dilation", "input_dilation", "feature_group_count"}
    by_events = device.has_compiler() and not moves & set(geometry)
    assert ("zeros are skipped" in nn.explain(net, x)[0].why) is by_events

    def loss(net, mode):
        return jnp.sum(jnp.cos(nn.run(net, x, mode=mode)[1][1]))

    (value, grads), (expected, expected_grads) = (
        nnx.jit(nnx.value_and_grad(partial(loss, mode=mode)))(net) for mode in ("auto", "layer")
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for a, e in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cls", [nn.Conv, nnx.Conv])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_type_of_the_sums_that_is_asked_for_is_kept(cls, groups):
    narrow = dict(dtype=jnp.bfloat16, preferred_element_type=jnp.float32, feature_group_count=groups, use_bias=False)
    x = jnp.ones((2, 3, 5, 4), jnp.bfloat16)
    layer, plain = (kind(4, 4, (3,), rngs=nnx.Rngs(0), **narrow) for kind in (cls, nnx.Conv))
    expected = plain(x.reshape(6, 5, 4)).reshape(2, 3, 5, 4)
    found = nn.run(nn.Sequential(layer), x)[0]
    assert expected.dtype == jnp.float32
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def convolutions(jaxpr, inside=False):
    """`(equation, is it inside a loop)` for every convolution of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation.params, inside
        loops = inside or equation.primitive.name in ("scan", "while")
        for within in jaxprs_in_params(equation.params):
            yield from convolutions(within, loops)


def channels_last(params):
    numbers, rank = params["dimension_numbers"], len(params["window_strides"])
    rows = (0, rank + 1, *range(1, rank + 1))
    one = params["feature_group_count"] == params["batch_group_count"] == 1
    return one and numbers.lhs_spec == numbers.out_spec == rows and numbers.rhs_spec == (rank + 1, rank, *range(rank))


RNGS = nnx.Rngs(0)
TRAINED = {
    "Flax's": lambda: [nnx.Conv(2, 3, (3, 3), strides=2, rngs=RNGS), nn.LIF((3, 3, 3), rngs=RNGS)],
    "ours": lambda: [nn.Conv(2, 3, (3, 3), rngs=RNGS), nn.LIF((6, 6, 3), rngs=RNGS)],
    "groups": lambda: [nn.Conv(2, 4, (3, 3), feature_group_count=2, rngs=RNGS), nn.LIF((6, 6, 4), rngs=RNGS)],
    "delayed": lambda: [
        nn.Delayed(nnx.Conv(2, 3, (3, 3), rngs=RNGS), 2, rngs=RNGS),
        nn.LIF((6, 6, 3), rngs=RNGS),
    ],
    "delays of a dense one": lambda: [
        nn.Delayed(nnx.Linear(2, 3, rngs=RNGS), 4, rngs=RNGS),
        nn.LIF(3, rngs=RNGS),
    ],
    "recurrent": lambda: [nn.Recurrent(nn.LIF((6, 6, 2), rngs=RNGS), via=nnx.Conv(2, 2, (3, 3), rngs=RNGS))],
}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator's compiler knows every layout")
@pytest.mark.parametrize("kind", TRAINED)
def test_a_training_step_has_no_convolution_that_a_loop_makes_slow(kind):
    """Inside a loop XLA compiles all but channels-last ones to loops of single numbers: 25 to 100 times slower."""
    graphdef, params, rest = nnx.split(nn.Sequential(*TRAINED[kind]()), nnx.Param, ...)
    x = jnp.ones((2, 7, 2) if "dense" in kind else (2, 7, 6, 6, 2))

    def loss(params):
        return jnp.sum(nn.run(nnx.merge(graphdef, params, rest), x)[0] ** 2)

    found = list(convolutions(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
    assert all(channels_last(params) for params, _ in found), found
