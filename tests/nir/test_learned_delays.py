"""Rounded delays through NIR and back: equal spikes; learned ones are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn

nir = pytest.importorskip("nir")
from spyx.nir import from_nir, to_nir  # noqa: E402


def connection(inputs, outputs, seed):
    layer = nn.Linear(inputs, outputs, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(seed)
    layer.kernel[...] = jnp.float32(np.round(16 * rng.normal(0, 0.8, (inputs, outputs))) / 16)
    layer.bias[...] = jnp.float32(np.round(16 * rng.normal(0, 0.2, outputs)) / 16)
    return layer


def network(per):
    """Sixteenths and halves: sums of a few steps are exact, in whatever order they are taken."""
    ahead = nn.Delayed(connection(3, 4, 1), 5, per, rngs=nnx.Rngs(1))
    back = nn.Delayed(connection(4, 4, 2), 6, per, rngs=nnx.Rngs(2))
    return nn.Sequential(ahead, nn.Recurrent(nn.LIF(4, beta=0.5), via=back))


def there_and_back(model, x, **options):
    graph = to_nir(model, dt=1.0, **options)
    np.testing.assert_array_equal(nn.run(from_nir(graph), x)[0], nn.run(model, x)[0])
    return [type(node).__name__ for node in graph.nodes.values()]


@pytest.mark.parametrize("per", ["synapse", "source", "target"])
def test_equal_spikes(per):
    x = jnp.float32(np.random.default_rng(0).random((2, 14, 3)) < 0.5)
    model = nn.rounded(network(per))
    assert 0.05 < nn.run(model, x)[0].mean() < 0.9
    kinds = there_and_back(model, x)
    groups = len(np.unique(model.layers[0].delays[...])) + len(np.unique(model.layers[1].via.delays[...]))
    assert kinds.count("Affine") + kinds.count("Linear") == (2 if per == "source" else groups)
    assert "Delay" in kinds


@pytest.mark.parametrize("per", ["synapse", "source"])
def test_convolutions(per):
    product = nn.Conv(4, 6, (3,), 2, padding="VALID", feature_group_count=2, rngs=nnx.Rngs(0))
    product.kernel[...] = jnp.round(16 * product.kernel[...]) / 16
    model = nn.Sequential(nn.Delayed(product, 4, per, rngs=nnx.Rngs(1)).rounded())
    x = jnp.float32(np.random.default_rng(0).random((2, 8, 7, 4)) < 0.5)
    there_and_back(model, x, input_shape=(7, 4))


def test_learned_delays_are_refused_together():
    with pytest.raises(ValueError, match=r"got 2 problems(.|\n)*'delayed_0' \(Delayed\): its delays are still learned"):
        to_nir(network("source"), dt=1.0)


def test_units_that_wait_come_back_as_they_were():
    model = nn.Sequential(nn.Delayed(3, 6, kernel="fixed", delays=[2, 6, 3]), nn.LIF(3, beta=0.5))
    x = jax.random.uniform(jax.random.key(0), (1, 12, 3))
    there_and_back(model, x)
    back = from_nir(to_nir(model, dt=1.0))
    waiting = [layer for layer in back.nodes.values() if isinstance(layer, nn.Delayed)]
    assert [layer.delays[...].tolist() for layer in waiting] == [[0, 4, 1]]
