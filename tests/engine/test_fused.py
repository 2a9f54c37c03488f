"""Fused kernels: the CPU's compiled, the GPU's interpreted and lowered, against the plain scan."""

from __future__ import annotations

import re
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.engine import every_primitive
from tests.reference.loop_oracle import scan

from spyx import axn, engine, nn
from spyx.engine import device, fused
from spyx.engine.kernels.expressions import EXPRESSIONS
from spyx.engine.kernels.spec import spec_of


def obstacle(*arguments):
    """What stands in the way of kernels, in words; None if nothing does."""
    try:
        fused.kernel(*arguments)
    except fused.Unsupported as reason:
        return str(reason)
    return None


needs_compiler = pytest.mark.skipif(not device.has_compiler(), reason="needs llvmlite: pip install 'spyx-jax[cpu]'")

LANES = (3, 23)


class Izhikevich(nn.Neuron):
    state = dict(v=-65.0, u=-13.0)

    @staticmethod
    def step(p, x, s):
        v = s.v + 0.5 * (0.04 * s.v**2 + 5 * s.v + 140 - s.u + 10 * x)
        u = s.u + 0.01 * (0.2 * s.v - s.u)
        z = p.spike(v - 30.0)
        return z, Izhikevich.State(v=v + z * (-65.0 - v), u=u + z * 8.0)


class Cumulative(nn.Neuron):
    @staticmethod
    def step(p, x, v):
        v = 0.5 * v + jnp.cumsum(x, axis=-1)
        return v, v


def evaluate(mode, step, p, xs, s0):
    """Outputs, last state, and the gradients of a loss in which no two errors cancel."""

    def loss(p, xs, s0):
        outs, end = mode(step, p, xs, s0)
        leaves = jax.tree.leaves((outs, end))
        weighted = [jnp.sum(a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)) for a in leaves]
        return sum(weighted, jnp.zeros((), xs.dtype)), (outs, end)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(p, xs, s0)


def assert_same(got, expected, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * (1 + np.max(np.abs(b), initial=0)))


def problem(neuron, steps, lanes=LANES, dtype=jnp.float32):
    xs = 0.7 * jax.random.normal(jax.random.key(0), (steps, *lanes), dtype)
    s0 = jax.tree.map(lambda a: a + jnp.asarray(0.1, dtype), neuron.initial_state(lanes[0], dtype))
    return neuron.step, neuron.params().astype(dtype), xs, s0


@needs_compiler
@pytest.mark.parametrize("steps", [1, 16, 37])
def test_any_number_of_steps(steps):
    arguments = problem(nn.CuBaLIF(LANES[1:], rngs=nnx.Rngs(0)), steps)
    assert_same(evaluate(engine.MODES["fused"], *arguments), evaluate(scan, *arguments), 1e-5)


@needs_compiler
@pytest.mark.parametrize("build", [partial(nn.ALIF, rngs=nnx.Rngs(0)), Izhikevich], ids=["ALIF", "Izhikevich"])
def test_double_precision_is_exact(build):
    with jax.enable_x64(True):
        arguments = problem(build(LANES[1:]), 37, dtype=jnp.float64)
        assert_same(evaluate(engine.MODES["fused"], *arguments), evaluate(scan, *arguments), 1e-12)


@needs_compiler
def test_more_lanes_than_a_block_and_calls_from_many_threads():
    neuron = nn.LIF(700, beta=0.9)
    step, p, xs, s0 = problem(neuron, 20, (9, 700))
    expected = scan(step, p, xs, s0)
    run = jax.jit(partial(engine.MODES["fused"], step)).lower(p, xs, s0).compile()
    results = [None] * 8

    def work(k):
        for _ in range(20):
            results[k] = jax.block_until_ready(run(p, xs, s0))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(results))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for got in results:
        assert_same(got, expected, 1e-6)


@needs_compiler
def test_a_mapped_axis_is_more_lanes():
    neuron = nn.LIF(4, beta=0.5)
    xs = jax.random.normal(jax.random.key(0), (5, 20, 2, 4))
    s0 = neuron.initial_state(2)

    def loss(mode, beta, x):
        settings = {"spike": axn.superspike(), "threshold": 1.0, "dynamics": nn.Dynamics()}
        return mode(neuron.step, engine.Params({"beta": beta}, settings), x, s0)[0].sum()

    betas = jnp.linspace(0.1, 0.9, 5)
    grads = [jax.vmap(jax.grad(partial(loss, mode), (0, 1)))(betas, xs) for mode in (engine.MODES["fused"], scan)]
    assert_same(grads[0], grads[1], 1e-5)


@needs_compiler
def test_narrow_input_is_read_and_written_as_it_is():
    neuron = nn.LIF(23, beta=0.9)
    step, p, xs, s0 = problem(neuron, 20)
    narrow = xs.astype(jnp.bfloat16)
    outs, end = engine.MODES["fused"](step, p, narrow, s0)
    expected, expected_end = scan(step, p, narrow.astype(jnp.float32), s0)
    assert outs.dtype == jnp.bfloat16
    assert_same((outs.astype(jnp.float32), end), (expected, expected_end), 1e-6)
    assert (
        jax.grad(lambda x: nn.run(neuron, x, mode="fused")[0].astype(jnp.float32).sum())(narrow).dtype == jnp.bfloat16
    )


# Neurons that nobody wrote: every operation of the table that keeps values bounded, composed at random.
UNARY = (
    jnp.tanh,
    jnp.sin,
    jnp.abs,
    jnp.square,
    jax.nn.sigmoid,
    lambda a: jnp.exp(-jnp.abs(a)),
    lambda a: jnp.sqrt(1 + a * a),
    lambda a: jnp.log1p(jnp.abs(a)),
    lambda a: jnp.sign(a) * a,
    lambda a: jnp.clip(a, -1.0, 1.0),
    lambda a: jnp.where((a > 0) & ~(a > 0.5), a, 0.5 * a),
    lambda a: jnp.arctan(a) ** 3,
)
BINARY = (jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum, lambda a, b: a / (1 + b * b), jnp.arctan2)


@st.composite
def expressions(draw, depth=3):
    """A function of the list [x, v, w, p, spike(v - 1)]."""
    kind = draw(st.integers(0, 2)) if depth else 0
    if kind == 0:
        index = draw(st.integers(0, 4))
        return lambda values: values[index]
    if kind == 1:
        f, a = draw(st.sampled_from(UNARY)), draw(expressions(depth - 1))
        return lambda values: f(a(values))
    f, a, b = draw(st.sampled_from(BINARY)), draw(expressions(depth - 1)), draw(expressions(depth - 1))
    return lambda values: f(a(values), b(values))


@needs_compiler
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],  # shrinking would compile hundreds of kernels
)
@given(expressions(), expressions(), expressions())
def test_invented_neurons(new_v, new_w, out):
    def step(p, x, s):
        values = [x, s[0], s[1], p.a + 0 * x, p.spike(s[0] - 1.0)]
        # tanh keeps an invented recurrence from growing without bound
        return out(values), (p.a * s[0] + jnp.tanh(new_v(values)), jnp.tanh(new_w(values)))

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 4)
        draw = partial(jax.random.normal, dtype=jnp.float64)
        p = engine.Params({"a": 0.5 + 0.2 * draw(keys[0], (1, 5))}, {"spike": axn.arctan()})
        xs, s0 = 2 * draw(keys[1], (19, 2, 5)), (draw(keys[2], (2, 5)), draw(keys[3], (2, 5)))
        assert obstacle(step, p, xs, s0) is None
        assert_same(evaluate(engine.MODES["fused"], step, p, xs, s0), evaluate(scan, step, p, xs, s0), 1e-9)


@needs_compiler
def test_every_primitive_of_the_table():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0))
        xs, s0 = (jax.random.normal(k, shape, jnp.float64) for k, shape in zip(keys, [(9, *LANES), LANES], strict=True))
        arguments = every_primitive.step, engine.Params({}, {}), xs, s0
        spec = spec_of(*arguments)
        called = {s.primitive.name for s in (*spec.forward.statements, *spec.backward.statements)}
        # `add_any` and `one_minus_square` come and go with the version of JAX.
        assert EXPRESSIONS.keys() - called <= {"add_any", "one_minus_square", "square"}
        assert_same(evaluate(engine.MODES["fused"], *arguments), evaluate(scan, *arguments), 1e-9)


def test_nan_and_infinity_pass_through_as_in_xla():
    odd = jnp.array([[jnp.nan, jnp.inf, -jnp.inf, -0.0]], jnp.float32)

    def step(p, x, v):
        return jnp.maximum(v, 0.5) + jnp.minimum(x, 0.5) + jnp.clip(v, -1, 1) + jnp.sign(v), jnp.where(
            v > 0, jnp.inf, v
        )

    arguments = step, engine.Params({}, {}), jnp.broadcast_to(odd[:, ::-1], (2, 1, 4)), odd
    got, expected = (mode(*arguments) for mode in (engine.MODES["fused"], scan))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_missing_primitive_is_named_and_the_answer_is_right():
    x = jnp.ones((2, 5, 3))
    net = nn.Sequential(Cumulative(3), nn.LIF(3, beta=0.9))
    if fused.unavailable() is None:
        with pytest.raises(ValueError, match="no fused kernel: primitive 'cumsum'"):
            nn.run(Cumulative(3), x, mode="fused")
        choices = nn.explain(net, x, mode="fused")
        assert [choice.mode for choice in choices] == ["layer", "fused"]
        assert choices[0].why.endswith("no fused kernel: primitive 'cumsum'")
        assert_same(nn.run(net, x, mode="fused"), nn.run(net, x, mode="step"), 1e-6)
    with pytest.raises(fused.Unsupported, match="primitive 'cumsum'"):
        engine.MODES["fused"](*problem(Cumulative(3), 5, (2, 3)))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda p, x, v: (v, v[..., ::-1]), "primitive 'rev'"),
        (lambda p, x, v: (v, v.mean(-1, keepdims=True) + x), "primitive 'reduce_sum'"),
        (lambda p, x, v: (v.reshape(3, 2), v), "a step whose output or new state is not of shape (2, 3)"),
        (lambda p, x, v: (v + v[:, :1], v), "primitive 'slice'"),
        (lambda p, x, v: (v.reshape(3, 2).reshape(2, 3), v), "primitive 'reshape' from shape (2, 3) to (3, 2)"),
        (lambda p, x, v: (v, v + jnp.array([[1.0, 2.0, 3.0]])), "an array constant of shape (1, 3)"),
        (lambda p, x, v: (v, v.astype(jnp.bfloat16)), "a step that changes the dtype of its state, or of its output"),
        (lambda p, x, v: (v, (v, v)), "a step whose new state has another structure"),
    ],
)
def test_obstacles(step, reason):
    p = engine.Params({}, {})
    assert obstacle(step, p, jnp.ones((4, 2, 3)), jnp.ones((2, 3))) == reason


@pytest.mark.parametrize(
    ("p", "xs", "s0", "reason"),
    [
        (jnp.ones((3, 3)), jnp.ones((4, 2, 3)), jnp.ones((2, 3)), "a parameter of shape (3, 3), which is not one"),
        (1.0, jnp.ones((4, 2, 3), jnp.int32), jnp.ones((2, 3)), "input of dtype int32"),
        (
            jnp.float32(1),
            jnp.ones((4, 2, 3)),
            jnp.ones((2, 3), jnp.int32),
            "state or parameters of dtype float32, int32",
        ),
        (jnp.float32(1), jnp.ones((4, 2, 5)), jnp.ones((2, 3)), "input and state of different shapes"),
        (jnp.float32(1), jnp.ones((4, 2, 5)), (), "a step without input or state"),
    ],
)
def test_arrays_that_are_not_lanes(p, xs, s0, reason):
    assert obstacle(lambda p, x, s: (x, s), jnp.asarray(p), xs, s0).startswith(reason)


def test_without_the_compiler_the_mode_is_refused_and_auto_runs_the_loop(monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    neuron, x = nn.LIF(4, beta=0.5), jnp.ones((2, 5, 4))
    with pytest.raises(ValueError, match=r"llvmlite is not installed: pip install 'spyx-jax\[cpu\]'"):
        nn.run(neuron, x, mode="fused")
    assert nn.explain(neuron, x)[0].mode == "layer"
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(ValueError, match="kernels exist for cpu and gpu, not for tpu"):
        nn.explain(neuron, x, mode="fused")


def test_the_source_is_shown():
    source = nn.kernel_source(nn.LIF(4, beta=0.9))
    assert source.count("def forward(") == source.count("def backward(") == 1
    compile(source, "kernel", "exec")
    with pytest.raises(ValueError, match=r"kernel_source: expected a step of elementwise.*got primitive 'cumsum'"):
        nn.kernel_source(Cumulative(3))


def test_the_gradient_of_a_tangent_reads_the_states_of_a_run():
    """The backward kernel transposes a tangent whose parameter is itself a function: it starts from checkpoints."""
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (2, 40, 3)), jnp.float32)

    def moved(raw, mode):
        def run(raw):
            layer = nn.LIF(3, beta=nnx.Param(jax.nn.sigmoid(raw)), threshold=9.0)
            return nn.run(layer, x, mode=mode)[1]

        return jnp.sum(jax.jvp(run, (raw,), (jnp.ones(()),))[1])

    found = [jax.grad(moved)(jnp.float32(1.0), mode) for mode in ("layer", "fused")]
    np.testing.assert_allclose(*found, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("name", ["a b\n    free(x0)", "\u212b\u0661.step", "\x1b[31m", "'''", "x" * 500, ""])
def test_the_name_of_a_class_never_becomes_source(name):
    def source(name):
        def step(p, x, v):
            return p.spike(v - 1.0), 0.9 * v + x

        step.__qualname__ = name
        neuron = type(name or "_", (nn.Neuron,), {"step": staticmethod(step)})(3)
        p, s0 = neuron.params().astype(jnp.float32), neuron.initial_state(2)
        text = fused.source(neuron.step, p, jnp.ones((4, 2, 3)), s0)
        nn.run(neuron, jnp.ones((2, 4, 3)), mode="fused")
        return text.splitlines()

    def without_head(lines):
        return [line for line in lines if not re.fullmatch(r"# [A-Za-z0-9_]{0,60}, (for|back)ward, float32", line)]

    hostile, plain = source(name), source("Plain")
    assert without_head(hostile) == without_head(plain)
    assert len(without_head(hostile)) == len(hostile) - 2
