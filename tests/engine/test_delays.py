"""Weighted sums over lags: the fast ways give the sums written out, in value and gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.engine import delays


def drawn(steps, lags, batch=2, inputs=3, outputs=4):
    rng = np.random.default_rng(steps + 100 * lags)
    return rng.normal(size=(lags - 1 + steps, batch, inputs)), rng.normal(size=(lags, inputs, outputs))


def written_out(seen, kernel):
    lags = len(kernel)
    steps = len(seen) - lags + 1
    return sum(seen[lags - 1 - lag : lags - 1 - lag + steps] @ kernel[lag] for lag in range(lags))


@pytest.fixture
def frequencies(monkeypatch):
    """Products of frequencies wherever there is more than one step."""
    monkeypatch.setattr(delays, "by_frequency", lambda *sizes: True)


@pytest.mark.parametrize(("steps", "lags"), [(1, 5), (7, 1), (3, 8), (53, 6)])
@pytest.mark.parametrize("way", ["direct", "frequencies"])
def test_dense(way, steps, lags, request):
    if way == "frequencies":
        request.getfixturevalue("frequencies")
    seen, kernel = drawn(steps, lags)
    with jax.enable_x64(True):
        found, pull = jax.vjp(delays.dense, jnp.asarray(seen), jnp.asarray(kernel))
        g_seen, g_kernel = pull(jnp.asarray(written_out(seen, kernel)))
    expected = written_out(seen, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    # A linear map: <y, A x> is the sum of squares of y = A x, whichever argument A stands on.
    np.testing.assert_allclose((np.asarray(g_seen) * seen).sum(), (expected**2).sum(), rtol=1e-10)
    for lag in range(lags):
        rows = seen[lags - 1 - lag : lags - 1 - lag + steps].reshape(-1, seen.shape[-1])
        np.testing.assert_allclose(g_kernel[lag], rows.T @ expected.reshape(-1, 4), rtol=1e-9, atol=1e-9)


def test_second_derivatives_and_models_side_by_side():
    """Of the direct way, whose transposes are written down: against the sums written out, for two kernels at once."""
    seen, kernel = drawn(6, 3)
    kernels = np.stack([kernel, 2 * kernel[::-1]])

    def curvature(dense):
        def loss(seen, kernel):
            return jnp.sum(jnp.cos(dense(seen, kernel)))

        slope = jax.grad(loss, (0, 1))
        change = jax.vmap(lambda kernel: jax.jvp(slope, (seen, kernel), (jnp.ones_like(seen), kernel))[1])
        return jax.jit(change)(jnp.asarray(kernels))

    with jax.enable_x64(True):
        for found, expected in zip(curvature(delays.dense), curvature(written_out), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_exact_sums_are_never_made_of_frequencies(frequencies):
    seen, kernel = (np.round(4 * a) / 4 for a in drawn(9, 4))
    exact = delays.dense(jnp.float32(seen), jnp.float32(kernel), exact=True)
    np.testing.assert_array_equal(exact, written_out(seen, kernel))
    assert np.any(np.asarray(delays.dense(jnp.float32(seen), jnp.float32(kernel))) != exact)


def test_frequencies_only_where_they_pay():
    assert delays.by_frequency(100, 25, 128, 256, 256)
    assert not delays.by_frequency(100, 2, 128, 256, 256)
    assert not delays.by_frequency(10, 25, 4, 16, 16)


def test_unit_by_unit():
    seen, taps = drawn(6, 4)[0], np.random.default_rng(0).normal(size=(4, 3))
    steps_ago = np.array([0, 3, 2])
    filtered = delays.filtered(jnp.float32(seen), jnp.float32(taps))
    shifted = delays.shifted(jnp.float32(seen), jnp.asarray(steps_ago, jnp.int32), 4)
    for k in range(3):
        of_unit = np.stack([seen[3 - lag : 9 - lag, :, k] for lag in range(4)])
        np.testing.assert_allclose(filtered[..., k], np.einsum("ltb,l->tb", of_unit, taps[:, k]), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(shifted[..., k], np.float32(of_unit[steps_ago[k]]))
