"""`nn.Delayed` beside DCLS's own layer, as recorded by record_dcls.py: output and gradients."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn

LAGS = 6


def test_the_gaussian_is_that_of_dcls():
    """Its positions count forwards from the middle of the kernel, whose last entry is lag 0."""
    recorded = json.loads(Path(__file__).with_name("dcls.json").read_text())
    r = {name: np.float32(values) for name, values in recorded.items()}
    x, y, g, g_x = (r[name].reshape(2, 8, -1) for name in ("x", "y", "g", "g_x"))
    layer = nn.Delayed(nn.Linear(3, 2, rngs=nnx.Rngs(0)), LAGS - 1, delays=LAGS - 1 - LAGS // 2 - r["P"].T, width=0.8)
    layer.connection.kernel[...], layer.connection.bias[...] = jnp.asarray(r["w"].T), jnp.asarray(r["b"])
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    found, pull = jax.vjp(lambda params, x: nn.run(nnx.merge(graphdef, params, rest), x)[0], params, jnp.asarray(x))
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-6)
    g_params, found_g_x = pull(jnp.asarray(g))
    np.testing.assert_allclose(found_g_x, g_x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g_params.connection.kernel[...], r["g_w"].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g_params.delays[...], -r["g_P"].T, rtol=1e-4, atol=1e-5)
