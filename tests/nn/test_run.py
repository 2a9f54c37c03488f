"""`run`: axes, modes, states, layers of every origin, and what it refuses. Decisions F1, K8, N6, N20."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import fn, nn

B, T, N = 3, 5, 4
X = jax.random.normal(jax.random.key(0), (B, T, N))


def network(rngs=None):
    rngs = nnx.Rngs(0) if rngs is None else rngs
    return nn.Sequential(nnx.Linear(N, 6, rngs=rngs), nn.LIF(6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs), nn.LI(2))


def test_F1_batch_major_is_the_default_and_time_axis_means_the_same_everywhere():
    model = network()
    out, state = nn.run(model, X)
    assert out.shape == (B, T, 2)
    time_major, same = nn.run(model, X.swapaxes(0, 1), time_axis=0)
    np.testing.assert_array_equal(time_major.swapaxes(0, 1), out)
    np.testing.assert_array_equal(same[1], state[1])
    np.testing.assert_array_equal(nn.run(model, X, time_axis=-2)[0], out)


def test_K8_the_keyword_of_spyx_1_is_accepted():
    model = network()
    out, _ = nn.run(model, X)
    np.testing.assert_array_equal(nn.run(model, X, batch_major=True)[0], out)
    np.testing.assert_array_equal(nn.run(model, X.swapaxes(0, 1), batch_major=False)[0].swapaxes(0, 1), out)
    with pytest.raises(ValueError, match=r"^spyx\.nn\.run: expected time_axis and batch_major to agree"):
        nn.run(model, X, time_axis=0, batch_major=True)


def test_modes_agree_and_a_stream_goes_on():
    model = network()
    out, end = nn.run(model, X, mode="layer")
    np.testing.assert_allclose(nn.run(model, X, mode="step")[0], out, atol=1e-6)
    first, state = nn.run(model, X[:, :2])
    second, after = nn.run(model, X[:, 2:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), out, atol=1e-6)
    np.testing.assert_allclose(after[3], end[3], atol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "bool", "numpy"])
def test_spikes_of_any_dtype_are_welcome(kind):
    spikes = np.asarray(X > 0.5)
    expected = nn.run(network(), spikes.astype(np.float32))[0]
    given = {"uint8": spikes.astype(np.uint8), "bool": spikes, "numpy": spikes.astype(np.float32)}[kind]
    for mode in ("layer", "step"):
        np.testing.assert_allclose(nn.run(network(), given, mode=mode)[0], expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_inputs_keep_a_float32_state(dtype):
    out, state = nn.run(nn.Sequential(nn.LIF(N, 0.9), nn.LI(N)), X.astype(dtype))
    assert out.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("mode", ["layer", "step"])
def test_batchnorm_and_dropout_work_and_are_remembered(mode):
    rngs = nnx.Rngs(0)
    norm = nnx.BatchNorm(6, rngs=rngs)
    model = nn.Sequential(nnx.Linear(N, 6, rngs=rngs), norm, nn.LIF(6, 0.9), nnx.Dropout(0.5, rngs=rngs), nn.LI(6))

    @nnx.jit
    def forward(model, x):
        return nn.run(model, x, mode=mode)[0]

    first = forward(model, X)
    assert np.abs(norm.mean[...]).max() > 0
    assert not np.array_equal(first, forward(model, X))  # another dropout mask
    model.eval()
    np.testing.assert_array_equal(forward(model, X), forward(model, X))


def test_an_evaluated_batchnorm_is_not_written():
    """Forward mode closes over the module: writing to it, even the same value, would leave the trace."""
    model = nn.Sequential(nnx.BatchNorm(N, rngs=nnx.Rngs(0)), nn.LI(N))
    model.eval()
    out, tangent = jax.jvp(lambda x: nn.run(model, x, mode="step")[0], (X,), (X,))
    np.testing.assert_allclose(tangent, out, atol=1e-5)


def test_dropout_draws_one_mask_per_time_step():
    model = nn.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), nn.LI(N, nn.Fixed(0.0)))
    for mode in ("layer", "step"):
        dropped = np.asarray(nn.run(model, jnp.ones((1, 64, N)), mode=mode)[0]) == 0
        assert 0.2 < dropped.mean() < 0.8
        assert dropped.any(1).all()
        assert not dropped.all(1).any()


class Accumulator:
    """A third-party layer: only the two methods, and no base class."""

    def initial_state(self, batch_size):
        return {"sum": jnp.zeros((batch_size, N))}

    def __call__(self, x, state):
        total = state["sum"] + x
        return jnp.tanh(total), {"sum": total}


def test_a_layer_with_only_the_two_methods_works_alone_and_in_a_chain():
    expected = jnp.tanh(jnp.cumsum(X, 1))
    np.testing.assert_allclose(nn.run(Accumulator(), X)[0], expected, atol=1e-6)
    np.testing.assert_allclose(nn.run(nn.Sequential(Accumulator(), nn.Flatten()), X)[0], expected, atol=1e-6)


def test_functions_flax_and_equinox_modules_are_layers_and_train_together():
    rngs = nnx.Rngs(0)
    model = nn.Sequential(
        eqx.nn.Linear(N, 6, key=jax.random.key(1)),
        jnp.tanh,
        nn.LIF(6, 0.9),
        nnx.Linear(6, 2, rngs=rngs),
        lambda x: 2 * x,
        nn.LI(2),
    )
    graphdef, weights, rest = nnx.split(model, nnx.Param, ...)
    gradient = jax.grad(lambda w: (nn.run(nnx.merge(graphdef, w, rest), X)[0] ** 2).sum())(weights)
    assert len(jax.tree.leaves(gradient)) == 6
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient["layers"][0]))


def test_a_spiking_convolution_needs_no_flattening():
    rngs = nnx.Rngs(0)
    model = nn.Sequential(
        nnx.Conv(2, 4, (3, 3), rngs=rngs),
        nn.RLIF((6, 6, 4), rngs=rngs),
        nn.SumPool(2, 2, "VALID"),
        nn.ALIF((3, 3, 4), rngs=rngs),
        nn.Flatten(),
        nnx.Linear(36, 3, rngs=rngs),
        nn.LI(3),
    )
    x = jax.random.bernoulli(jax.random.key(0), 0.3, (2, 4, 6, 6, 2))
    out, state = nn.run(model, x)
    assert out.shape == (2, 4, 3)
    assert state[3].a.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(nn.run(model, x, mode="step")[0], out, atol=1e-5)


def test_forward_mode_needs_the_plain_scan():
    model = network()
    tangent = jax.jvp(lambda x: nn.run(model, x, mode="step")[0], (X,), (jnp.ones_like(X),))[1]
    assert np.isfinite(tangent).all()


def test_second_derivatives_are_those_of_the_unrolled_loop():
    """JAX forgets a custom derivative inside a scan that it differentiates twice; the hand-derived pass does not."""
    model = nn.Sequential(nn.LIF(N, 0.9), nn.LI(N))

    def loss(x):
        return (nn.run(model, x)[0] ** 2).sum()

    def unrolled(x):
        state, total = model.initial_state(B), 0.0
        for t in range(T):
            out, state = model(x[:, t], state)
            total = total + (out**2).sum()
        return total

    for again in (
        lambda f: jax.jvp(jax.grad(f), (X,), (X,))[1],
        lambda f: jax.grad(lambda x: (jax.grad(f)(x) * X).sum())(X),
    ):
        np.testing.assert_allclose(again(loss), again(unrolled), rtol=1e-4, atol=1e-4)


def test_vmap_over_networks():
    stacked = jnp.stack([X, 2 * X])
    model = network()
    out = jax.vmap(lambda x: nn.run(model, x)[0])(stacked)
    np.testing.assert_allclose(out[1], nn.run(model, 2 * X)[0], atol=1e-5)


def test_no_time_and_no_batch():
    assert nn.run(network(), X[:, :0])[0].shape == (B, 0, 2)
    assert nn.run(network(), X[:0])[0].shape == (0, T, 2)
    assert nn.run(network(), X[:, :1])[0].shape == (B, 1, 2)


def test_N6_several_variables_are_a_named_tuple_and_one_is_bare():
    assert nn.CuBaLIF((8, 8, 3), 0.5, 0.5).initial_state(2).i.shape == (2, 8, 8, 3)
    assert nn.ALIF(3, 0.5, 0.5).initial_state(2)._fields == ("v", "a")
    assert nn.LIF(3, 0.5).initial_state(2).shape == (2, 3)


def test_explain_says_what_would_run():
    choices = nn.explain(network(), X)
    assert [c.layer for c in choices] == ["Linear", "LIF", "Linear", "LI"]
    assert choices[0].shape == (T, B, N)
    assert all(c.why for c in choices)
    assert nn.explain(network(), X, mode="step")[0].mode == "step"
    model = nn.Sequential(nnx.BatchNorm(N, rngs=nnx.Rngs(0)), nn.LI(N))
    nn.explain(model, X)
    assert nn.run(model, X)[0].shape == X.shape  # nothing of the explanation leaked into the model


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.run(nn.LIF(4, 0.9), jnp.ones((B, T, 1))),
            ValueError,
            r"spyx\.nn\.LIF: expected input of shape \(batch, 4\); got \(3, 1\)",
        ),
        (
            lambda: nn.run(network(), jnp.ones((B, T, 7))),
            ValueError,
            r"layer 0 \(Linear\).*\(batch, 7\).*expected 4 features",
        ),
        (
            lambda: nn.run(nn.Sequential(nnx.Linear(N, 6, rngs=nnx.Rngs(0)), nn.LIF(5, 0.9)), X),
            ValueError,
            r"layer 1 \(LIF\) cannot take input of shape \(batch, 6\).*\(batch, 5\)",
        ),
        (
            lambda: nn.run(network(), X, network().initial_state(B + 1)),
            ValueError,
            r"expected a state of shape \(3, 6\).*got \(4, 6\)",
        ),
        (
            lambda: nn.run(network(), X, network().initial_state(B)[:2]),
            ValueError,
            "expected a state list with 4 entries, one per layer; got 2 entries",
        ),
        (
            lambda: nn.run(network(), X, mode="fast"),
            ValueError,
            r"run\(mode=\): expected one of auto, step, layer.*; got 'fast'",
        ),
        (
            lambda: nn.run(network(), X, time_axis=3),
            ValueError,
            r"run\(time_axis=\): expected an axis of the input \(3, 5, 4\); got 3",
        ),
        (
            lambda: nn.run(network(), X[0, 0]),
            ValueError,
            r"expected input with a batch and a time axis; got shape \(4,\)",
        ),
        (lambda: nn.run(jnp.tanh, X), TypeError, "expected a model with initial_state"),
        (lambda: nn.run(nnx.Linear(N, 2, rngs=nnx.Rngs(0)), X), TypeError, "initial_state.*got Linear.*Sequential"),
        (lambda: nn.Sequential(), ValueError, "expected at least one layer; got none"),
        (lambda: nn.Sequential([nn.LI(2)]), TypeError, r"got a list\. Write Sequential\(\*layers\)"),
        (lambda: nn.Sequential(nn.LI), TypeError, "got the class LI. Make an instance"),
        (lambda: nn.Sequential(3), TypeError, "expected a layer or a function; got int"),
        (lambda: nn.IF(2)(jnp.ones((1, 2)), jnp.ones((1, 1))), ValueError, r"expected a state of shape \(1, 2\)"),
    ],
)
def test_N20_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_swapped_time_and_batch_are_caught_by_the_loss():
    model = network()
    with pytest.raises(ValueError, match="time-major data. use time_axis=0"):
        fn.integral_crossentropy()(nn.run(model, X.swapaxes(0, 1), time_axis=0)[0], jnp.zeros(B, jnp.int32))


def test_a_layer_may_store_what_has_no_hash():
    class Listed(nnx.Module):
        def __init__(self):
            self.axes = nnx.static([1])

        def __call__(self, x):
            return x.sum(self.axes[0], keepdims=True) + 0 * x

    model = nn.Sequential(Listed(), nn.LI(N, 0.9))
    expected = nn.run(model, X)[0]
    for options in ({"mode": "step"}, {"chunk": 2}, {"remat": True}):
        np.testing.assert_allclose(nn.run(model, X, **options)[0], expected, atol=1e-5)
    (out, _), *_ = nn.stream(model, [X])
    np.testing.assert_allclose(out, expected, atol=1e-5)
