"""Every promise of the conformance suite, broken on purpose: the suite names the one that is broken."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx import nn
from spyx.testing import check_layer, check_neuron, check_surrogate
from spyx.testing._agreement import require_close


class Stepped:
    """A layer that keeps every promise: `v' = v / 2 + x`."""

    def initial_state(self, batch_size):
        return jnp.zeros((batch_size, 2))

    def __call__(self, x, v):
        v = 0.5 * v + x
        return v, v


class Trace(Stepped):
    """The same, with all of time in one call."""

    def sequence(self, xs, v):
        v, outs = jax.lax.scan(lambda v, x: (0.5 * v + x,) * 2, v, xs)
        return outs, v


class Doubled(Trace):
    """Over time it is another layer than step by step."""

    def sequence(self, xs, v):
        outs, v = super().sequence(xs, v)
        return 2 * outs, v


class Forgetful(Trace):
    def sequence(self, xs, v):
        return super().sequence(xs, jnp.zeros_like(v))


class WrongEnd(Trace):
    """Right outputs wherever it is cut after one step, and a last state that is one step old."""

    def sequence(self, xs, v):
        outs, end = super().sequence(xs, v)
        return outs, end if xs.shape[0] < 5 else outs[-2]


@jax.custom_vjp
def twice_the_slope(x):
    return x


twice_the_slope.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))


class WrongSlope(Trace):
    def sequence(self, xs, v):
        return super().sequence(twice_the_slope(xs), v)


class Infinite(Stepped):
    """Its slope at rest is not finite."""

    def __call__(self, x, v):
        return jnp.sqrt(jnp.abs(v)), 0.5 * v + x


class BatchLast(Stepped):
    def initial_state(self, batch_size):
        return jnp.zeros((2, batch_size))


class Leak(Stepped):
    def __call__(self, x, v):
        v = 0.5 * v + x - x.mean(0, keepdims=True)
        return v, v


@pytest.mark.parametrize(
    ("layer", "promise"),
    [
        (Doubled(), r"mode 'layer' gives the outputs and state of 'step'|`run` calls the layer once"),
        (Forgetful(), "a stream may be cut anywhere"),
        (WrongEnd(), "the state carries a stream over a cut"),
        (WrongSlope(), "mode 'layer' gives the gradients of 'step'"),
        (Infinite(), "gradients are finite"),
        (BatchLast(), "every state array has the batch on axis 0"),
        (Leak(), "samples of a batch do not see each other"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_that_breaks_a_promise(layer, promise):
    with pytest.raises(AssertionError, match=promise):
        check_layer(layer, (2,))


def test_a_layer_that_keeps_them_all():
    check_layer(Trace(), (2,))


class Clipped(nn.Neuron):
    """Affine near rest, and nowhere else."""

    affine = "always"

    @staticmethod
    def step(p, x, v):
        v = jnp.clip(0.5 * v + x, -20.0, 20.0)
        return v, v


class Modest(nn.Neuron):
    """Affine, and it does not say so."""

    @staticmethod
    def step(p, x, v):
        v = 0.5 * v + x
        return v, v


class Alone(Modest):
    """Says that its units read one another; none does."""

    affine = "always"
    local = False


class Warm(Modest):
    """Rests elsewhere than it says."""

    affine = "always"

    def initial_state(self, batch_size, dtype=jnp.float32):
        return super().initial_state(batch_size, dtype) + 1


class Narrow(Modest):
    """Its output has fewer units than its input."""

    affine = "always"

    @staticmethod
    def step(p, x, v):
        v = 0.5 * v + x
        return v[:, :1], v


@pytest.mark.parametrize(
    ("neuron", "promise"),
    [
        (Clipped, "affine='always'; the step is 'never'"),
        (Modest, "affine='never'; the step is 'always'"),
        (Alone, "local=False, but no unit reads another unit's state"),
        (Warm, "initial_state is the declared resting state"),
        (Narrow, r"the output has shape \(2, 3\); got \(2, 1\)"),
    ],
)
def test_a_neuron_that_breaks_a_promise(neuron, promise):
    with pytest.raises(AssertionError, match=promise):
        check_neuron(neuron(3))


def test_a_neuron_without_a_docstring():
    with pytest.raises(AssertionError, match="Warm: docstring lacks Args, Shapes, Example, Reference"):
        check_neuron(Warm(3), docstring=True)


def surrogate(derivative, slope=None, forward=None):
    """A spike with this derivative that says it had that slope."""

    @jax.custom_jvp
    def spike(x):
        return (x > 0).astype(x.dtype) if forward is None else forward(x)

    spike.defjvp(lambda primals, tangents: (spike(*primals), derivative(primals[0], tangents[0])))

    class Spike:
        __name__ = "Spike"

        def __call__(self, x):
            return spike(x)

        def slope(self, x):
            return (slope or bell)(x)

    return Spike()


def bell(x):
    return 1 / (1 + jnp.abs(x)) ** 2


@pytest.mark.parametrize(
    ("spike", "promise"),
    [
        (surrogate(lambda x, t: 2 * bell(x) * t), "reverse mode is cotangent times slope"),
        (
            surrogate(lambda x, t: bell(x) * t, slope=lambda x: bell(x).astype(jnp.float32)),
            "slope keeps shape and dtype",
        ),
        (surrogate(lambda x, t: t / x, slope=lambda x: 1 / x), "slope is finite"),
        (surrogate(lambda x, t: bell(x) * t, forward=lambda x: jnp.where(x > 0, x, 0)), "0 and 1 only"),
        (surrogate(lambda x, t: bell(x) * t, forward=lambda x: x[:1]), "keeps shape and dtype"),
    ],
    ids=range(5),
)
def test_a_surrogate_that_breaks_a_promise(spike, promise):
    with pytest.raises(AssertionError, match=promise):
        check_surrogate(spike)


def test_one_that_keeps_them_all_is_accepted():
    check_surrogate(surrogate(lambda x, t: bell(x) * t))


def test_close_is_in_shape_in_dtype_and_in_value():
    a = jnp.array([1.0, 9.0])
    require_close({"a": a}, {"a": a + 9e-4}, "it", "agrees", 1e-4)  # relative to 1 + the largest
    for got, expected, message in (
        (a, a + 1.2e-3, r"it: agrees: differs by 1.2e-04 \(tolerance 1e-04\)"),
        (a[:1], a, r"expected shape \(2,\); got \(1,\)"),
        (a.astype(jnp.bfloat16), a, "expected dtype float32; got bfloat16"),
        (jnp.array([1, 2]), jnp.array([1, 3]), "an integer array differs"),
        ([a, a], [a], "expected 1 arrays; got 2"),
        (np.float32("nan") * a, a, "differs"),
    ):
        with pytest.raises(AssertionError, match=message):
            require_close(got, expected, "it", "agrees", 1e-4)
