"""Fused kernels of recurrent neurons against the plain scan: values and every gradient."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tests.engine.test_fused import assert_same, evaluate, needs_numba

from spyx import engine, nn
from spyx.engine import device, fused
from spyx.nn.execution import KERNEL_UNITS

FUSED = engine.MODES["fused"]


class Graded(nn.Neuron):
    """Feeds back something that is not its output, and bends the current: no array of its kernels is two in one."""

    state = dict(v=0.0, u=0.0)
    affine = "never"
    local = False

    def __init__(self, hidden_shape, rngs):
        super().__init__(hidden_shape)
        self.decay = nnx.Param(0.5 * jnp.ones(self.hidden_shape))
        self.recurrent_w = nnx.Param(0.3 * jax.random.normal(rngs.params(), self.hidden_shape * 2))

    @staticmethod
    def step(p, x, s):
        c = jnp.tanh(p.feedback(p.spike(s.v - 0.5) * s.u))
        v = p.decay * s.v + x * c + 0.5 * x
        return v * s.u, Graded.State(v=v, u=0.9 * s.u + 0.1 * c)


def recurrent(kind, hidden_shape):
    init = nnx.initializers.normal(0.3)
    return getattr(nn, kind)(hidden_shape, recurrent_init=init, rngs=nnx.Rngs(0))


def problem(neuron, steps, batch, dtype=jnp.float32, seed=0):
    xs = 0.7 * jax.random.normal(jax.random.key(seed), (steps, batch, *neuron.hidden_shape), dtype)
    s0 = jax.tree.map(lambda a: a + jnp.asarray(0.1, dtype), neuron.initial_state(batch, dtype))
    return neuron.step, neuron.params().astype(dtype), xs, s0


def assert_equals_scan(arguments, tolerance):
    assert fused.obstacle(*arguments) is None
    expected = evaluate(engine.scan, *arguments)
    assert 0.01 < float(jnp.mean(jnp.abs(expected[0][1][0]) > 0.01)) <= 1  # something happens
    assert_same(evaluate(FUSED, *arguments), expected, tolerance)


# In double precision a spike is flipped by rounding only within 1e-15 of the threshold, whatever the order of a sum.
@needs_numba
@pytest.mark.parametrize("kind", ["RIF", "RLIF", "RALIF", "RCuBaLIF"])
def test_every_recurrent_neuron(kind):
    with jax.enable_x64(True):
        assert_equals_scan(problem(recurrent(kind, 23), 37, 5, jnp.float64), 1e-11)


@needs_numba
@pytest.mark.parametrize(("hidden", "batch"), [(23, 5), (3, 1), ((2, 4), 9)])
def test_a_neuron_that_nobody_wrote_before(hidden, batch):
    with jax.enable_x64(True):
        assert_equals_scan(problem(Graded(hidden, nnx.Rngs(1)), 18, batch, jnp.float64), 1e-11)


@needs_numba
@pytest.mark.parametrize(
    ("hidden", "batch", "steps"), [(1, 1, 1), (16, 4, 17), (7, 1, 33), (40, 70, 16), ((3, 5), 6, 17), ((2, 2, 2), 3, 5)]
)
def test_shapes(hidden, batch, steps):
    # Small weights: where no sum rounds differently enough to matter the spikes are the same in single precision too.
    neuron = nn.RLIF(hidden, rngs=nnx.Rngs(0))
    arguments = problem(neuron, steps, batch)
    assert_same(evaluate(FUSED, *arguments), evaluate(engine.scan, *arguments), 1e-5)
    assert_same(evaluate(FUSED, *arguments), evaluate(FUSED, *arguments), 0)


@pytest.mark.parametrize("build", [partial(nn.RLIF, rngs=nnx.Rngs(0)), partial(Graded, rngs=nnx.Rngs(1))])
def test_the_loop_keeps_the_contract_of_the_kernels(build, monkeypatch):
    monkeypatch.setattr(device, "has_numba", lambda: False)
    with jax.enable_x64(True):
        assert_equals_scan(problem(build(6), 35, 2, jnp.float64), 1e-11)


@needs_numba
@pytest.mark.parametrize("own_weights", [False, True])
def test_a_mapped_axis_is_more_samples(own_weights):
    with jax.enable_x64(True):
        step, p, xs, s0 = problem(recurrent("RLIF", 6), 18, 2, jnp.float64)
        xs = jnp.stack([xs, 0.5 * xs, -xs])
        weights = jnp.stack([p.recurrent_w, 2 * p.recurrent_w, 0 * p.recurrent_w]) if own_weights else p.recurrent_w

        def loss(mode, w, x):
            q = engine.Params({"beta": p.beta, "recurrent_w": w}, dict(p._static))
            outs, end = mode(step, q, x, s0)
            return jnp.sum(outs * jnp.cos(x)) + jnp.sum(end**2)

        grads = [
            jax.vmap(jax.grad(partial(loss, mode), (0, 1)), (0 if own_weights else None, 0))(weights, xs)
            for mode in (FUSED, engine.scan)
        ]
        assert_same(grads[0], grads[1], 1e-11)


@needs_numba
def test_narrow_input_and_nothing_at_all():
    step, p, xs, s0 = problem(nn.RLIF(5, rngs=nnx.Rngs(0)), 20, 2)
    outs, end = FUSED(step, p, xs.astype(jnp.bfloat16), s0)
    expected, expected_end = engine.scan(step, p, xs.astype(jnp.bfloat16).astype(jnp.float32), s0)
    assert outs.dtype == jnp.bfloat16
    assert_same((outs.astype(jnp.float32), end), (expected, expected_end), 1e-5)
    assert FUSED(step, p, xs[:0], s0)[0].shape == (0, 2, 5)
    assert FUSED(step, p, xs[:, :0], s0[:0])[0].shape == (20, 0, 5)


@needs_numba
def test_all_spikes_and_odd_values_are_one_product():
    """Every unit fires, with values that are no spikes: by events is then the dense product."""
    _, p, xs, s0 = problem(nn.RLIF(21, rngs=nnx.Rngs(0)), 5, 7)

    def step(p, x, v):
        return v, jnp.cos(p.beta * v + p.feedback(jnp.cos(v)) + x)

    assert_equals_scan((step, p, xs, s0), 1e-5)


def twice(p, x, v):
    z = p.spike(v - 1.0)
    return z, v + p.feedback(z) + p.feedback(x)


def never(p, x, v):
    return v, v + x


def reads_the_weight(p, x, v):
    return v, p.feedback(v) + jnp.sum(p.recurrent_w) * x


@pytest.mark.parametrize(
    ("step", "shape", "reason"),
    [
        (twice, (3, 3), "a step with 2 calls of p.feedback, not one"),
        (never, (3, 3), "a step with 0 calls of p.feedback, not one"),
        (reads_the_weight, (3, 3), "a step that reads recurrent_w outside of p.feedback"),
        (lambda p, x, v: (v, p.feedback(jnp.cumsum(v, -1))), (3, 3), "primitive 'cumsum'"),
        (lambda p, x, v: (v, v + p.feedback(v)), (3, 2), "recurrent_w of shape (3, 2) and dtype float32"),
    ],
)
def test_obstacles(step, shape, reason):
    p = engine.Params({"recurrent_w": jnp.ones(shape)}, {"spike": jax.nn.relu})
    assert fused.obstacle(step, p, jnp.ones((4, 2, 3)), jnp.ones((2, 3))) == reason


def test_input_of_integers_has_no_kernel():
    step, p, xs, s0 = problem(nn.RLIF(3, rngs=nnx.Rngs(0)), 4, 2)
    assert fused.obstacle(step, p, xs.astype(jnp.int32), s0) == "input of dtype int32"


def test_explain_and_source():
    neuron, x = nn.RLIF(4, rngs=nnx.Rngs(0)), jnp.ones((2, 5, 4))
    source = nn.kernel_source(neuron)
    assert source.count("by_events(") == 2
    assert source.count("product(") == 1
    compile(source, "kernel", "exec")
    if fused.unavailable() is None:
        assert nn.explain(neuron, x, mode="fused")[0].mode == "fused"


def test_where_there_is_no_kernel_the_loop_runs(monkeypatch):
    neuron, x = nn.RLIF(4, rngs=nnx.Rngs(0)), jnp.ones((2, 5, 4))
    monkeypatch.setattr(device, "has_numba", lambda: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    choice = nn.explain(neuron, x, mode="fused")[0]
    assert choice.mode == "layer"
    assert choice.why.endswith("no fused kernel: Numba is not installed: pip install 'spyx-jax[cpu]'")
    assert_same(nn.run(neuron, x, mode="fused"), nn.run(neuron, x, mode="step"), 1e-6)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    choice = nn.explain(neuron, x, mode="fused")[0]
    assert choice.why.endswith("no fused kernel: kernels of recurrent neurons exist for cpu")


@needs_numba
def test_auto_takes_layers_whose_weight_stays_in_the_cache(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    modes = {}
    for units in (KERNEL_UNITS, KERNEL_UNITS + 1):
        neuron = nn.RLIF(units, rngs=nnx.Rngs(0))
        modes[units] = [nn.explain(neuron, jnp.ones((batch, 16, units)))[0].mode for batch in (1, 2)]
    assert modes == {KERNEL_UNITS: ["layer", "fused"], KERNEL_UNITS + 1: ["layer", "layer"]}
