"""The kernels for mostly silent maps and rows against plain NumPy loops, at every number of images and remainder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.engine import convolution, device, events
from spyx.engine.events import choice
from spyx.engine.kernels import convolution_kernels, product_kernels

pytestmark = pytest.mark.skipif(not device.has_compiler(), reason="needs llvmlite: pip install 'spyx-jax[cpu]'")

HEIGHT, WIDTH, CHANNELS, ROWS, COLUMNS, FEATURES = 5, 4, 7, 3, 2, 3
OFFSETS = [(0, 0), (2, 1), (1, -1), (-1, 2)]


def places(offset, size):
    """Every (place of the source, place of the window, place of the target) that meet: the kernels' own definition."""
    for y, x, k, o in np.ndindex(HEIGHT, WIDTH, ROWS, COLUMNS):
        down, right = y - offset[0] + k, x - offset[1] + o
        if 0 <= down < size[0] and 0 <= right < size[1]:
            yield (y, x), (k, o), (down, right)


def drawn(images, size, seed=0):
    rng = np.random.default_rng(seed)
    source = (rng.random((images, HEIGHT, WIDTH, CHANNELS)) < 0.4) * rng.integers(-2, 3, CHANNELS)
    w = rng.integers(-4, 5, (ROWS, CHANNELS, COLUMNS, FEATURES))
    g = rng.integers(-4, 5, (images, *size, FEATURES))
    return (a.astype(np.float32) for a in (source, w, g))  # whole numbers: sums are exact in any order


@pytest.mark.parametrize("images", [1, 15, 16, 17, 19, 31, 32, 33])
def test_gather_counts_every_image_once(images):
    offset, size = (1, 1), (4, 6)
    source, _, g = drawn(images, size)
    expected = np.zeros((ROWS, CHANNELS, COLUMNS, FEATURES))
    for (y, x), (k, o), (down, right) in places(offset, size):
        expected[k, :, o] += source[:, y, x].T @ g[:, down, right]
    got = convolution_kernels.gather(jnp.asarray(source), jnp.asarray(g), offset, (ROWS, COLUMNS))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
@pytest.mark.parametrize("size", [(5, 4), (3, 6)], ids=str)
def test_scatter_and_gather_are_their_sums(offset, size):
    source, w, g = drawn(3, size, seed=1)
    out, gradient = np.zeros((3, *size, FEATURES)), np.zeros(w.shape)
    for (y, x), (k, o), (down, right) in places(offset, size):
        out[:, down, right] += source[:, y, x] @ w[k, :, o]
        gradient[k, :, o] += source[:, y, x].T @ g[:, down, right]
    np.testing.assert_array_equal(convolution_kernels.scatter(jnp.asarray(source), jnp.asarray(w), offset, size), out)
    np.testing.assert_array_equal(
        convolution_kernels.gather(jnp.asarray(source), jnp.asarray(g), offset, (ROWS, COLUMNS)), gradient
    )


@pytest.mark.parametrize("spikes", [0, 1, 3, 4, 7, 8, 9, 17])
def test_rows_of_any_number_of_spikes(spikes):
    """Eight, four or one at a time: none is left out and none counted twice, in either product."""
    rng = np.random.default_rng(spikes)
    x = np.zeros((131, 20), np.float32)  # one tile of rows and a rest
    for row in x:
        row[rng.permutation(20)[:spikes]] = rng.integers(1, 4, spikes)
    w, b, g = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((20, 5), 5, (131, 5)))
    np.testing.assert_array_equal(product_kernels.affine(x, w, b), x @ w + b)
    np.testing.assert_array_equal(product_kernels.outer(x, g), x.T @ g)
    few = np.where(np.arange(131)[:, None] < spikes, x, 0)
    np.testing.assert_array_equal(product_kernels.outer(few, g), few.T @ g)


@pytest.mark.parametrize(("full", "by_events"), [(3, True), (4, True), (5, False)])
def test_up_to_the_limit_by_events(full, by_events):
    x = (jnp.arange(8) < full).astype(jnp.float32)[:, None]
    assert float(choice.density(x)) == full / 8
    chosen = choice.choose(lambda x: x + 1, lambda x: x + 2, 0.5, x)
    assert float(chosen[0, 0]) == (3.0 if by_events else 2.0)


def test_a_sample_is_of_rows_and_stays_large_enough():
    """Strides are chosen by the number of rows, whatever a row holds; a short input is looked at whole."""
    for count in (799, 800, 1200, 2800):
        stride = max(s for s in choice.STRIDES if s * choice.SAMPLED_ROWS <= count)
        x = np.zeros((count, 50), np.float32)
        x[::stride] = 1.0
        assert float(choice.density(jnp.asarray(x))) == 1.0
        assert float(choice.density(jnp.asarray(1 - x))) == 0.0
        assert stride == {799: 1, 800: 2, 1200: 3, 2800: 7}[count]


def test_the_rule_counts_multiplications_on_one_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert [events.by_events(n) for n in (choice.SMALLEST - 1, choice.SMALLEST)] == [False, True]
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not events.by_events(choice.SMALLEST)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not events.by_events(choice.SMALLEST)


def test_the_size_of_a_product_is_rows_times_inputs_times_outputs(monkeypatch):
    """From the first size on that is worth it, and for a convolution times the window, the density is looked at."""
    sizes = []
    monkeypatch.setattr("spyx.engine.events.sparse_products.by_events", lambda n: sizes.append(n) or False)
    monkeypatch.setattr("spyx.engine.events.sparse_convolution.by_events", lambda n: sizes.append(n) or False)
    x, w, g = jnp.ones((6, 5)), jnp.ones((5, 7)), jnp.ones((6, 7))
    events.affine(x, w, jnp.ones(7))
    events.outer(x, g)
    x, w = jnp.ones((2, 9, 8, 3)), jnp.ones((3, 2, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")
    events.convolve(x, w, (1, 1), ((1, 1), (0, 1)), dimension_numbers=numbers)
    assert sizes == [6 * 5 * 7, 6 * 5 * 7, (2 * 9 * 8 * 3) * (3 * 2 * 4)]


NUMBERS = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("pads", "strides", "options"),
    [
        (((1, -1), (0, 0)), (1, 1), {}),
        (((1, 1), (1, 1)), (1, 2), {}),
        (((1, 1), (1, 1)), (1, 1), {"rhs_dilation": (1, 2)}),
        (((1, 1), (1, 1)), (1, 1), {"lhs_dilation": (2, 1)}),
        (((1, 1), (1, 1)), (1, 1), {"feature_group_count": 3}),
        (((1, 1), (1, 1)), (1, 1), {"precision": "highest"}),
        (((1, 1), (1, 1)), (1, 1), {"preferred_element_type": jnp.float32}),
        ("SAME", (1, 1), {}),
        ("VALID", (1, 1), {}),
    ],
    ids=str,
)
def test_a_convolution_is_xlas_whatever_is_asked_of_it(pads, strides, options, monkeypatch):
    monkeypatch.setattr(choice, "SMALLEST", 1)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 6, 5, 3)), jnp.float32)
    w = jnp.asarray(
        np.random.default_rng(1).integers(-3, 4, (3, 2, 3 // options.get("feature_group_count", 1), 3)), jnp.float32
    )
    arguments = dict(dimension_numbers=NUMBERS, **options)
    expected = jax.lax.conv_general_dilated(x, w, strides, pads, **arguments)
    np.testing.assert_array_equal(events.convolve(x, w, strides, pads, **arguments), expected)
    np.testing.assert_array_equal(convolution.convolve(x, w, strides, pads, **arguments), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool", "bfloat16", "float16"])
@pytest.mark.parametrize(("shape", "stride"), [((7, 5), 1), ((7, 5), 3), ((4, 3, 2, 2), 2), ((1, 1), 7)])
def test_entries_that_are_not_zero_are_counted(dtype, shape, stride):
    values = np.random.default_rng(0).integers(0, 2, shape)
    with jax.enable_x64(True):
        x = jnp.asarray(values).astype(dtype)
        x = -x if jnp.issubdtype(x.dtype, jnp.floating) else x  # a zero with a sign is a zero
        assert int(product_kernels.count_nonzero(x, stride)) == np.count_nonzero(values[::stride])
