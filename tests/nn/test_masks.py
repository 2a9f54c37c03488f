"""`lengths` and `mask`: a batch of unequal samples is each sample alone, in value, state and gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import experimental, graph, nn
from spyx.engine.masks import before_end

LENGTHS = np.array([9, 4, 0, 4])
GAPS = np.array([[1, 0, 1, 1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 1, 1, 0, 0, 0], [0] * 9, [1] * 9], bool)
BATCH, STEPS, UNITS = 4, 9, 3


def network():
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nn.Linear(UNITS, 4, rngs=rngs),
        nn.RLIF(4, beta=0.8, recurrent_init=nnx.initializers.normal(0.8), rngs=rngs),
        nn.ActivityRegularization(4),
        nn.RALIF(4, beta=0.7, gamma=0.8, dynamics="paper", recurrent_init=nnx.initializers.normal(0.8), rngs=rngs),
        nn.Refractory(nn.LIF(4, beta=0.6), 2),
        nn.Linear(4, 2, rngs=rngs),
        nn.LI(2, beta=0.9),
    )


def branches():
    rngs = nnx.Rngs(0)
    nodes = {"w": nn.Linear(UNITS, 4, rngs=rngs), "a": nn.LIF(4, beta=0.8), "b": nn.IF(4), "out": nn.LI(4, beta=0.7)}
    edges = [("input", "w", 2), ("w", "a"), ("a", "b", 3), ("b", "a", 1), ("b", "out", 2), ("a", "out")]
    merge = {"a": "sum", "out": "sum"}
    return graph.Graph(nodes, [*edges, ("out", "output")], input_shape=UNITS, merge=merge)


class Sums(nn.Layer):
    """A layer of a user's own, with one method."""

    def initial_state(self, batch_size):
        return {"total": jnp.zeros((batch_size, UNITS))}

    def __call__(self, x, state):
        total = 0.9 * state["total"] + x
        return jnp.tanh(total), {"total": total}


def draw(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(0.4, 1.0, shape), jnp.float32)


def same(state):
    return state


def weighted(tree):
    """Of outputs and states that have a batch axis."""
    leaves = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)]
    return sum(jnp.sum(jnp.sin(a.astype(jnp.float32) + k)) - a.size * np.sin(k) for k, a in enumerate(leaves))


def check_equals_alone(build, mask, *, state_of=same, **options):
    """The run of a batch with a mask, differentiated, against every sample on its own steps, one after the other."""
    model, x = build(), draw(BATCH, STEPS, UNITS)
    given = {"lengths": mask.sum(1)} if (np.sort(mask)[:, ::-1] == mask).all() else {"mask": mask}

    @nnx.jit
    def together(model, x):
        outs, state = nn.run(model, x, **given, **options)
        return weighted((outs, state_of(state))), (outs, state_of(state))

    found = nnx.value_and_grad(together, argnums=(0, 1), has_aux=True)(model, jnp.where(mask[..., None], x, jnp.nan))
    ((_, (outs, state)), (g_model, g_x)) = found
    summed = jax.tree.map(jnp.zeros_like, g_model)
    for b, steps in enumerate(mask):
        assert not outs[b, ~steps].any()
        assert not g_x[b, ~steps].any()
        if not steps.any():
            rest = state_of(nn.run(model, x[:1, :0], mode="layer")[1])
            jax.tree.map(lambda a, r, b=b: np.testing.assert_array_equal(a[b], r[0]), state, rest)
            continue
        ((_, (o, s)), (of_model, of_x)) = alone(build, state_of)(model, x[b : b + 1, steps])
        pairs = [(outs[b : b + 1, steps], o), (g_x[b : b + 1, steps], of_x)]
        pairs += zip(jax.tree.leaves(jax.tree.map(lambda a, b=b: a[b : b + 1], state)), jax.tree.leaves(s), strict=True)
        for got, want in pairs:
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
        summed = jax.tree.map(jnp.add, summed, of_model)
    for got, want in zip(jax.tree.leaves(g_model), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@functools.cache
def alone(build, state_of):
    """`(model, x) -> ((loss, values), gradients)` without a mask; compiled once for every length."""

    def loss(model, x):
        outs, state = nn.run(model, x, mode="layer")
        return weighted((outs, state_of(state))), (outs, state_of(state))

    return nnx.jit(nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True))


ENDS = np.arange(STEPS) < LENGTHS[:, None]


@pytest.mark.parametrize("mask", [ENDS, GAPS], ids=["lengths", "gaps"])
@pytest.mark.parametrize("options", [{}, {"mode": "step"}, {"chunk": 4, "remat": True}], ids=str)
def test_three_kinds_of_neurons(mask, options):
    check_equals_alone(network, mask, **options)


def test_kernels():
    check_equals_alone(network, ENDS, mode="fused")
    plans = nn.explain(network(), draw(BATCH, STEPS, UNITS), lengths=LENGTHS, mode="fused")
    assert [plan.mode for plan in plans if "LIF" in plan.layer] == ["fused"] * 3
    plans = nn.explain(nn.LIF(UNITS, beta=0.5), draw(BATCH, STEPS, UNITS), mask=ENDS)  # its values say that it ends
    assert plans[0].mode == "layer"
    with pytest.raises(ValueError, match=r"mode='fused'.*a mask whose samples come back"):
        nn.run(nn.LIF(UNITS, beta=0.5), draw(BATCH, STEPS, UNITS), mask=GAPS, mode="fused")


def without_rings(state):
    """The order of a ring's entries says how many steps all samples have made."""
    return state.nodes


@pytest.mark.parametrize("mask", [ENDS, GAPS], ids=["lengths", "gaps"])
@pytest.mark.parametrize("options", [{}, {"chunk": 4}], ids=str)
def test_a_graph_with_delays_and_a_cycle(mask, options):
    check_equals_alone(branches, mask, state_of=without_rings, **options)


@pytest.mark.parametrize("mask", [ENDS, GAPS], ids=["lengths", "gaps"])
def test_a_graph_goes_on_from_where_each_sample_ended(mask):
    """What is on its way in a delay belongs to the sample's own steps."""
    x, more = draw(BATCH, STEPS, UNITS), draw(BATCH, 4, UNITS)
    _, state = nn.run(branches(), x, mask=mask)
    outs, _ = nn.run(branches(), more, state)
    for b, steps in enumerate(mask):
        both = jnp.concatenate([x[b : b + 1, steps], more[b : b + 1]], axis=1)
        np.testing.assert_allclose(outs[b : b + 1], nn.run(branches(), both)[0][:, steps.sum() :], atol=1e-6)


@pytest.mark.parametrize(
    ("build", "mode"),
    [
        (lambda: nn.LI(UNITS, beta=0.8), "parallel"),
        (lambda: nn.LIF(UNITS, beta=0.8), "fixed_point"),
        (lambda: experimental.PSU_LIF(UNITS, beta=0.7), "parallel"),
        (lambda: experimental.SlidingPSN(UNITS, order=3), "auto"),
        (lambda: nn.Sequential(Sums()), "auto"),
        (lambda: nn.Sequential(nn.Delayed(nn.Linear(UNITS, 2, rngs=nnx.Rngs(0)), 4, rngs=nnx.Rngs(1))), "auto"),
        (
            lambda: nn.Recurrent(
                nn.LIF(UNITS, beta=0.8), via=nn.Delayed(nn.Linear(UNITS, UNITS, rngs=nnx.Rngs(0)), 3, rngs=nnx.Rngs(1))
            ),
            "auto",
        ),
    ],
    ids=["LI", "LIF", "PSU_LIF", "SlidingPSN", "own", "Delayed", "back late"],
)
@pytest.mark.parametrize("mask", [ENDS, GAPS], ids=["lengths", "gaps"])
def test_layers_that_run_in_a_way_of_their_own(build, mode, mask):
    check_equals_alone(build, mask, mode=mode)


def test_a_coin_is_thrown_for_the_steps_of_a_sample():
    layer = experimental.StochasticAssociativeLIF(UNITS, beta=0.8)
    x = draw(BATCH, STEPS, UNITS)
    state = experimental.with_key(layer.initial_state(BATCH), jax.random.key(0))
    outs, end = nn.run(layer, x, state, mask=GAPS)
    for b, steps in enumerate(GAPS):
        start = jax.tree.map(lambda a, b=b: a[b : b + 1], state)
        alone, last = nn.run(layer, x[b : b + 1, steps], start, mode="layer")
        assert (outs[b, steps] == alone[0]).all()
        assert not outs[b, ~steps].any()
        assert end.time[b] == steps.sum() == last.time[0]


def test_under_jit_and_vmap_lengths_may_be_traced():
    model, x = network(), draw(BATCH, STEPS, UNITS)
    expected = nn.run(model, x, lengths=LENGTHS)[0]
    traced = jax.jit(lambda x, lengths: nn.run(model, x, lengths=lengths)[0])(x, LENGTHS)
    np.testing.assert_allclose(traced, expected, atol=1e-6)
    one = jax.vmap(lambda x, n: nn.run(model, x[None], lengths=n[None])[0][0])(x, jnp.asarray(LENGTHS))
    np.testing.assert_allclose(one, expected, atol=1e-6)
    by_mask = jax.jit(lambda x, mask: nn.run(model, x, mask=mask)[0])(x, ENDS)
    np.testing.assert_allclose(by_mask, expected, atol=1e-6)
    for mask in (ENDS, jnp.asarray(ENDS)):
        known = jax.jit(lambda x, mask=mask: nn.run(model, x, mask=mask)[0])(x)
        np.testing.assert_allclose(known, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_lengths_are_of_any_kind_of_integer(dtype):
    """Also with x64, where JAX counts in int64, without implicit promotion, and with more steps than int8 can count."""
    model, x = nn.LI(UNITS, beta=0.8), jnp.zeros((BATCH, 300, UNITS))
    with jax.enable_x64(True):
        lengths = jnp.asarray(LENGTHS, dtype)
        assert (before_end(lengths, 300).sum(1) == LENGTHS).all()
        jax.eval_shape(lambda x, lengths: nn.run(model, x, lengths=lengths)[0], x, lengths)


def test_networks_are_calibrated_on_samples_of_unequal_length_with_x64():
    network, x = (
        nn.Sequential(nn.Linear(UNITS, UNITS, rngs=nnx.Rngs(0)), nn.LIF(UNITS, beta=0.8)),
        draw(BATCH, STEPS, UNITS),
    )
    with jax.enable_x64(True):
        nn.calibrate(network, x, rate=0.2, lengths=jnp.asarray(LENGTHS))
    rates = float(nn.run(network, x, lengths=LENGTHS)[0].sum()) / (LENGTHS.sum() * UNITS)
    assert 0.1 < rates < 0.4


def test_time_may_be_any_axis():
    layer, x = nn.LI(UNITS, beta=0.8), draw(BATCH, STEPS, UNITS)
    expected = nn.run(layer, x, lengths=LENGTHS)[0]
    for axis, chunk in ((0, None), (2, 4)):
        outs, _ = nn.run(layer, jnp.moveaxis(x, 1, axis), lengths=LENGTHS, time_axis=axis, chunk=chunk)
        np.testing.assert_allclose(jnp.moveaxis(outs, axis, 1), expected, atol=1e-6)
    assert (nn.run(layer, jnp.moveaxis(x, 1, 0), mask=ENDS.T, time_axis=0)[0] == jnp.moveaxis(expected, 1, 0)).all()


def test_what_is_observed_is_zero_after_the_end():
    for mode in ("auto", "step"):
        _, _, seen = nn.observe(
            network(), draw(BATCH, STEPS, UNITS), what=("outputs", "state"), lengths=LENGTHS, mode=mode
        )
        assert {"1", "1.v", "4.v"} <= set(seen)
        for values in seen.values():
            assert not values[np.arange(STEPS) >= LENGTHS[:, None]].any()
        assert seen["1.v"][0].any()


def test_integers_in_half_precision_count_beyond_what_it_can_hold():
    """The steps that remain are counted exactly: bfloat16 cannot tell 300 from 301."""
    layer, x = nn.IF(1, threshold=1e9), jnp.ones((2, 600, 1), jnp.uint8)
    state = layer.initial_state(2, jnp.bfloat16)
    outs, v = nn.run(nn.Sequential(nn.IF(1, threshold=0.5)), x, lengths=[301, 600])
    assert outs[:, :, 0].sum(1).tolist() == [300, 599]
    assert nn.run(layer, x * 0 + 1, state, lengths=[130, 600])[1][0, 0] == 130


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lengths": [1, 2]}, ValueError, r"lengths=\): expected one length for each of 4 samples; got shape \(2,\)"),
        ({"lengths": [1, 2, 10, 3]}, ValueError, "expected 0 to 9 steps; got 10 for sample 2"),
        ({"lengths": [1, -1, 2, 3]}, ValueError, "got -1 for sample 1"),
        ({"lengths": [1.0, 2, 3, 4]}, TypeError, "expected whole numbers; got float64"),
        ({"mask": np.ones((4, 9))}, TypeError, "expected bool; got float64"),
        ({"mask": np.ones((9, 4), bool)}, ValueError, r"mask=\): expected shape \(4, 9\)"),
        ({"mask": ENDS, "lengths": LENGTHS}, ValueError, "expected lengths or a mask; got both"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        nn.run(nn.LI(UNITS, beta=0.5), draw(BATCH, STEPS, UNITS), **options)


def test_layers_that_cannot_know_of_an_end_are_refused():
    x = draw(BATCH, STEPS, UNITS)
    with pytest.raises(ValueError, match="got PSN, which needs all of time in one call"):
        nn.run(nn.Sequential(experimental.PSN(UNITS, num_steps=STEPS, rngs=nnx.Rngs(0))), x, lengths=LENGTHS)
    model = nn.Sequential(nnx.BatchNorm(UNITS, rngs=nnx.Rngs(0)), nn.LI(UNITS, beta=0.5))
    with pytest.raises(ValueError, match="got BatchNorm, whose statistics would include"):
        nn.run(model, x, lengths=LENGTHS)
    model.eval()
    assert not nn.run(model, x, lengths=LENGTHS)[0][1, 4:].any()
