"""Regularisers and where their counts come from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import fn_oracle
from spyx import fn, nn, report

RANDOM = np.random.default_rng(1)
DENSE = RANDOM.integers(0, 6, (4, 6)).astype(np.float32)
CONVOLUTION = RANDOM.integers(0, 6, (4, 3, 3, 2)).astype(np.float32)
MAKERS = {"silence_reg": fn.silence_reg, "sparsity_reg": fn.sparsity_reg}
EVERY_ONE = pytest.mark.parametrize("name", MAKERS)


def test_silence_reg_equals_the_equation():
    counts = [DENSE, CONVOLUTION]
    np.testing.assert_allclose(fn.silence_reg(3.0)(counts), fn_oracle.silence_reg(counts, 3.0), rtol=1e-5)


def test_sparsity_reg_equals_the_equation():
    counts = [DENSE, CONVOLUTION]
    expected = fn_oracle.sparsity_reg(counts, 1.0, fn_oracle.huber)
    np.testing.assert_allclose(fn.sparsity_reg(1.0)(counts), expected, rtol=1e-5)
    np.testing.assert_allclose(
        fn.sparsity_reg(1.0, jnp.abs)(counts), fn_oracle.sparsity_reg(counts, 1.0, np.abs), rtol=1e-5
    )


def test_no_penalty_inside_the_bounds():
    least, most = float(DENSE.mean(0).min()), float(DENSE.mean(1).max())
    assert fn.silence_reg(least - 0.01)([DENSE]) == 0.0 < fn.silence_reg(least + 0.01)([DENSE])
    assert fn.silence_reg(0)([DENSE]) == 0.0 < fn.sparsity_reg(0)([DENSE])  # no spikes are a limit too
    assert fn.sparsity_reg(most + 0.01)([DENSE]) == 0.0 < fn.sparsity_reg(most - 0.01)([DENSE])


def test_sparsity_reg_grows_with_the_batch_and_silence_reg_does_not():
    twice = np.concatenate([DENSE, DENSE])
    np.testing.assert_allclose(fn.sparsity_reg(1.0)([twice]), 2 * fn.sparsity_reg(1.0)([DENSE]), rtol=1e-6)
    np.testing.assert_allclose(fn.silence_reg(4.0)([twice]), fn.silence_reg(4.0)([DENSE]), rtol=1e-6)


@EVERY_ONE
def test_any_structure_and_dtype(name):
    regularise = MAKERS[name](2.5)
    expected = regularise([DENSE, CONVOLUTION])
    for structure in ((DENSE, CONVOLUTION), {"a": DENSE, "b": [CONVOLUTION]}):
        assert regularise(structure) == expected
    for dtype in (jnp.uint8, jnp.int32, jnp.bfloat16, jnp.float16):
        found = regularise([jnp.asarray(DENSE, dtype), jnp.asarray(CONVOLUTION, dtype)])
        assert found == expected
        assert found.dtype == jnp.float32
    assert regularise(DENSE) == regularise([DENSE])


@EVERY_ONE
def test_jit_vmap_and_grad(name):
    regularise = MAKERS[name](2.5)
    assert jax.jit(regularise)([DENSE]) == regularise([DENSE])
    np.testing.assert_allclose(jax.vmap(regularise)(np.stack([DENSE, DENSE])), [regularise(DENSE)] * 2, rtol=1e-6)
    gradient = jax.grad(regularise)(jnp.asarray(DENSE))
    assert gradient.shape == DENSE.shape
    assert np.abs(gradient).sum() > 0


def test_a_network_without_counts_says_what_to_add():
    network = nn.Sequential(nn.IF(3), nn.LI(3))
    for model in (network, nn.IF(3)):
        with pytest.raises(ValueError, match="^spike_counts: .*Put spyx.nn.ActivityRegularization behind"):
            fn.spike_counts(model, model.initial_state(2))


def test_F7_counts_of_a_network_that_ran():
    """The state of a run holds membranes beside the counts; only the counts come out, and a gradient passes through."""
    network = nn.Sequential(
        nn.LIF(6, beta=0.9),
        nn.ActivityRegularization(6),
        nn.Sequential(nn.IF(6), nn.ActivityRegularization(6)),
        nn.LI(6),
    )
    x = jnp.full((4, 10, 6), 0.7)

    @jax.jit
    @jax.value_and_grad
    def penalty(x):
        _, state = nn.run(network, x)
        return fn.silence_reg(9.0)(fn.spike_counts(network, state))

    _, state = nn.run(network, x)
    counts = fn.spike_counts(network, state)
    hidden, _ = nn.run(nn.Sequential(nn.LIF(6, beta=0.9)), x)
    assert [count.shape for count in counts] == [(4, 6), (4, 6)]
    np.testing.assert_array_equal(counts[0], hidden.sum(1))
    loss, gradient = penalty(x)
    np.testing.assert_allclose(loss, fn_oracle.silence_reg(counts, 9.0), rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert np.any(gradient)


@EVERY_ONE
@pytest.mark.parametrize("empty", [[], {}, None, [None]])
def test_F3_an_empty_structure(name, empty):
    with pytest.raises(ValueError, match=f"^{name}: expected at least one array of spike counts; got an empty"):
        MAKERS[name](1.0)(empty)


@EVERY_ONE
@pytest.mark.parametrize("leaf", [3.0, np.float32(1.0), np.zeros((0, 3), np.float32), np.zeros((3, 0), np.float32)])
def test_F3_an_array_without_batch_or_content(name, leaf):
    with pytest.raises(ValueError, match=f"^{name}: every array must have a batch axis and hold something; got shape"):
        MAKERS[name](1.0)([DENSE, leaf])


@EVERY_ONE
@pytest.mark.parametrize("bound", [-1.0, np.nan, np.inf])
def test_a_bound_is_a_finite_count(name, bound):
    with pytest.raises(ValueError, match=f"^{name}: (min|max)_spikes must be a finite number of spikes"):
        MAKERS[name](bound)


def test_a_norm_can_be_called():
    with pytest.raises(TypeError, match="^sparsity_reg: norm must be a function of one array; got 2"):
        fn.sparsity_reg(1.0, 2)


def test_synops_reg_counts_what_cost_counts():
    """With the connections behind a layer as its fan-out, it is the number of effective ACs of the layers behind."""
    rngs = nnx.Rngs(0)
    net = nn.Sequential(
        nn.Linear(5, 6, rngs=rngs), nn.LIF(6, beta=0.9, threshold=0.2), nn.ActivityRegularization(6),
        nn.Linear(6, 4, rngs=rngs), nn.LIF(4, beta=0.9, threshold=0.2), nn.ActivityRegularization(4),
        nn.Linear(4, 3, rngs=rngs), nn.LI(3, beta=0.9),
    )  # fmt: skip
    x = (RANDOM.random((4, 8, 5)) < 0.5).astype(np.float32)
    counts = fn.spike_counts(net, nn.run(net, x)[1])
    found = {layer.name: layer.effective_acs for layer in report.cost(net, x).layers}
    expected = found["3"] + found["6"]
    assert expected > 0
    np.testing.assert_allclose(fn.synops_reg(fan_out=[4, 3], scale=1.0)(counts), expected, rtol=1e-5)
    each = [count.sum(1) for count in counts]
    spared = np.maximum(4 * each[0] + 3 * each[1] - 20, 0).mean()
    np.testing.assert_allclose(
        fn.synops_reg(20, fan_out=[4, np.full(4, 3.0)], scale=0.5)(counts), spared / 2, rtol=1e-5
    )
    np.testing.assert_allclose(fn.synops_reg(scale=1.0)(counts), sum(np.mean(c) for c in each), rtol=1e-5)
    gradient = jax.grad(lambda c: fn.synops_reg(fan_out=[4, 3], scale=1.0)([c, counts[1]]))(counts[0])
    np.testing.assert_allclose(gradient, np.full_like(counts[0], 4 / 4))


def test_synops_reg_refuses():
    with pytest.raises(ValueError, match="synops_reg: expected a fan-out for each of 1 arrays; got 2"):
        fn.synops_reg(fan_out=[1, 2])([DENSE])
    with pytest.raises(ValueError, match="synops_reg: scale must be a finite number above 0; got 0"):
        fn.synops_reg(scale=0)
    with pytest.raises(ValueError, match="synops_reg: max_synops must be a finite number of spikes"):
        fn.synops_reg(-1)
    with pytest.raises(ValueError, match="synops_reg: expected at least one array"):
        fn.synops_reg()([])
