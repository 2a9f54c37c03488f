"""`parallel`: the loop's answer and gradients, without a loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.reference.loop_oracle import scan

from reference import affine_oracle
from spyx import engine, nn
from spyx.engine import affine
from spyx.experimental import AssociativeLIF, AssociativeResonateFire

T, B, N = 11, 2, 3
X = 0.8 * jax.random.normal(jax.random.key(0), (T, B, N))
W = jax.random.normal(jax.random.key(1), (T, B, N))


MODES = {**engine.MODES, "scan": scan}


class Gated(nn.Neuron):
    """The decay is the input's business, so A differs at every step."""

    affine = "always"

    def __init__(self, hidden_shape):
        super().__init__(hidden_shape)
        self.gain = nnx.Param(jnp.array([0.5, 1.0, -1.5]))

    @staticmethod
    def step(p, x, v):
        v_next = jax.nn.sigmoid(p.gain * x) * v + x
        return v_next * v, v_next


class Counter(nn.Neuron):
    state = dict(v=0.0, n=0.0)

    def initial_state(self, batch_size, dtype=jnp.float32):
        rest = super().initial_state(batch_size, dtype)
        return rest._replace(n=jnp.zeros(rest.n.shape, jnp.int32))

    @staticmethod
    def step(p, x, s):
        return s.v, Counter.State(0.5 * s.v + x, s.n + 1)


def neurons():
    rngs = nnx.Rngs(0)
    return [nn.LI(N, beta=0.8), AssociativeLIF(N, rngs=rngs), AssociativeResonateFire(N, rngs=rngs), Gated(N)]


def everything(mode, layer, xs=X, w=W):
    """Outputs, last state, and the gradients in parameters, inputs and first state of a loss on both."""
    start = jax.tree.map(lambda s: s + 0.1, layer.initial_state(xs.shape[1]))

    def loss(p, xs, s0):
        outs, end = MODES[mode](layer.step, p, xs, s0)
        return jnp.sum(outs * w) + sum(jnp.sum(jnp.sin(s)) for s in jax.tree.leaves(end)), (outs, end)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(layer.params(), xs, start)


@pytest.mark.parametrize("layer", neurons(), ids=lambda layer: type(layer).__name__)
def test_answer_and_every_gradient_are_the_loops(layer):
    expected, got = everything("scan", layer), everything("parallel", layer)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), got, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_solve_is_the_recurrence(reverse):
    k, units = 2, 3
    rng = np.random.default_rng(0)
    blocks, offset = rng.normal(size=(T, units, k, k)), rng.normal(size=(T, units, k))
    start = rng.normal(size=(units, k))
    got = affine.solve(
        [[jnp.float32(blocks[..., i, j]) for j in range(k)] for i in range(k)],
        [jnp.float32(offset[..., i]) for i in range(k)],
        [jnp.float32(start[..., i]) for i in range(k)],
        reverse=reverse,
    )
    expected = affine_oracle.states(blocks, offset, start, reverse=reverse)
    np.testing.assert_allclose(jnp.stack(got, -1), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_neither_pass_has_a_loop_over_time():
    def loss(p, xs, s0):
        return jnp.sum(engine.parallel(layer.step, p, xs, s0)[0] ** 2)

    layer = AssociativeLIF(N, beta=0.5)
    program = str(jax.make_jaxpr(jax.grad(loss))(layer.params(), X, layer.initial_state(B)))
    # One loop is there, in the branch that is taken where a state is not finite.
    before, branches = program.split("cond[", 1)
    assert "scan[" not in before
    assert branches.count("scan[") == 1
    assert "while[" not in program


@pytest.mark.parametrize(("steps", "batch"), [(0, B), (1, B), (T, 0)])
def test_short_and_empty_sequences(steps, batch):
    layer = AssociativeLIF(N, beta=0.5)
    xs, w = X[:steps, :batch], W[:steps, :batch]
    jax.tree.map(np.testing.assert_allclose, everything("parallel", layer, xs, w), everything("scan", layer, xs, w))


def test_a_state_without_cotangent_takes_the_loop():
    layer = Counter(N)
    outs, end = engine.parallel(layer.step, layer.params(), X, layer.initial_state(B))
    assert int(end.n[0, 0]) == T
    np.testing.assert_array_equal(outs[0], 0)


def test_run_in_chunks_and_on_a_feature_map():
    layer = AssociativeResonateFire((2, 3), omega=0.4)
    x = jax.random.normal(jax.random.key(2), (B, T, 2, 3))
    whole, end = nn.run(layer, x)
    first, state = nn.run(layer, x[:, :4], mode="parallel")
    second, state = nn.run(layer, x[:, 4:], state, mode="parallel")
    np.testing.assert_array_equal(jnp.concatenate([first, second], 1), whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, end)


def test_a_layer_that_cannot_falls_back_and_explain_says_so():
    net = nn.Sequential(nnx.Linear(N, N, rngs=nnx.Rngs(0)), nn.LIF(N, beta=0.8), nn.LI(N, beta=0.9))
    x = 3 * jnp.moveaxis(X, 0, 1)
    np.testing.assert_allclose(nn.run(net, x, mode="parallel")[0], nn.run(net, x, mode="layer")[0], atol=1e-5)
    choices = nn.explain(net, x, mode="parallel")
    assert [choice.mode for choice in choices[1:]] == ["layer", "parallel"]
    assert "parallel needs" in choices[1].why


@pytest.mark.parametrize("mode", ["parallel", "fixed_point"])
def test_a_mode_that_nothing_can_run_in_is_an_error(mode):
    layer = nn.RLIF(N, beta=0.8, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=rf"spyx.nn.run\(mode='{mode}'\): expected a neuron that can run so, one with affine = "
    ):
        nn.run(layer, jnp.moveaxis(X, 0, 1), mode=mode)
