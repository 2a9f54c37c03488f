"""The plan: what `explain` prints is what runs; what cannot run is refused; derivatives of every order; eager calls."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.engine.test_fused import needs_compiler
from tests.reference.loop_oracle import unrolled

from spyx import axn, nn
from spyx.engine import device
from spyx.testing import check_neuron

X = jnp.asarray([0.3, 0.31, 0.29, 0.33, 0.3, 0.28, 0.3])[None, :, None]


def final_state(x, **options):
    lif = nn.LIF(1, beta=0.9)
    return nn.run(lif, x, lif.initial_state(1, x.dtype), **options)[1]


def oracle(x):
    lif = nn.LIF(1, beta=0.9)
    return unrolled(lif.step, lif.params().astype(x.dtype), x.swapaxes(0, 1), lif.initial_state(1, x.dtype))[1]


def derivatives(f):
    """Of order 2 and 3 in reverse mode, forward over reverse, reverse over forward, and forward mode alone."""

    def loss(x):
        return (f(x) ** 2).sum()

    def second(x):
        return jnp.sin(jax.grad(loss)(x)).sum()

    x = X.astype(jnp.float64)
    return (
        jax.grad(second)(x),
        jax.grad(lambda x: (jax.grad(second)(x) ** 2).sum())(x),
        jax.hessian(loss)(x),
        jax.jacrev(jax.jacfwd(loss))(x),
        jax.jvp(loss, (x,), (jnp.cos(x),)),
    )


MODES = [{"mode": m} for m in ("auto", "layer", "step", "fixed_point", "fused")] + [{"chunk": 3}, {"remat": True}]


@pytest.mark.parametrize("options", MODES, ids=str)
def test_every_derivative_in_every_mode_is_that_of_the_unrolled_loop(options):
    if options.get("mode") == "fused" and not device.has_compiler():
        pytest.skip("needs llvmlite: pip install 'spyx-jax[cpu]'")
    with jax.enable_x64(True):
        for got, expected in zip(derivatives(lambda x: final_state(x, **options)), derivatives(oracle), strict=True):
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def test_a_surrogate_inside_a_scan_of_ones_own_has_the_right_second_derivative():
    spike = axn.superspike()

    def body(v, x):
        z = spike(v - 1.0)
        return 0.9 * v + x - z, z

    def loop(x):
        v = jnp.zeros((), x.dtype)
        for t in range(7):
            v = body(v, x[t])[0]
        return v

    def second(final):
        return jax.grad(lambda x: (jax.grad(lambda x: final(x) ** 2)(x) ** 2).sum())(X.ravel())

    scanned = second(lambda x: jax.lax.scan(body, jnp.zeros((), x.dtype), x)[0])
    np.testing.assert_allclose(scanned, second(loop), rtol=2e-4)


@needs_compiler
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_plan_looks_at_the_state_that_comes_in(dtype):
    lif = nn.LIF(64, beta=0.9)
    x, state = jnp.ones((16, 50, 64)), lif.initial_state(16, dtype)
    plan = nn.explain(lif, x, state)[0]
    assert plan.mode == "layer"
    assert plan.why.endswith(f"no fused kernel: state or parameters of dtype {jnp.dtype(dtype).name}")
    np.testing.assert_array_equal(nn.run(lif, x, state)[0], nn.run(lif, x, state, mode="layer")[0])
    assert nn.explain(lif, x)[0].mode == "fused"
    with pytest.raises(ValueError, match="no fused kernel: state or parameters of dtype"):
        nn.run(lif, x, state, mode="fused")


def test_explain_with_a_gradient_shows_the_plan_of_a_gradient(monkeypatch):
    monkeypatch.setattr(device, "CACHE_BYTES", 200)
    rngs = nnx.Rngs(0)
    net = nn.Sequential(nn.Conv(2, 2, (1,), rngs=rngs), nn.LIF((4, 2), beta=0.9))
    x = jnp.ones((1, 60, 4, 2))
    assert (
        nn.explain(net, x).time == "time is cut into chunks of 6 of 60 steps: the states of a chunk stay in the cache"
    )
    assert nn.explain(net, x, grad=True).time is None
    assert [plan.shape[0] for plan in nn.explain(net, x, grad=True)] == [60, 60]
    graphdef, weights = nnx.split(net)

    def loss(weights):
        return nn.run(nnx.merge(graphdef, weights), x)[0].sum()

    # jit inside grad and grad inside jit are the same to a rule.
    for gradient in (jax.grad(loss), jax.grad(jax.jit(loss)), jax.jit(jax.grad(loss))):
        assert "tensor<10x6x1x4x2xf32>" not in jax.jit(gradient).lower(weights).as_text()
    assert "tensor<10x6x1x4x2xf32>" in jax.jit(loss).lower(weights).as_text()


def test_eager_runs_compile_once():
    found = []
    net = nn.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nn.LIF(4, beta=0.9), nn.LI(4))
    x = jnp.ones((2, 7, 3))
    calls = [{}, {"mode": "layer"}, {"mode": "step"}, {"chunk": 3}, {"remat": True}, {"chunk": 3, "mode": "step"}]
    for options in calls:
        nn.run(net, x, **options)
    list(nn.stream(net, [x, x]))
    nn.observe(net, x, what="state", mode="step")
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: found.append(name) if "backend_compile" in name else None
    )
    for _ in range(3):  # another test's thread may compile in between, or JAX drop a program when its cache is full
        found.clear()
        for options in calls:
            nn.run(net, x, **options)
        list(nn.stream(net, [x, x]))
        nn.observe(net, x, what="state", mode="step")
        if not found:
            break
    assert found == []


class Mix(nn.Neuron):
    affine = "always"

    @staticmethod
    def step(p, x, v):
        v = 0.5 * v + x + 0.2 * jnp.roll(v, 1, -1)
        return v, v


class Bent(nn.Neuron):
    affine = "given_spikes"

    @staticmethod
    def step(p, x, v):
        z = p.spike(v - 1.0)
        return z, jnp.where(v > 1.2, 0.0, 0.9 * v + x)


@pytest.mark.parametrize(
    ("neuron", "mode", "message"),
    [
        (Mix, "parallel", r"^Mix\.local: expected False, because a unit reads another unit's state; got True"),
        (Bent, "fixed_point", r"^Bent\.affine: expected what its step is, 'never'; got 'given_spikes'"),
    ],
)
def test_a_mode_proves_the_trait_that_it_stands_on(neuron, mode, message):
    x = jnp.ones((2, 5, 4))
    for run in (lambda: nn.run(neuron(4), x, mode=mode), lambda: jax.jit(lambda x: nn.run(neuron(4), x, mode=mode))(x)):
        with pytest.raises(ValueError, match=message):
            run()
    nn.run(neuron(4), x)  # the other modes do not need it


@pytest.mark.parametrize("name", ["LIF", "ALIF", "CuBaLIF"])
def test_an_infinite_input_is_the_same_in_every_mode(name):
    neuron = getattr(nn, name)(1, rngs=nnx.Rngs(1))
    x = jnp.ones((1, 9, 1)).at[0, 4].set(jnp.inf)
    expected = nn.run(neuron, x, mode="step")
    for mode in ("layer", "fixed_point"):
        for a, b in zip(jax.tree.leaves(nn.run(neuron, x, mode=mode)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_nan_is_refused_where_asked():
    x = np.ones((2, 5, 3), np.float32)
    x[1, 2, 0] = np.nan
    nn.run(nn.LIF(3, beta=0.9), x)
    with pytest.raises(ValueError, match=r"run\(check_finite=\): expected input without NaN; got 1 of 30 values NaN"):
        nn.run(nn.LIF(3, beta=0.9), x, check_finite=True)
    nn.run(nn.LIF(3, beta=0.9), np.ones((2, 5, 3), np.float32), check_finite=True)
    with pytest.raises(ValueError, match="expected numbers to look at; got a traced input"):
        jax.jit(lambda x: nn.run(nn.LIF(3, beta=0.9), x, check_finite=True))(x)


class AdEx(nn.Neuron):
    """A resting value that no float32 equals."""

    state = dict(v=-70.6, w=0.0)
    affine = "given_spikes"

    @staticmethod
    def step(p, x, s):
        v = s.v + 0.1 * (-(s.v + 70.6) - s.w + x)
        z = p.spike(v + 50.0)
        return z, s._replace(v=v - 20.0 * z, w=0.99 * s.w + z)


def test_a_resting_value_need_not_be_a_float32():
    check_neuron(AdEx(2))


def method(self, p, x, v):
    return v, v + x


def no_state(p, x, v):
    return v


def plain_tuple(p, x, s):
    return s.v, (s.v + x, s.u)


def one_field(p, x, s):
    return s.v, s.v


def other_shape(p, x, v):
    return v, v.sum(-1)


def other_dtype(p, x, v):
    return v, (v + x).astype(jnp.float16)


def missing_variable(p, x, v):
    return v, v.u + x


def missing_parameter(p, x, v):
    return v, p.beta * v


TWO = dict(v=0.0, u=0.0)


@pytest.mark.parametrize(
    ("step", "state", "error", "message"),
    [
        (method, dict(v=0.0), TypeError, r"^Mine\.step: expected a static method step\(p, x, s\); got a method of an"),
        (staticmethod(no_state), dict(v=0.0), TypeError, r"^Mine\.step: expected \(out, new state\); got one array"),
        (staticmethod(plain_tuple), TWO, TypeError, r"expected the new state as MineState\(v, u\).*; got a tuple of 2"),
        (staticmethod(one_field), TWO, TypeError, r"expected the new state as MineState\(v, u\).*; got one array"),
        (staticmethod(other_shape), dict(v=0.0), TypeError, r"expected state variables of shape and dtype \(2, 3\)"),
        (staticmethod(other_dtype), dict(v=0.0), TypeError, r"got \(2, 3\) float16"),
        (staticmethod(missing_variable), dict(v=0.0), AttributeError, r"expected a step of the state variable\(s\) v"),
        (staticmethod(missing_parameter), dict(v=0.0), AttributeError, r"p\.beta: expected a parameter of this neuron"),
        (staticmethod(no_state), {}, TypeError, r"^Mine\.state: expected a dict of variable name to resting value"),
    ],
)
def test_a_neuron_that_is_written_wrongly_is_told_so(step, state, error, message):
    Mine = type("Mine", (nn.Neuron,), {"step": step, "state": state, "__module__": __name__})
    with pytest.raises(error, match=message):
        nn.run(Mine(3), jnp.ones((2, 5, 3)))


def test_a_subclass_may_declare_more_state():
    class Parent(nn.Neuron):
        state = dict(v=0.0, u=0.0)

        @staticmethod
        def step(p, x, s):
            return s.v, s._replace(v=s.v + x, u=s.u + s.v)

    class Rest(Parent):
        state = dict(v=1.0, u=0.0)

    class More(Parent):
        state = dict(v=0.0, u=0.0, w=2.0)

    assert Rest.State is Parent.State
    end = nn.run(More(1), jnp.ones((1, 3, 1)))[1]
    assert (end.v.item(), end.u.item(), end.w.item()) == (3.0, 3.0, 2.0)


def test_a_name_that_p_has_already_is_refused():
    class Named(nn.Neuron):
        def __init__(self):
            super().__init__(2)
            self.spike = 1.0

        @staticmethod
        def step(p, x, v):
            return v, v + x

    with pytest.raises(ValueError, match=r"^Named\.spike: expected another name; got one that p has already"):
        nn.run(Named(), jnp.ones((1, 2, 2)))


def test_a_step_that_closes_over_a_traced_array_is_refused():
    def loss(w):
        class Closure(nn.Neuron):
            @staticmethod
            def step(p, x, v):
                return v, w * v + x

        return nn.run(Closure(2), jnp.ones((1, 3, 2)))[0].sum()

    with pytest.raises(ValueError, match=r"^Closure\.step: .* got one that closes over a traced array"):
        jax.grad(loss)(jnp.float32(0.5))


class Doubled(nnx.Linear):
    """A subclass with a product of its own."""

    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


class Renamed(nnx.Linear):
    """A subclass that leaves the product alone."""


@needs_compiler
def test_products_of_flax_layers_and_their_subclasses(monkeypatch):
    monkeypatch.setattr("spyx.engine.events.choice.SMALLEST", 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    x = (jax.random.uniform(jax.random.key(0), (4, 6, 8)) < 0.1).astype(jnp.float32)
    events = "zeros are skipped where few entries of the input are not zero"
    for kind, factor, why in (
        (nnx.Linear, 1, events),
        (nn.Linear, 1, events),
        (Renamed, 1, events),
        (Doubled, 2, None),
    ):
        layer = kind(8, 5, rngs=nnx.Rngs(0))
        net = nn.Sequential(layer, nn.LI(5, beta=nn.Fixed(0.0)))
        expected = factor * nnx.Linear.__call__(layer, x) if kind is not Doubled else layer(x)
        np.testing.assert_allclose(nn.run(net, x)[0], expected, atol=1e-5)
        line = nn.explain(net, x)[0].why
        assert line.endswith(why) if why else line.endswith("dense, Doubled has a __call__ of its own")
