"""Intentional differences from Spyx 1.0 that are shown nowhere else; each test is named after its ID."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, fn, nn


def test_F9_an_eager_surrogate_is_compiled_once_for_all_of_equal_value():
    traced = []

    def forward(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return axn.heaviside(x)

    for _ in range(3):
        axn.custom(bwd=jnp.ones_like, fwd=forward)(jnp.ones(3))
    assert traced == [(3,)]


def test_F9_a_factory_returns_a_compiled_callable():
    traced = []

    def norm(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return x**2

    penalty = fn.sparsity_reg(1.0, norm)
    assert [float(penalty([jnp.full((2, 3), value)])) for value in (2.0, 3.0)] == [2.0, 8.0]
    assert len(traced) == 1


@pytest.mark.parametrize("kind", [nn.RIF, nn.RLIF, nn.RCuBaLIF])
def test_N5_recurrent_neurons_take_a_hidden_shape_of_any_rank(kind):
    flat, square = kind(6, rngs=nnx.Rngs(0)), kind((2, 3), rngs=nnx.Rngs(1))
    square.recurrent_w[...] = flat.recurrent_w[...].reshape(2, 3, 2, 3)
    for name in ("alpha", "beta"):
        if hasattr(flat, name):
            getattr(square, name)[...] = getattr(flat, name)[...].reshape(2, 3)
    x = jax.random.normal(jax.random.key(0), (3, 8, 6)) * 2
    expected, _ = nn.run(flat, x)
    out, _ = nn.run(square, x.reshape(3, 8, 2, 3))
    assert expected.sum() > 10
    np.testing.assert_array_equal(out.reshape(3, 8, 6), expected)
