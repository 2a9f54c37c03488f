"""Summing pools, population codes, spike counts and flattening. Decisions N7 to N11."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx import nn

X = np.random.default_rng(0).integers(0, 5, (2, 6, 7, 3)).astype(np.float32)


def pooled(x, window, stride, padding):
    """The windowed sum, by loops."""
    pads, sizes = [], []
    for n, w, s in zip(x.shape, window, stride, strict=True):
        if padding == "VALID":
            size, pad = (n - w) // s + 1, (0, 0)
        else:
            size = -(-n // s)
            missing = max((size - 1) * s + w - n, 0)
            pad = (missing // 2, missing - missing // 2)
        sizes.append(size)
        pads.append(pad)
    x = np.pad(x, pads)
    out = np.zeros(sizes, x.dtype)
    for index in np.ndindex(*sizes):
        out[index] = x[tuple(slice(i * s, i * s + w) for i, s, w in zip(index, stride, window, strict=True))].sum()
    return out


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(
    ("window", "stride"), [((1, 2, 2, 1), (1, 2, 2, 1)), ((1, 3, 2, 1), (1, 2, 1, 1)), ((1, 2, 3, 1), (1, 2, 3, 1))]
)
def test_values_and_gradients(window, stride, padding):
    expected = pooled(X, window, stride, padding)
    np.testing.assert_allclose(nn.sum_pool(X, window, stride, padding), expected)
    weights = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    gradient = jax.grad(lambda x: jnp.sum(nn.sum_pool(x, window, stride, padding) * weights))(jnp.asarray(X))
    basis = np.zeros_like(X)
    basis[1, 3, 4, 2] = 1
    np.testing.assert_allclose(
        gradient[1, 3, 4, 2], (pooled(basis, window, stride, padding) * weights).sum(), atol=1e-5
    )


@pytest.mark.parametrize(
    ("size", "axis", "window"),
    [
        (2, -1, (1, 2, 2, 1)),
        (2, 1, (1, 1, 2, 2)),
        (2, None, (1, 2, 2, 2)),
        ((2, 3), -1, (1, 2, 3, 1)),
        ((2, 3), 1, (1, 1, 2, 3)),
        ((3,), -1, (1, 1, 1, 3)),
        ((2, 3), None, (1, 1, 2, 3)),
        ((2, 2, 2), None, (1, 2, 2, 2)),
        ((1, 2, 2, 1), -1, (1, 2, 2, 1)),
    ],
)
def test_N7_which_axes_a_size_means(size, axis, window):
    np.testing.assert_allclose(nn.sum_pool(X, size, size, "VALID", axis), pooled(X, window, window, "VALID"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 2, "valid"), r"sum_pool\(padding=\): expected 'SAME' or 'VALID'; got 'valid'"),
        ((2, 2, "VALID", -4), r"sum_pool\(channel_axis=\): expected an axis from -3 to 3"),
        ((2, 2, "VALID", 4), r"channel_axis"),
        (((1, 1, 2, 2, 1), 2, "VALID"), r"sum_pool\(window_shape=\): expected at most 4 sizes"),
        ((2, 0, "VALID"), r"sum_pool\(strides=\)"),
    ],
)
def test_N9_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.sum_pool(X, *arguments)


def test_the_layer_is_the_function_and_refuses_early():
    np.testing.assert_array_equal(nn.SumPool((2, 2), (2, 2), "VALID", name="pool")(X), nn.sum_pool(X, 2, 2, "VALID"))
    with pytest.raises(ValueError, match=r"SumPool\(padding=\)"):
        nn.SumPool(2, 2, "same")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_dtype_is_kept(dtype):
    for padding in ("VALID", "SAME"):
        assert nn.sum_pool(jnp.asarray(X, dtype), 2, 2, padding).dtype == dtype


def test_bool_and_uint8_cannot_overflow():
    full = np.ones((1, 32, 32, 1), np.uint8)
    assert nn.sum_pool(full, 32, 32, "VALID").item() == 1024.0
    assert nn.sum_pool(full.astype(bool), 32, 32, "SAME").item() == 1024.0


def test_N11_population_code_sums_contiguous_blocks():
    x = np.arange(2 * 3 * 8, dtype=np.float32).reshape(2, 3, 8)
    out = nn.PopulationCode(4)(x)
    np.testing.assert_array_equal(out, x.reshape(2, 3, 4, 2).sum(-1))
    np.testing.assert_array_equal(nn.PopulationCode(4)(x[0]), out[0])  # whatever stands before the neurons is kept
    with pytest.raises(ValueError, match=r"a multiple of 3; got shape \(2, 3, 8\)"):
        nn.PopulationCode(3)(x)
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="expected at least 1 class"):
            nn.PopulationCode(wrong)
    net = nn.Sequential(nn.IF(8), nn.PopulationCode(4))
    assert nn.run(net, np.ones((2, 5, 8), np.float32))[0].shape == (2, 5, 4)


def test_activity_regularization_counts_per_sample_and_neuron():
    spikes = (X[..., 0] > 2).astype(np.float32)  # (2, 6, 7): batch, time, neurons
    layer = nn.ActivityRegularization(7)
    for mode in ("layer", "step"):
        out, count = nn.run(layer, spikes, mode=mode)
        np.testing.assert_array_equal(out, spikes)
        np.testing.assert_array_equal(count, spikes.sum(1))
    assert nn.ActivityRegularization((7,), batch_size=5, dtype=jnp.int32).initial_state(2).dtype == jnp.int32
    with pytest.raises(ValueError, match=r"ActivityRegularization: expected spikes of shape \(batch, 7\)"):
        nn.run(layer, X[..., :1, 0])


def test_flatten():
    assert nn.Flatten()(X).shape == (2, 126)
    assert nn.Flatten()(X[:0]).shape == (0, 126)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bool_])
def test_population_code_counts_more_spikes_than_a_byte_holds(dtype):
    out = nn.PopulationCode(2)(jnp.ones((1, 600), dtype))
    assert (out.tolist(), out.dtype) == ([[300.0, 300.0]], jnp.float32)
