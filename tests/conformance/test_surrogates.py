"""Every surrogate of spyx.axn through the public conformance suite."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import pytest

from spyx import axn
from spyx.testing import check_surrogate

FACTORIES = [
    name
    for name in axn.__all__
    if name not in ("Activation", "Surrogate", "heaviside", "heaviside_closed", "surrogate", "custom")
]


@pytest.mark.parametrize("name", FACTORIES)
def test_surrogate(name):
    factory = getattr(axn, name)
    spike = factory()
    check_surrogate(spike)
    assert spike == factory()
    assert hash(spike) == hash(factory())
    assert pickle.loads(pickle.dumps(spike)) == spike
    assert repr(spike).startswith(name)


def cosine(x):
    return jnp.cos(x)


def test_custom_passes_and_is_compared_by_its_functions():
    check_surrogate(axn.custom(bwd=jnp.cos))
    check_surrogate(axn.custom(bwd=lambda x: jax.nn.sigmoid(x) * jax.nn.sigmoid(-x), fwd=jax.nn.sigmoid), binary=False)
    assert axn.custom(jnp.cos) == axn.custom(jnp.cos)
    assert axn.custom(jnp.cos) != axn.custom(jnp.sin)
    assert pickle.loads(pickle.dumps(axn.custom(cosine))) == axn.custom(cosine)


def test_the_suite_finds_a_wrong_surrogate():
    with pytest.raises(AssertionError, match="keeps shape and dtype"):
        check_surrogate(axn.custom(fwd=lambda x: (x > 0).astype(jnp.float32)))
    with pytest.raises(AssertionError, match="0 and 1 only"):
        check_surrogate(axn.custom(fwd=jnp.tanh))


def test_a_surrogate_in_four_lines():
    @axn.surrogate
    def gaussian(x, sigma=0.5):
        """Gaussian slope."""
        return jnp.exp(-((x / sigma) ** 2))

    check_surrogate(gaussian())
    assert gaussian(0.5) == gaussian() == gaussian(sigma=0.5)
    assert gaussian(1.0) != gaussian()
