"""Connections with delays against sums written out in NumPy, their gradients, and spikes delivered one by one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference import delays_oracle as oracle
from spyx import nn, testing

KINDS = [
    (per, kernel, spread)
    for per in ("synapse", "source", "target")
    for kernel, spread in (("gauss", False), ("triangle", False), ("triangle", True))
]
STRIDE, GROUPS, WINDOW, LENGTH = 2, 2, 3, 8
conv = partial(oracle.conv, stride=STRIDE, groups=GROUPS)


def linear(per, kernel, spread=False, max_delay=4, **options):
    connection = nn.Linear(3, 5, bias_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0))
    return nn.Delayed(connection, max_delay, per, kernel, spread=spread, rngs=nnx.Rngs(1), **options)


def convolution(per, kernel, spread=False):
    connection = nn.Conv(
        4,
        6,
        (WINDOW,),
        STRIDE,
        padding="VALID",
        feature_group_count=GROUPS,
        bias_init=nnx.initializers.normal(1.0),
        rngs=nnx.Rngs(0),
    )
    return nn.Delayed(connection, 3, per, kernel, spread=spread, rngs=nnx.Rngs(1))


def in_double(layer):
    graphdef, variables = nnx.split(layer)
    return nnx.merge(graphdef, jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables))


def loss_of(y):
    return (y * np.cos(np.arange(y.size)).reshape(y.shape)).sum()


@pytest.mark.parametrize(
    ("made", "per", "kernel", "spread"),
    [(linear, *kind) for kind in KINDS] + [(convolution, *kind) for kind in (KINDS[2], *KINDS[::3])],
)
def test_values_and_gradients(made, per, kernel, spread):
    """float64: the sums written out, and their central differences along one direction per argument."""
    rng = np.random.default_rng(5)
    shape = (2, 9, 3) if made is linear else (2, 9, LENGTH, 4)
    with jax.enable_x64(True):
        layer = in_double(made(per, kernel, spread))
        nn.set_width(layer, 0.8)
        values = {
            "x": rng.normal(size=shape),
            "w": np.asarray(layer.connection.kernel[...]),
            "b": np.asarray(layer.connection.bias[...]),
            "d": np.asarray(layer.delays[...]),
        }
        if spread:
            layer.spread[...] = jnp.asarray(rng.normal(size=layer.spread.shape))
            values["p"] = np.asarray(layer.spread[...])
        state = jnp.zeros(layer.state_for(jax.ShapeDtypeStruct(shape[:1] + shape[2:], jnp.float32)).shape)

        structure = nnx.split(layer)

        def ours(x, w, b, d, p=None):
            copy = nnx.merge(*structure, copy=True)
            copy.connection.kernel, copy.connection.bias, copy.delays = nnx.Param(w), nnx.Param(b), nn.Delays(d)
            if p is not None:
                copy.spread = nnx.Param(p)
            return nn.run(copy, x, state)[0]

        @jax.jit
        def outcome(*values):
            y, pull = jax.vjp(ours, *values)
            return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        y, found = outcome(*map(jnp.asarray, values.values()))
        gradients = dict(zip(values, found, strict=True))
    product = oracle.plain if made is linear else conv

    def written_out(values):
        return oracle.delayed(**values, per=per, kernel=kernel, lags=layer.max_delay + 1, width=0.8, product=product)

    np.testing.assert_allclose(y, written_out(values), rtol=1e-9, atol=1e-9)
    for name, value in values.items():
        along = rng.normal(size=value.shape)
        h = 1e-6
        there, back = ({**values, name: value + step * along} for step in (h, -h))
        slope = (loss_of(written_out(there)) - loss_of(written_out(back))) / (2 * h)
        assert slope != 0
        np.testing.assert_allclose((np.asarray(gradients[name]) * along).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per", ["synapse", "source", "target"])
@pytest.mark.parametrize("max_delay", [1, 12])
def test_rounded_network_delivers_every_spike(per, max_delay):
    """Weights are sixteenths, so that every sum is exact: spikes and currents are equal, not close."""
    time = 12
    rng = np.random.default_rng(max_delay)
    spikes = (rng.random((1, time, 3)) < 0.4).astype(np.float32)
    layer = linear(per, "gauss", max_delay=max_delay)
    w, b = np.round(16 * rng.normal(size=(3, 5))) / 16, np.round(16 * rng.normal(size=5)) / 64
    layer.connection.kernel[...], layer.connection.bias[...] = jnp.float32(w), jnp.float32(b)
    layer = layer.rounded()
    steps = np.asarray(layer.delays[...])
    assert steps.dtype == np.int32
    assert 0 <= steps.min() < steps.max() <= max_delay
    steps = np.broadcast_to(steps[:, None] if per == "source" else steps, (3, 5))
    currents = oracle.deliver(spikes, w, b, steps)
    network = nn.Sequential(layer, nn.LIF(5, beta=0.5))
    expected = oracle.lif(currents, 0.5)
    assert 0 < expected.mean() < 1
    for options in ({}, {"mode": "step"}, {"chunk": 5}):
        found = nn.run(network, jnp.asarray(spikes, jnp.uint8), **options)[0]
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(nn.run(layer, spikes)[0], currents)


@pytest.mark.parametrize(("per", "kernel"), [("synapse", "gauss"), ("source", "fixed")])
def test_layer_promises(per, kernel):
    """Streams cut anywhere, batches without samples, every mode in value and gradient."""
    testing.check_layer(linear(per, kernel), (3,))


def test_streams_in_pieces_of_any_length():
    """Shorter than the delays or longer, under jit and vmap: the numbers of one run."""
    layer = convolution("synapse", "triangle")
    x = jax.random.normal(jax.random.key(0), (2, 11, LENGTH, 4))
    whole, end = nn.run(layer, x)
    cuts = [0, *np.sort(np.random.default_rng(2).choice(np.arange(1, 11), 3, replace=False)), 11]
    pieces = [x[:, first:last] for first, last in zip(cuts, cuts[1:], strict=False)]
    found, state = zip(*nn.stream(layer, pieces), strict=True)
    np.testing.assert_allclose(jnp.concatenate(found, 1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state[-1], end, rtol=1e-5, atol=1e-6)

    one_by_one = jax.jit(jax.vmap(lambda sample: nn.run(layer, sample[None])[0][0]))(x)
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-5, atol=1e-6)


def test_a_shape_waits_unit_by_unit():
    x = jax.random.normal(jax.random.key(0), (2, 7, 2, 3))
    steps = np.arange(6).reshape(2, 3)
    fixed = nn.Delayed((2, 3), 5, kernel="fixed", delays=steps)
    found = nn.run(fixed, x)[0]
    for row, column in np.ndindex(2, 3):
        late = steps[row, column]
        expected = np.pad(np.asarray(x[:, : 7 - late, row, column]), ((0, 0), (late, 0)))
        np.testing.assert_array_equal(found[:, :, row, column], expected)
    learned = nn.Delayed((2, 3), 5, kernel="triangle", delays=steps, width=0.0)
    np.testing.assert_allclose(nn.run(learned, x)[0], found, atol=1e-6)


def test_annealing_ends_in_the_rounded_network():
    """Width 0 on whole positions is the fixed network, for the triangle exactly."""
    x = jax.random.normal(jax.random.key(0), (2, 9, 3))
    for kernel, tolerance in (("triangle", 1e-6), ("gauss", 1e-2)):
        layer = linear("synapse", kernel, delays=np.random.default_rng(0).integers(0, 5, (3, 5)))
        nn.set_width(layer, 0.0)
        expected = nn.run(layer.rounded(), x)[0]
        np.testing.assert_allclose(nn.run(layer, x)[0], expected, rtol=tolerance, atol=tolerance)
        nn.set_width(layer, 3.0)
        assert np.abs(nn.run(layer, x)[0] - expected).max() > 0.1


def test_positions_are_held_and_never_stuck():
    """Stored outside: used at the end of the range, with a gradient that leads back."""
    layer = nn.Delayed(2, 3, kernel="triangle", delays=[0.0, 3.0], width=0.0)
    x = jnp.zeros((1, 6, 2)).at[0, 0].set(1.0)
    expected = nn.run(layer, x)[0]
    for outside in ([-1e9, 1e9], [-0.7, 3.9]):
        layer.delays[...] = jnp.array(outside)
        np.testing.assert_array_equal(nn.run(layer, x)[0], expected)
    graphdef, params, rest = nnx.split(layer, nn.Delays, ...)
    later = jnp.zeros((1, 6, 2)).at[0, 1, 0].set(1.0).at[0, 2, 1].set(1.0)
    slope = jax.grad(lambda params: (nn.run(nnx.merge(graphdef, params, rest), x)[0] * later).sum())(params)
    assert np.all(np.abs(slope.delays[...]) > 0.4)


def test_the_slope_at_a_whole_position_is_the_mean_of_both_sides():
    """The triangle has its kink there, as at both ends, where positions are clipped to."""
    x = np.random.default_rng(0).normal(size=(1, 9, 3)).astype(np.float32)
    c = np.random.default_rng(1).normal(size=(1, 9, 3)).astype(np.float32)
    layer = nn.Delayed(3, 3, kernel="triangle", delays=[0.0, 1.0, 3.0], width=0.7)
    graphdef, params, rest = nnx.split(layer, nn.Delays, ...)
    found = jax.grad(lambda params: (nn.run(nnx.merge(graphdef, params, rest), x)[0] * c).sum())(params)
    expected = np.zeros(3)
    for unit, delay in enumerate((0, 1, 3)):
        for lag in range(4):
            inside = abs(lag - delay) < 1.7
            arrived = np.pad(x[0, : 9 - lag, unit], (lag, 0))
            expected[unit] += inside * np.sign(lag - delay) / 1.7**2 * (arrived * c[0, :, unit]).sum()
    np.testing.assert_allclose(found.delays[...], expected, rtol=1e-4, atol=1e-5)


def test_rounded_leaves_the_network_alone():
    network = nn.Sequential(linear("synapse", "gauss"), nn.LIF(5, rngs=nnx.Rngs(0)))
    before = jax.tree.map(np.asarray, nnx.state(network))
    copy = nn.rounded(network)
    copy.layers[0].connection.kernel[...] += 1.0
    jax.tree.map(np.testing.assert_array_equal, nnx.state(network), before)
    assert not jax.tree.leaves(nnx.state(copy, nn.Delays))
    assert len(jax.tree.leaves(nnx.state(network, nn.Delays))) == 1
    held = np.clip(np.asarray(network.layers[0].delays[...]), 0, 4)
    np.testing.assert_array_equal(copy.layers[0].delays[...], np.round(held))


def test_the_plan_says_what_runs():
    x = jnp.ones((128, 100, 256))
    layer = nn.Delayed(nn.Linear(256, 256, rngs=nnx.Rngs(0)), 24, rngs=nnx.Rngs(0))
    assert "25 lags at once, by products of frequencies" in str(nn.explain(layer, x))
    assert "one convolution over time with 25 lags" in str(nn.explain(layer.rounded(), x, mode="layer"))
    assert nn.explain(layer, x).time is None  # not cut unless asked


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: nn.Delayed(2, 0, rngs=nnx.Rngs(0)), ValueError, "at least 1 time step; got 0"),
        (lambda: nn.Delayed(2, 2.5), TypeError, "a whole number of time steps; got 2.5"),
        (lambda: nn.Delayed(2, 2), ValueError, "expected nnx.Rngs, because delays"),
        (lambda: nn.Delayed(2, 2, per="axon"), ValueError, r"per=\): expected one of synapse, source, target"),
        (lambda: nn.Delayed(2, 2, kernel="box"), ValueError, r"kernel=\): expected one of gauss, triangle, fixed"),
        (lambda: nn.Delayed(2, 2, delays=3.0), ValueError, "from 0 to max_delay=2 steps; got values from 3.0"),
        (lambda: nn.Delayed(2, 2, delays=float("nan")), ValueError, "from 0 to max_delay=2 steps"),
        (lambda: nn.Delayed(2, 2, delays=[1.0, 1.0, 1.0]), ValueError, r"array of shape \(2,\); got shape \(3,\)"),
        (lambda: nn.Delayed(2, 2, kernel="fixed", delays=1.5), ValueError, "whole numbers of steps"),
        (lambda: nn.Delayed(2, 2, kernel="fixed", delays=1, width=1.0), ValueError, "None for kernel='fixed'"),
        (lambda: nn.Delayed(2, 2, delays=1.0, width=-1.0), ValueError, "0 or more; got -1.0"),
        (lambda: nn.Delayed(2, 2, delays=1.0, spread=True), ValueError, "kernel='triangle'; got 'gauss'"),
        (lambda: nn.Delayed(nn.LIF(2, beta=0.5), 2), TypeError, "nn.Linear, nn.Conv or a shape; got LIF"),
        (lambda: convolution("source", "gauss").initial_state(2), ValueError, "a convolution takes images of any size"),
        (lambda: linear("source", "gauss")(jnp.ones((2, 4)), jnp.zeros((2, 4, 3))), ValueError, r"\(batch, 3\); got"),
        (lambda: linear("source", "gauss")(jnp.ones((2, 3)), jnp.zeros((2, 3, 3))), ValueError, r"\(2, 4, 3\); got"),
        (lambda: nn.set_width(linear("source", "gauss"), -1), ValueError, "set_width.*0 or more; got -1"),
        (lambda: nn.shrinking(0, 0.0, epochs=4), ValueError, r"shrinking\(start=\): expected a number above 0"),
    ],
)
def test_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
