"""Synapses with whole delays, spike by spike: the kernel, the choice against the convolution, derivatives, streams."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import delays_oracle as oracle
from spyx import nn
from spyx.engine import device, events
from spyx.engine.events import choice
from spyx.engine.events import sparse_delays as by_arrival

pytestmark = pytest.mark.skipif(not device.has_compiler(), reason="needs llvmlite: pip install 'spyx-jax[cpu]'")


@pytest.fixture(autouse=True)
def small_products_count(monkeypatch):
    jax.clear_caches()  # nothing that was traced with another choice
    monkeypatch.setattr(choice, "SMALLEST", 1)
    yield
    jax.clear_caches()


def drawn(steps, lags, batch, share, inputs=5, outputs=6):
    """Graded spikes, and weights that are sixteenths: sums are exact in whatever order they are taken."""
    rng = np.random.default_rng(steps + lags)
    seen = (rng.random((lags - 1 + steps, batch, inputs)) < share) * rng.integers(1, 3, (batch, inputs))
    w = np.round(16 * rng.normal(size=(inputs, outputs))) / 16
    delays = rng.integers(0, lags, (inputs, outputs))
    delays[0, :2] = 0, lags - 1
    return np.float32(seen), np.float32(w), np.int32(delays)


@pytest.mark.parametrize(
    ("steps", "lags", "batch", "share"), [(9, 4, 3, 0.2), (1, 7, 1, 0.3), (3, 9, 2, 0.0), (4, 2, 1, 1)]
)
def test_every_spike_arrives(steps, lags, batch, share, monkeypatch):
    """In a stretch of time shorter than the delays, in one step, without a spike, and with nothing but spikes."""
    monkeypatch.setattr(by_arrival, "DENSITY", 1.0)
    monkeypatch.setattr(by_arrival, "by_lags", None)
    seen, w, delays = drawn(steps, lags, batch, share)
    kernel = by_arrival.arrivals(jnp.asarray(seen), jnp.asarray(w), jnp.asarray(delays), lags)
    expected = oracle.deliver(np.moveaxis(seen, 1, 0), w, np.zeros(6), delays)[:, lags - 1 :]
    np.testing.assert_array_equal(kernel, np.moveaxis(expected, 1, 0))


def test_a_delay_out_of_its_range_delivers_nothing_and_writes_nowhere():
    seen, w, delays = map(jnp.asarray, drawn(9, 4, 3, 0.3))
    for wrong in (4, 99, -1, 2**30):
        changed = delays.at[1, 2].set(wrong)
        found = by_arrival.arrivals(seen, w, changed, 4)
        np.testing.assert_array_equal(found, by_arrival.by_lags(seen, w, changed, 4))


def test_the_density_decides_and_what_is_differentiated_is_the_convolution(monkeypatch):
    monkeypatch.setattr(by_arrival, "arrivals", lambda seen, w, delays, lags: jnp.full((9, 3, 6), 7.0))
    for share, by_events in ((0.1, True), (0.6, False)):
        seen, w, delays = map(jnp.asarray, drawn(9, 4, 3, share))
        assert bool((events.delayed(seen, w, delays, 4) == 7).all()) is by_events
    seen, w, delays = map(jnp.asarray, drawn(9, 4, 3, 0.1))
    slopes = jax.grad(lambda s, w: (events.delayed(s, w, delays, 4) ** 2).sum(), (0, 1))(seen, w)
    expected = jax.grad(lambda s, w: (by_arrival.by_lags(s, w, delays, 4) ** 2).sum(), (0, 1))(seen, w)
    jax.tree.map(np.testing.assert_array_equal, slopes, expected)


def test_a_layer_says_so_and_streams(monkeypatch):
    connection = nn.Linear(5, 6, rngs=nnx.Rngs(0))
    connection.kernel[...] = jnp.round(16 * connection.kernel[...]) / 16
    layer = nn.Delayed(connection, 4, rngs=nnx.Rngs(1)).rounded()
    x = jnp.float32(np.random.default_rng(0).random((2, 12, 5)) < 0.2)
    assert "spike by spike" in str(nn.explain(layer, x))
    assert "spike by spike" not in str(nn.explain(layer, x, mode="layer"))
    whole = nn.run(layer, x, mode="layer")[0]
    monkeypatch.setattr(by_arrival, "by_lags", lambda seen, w, d, lags: jnp.zeros((seen.shape[0] - lags + 1, 2, 6)))
    pieces = [x[:, :1], x[:, 1:4], x[:, 4:]]
    np.testing.assert_array_equal(jnp.concatenate([out for out, _ in nn.stream(layer, pieces)], 1), whole)
