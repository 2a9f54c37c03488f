"""Fused kernels of recurrent neurons against the plain scan: values and every gradient."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tests.engine.test_fused import assert_same, evaluate, needs_compiler, obstacle
from tests.reference.loop_oracle import scan

from spyx import engine, nn
from spyx.engine import device, fused
from spyx.engine.feedback import Dense, Recurrent
from spyx.engine.plan import KERNEL_UNITS

FUSED = engine.MODES["fused"]


class Graded(nn.Neuron):
    """Its graded output follows from the state alone, and its current is bent."""

    state = dict(v=0.0, u=0.0)
    affine = "never"

    def __init__(self, hidden_shape):
        super().__init__(hidden_shape)
        self.decay = nnx.Param(0.5 * jnp.ones(self.hidden_shape))

    @staticmethod
    def step(p, x, s):
        c = jnp.tanh(x)
        v = p.decay * s.v + x * c + 0.5 * x
        return p.spike(s.v - 0.5) * s.u, s._replace(v=v, u=0.9 * s.u + 0.1 * c)


class Late(nn.Neuron):
    """It spikes from the updated membrane, so that the spike before is what feeds back."""

    affine = "given_spikes"

    @staticmethod
    def step(p, x, v):
        v = 0.9 * v + x
        z = p.spike(v - 1.0)
        return z, v - z


def wrapped(neuron):
    return nn.Recurrent(neuron, recurrent_init=nnx.initializers.normal(0.3), rngs=nnx.Rngs(1))


def recurrent(kind, hidden_shape):
    init = nnx.initializers.normal(0.3)
    return getattr(nn, kind)(hidden_shape, recurrent_init=init, rngs=nnx.Rngs(0))


def problem(neuron, steps, batch, dtype=jnp.float32, seed=0):
    xs = 0.7 * jax.random.normal(jax.random.key(seed), (steps, batch, *neuron.hidden_shape), dtype)
    s0 = jax.tree.map(lambda a: a + jnp.asarray(0.1, dtype), neuron.initial_state(batch, dtype))
    return neuron.step, neuron.params().astype(dtype), xs, s0


def assert_equals_scan(arguments, tolerance):
    assert obstacle(*arguments) is None
    expected = evaluate(scan, *arguments)
    assert 0.01 < float(jnp.mean(jnp.abs(expected[0][1][0]) > 0.01)) <= 1  # something happens
    assert_same(evaluate(FUSED, *arguments), expected, tolerance)


# In double precision a spike is flipped by rounding only within 1e-15 of the threshold, whatever the order of a sum.
@needs_compiler
@pytest.mark.parametrize("kind", ["RIF", "RLIF", "RALIF", "RCuBaLIF"])
def test_every_recurrent_neuron(kind):
    with jax.enable_x64(True):
        assert_equals_scan(problem(recurrent(kind, 23), 37, 5, jnp.float64), 1e-11)


@needs_compiler
@pytest.mark.parametrize("make", [Graded, Late])
@pytest.mark.parametrize(("hidden", "batch"), [(23, 5), (3, 1), ((2, 4), 9)])
def test_a_neuron_that_nobody_wrote_before(make, hidden, batch):
    with jax.enable_x64(True):
        assert_equals_scan(problem(wrapped(make(hidden)), 18, batch, jnp.float64), 1e-11)


@needs_compiler
@pytest.mark.parametrize(
    ("hidden", "batch", "steps"), [(1, 1, 1), (16, 4, 17), (7, 1, 33), (40, 70, 16), ((3, 5), 6, 17), ((2, 2, 2), 3, 5)]
)
def test_shapes(hidden, batch, steps):
    # Small weights: where no sum rounds differently enough to matter the spikes are the same in single precision too.
    neuron = nn.RLIF(hidden, rngs=nnx.Rngs(0))
    arguments = problem(neuron, steps, batch)
    assert_same(evaluate(FUSED, *arguments), evaluate(scan, *arguments), 1e-5)
    assert_same(evaluate(FUSED, *arguments), evaluate(FUSED, *arguments), 0)


@pytest.mark.parametrize("build", [partial(nn.RLIF, rngs=nnx.Rngs(0)), lambda n: wrapped(Graded(n))])
def test_the_loop_keeps_the_contract_of_the_kernels(build, monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    with jax.enable_x64(True):
        assert_equals_scan(problem(build(6), 35, 2, jnp.float64), 1e-11)


@needs_compiler
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
            for mode in (FUSED, scan)
        ]
        assert_same(grads[0], grads[1], 1e-11)


@needs_compiler
def test_narrow_input_and_nothing_at_all():
    step, p, xs, s0 = problem(nn.RLIF(5, rngs=nnx.Rngs(0)), 20, 2)
    outs, end = FUSED(step, p, xs.astype(jnp.bfloat16), s0)
    expected, expected_end = scan(step, p, xs.astype(jnp.bfloat16).astype(jnp.float32), s0)
    assert outs.dtype == jnp.bfloat16
    assert_same((outs.astype(jnp.float32), end), (expected, expected_end), 1e-5)
    assert FUSED(step, p, xs[:0], s0)[0].shape == (0, 2, 5)
    assert FUSED(step, p, xs[:, :0], s0[:0])[0].shape == (20, 0, 5)


@needs_compiler
def test_all_spikes_and_odd_values_are_one_product():
    """Every unit fires, with values that are no spikes: by events is then the dense product."""
    step, p, xs, s0 = problem(nn.RLIF(21, rngs=nnx.Rngs(0)), 5, 7)

    def local(p, x, v):
        return jnp.cos(v), jnp.cos(p.beta * v + x)

    assert_equals_scan((Recurrent(local, step.via), p, xs, s0), 1e-5)


@pytest.mark.parametrize(
    ("local", "shape", "reason"),
    [
        (lambda p, x, v: (jnp.cumsum(v, -1), v + x), (3, 3), "primitive 'cumsum'"),
        (lambda p, x, v: (v, v + x), (3, 2), "a recurrent weight of shape (3, 2) and dtype float32"),
    ],
)
def test_obstacles(local, shape, reason):
    p = engine.Params({"w": jnp.ones(shape)}, {"spike": jax.nn.relu})
    assert obstacle(Recurrent(local, Dense("w")), p, jnp.ones((4, 2, 3)), jnp.ones((2, 3))) == reason


def test_a_connection_that_is_no_dense_weight_has_no_kernel():
    layer = nn.Recurrent(nn.LIF(3, beta=0.9), via=nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    assert obstacle(*problem(layer, 4, 2)) == "a connection that is not a dense weight"


def test_input_of_integers_has_no_kernel():
    step, p, xs, s0 = problem(nn.RLIF(3, rngs=nnx.Rngs(0)), 4, 2)
    assert obstacle(step, p, xs.astype(jnp.int32), s0) == "input of dtype int32"


def test_explain_and_source():
    neuron, x = nn.RLIF(4, rngs=nnx.Rngs(0)), jnp.ones((2, 5, 4))
    source = nn.kernel_source(neuron)
    assert source.count("by_events(") == 2
    assert source.count("product(") == 1
    compile(source, "kernel", "exec")
    if fused.unavailable() is None:
        assert nn.explain(neuron, x, mode="fused")[0].mode == "fused"


def test_where_there_is_no_kernel_the_mode_is_refused(monkeypatch):
    neuron, x = nn.RLIF(4, rngs=nnx.Rngs(0)), jnp.ones((2, 5, 4))
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    refusal = r"spyx\.nn\.run\(mode='fused'\): expected .* kernel; got .*llvmlite is not installed: pip install"
    for function in (nn.run, nn.explain):
        with pytest.raises(ValueError, match=refusal):
            function(neuron, x, mode="fused")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match="no fused kernel: kernels of recurrent neurons exist for cpu"):
        nn.explain(neuron, x, mode="fused")


@needs_compiler
def test_auto_takes_layers_whose_weight_stays_in_the_cache(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    modes = {}
    for units in (KERNEL_UNITS, KERNEL_UNITS + 1):
        neuron = nn.RLIF(units, rngs=nnx.Rngs(0))
        modes[units] = [nn.explain(neuron, jnp.ones((batch, 16, units)))[0].mode for batch in (1, 2)]
    assert modes == {KERNEL_UNITS: ["layer", "fused"], KERNEL_UNITS + 1: ["layer", "layer"]}
