"""Event-driven products against dense ones: kernels, the choice between the two, derivatives, and `nn.run`."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import nn
from spyx.engine import device, events
from spyx.engine.events import choice
from spyx.engine.kernels import convolution_kernels, product_kernels


@pytest.fixture(autouse=True)
def _fresh_traces(request):
    """A test that replaces a part of the engine must not find, or leave, what was traced with another."""
    if "monkeypatch" not in request.fixturenames:
        yield
        return
    jax.clear_caches()
    yield
    jax.clear_caches()


needs_compiler = pytest.mark.skipif(not device.has_compiler(), reason="needs llvmlite: pip install 'spyx-jax[cpu]'")

ROWS, INPUTS, OUTPUTS = 300, 37, 45


@pytest.fixture(autouse=True)
def small_products_count(monkeypatch):
    monkeypatch.setattr(choice, "SMALLEST", 1)


def operands(share, dtype=jnp.float32, number=jnp.float32):
    """Spikes (or graded ones, where the dtype has them), weights, bias and a cotangent."""
    rng = np.random.default_rng(0)
    x = (rng.random((ROWS, INPUTS)) < share) * np.where(dtype is jnp.bool_, 1, rng.integers(1, 3, (ROWS, INPUTS)))
    floats = (rng.standard_normal(shape) for shape in ((INPUTS, OUTPUTS), OUTPUTS, (ROWS, OUTPUTS)))
    return jnp.asarray(x, dtype), *(jnp.asarray(a, number) for a in floats)


@needs_compiler
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0], ids=["silent", "sparse", "full"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8, jnp.bool_])
def test_the_kernels_answer_what_the_dense_products_answer(share, dtype):
    x, w, b, g = operands(share, dtype)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(
        product_kernels.affine(x, w, b), exact @ np.asarray(w, np.float64) + np.asarray(b), atol=1e-4
    )
    np.testing.assert_allclose(product_kernels.outer(x, g), exact.T @ np.asarray(g, np.float64), atol=1e-3)


@needs_compiler
def test_the_kernels_in_double_precision():
    with jax.enable_x64(True):
        x, w, b, g = operands(0.1, jnp.float64, jnp.float64)
        np.testing.assert_allclose(product_kernels.affine(x, w, b), x @ w + b[None], atol=1e-12)
        np.testing.assert_allclose(product_kernels.outer(x, g), np.asarray(x).T @ g, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 3), (1, 130, 17)])
def test_the_kernels_at_the_edges(shape):
    many, inputs, outputs = shape
    x, w = jnp.ones((many, inputs)), jnp.ones((inputs, outputs))
    np.testing.assert_array_equal(
        product_kernels.affine(x, w, jnp.ones(outputs)), np.full((many, outputs), inputs + 1.0)
    )
    np.testing.assert_array_equal(
        product_kernels.outer(x, jnp.ones((many, outputs))), np.full((inputs, outputs), float(many))
    )


def test_a_small_product_is_dense(monkeypatch):
    monkeypatch.setattr(choice, "SMALLEST", 10**9)
    x, w, b, g = operands(0.1)
    for product, arguments in ((events.affine, (x, w, b)), (events.outer, (x, g))):
        assert "cond" not in str(jax.make_jaxpr(product)(*arguments))


@needs_compiler
def test_the_density_decides(monkeypatch):
    """A kernel that answers something else shows where it ran."""
    monkeypatch.setattr(product_kernels, "affine", lambda x, w, b: jnp.full((x.shape[0], w.shape[1]), 7.0))
    monkeypatch.setattr(product_kernels, "outer", lambda x, g: jnp.full((x.shape[1], g.shape[1]), 7.0))
    for share, by_events in ((0.1, True), (0.4, False)):
        x, w, b, g = operands(share)
        assert bool((events.affine(x, w, b) == 7).all()) is by_events
        assert bool((events.outer(x, g) == 7).all()) is by_events


@pytest.mark.parametrize("turns", [(4, 16), (300, 64), (7, 400)])
def test_the_sampled_density_looks_at_every_sample_and_every_time_step(turns):
    """A batch whose first sample is full, or whose first step is: the share of full rows is found within a factor."""
    for axis in (0, 1):
        spikes = np.zeros((*turns, 5), np.float32)
        spikes[(slice(None),) * axis + (slice(0, 1),)] = 1.0
        found, expected = float(choice.density(jnp.asarray(spikes.reshape(-1, 5)))), 1 / turns[axis]
        assert 0.5 * expected <= found <= 2 * expected


@needs_compiler
@pytest.mark.parametrize("share", [0.1, 0.6], ids=["events", "dense"])
def test_every_derivative_is_that_of_the_dense_product(share):
    x, w, b, g = operands(share)

    def first(product, x, w, b):
        return jnp.sum(jnp.sin(product(x, w, b)) * g)

    def second(product, x, w, b):
        grads = jax.grad(partial(first, product), argnums=(0, 1, 2))(x, w, b)
        return sum((jnp.sum(jnp.cos(d)) for d in grads), jnp.float32(0))

    for value in (first, second):
        got, expected = (
            jax.jit(jax.grad(partial(value, product), argnums=(0, 1, 2)))(x, w, b)
            for product in (events.affine, lambda x, w, b: x @ w + b[None])
        )
        for a, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-3 * np.abs(e).max())


@needs_compiler
def test_mapped_products_are_dense_and_right():
    x, w, b, _ = operands(0.1)
    got = jax.vmap(events.affine, (None, 0, None))(x, jnp.stack([w, 2 * w]), b)
    np.testing.assert_allclose(got, jnp.stack([x @ w + b[None], x @ (2 * w) + b[None]]), atol=1e-4)


PADS = [((0, 0), (0, 0)), ((2, 1), (0, 3)), ((4, 4), (5, 5))]


def plain_convolution(x, w, pads):
    return jax.lax.conv_general_dilated(x, w, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolution_by_events(x, w, pads):
    return events.convolve(x, w, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@needs_compiler
@pytest.mark.parametrize("pads", PADS, ids=str)
@pytest.mark.parametrize("share", [0.05, 1.0], ids=["sparse", "full"])
def test_convolutions_and_all_their_derivatives(share, pads):
    """More channels than a kernel takes at a time; windows and maps that are not square; padding beyond the window."""
    rng = np.random.default_rng(0)
    x = jnp.asarray((rng.random((5, 9, 7, 6)) < share) * rng.integers(1, 4, (5, 9, 7, 6)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((3, 2, 6, 4)), jnp.float32)

    def first(product, x, w):
        return jnp.sum(jnp.sin(product(x, w, pads))), product(x, w, pads)

    def second(product, x, w):
        grads, out = jax.grad(partial(first, product), argnums=(0, 1), has_aux=True)(x, w)
        return sum((jnp.sum(jnp.cos(d)) for d in grads), jnp.float32(0)), out

    for value in (first, second):
        got, expected = (
            jax.jit(jax.grad(partial(value, product), argnums=(0, 1), has_aux=True))(x, w)
            for product in (convolution_by_events, plain_convolution)
        )
        for a, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4 * np.abs(e).max())


@needs_compiler
def test_the_density_decides_for_maps_too(monkeypatch):
    """A silent cotangent and a full one, a sparse input and a full one: where the kernels ran shows in the sum."""
    monkeypatch.setattr(
        convolution_kernels, "scatter", lambda x, w, offset, size: jnp.full((x.shape[0], *size, w.shape[-1]), 7.0)
    )
    for share, kernel in ((0.3, True), (0.8, False)):
        x = (jax.random.uniform(jax.random.key(0), (5, 9, 7, 6)) < share).astype(jnp.float32)
        out = convolution_by_events(x, jnp.ones((3, 2, 6, 4)), PADS[0])
        assert bool((out == 7).all()) is kernel


def model(**options):
    rngs = nnx.Rngs(0)
    linear = nnx.Linear(64, 128, rngs=rngs, **options)
    return nn.Sequential(linear, nn.LIF(128, beta=0.9, threshold=0.5), nnx.Linear(128, 8, rngs=rngs), nn.LI(8))


@needs_compiler
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8])
def test_a_network_with_events_equals_one_without(dtype):
    net, x = model(), (jax.random.uniform(jax.random.key(1), (8, 20, 64)) < 0.1).astype(dtype)
    first, *_ = nn.explain(net, x)
    assert "zeros are skipped" in first.why
    assert all("zeros" not in choice.why for choice in nn.explain(net, x, mode="layer"))

    def loss(net, mode):
        return jnp.sum(nn.run(net, x, mode=mode)[0] ** 2)

    (value, grads), (expected, expected_grads) = (
        nnx.jit(nnx.value_and_grad(partial(loss, mode=mode)))(net) for mode in ("auto", "layer")
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for a, e in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-4 * float(jnp.abs(e).max()))


def own_product(*args, **kwargs):
    return jax.lax.dot_general(*args, **kwargs)


@pytest.mark.parametrize(
    "options", [dict(precision="highest"), dict(dot_general=own_product), dict(preferred_element_type=jnp.float32)]
)
def test_a_linear_that_asks_for_something_of_its_own_gets_it(options):
    first, *_ = nn.explain(model(**options), jnp.zeros((8, 20, 64)))
    assert "zeros" not in first.why


def test_without_the_extra_every_product_is_dense(monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    assert all("zeros" not in choice.why for choice in nn.explain(model(), jnp.zeros((8, 20, 64))))
