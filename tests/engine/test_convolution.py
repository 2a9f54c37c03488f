"""Convolution by patches: when it is taken, what it adds at the ends, how the batch is cut, and mixed dtypes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.engine import convolution

NUMBERS = ("NHWC", "HWIO", "NHWC")
RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (5, 7, 6, 2)).astype(np.float32)  # whole numbers: sums are exact in any order
W = RNG.integers(-3, 4, (3, 2, 2, 4)).astype(np.float32)


def by_hand(x, w, strides, pads, dilation):
    """The sum over the window, place by place."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    window, sizes = w.shape[:2], []
    for n, k, d, s in zip(x.shape[1:3], window, dilation, strides, strict=True):
        sizes.append(len(range(0, n - (k - 1) * d, s)))
    y = np.zeros((len(x), *sizes, w.shape[-1]))
    for i, j, k, m in np.ndindex(*sizes, *window):
        y[:, i, j] += x[:, i * strides[0] + k * dilation[0], j * strides[1] + m * dilation[1]] @ w[k, m]
    return y


CASES = [
    ((1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((2, 3), ((2, 1), (0, 3)), (1, 1)),
    ((1, 2), ((1, 0), (2, 2)), (2, 3)),
    ((3, 1), ((0, 2), (1, 0)), (3, 1)),
]


@pytest.mark.parametrize(("strides", "pads", "dilation"), CASES)
@pytest.mark.parametrize("samples", [2, 5])
def test_by_patches_is_the_sum_over_the_window(strides, pads, dilation, samples, monkeypatch):
    expected = by_hand(X, W, strides, pads, dilation)
    patch = expected[0, ..., 0].size * W[..., 0].size
    monkeypatch.setattr(convolution, "PATCH_ELEMENTS", samples * patch)
    got = convolution.by_patches(jnp.asarray(X), jnp.asarray(W), strides, pads, dilation, None)
    np.testing.assert_array_equal(got, expected)


def test_the_batch_is_cut_where_patches_would_not_fit(monkeypatch):
    patch = 5 * 5 * 3 * 2 * 2

    def lengths(budget):
        monkeypatch.setattr(convolution, "PATCH_ELEMENTS", budget)
        text = str(jax.make_jaxpr(lambda x: convolution.by_patches(x, W, (1, 1), ((0, 0), (0, 0)), (1, 1), None))(X))
        return [n for n in range(1, 9) if f"length={n}\n" in text]

    assert lengths(5 * patch) == []
    assert lengths(5 * patch - 1) == [2]
    assert lengths(2 * patch) == [3]
    assert lengths(1) == [5]


def moved(*calls):
    """Outputs and gradients, each of them."""
    return [jax.jit(jax.value_and_grad(lambda x, w, f=f: jnp.sum(jnp.cos(f(x, w))), (0, 1)))(X, W) for f in calls]


def test_gradients_are_those_of_xla():
    strides, pads, dilation = CASES[2]
    options = dict(rhs_dilation=dilation, dimension_numbers=NUMBERS)
    got, expected = moved(
        lambda x, w: convolution.convolve(x, w, strides, pads, **options),
        lambda x, w: jax.lax.conv_general_dilated(x, w, strides, pads, **options),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, expected)
    text = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(convolution.convolve(x, W, strides, pads, **options))))(X))
    assert ("conv_general_dilated" in text) is (jax.default_backend() != "cpu")  # products of patches instead


@pytest.mark.parametrize(("groups", "outputs"), [(2, 6), (6, 12), (3, 3)])
@pytest.mark.parametrize("budget", [2**19, 200])
def test_groups_of_channels_are_those_of_xla(groups, outputs, budget, monkeypatch):
    monkeypatch.setattr(convolution, "PATCH_ELEMENTS", budget)
    strides, pads, dilation = CASES[2]
    x = RNG.integers(-3, 4, (5, 7, 6, 6)).astype(np.float32)
    w = RNG.integers(-3, 4, (3, 2, 6 // groups, outputs)).astype(np.float32)
    options = dict(rhs_dilation=dilation, dimension_numbers=NUMBERS, feature_group_count=groups)

    def both(convolve):
        def loss(x, w):
            y = convolve(x, w, strides, pads, **options)
            return jnp.sum(jnp.cos(y)), y

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, w)

    got, expected = both(convolution.convolve), both(jax.lax.conv_general_dilated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, expected)
    np.testing.assert_array_equal(
        convolution.convolve(x, w, strides, pads, **options),
        jax.lax.conv_general_dilated(x, w, strides, pads, **options),
    )


def test_only_what_moves_is_differentiated():
    def program(argument):
        def loss(x, w):
            return jnp.sum(convolution.convolve(x, w, (1, 1), "VALID", dimension_numbers=NUMBERS) ** 2)

        return str(jax.make_jaxpr(jax.grad(loss, argument))(X, W))

    assert program(0).count("dot_general") < program((0, 1)).count("dot_general")


def test_groups_of_the_batch_are_groups():
    w = W.repeat(2, -1)[..., :5]

    def slope(convolve):
        options = dict(dimension_numbers=NUMBERS, batch_group_count=5)
        return jax.grad(lambda w: jnp.sum(convolve(X, w, (1, 1), "VALID", **options) ** 2))(w)

    np.testing.assert_allclose(slope(convolution.convolve), slope(jax.lax.conv_general_dilated), rtol=1e-5)


def test_the_precision_that_is_asked_for_is_that_of_the_products():
    def loss(x):
        return jnp.sum(convolution.convolve(x, W, (1, 1), "VALID", dimension_numbers=NUMBERS, precision="highest"))

    text = str(jax.make_jaxpr(jax.grad(loss))(X))
    assert text.count("HIGHEST") >= text.count("dot_general[") > 0


@pytest.mark.parametrize("padding", ["SAME", "VALID", "SAME_LOWER"])
@pytest.mark.parametrize(("strides", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 3))])
def test_named_padding_is_xlas(padding, strides, dilation):
    reach = [(k - 1) * d + 1 for k, d in zip(W.shape[:2], dilation, strict=True)]
    pads = convolution.dense_pads(X, W, strides, padding, None, dilation, NUMBERS)
    assert pads == tuple(jax.lax.padtype_to_pads(X.shape[1:3], reach, strides, padding))


def test_what_patches_cannot_do_goes_to_xla():
    def pads(x=X, w=W, numbers=NUMBERS, **options):
        return convolution.dense_pads(x, w, (1, 1), ((1, 1), (2, 2)), dimension_numbers=numbers, **options)

    assert pads() == ((1, 1), (2, 2))
    assert pads(lhs_dilation=(1, 1)) == ((1, 1), (2, 2))
    assert pads(lhs_dilation=(1, 2)) is None
    assert pads(x=X[:0]) is None
    assert pads(numbers=("NCHW", "HWIO", "NHWC")) is None
    assert pads(numbers=("NHWC", "OIHW", "NHWC")) is None
    assert pads(numbers=("NHWC", "HWIO", "NCHW")) is None


@pytest.mark.parametrize("pair", [(jnp.float32, jnp.bfloat16), (jnp.bfloat16, jnp.float32)])
def test_a_mix_of_dtypes_is_refused_as_xla_refuses_it(pair):
    """A product over patches would promote it silently, with a gradient that XLA's convolution does not have."""
    x, w = jnp.asarray(X, pair[0]), jnp.asarray(W, pair[1])
    with jax.numpy_dtype_promotion("standard"):
        for convolve in (jax.lax.conv_general_dilated, convolution.convolve):
            with pytest.raises(TypeError, match="requires arguments to have the same dtypes"):
                jax.grad(lambda x, f=convolve: f(x, w, (1, 1), "VALID", dimension_numbers=NUMBERS).sum())(x)
