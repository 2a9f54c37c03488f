"""`stepper`: one step at a time gives the numbers of `run`, by the native step and by JAX's."""

from __future__ import annotations

import functools
import re
import tracemalloc
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, experimental, graph, nn
from spyx.engine import device
from spyx.engine.kernels import kernel_cache

pytestmark = pytest.mark.skipif(not device.has_compiler(), reason="needs the extra cpu")


def spikes(*shape, rate=0.3, seed=0):
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.float32)


def linear(inputs, outputs, kind=nn.Linear, **options):
    """Weights that are multiples of 1/16: their sums are exact, in whatever order. NumPy draws them."""
    weight = np.random.default_rng(1).normal(0.05, 0.5, (inputs, outputs))
    bias = np.arange(outputs, dtype=np.float32) / 16
    return kind(
        inputs,
        outputs,
        kernel_init=lambda *_: jnp.asarray(np.round(weight * 16) / 16, jnp.float32),
        bias_init=lambda *_: jnp.asarray(bias),
        rngs=nnx.Rngs(0),
        **options,
    )


@functools.cache
def chain():
    return coarse_chain()


def coarse_chain():
    return nn.Sequential(
        linear(12, 16),
        nn.LIF(16, beta=0.5),
        linear(16, 16, nnx.Linear, use_bias=False),
        nn.LIF(16, beta=0.25),
        linear(16, 3),
        nn.LI(3, beta=0.5),
    )


class Quadratic(nn.Neuron):
    """A user's: two variables, a hard reset, a parameter per unit, an output that follows from this step's input."""

    state = dict(v=-0.5, w=0.25)

    def __init__(self, hidden_shape, *, name=None):
        super().__init__(hidden_shape, axn.sigmoid(), name=name)
        self.gain = nnx.Param(jnp.linspace(0.5, 1.5, self.hidden_shape[-1]))
        self.rate = 0.1

    @staticmethod
    def step(p, x, s):
        v = s.v + p.rate * (s.v**2 - s.w) + p.gain * x
        z = p.spike(v - 1.0)
        return z, s._replace(v=jnp.where(z > 0, -0.5, v), w=s.w + p.rate * jnp.exp(-s.w) * z)


run = nnx.jit(nn.run, static_argnames="mode")
"""As one program: it compiles faster than one program per layer."""


def by_steps(step, x):
    return np.stack([step(x[:, t]) for t in range(x.shape[1])], 1)


def assert_same_state(state, expected, tolerance=1e-5):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), state, expected)


def test_ten_thousand_steps_are_those_of_run_to_the_last_bit():
    net, x = chain(), spikes(1, 10_000, 12)
    step, state = nn.stepper(net), None
    assert [plan.mode for plan in step.plan] == ["fused"] * 6
    for start in range(0, 10_000, 1000):
        piece = x[:, start : start + 1000]
        outs, state = run(net, piece, state)
        np.testing.assert_array_equal(by_steps(step, piece), outs)
        assert_same_state(step.state, state, tolerance=0)
    _, _, seen = nn.observe(net, x[:, -100:], what="outputs", where=("1", "3"))
    assert all(0.02 < rate.mean() < 0.9 for rate in seen.values())


def local():
    """Several kinds of neurons, features of two axes, chains in a chain."""
    first = [nn.IF((2, 6)), linear(6, 4), nn.CuBaLIF((2, 4), alpha=0.7, beta=np.linspace(0.1, 0.9, 4))]
    inner = nn.Sequential(nn.Flatten(), nn.Sequential(linear(8, 8), Quadratic(8)))
    return nn.Sequential(*first, inner, nn.LIF(8, beta=0.9, threshold=0.3))


def recurrent():
    """Fed back: the output of this step, and of the step before; of one variable and of two."""

    def back(key, shape):
        return jnp.asarray(np.random.default_rng(2).normal(0, 0.5, shape), jnp.float32)

    strong = {"recurrent_init": back, "rngs": nnx.Rngs(0)}
    carried = [nn.Recurrent(nn.LI(6), **strong), nn.Recurrent(Quadratic(6), **strong)]
    return nn.Sequential(linear(12, 6), nn.RALIF(6, beta=0.9, gamma=0.8, threshold=0.3, **strong), *carried)


@pytest.mark.parametrize(("make", "shape"), [(local, (2, 6)), (recurrent, (12,))])
def test_every_chain_gives_the_numbers_of_run(make, shape):
    net, x = make(), spikes(3, 60, *shape)
    step = nn.stepper(net, 3)
    assert {plan.mode for plan in step.plan} == {"fused"}
    outs, state = run(net, x)
    got = by_steps(step, x)
    np.testing.assert_allclose(got, outs, rtol=1e-5, atol=1e-5)
    assert_same_state(step.state, state)
    assert np.mean(got != 0) > 0.02
    step.reset()
    np.testing.assert_array_equal(by_steps(step, x), got)


def test_a_neuron_alone_and_every_dtype_of_spikes():
    step = nn.stepper(nn.LIF(5, beta=0.5))
    x = spikes(1, 4, 5, rate=0.9)
    got = by_steps(step, x)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, run(nn.LIF(5, beta=0.5), x)[0])
    for dtype in (np.uint8, np.bool_):
        step.reset()
        np.testing.assert_array_equal(by_steps(step, x.astype(dtype)), got)


def test_a_chain_that_begins_with_flatten_takes_features_of_any_shape():
    flat = nn.stepper(chain())
    step, x = nn.stepper(nn.Sequential(nn.Flatten(), *chain().layers)), spikes(1, 12)
    assert str(step.plan).startswith("Flatten  (1, 1, 12)  fused  one native step: nothing to do")
    np.testing.assert_array_equal(step(x.reshape(1, 2, 6)), flat(x))
    np.testing.assert_array_equal(step.events([3, 5]), flat.events([3, 5]))
    with pytest.raises(ValueError, match=r"expected the input of one step, \(1, 12\); got shape \(1, 2, 5\)"):
        step(x[:, :10].reshape(1, 2, 5))


def test_indices_are_the_spikes_that_they_name():
    net, x = chain(), spikes(30, 1, 12)
    dense, events, both = nn.stepper(net), nn.stepper(net), nn.stepper(net)
    for k, row in enumerate(x):
        active, expected = np.flatnonzero(row)[::-1].astype(np.uint16), dense(row)
        np.testing.assert_array_equal(events.events(active), expected)
        np.testing.assert_array_equal(both.events(active) if k % 3 else both(row), expected)
    np.testing.assert_array_equal(events.events([]), dense(np.zeros((1, 12), bool)))
    assert_same_state(events.state, dense.state, tolerance=0)


def test_state_goes_to_run_and_back():
    net, x = chain(), spikes(2, 30, 12)
    outs, _ = run(net, x)
    step = nn.stepper(net, 2)
    first = by_steps(step, x[:, :10])
    middle, state = run(net, x[:, 10:20], step.state)
    other = nn.stepper(net, 2)
    other.state = state
    np.testing.assert_array_equal(np.concatenate([first, middle, by_steps(other, x[:, 20:])], 1), outs)
    before = step.state
    assert isinstance(before[1], np.ndarray)
    assert before[0] is None
    step(x[:, 0])
    assert (before[1] != step.state[1]).any()
    step.state = None
    assert_same_state(step.state, net.initial_state(2), tolerance=0)


def test_outputs_are_the_callers_and_no_memory_grows():
    step, x, out = nn.stepper(chain()), spikes(1, 12), np.empty((1, 3), np.float32)
    first = step(x)
    kept = first.copy()
    assert step(x, out=out) is out
    assert step.events([1, 2], out=out) is out
    np.testing.assert_array_equal(first, kept)
    indices = np.array([3, 4])
    for _ in range(100):
        step.events(indices, out=out)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5_000):
        step(x, out=out)
        step.events(indices, out=out)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 1_000
    assert peak - before < 5_000


def test_update_takes_new_parameters_and_leaves_the_state():
    net = coarse_chain()
    step, x = nn.stepper(net), spikes(1, 8, 12)
    by_steps(step, x)
    net.layers[0].kernel[...] *= 2
    state = step.state
    step.update()
    assert_same_state(step.state, state, tolerance=0)
    new = by_steps(step, x)
    np.testing.assert_array_equal(new, run(net, x, state)[0])
    assert (new != run(coarse_chain(), x, state)[0]).any()
    step.update(coarse_chain())
    with pytest.raises(ValueError, match=r"spyx.nn.stepper.state: expected a state of this model"):
        step.update(nn.LIF(12, beta=0.5))


def test_chains_of_one_structure_are_compiled_once():
    nn.stepper(chain())
    compiled = len(kernel_cache._addresses)
    sizes = [5, 3, 7, 2]
    neurons = [nn.LIF(3, beta=0.5), nn.LIF(7, beta=0.9), nn.LI(2)]
    pairs = zip(zip(sizes, sizes[1:], strict=False), neurons, strict=True)
    nn.stepper(nn.Sequential(*(layer for size, n in pairs for layer in (linear(*size), n))), 2)
    assert len(kernel_cache._addresses) == compiled


def convolutional():
    return nn.Sequential(nn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), nn.LIF((4, 4, 2), beta=0.9), nn.Flatten(), nn.LI(32))


def feedback():
    return graph.Graph(
        {"fc": linear(12, 4, nnx.Linear), "lif": nn.LIF(4, beta=0.9)},
        [("input", "fc"), ("fc", "lif"), ("lif", "lif", 2), ("lif", "output")],
        {"lif": "sum"},
    )


class Own(nnx.Linear):
    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


class Sorted(nn.Neuron):
    """No lane program: it sorts."""

    @staticmethod
    def step(p, x, v):
        return x + 0.5 * v, jnp.sort(x + 0.5 * v, axis=-1)


@pytest.mark.parametrize(
    ("make", "shape", "why"),
    [(convolutional, (4, 4, 1), "layer 0 (Conv) has no kernel for one step"), (feedback, (12,), "Graph has no kernel")],
)
def test_everything_else_is_one_jitted_step(make, shape, why):
    net, x = make(), spikes(1, 12, *shape)
    step = nn.stepper(net)
    assert {plan.mode for plan in step.plan} == {"step"}
    assert f"one jitted step of JAX: {why}" in str(step.plan)
    first, middle = run(net, x[:, :6])
    np.testing.assert_allclose(by_steps(step, x[:, :6]), first, rtol=1e-5, atol=1e-5)
    assert_same_state(step.state, middle)
    second, last = run(net, x[:, 6:], step.state)
    before = jax.tree.map(np.array, middle)
    step.state = middle
    np.testing.assert_allclose(by_steps(step, x[:, 6:]), second, rtol=1e-5, atol=1e-5)
    assert_same_state(step.state, last)
    assert_same_state(middle, before, tolerance=0)  # it was copied, not given away
    step.update()
    step.reset()
    np.testing.assert_allclose(step.events(np.flatnonzero(x[:, 0])), first[:, 0], rtol=1e-5, atol=1e-5)


REASONS = {
    "a function": (
        lambda: nn.Sequential(nn.LIF(4, beta=0.5), jnp.tanh, nn.LI(4)),
        r"layer 1 \(tanh\) has no kernel for one step, which only Linear, Flatten and neurons have",
    ),
    "a call of its own": (
        lambda: nn.Sequential(linear(3, 4, Own), nn.LI(4)),
        r"layer 0 \(Own\) .*, which has a __call__, a dtype or a product of its own",
    ),
    "half precision": (
        lambda: nn.Sequential(nn.LIF(3, beta=0.5), nn.Sequential(linear(3, 4, dtype=jnp.bfloat16))),
        r"layer 1\.0 \(Linear\) .*, which has a __call__, a dtype or a product of its own",
    ),
    "a step with a sort": (lambda: Sorted(4), r": Sorted has no kernel for one step, primitive 'sort'"),
    "another connection": (
        lambda: nn.Recurrent(nn.LIF(4, beta=0.5), via=linear(4, 4, nnx.Linear)),
        r"a connection that is not a dense weight",
    ),
}


@pytest.mark.parametrize(("make", "why"), REASONS.values(), ids=REASONS)
def test_the_plan_says_why_there_is_no_native_step(make, why):
    step = nn.stepper(make())
    assert re.search(why, str(step.plan))


def test_without_the_compiler(monkeypatch):
    monkeypatch.setattr(device, "has_compiler", lambda: False)
    net, x = chain(), spikes(1, 5, 12)
    step = nn.stepper(net)
    assert "llvmlite is not installed" in str(step.plan)
    np.testing.assert_array_equal(step.events(np.flatnonzero(x[0, 0])), run(net, x[:, :1])[0][:, 0])


def test_layers_that_change_themselves_are_copied():
    net = nn.Sequential(linear(12, 4), nnx.Dropout(0.5, rngs=nnx.Rngs(1)), nn.LI(4))
    step, x = nn.stepper(net), spikes(1, 6, 12)
    got = by_steps(step, x)
    np.testing.assert_allclose(got, run(net, x, mode="step")[0], atol=1e-5)
    assert (got != by_steps(nn.stepper(net), x)).any()


def test_a_model_of_several_outputs():
    net = graph.Graph(
        {"a": nn.LI(2, beta=0.5)}, [("in", "a"), ("a", "x"), ("in", "y")], inputs="in", outputs=("x", "y")
    )
    out = nn.stepper(net)(np.ones((1, 2), np.float32))
    assert sorted(out) == ["x", "y"]
    assert isinstance(out["x"], np.ndarray)


CHECKED = nn.Sequential(linear(3, 2), nn.LIF(2, beta=0.5))
X = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize("fallback", [False, True], ids=["native", "jitted"])
def test_what_is_wrong_is_said(fallback, monkeypatch):
    if fallback:
        monkeypatch.setattr(device, "has_compiler", lambda: False)
    step = nn.stepper(CHECKED, check_finite=True)
    step(X + 0.5)
    before = step.state

    def refused(kind, words, call):
        with pytest.raises(kind, match=words):
            call()

    refused(ValueError, r"expected .*\(1, (3|\*features)\); got shape \(3,\). Add the batch axis", lambda: step(X[0]))
    refused(ValueError, r"spyx.nn.stepper: expected the input of one step", lambda: step(np.zeros((2, 3), bool)))
    refused(ValueError, r"expected", lambda: step(np.zeros((1, 4), np.float32)))
    refused(TypeError, r"expected input of dtype float32, uint8 or bool; got float64", lambda: step(np.zeros((1, 3))))
    refused(ValueError, r"expected input without NaN; got 3 of 3", lambda: step(X + np.float32(np.nan)))
    refused(ValueError, r"events: expected indices from 0 to 2; got 3", lambda: step.events([0, 3]))
    refused(ValueError, r"events: expected indices from 0 to 2; got -1", lambda: step.events([-1]))
    refused(ValueError, r"expected every active input once; got 2 2 times. Use np.unique", lambda: step.events([2, 2]))
    refused(ValueError, r"expected every active input once; got 1 4 times", lambda: step.events([1, 1, 1, 1]))
    refused(TypeError, r"expected a 1-D array of integers; got float64", lambda: step.events([0.0]))
    refused(TypeError, r"expected a 1-D array of integers; got bool", lambda: step.events(X[0] > 0))
    refused(TypeError, r"expected a 1-D array of integers; got int64 of shape \(1, 1\)", lambda: step.events([[1]]))
    out = np.zeros((1, 2))
    refused(
        ValueError, r"\(out=\): expected a NumPy array of shape \(1, 2\) and dtype float32", lambda: step(X, out=out)
    )
    refused(ValueError, r"state: expected a state of this model", lambda: setattr(step, "state", before[1]))
    wide = [None, np.zeros((2, 2), np.float32)]
    refused(ValueError, r"state: expected an array of shape \(1, 2\)", lambda: setattr(step, "state", wide))
    assert_same_state(step.state, before, tolerance=0)
    refused(ValueError, r"events: expected a batch of 1; got one of 2", lambda: nn.stepper(CHECKED, 2).events([1]))


def test_models_that_have_no_steps_are_refused():
    for batch in (0, True, 1.5):
        with pytest.raises(ValueError, match=r"spyx.nn.stepper\(batch_size=\): expected at least 1 sample"):
            nn.stepper(CHECKED, batch)
    with pytest.raises(TypeError, match="Wrap layers without state"):
        nn.stepper(linear(3, 2))
    with pytest.raises(ValueError, match=r"layer 1 \(LIF\) cannot take input"):
        nn.stepper(nn.Sequential(linear(3, 2), nn.LIF(3, beta=0.5)))
    with pytest.raises(ValueError, match="needs all of time in one call"):
        nn.stepper(nn.Sequential(experimental.PSN(4, 3, rngs=nnx.Rngs(0))))
    step = nn.stepper(convolutional())
    with pytest.raises(ValueError, match="whose first layer tells the shape of its input"):
        step.events([1])
