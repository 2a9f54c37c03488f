"""Every surrogate of spyx.axn through the public conformance suite."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
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


def test_a_slope_of_another_shape_and_options_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match=r"expected a slope of shape \(2, 3\); got \(6,\)"):
        jax.grad(lambda x: axn.custom(bwd=lambda x: x.reshape(-1))(x).sum())(jnp.ones((2, 3)))
    for wrong in (True, "1", None, 1j):
        with pytest.raises(TypeError, match=r"spyx\.axn\.superspike\(k=\): expected a number; got"):
            axn.superspike(wrong)
    for factory, name in ((axn.superspike, "k"), (axn.superspike_surrogate, "beta")):
        for wrong in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match=rf"\({name}=\): expected a finite number above 0; got"):
                factory(wrong)


def test_the_two_steps_at_zero_and_at_nan():
    x = jnp.array([-1.0, -0.0, 0.0, 1e-30, jnp.inf, jnp.nan])
    assert axn.heaviside(x).tolist() == [0, 0, 0, 1, 1, 0]
    closed = axn.heaviside_closed(x).tolist()
    assert closed[:5] == [0, 1, 1, 1, 1]
    assert closed[5] != closed[5]  # NaN stays
    assert axn.heaviside_closed(jnp.array([-1, 0, 1])).tolist() == [0, 1, 1]


def test_slopes_that_spyx_1_did_not_have():
    x = np.float32([-2.0, -0.5, -0.3, 0.0, 0.5, 0.7])
    for k, made in ((4.0, axn.sigmoid()), (2.0, axn.sigmoid(2.0))):
        s = 1 / (1 + np.exp(-k * x))
        np.testing.assert_allclose(made.slope(x), k * s * (1 - s), rtol=1e-5)
    assert axn.piecewise().slope(x).tolist() == [0, 1, 1, 1, 1, 0]
    assert axn.piecewise(0.3).slope(np.float32([0.3, 0.31, -0.3])).tolist() == [1, 0, 1]
    assert axn.straight_through().slope(x).tolist() == [1] * 6


def test_slopes_of_papers():
    x = np.linspace(-4, 4, 41, dtype=np.float32)
    np.testing.assert_allclose(axn.exponential(3.0, 0.5).slope(x), 0.5 * np.exp(-3 * np.abs(x)), rtol=1e-5)

    def normal(deviation):
        return np.exp(-0.5 * (x / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))

    expected = 0.5 * (1.15 * normal(0.5) - 0.3 * normal(3.0))
    np.testing.assert_allclose(axn.double_gaussian().slope(x), expected, atol=1e-6)
