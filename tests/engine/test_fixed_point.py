"""`fixed_point`: resetting neurons without a loop over time, exact when it says so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.reference.loop_oracle import scan

from spyx import engine, nn
from spyx.experimental import ResonateFire

T, B, N = 13, 2, 4
X = 0.8 * jax.random.normal(jax.random.key(0), (T, B, N)) + 0.3
W = jax.random.normal(jax.random.key(1), (T, B, N))


class TwoThresholds(nn.Neuron):
    """Two spikes in one step: one up, one down."""

    affine = "given_spikes"

    @staticmethod
    def step(p, x, v):
        up, down = p.spike(v - 1.0), p.spike(-v - 1.0)
        return up - down, 0.9 * v + x - up + down


def neurons():
    rngs = nnx.Rngs(0)
    recurrent = nn.RLIF(N, rngs=rngs, recurrent_init=nnx.initializers.normal(0.5))
    plain = [neuron(N, rngs=rngs) for neuron in (nn.LIF, nn.ALIF, nn.CuBaLIF, ResonateFire)]
    return [nn.IF(N), *plain, TwoThresholds(N), recurrent]


def everything(run, layer):
    start = jax.tree.map(lambda s: s + 0.1, layer.initial_state(B))

    def loss(p, xs, s0):
        outs, end, *how = run(layer.step, p, xs, s0)
        return jnp.sum(outs * W) + sum(jnp.sum(jnp.sin(s)) for s in jax.tree.leaves(end)), ((outs, end), how)

    answer = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(layer.params(), X, start)
    (value, (ends, how)), gradients = answer
    return (value, ends, gradients), how


@pytest.mark.parametrize("layer", neurons(), ids=lambda layer: type(layer).__name__)
def test_answer_and_every_gradient_are_the_loops(layer):
    expected, _ = everything(scan, layer)
    got, (how,) = everything(engine.fixed_point, layer)
    assert expected[1][0].any()  # it does spike, so there is something to guess
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), got, expected)
    assert int(how.changed) == 0
    assert 1 < int(how.rounds) <= T


def lif(xs, **options):
    layer = nn.LIF(xs.shape[-1], beta=0.9)
    return engine.fixed_point(layer.step, layer.params(), xs, layer.initial_state(xs.shape[1]), **options)


@pytest.mark.parametrize("rounds", [1, 3])
def test_fewer_rounds_are_exact_for_as_many_steps_and_say_that_they_stopped_early(rounds):
    exact, _, how = lif(X)
    outs, _, early = lif(X, rounds=rounds)
    np.testing.assert_array_equal(outs[:rounds], exact[:rounds])
    assert int(early.rounds) == rounds
    assert int(early.changed) > 0
    assert int(how.rounds) > rounds
    assert (outs != exact).any()


def test_more_rounds_than_it_takes_are_not_done():
    _, _, how = lif(X)
    _, _, again = lif(X, rounds=10 * T)
    assert int(again.rounds) == int(how.rounds)


def test_silence_is_found_in_one_round():
    outs, _, how = lif(jnp.zeros((T, B, N)))
    assert not outs.any()
    assert (int(how.rounds), int(how.changed)) == (1, 0)


def test_at_most_as_many_rounds_as_steps():
    """Every spike depends on the one before: the slowest case there is."""
    xs = jnp.full((T, 1, 1), 1.0001)
    layer = nn.IF(1)
    outs, _, how = engine.fixed_point(layer.step, layer.params(), xs, layer.initial_state(1))
    np.testing.assert_array_equal(outs, scan(layer.step, layer.params(), xs, layer.initial_state(1))[0])
    assert int(how.changed) == 0
    assert int(how.rounds) <= T


@pytest.mark.parametrize(("steps", "batch"), [(0, B), (1, B), (T, 0)])
def test_short_and_empty_sequences(steps, batch):
    outs, v, how = lif(X[:steps, :batch])
    expected, v_expected = nn.run(nn.LIF(N, beta=0.9), X[:steps, :batch], time_axis=0)
    np.testing.assert_array_equal(outs, expected)
    np.testing.assert_allclose(v, v_expected, atol=1e-6)
    assert int(how.changed) == 0


def test_run_by_name():
    net = nn.Sequential(nn.LIF(N, beta=0.9), nn.CuBaLIF(N, alpha=0.5, beta=0.8), nn.LI(N, beta=0.9))
    x = jnp.moveaxis(X, 0, 1)
    np.testing.assert_allclose(nn.run(net, x, mode="fixed_point")[0], nn.run(net, x)[0], atol=1e-5)
    assert [choice.mode for choice in nn.explain(net, x, mode="fixed_point")] == ["fixed_point", "fixed_point", "layer"]


def test_a_recurrent_layer_is_not_run_by_it():
    net = nn.Sequential(nn.IF(N), nn.RIF(N, rngs=nnx.Rngs(0)))
    assert [c.mode for c in nn.explain(net, jnp.moveaxis(X, 0, 1), mode="fixed_point")][0] == "fixed_point"
    assert "local" in nn.explain(net, jnp.moveaxis(X, 0, 1), mode="fixed_point")[1].why


@pytest.mark.parametrize(("rounds", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_bad_rounds(rounds, error):
    with pytest.raises(error, match=r"spyx.engine.fixed_point\(rounds=\): expected"):
        lif(X, rounds=rounds)
