"""`Dynamics`: every combination against an oracle, in every mode, with its gradients; names, errors and traits."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reference.dynamics_oracle import simulate
from reference.neurons_oracle import finite_difference
from spyx import axn, nn
from spyx.nn import Dynamics
from spyx.testing import check_neuron

BETA = np.array([0.5, 0.7, 0.9], np.float32)
VALUES = {
    "IF": {},
    "LIF": {"beta": BETA},
    "ALIF": {"beta": BETA, "gamma": BETA[::-1].copy(), "adaptation": 0.5},
    "CuBaLIF": {"alpha": np.float32(0.4), "beta": BETA},
}
W = np.float32([[0.3, -0.5, 0.2], [0.4, 0.1, -0.3], [-0.2, 0.6, 0.2]])


def all_dynamics(kind):
    spikes = [("before", False, False), ("after", False, False)]
    if kind != "ALIF":
        spikes += [("after", True, False), ("after", True, True)]
    for (spike, delayed, loses), reset, gain in itertools.product(
        spikes, ("subtract", "zero", "none"), ("one", "complement")
    ):
        if (gain == "one" or kind != "IF") and (not loses or reset == "zero"):
            yield Dynamics(spike, reset, False, gain, delayed, loses)


CASES = [(kind, dynamics) for kind in VALUES for dynamics in all_dynamics(kind)]


def options(d):
    return dict(spike_at=d.spike, reset=d.reset, gain=d.gain, delayed=d.delayed, loses_input=d.loses_input)


def named(cases):
    return [
        f"{kind}-{d.spike}-{d.reset}-{d.gain}{'-delayed' * d.delayed}{'-lost' * d.loses_input}" for kind, d in cases
    ]


@pytest.mark.parametrize(("kind", "dynamics"), CASES, ids=named(CASES))
def test_values(kind, dynamics):
    x = np.random.default_rng(0).normal(0.4, 1.2, (2, 12, 3)).astype(np.float32)
    values = {**VALUES[kind], "threshold": 0.6}
    neuron = getattr(nn, kind)(3, **values, dynamics=dynamics)
    spikes, _, seen = nn.observe(neuron, x, what="v")
    expected, membranes, _ = simulate(kind, x, **options(dynamics), **values)
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(seen[next(iter(seen))], membranes, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", ["step", "layer", "fused", "fixed_point"])
@pytest.mark.parametrize("kind", list(VALUES))
def test_every_mode_and_its_gradient_at_a_detached_reset(kind, mode):
    """Finite differences of the network with a smooth spike, the spikes of its resets held where they are."""
    for dynamics in (Dynamics("after", "zero", True), Dynamics("after", "subtract", True), Dynamics("before", "zero")):
        smooth = axn.custom(
            fwd=lambda u: jax.nn.sigmoid(4 * u), bwd=lambda u: 4 * jax.nn.sigmoid(4 * u) * jax.nn.sigmoid(-4 * u)
        )
        if mode == "fixed_point":  # stands on spikes that agree from round to round
            smooth = axn.superspike(2)
        x = np.random.default_rng(1).normal(0.4, 1.2, (2, 6, 3)).astype(np.float32)
        values = {**VALUES[kind], "threshold": 0.6}
        neuron = getattr(nn, kind)(3, **values, activation=smooth, dynamics=dynamics)

        def loss(x, mode, neuron=neuron):
            out, end = nn.run(neuron, x, mode=mode)
            return jnp.sum(jnp.cos(out)) + sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(end))

        got = jax.grad(loss)(jnp.asarray(x), mode)
        np.testing.assert_allclose(got, jax.grad(loss)(jnp.asarray(x), "step"), atol=2e-5, rtol=1e-4)
        if mode != "layer":
            continue

        def fire(u):
            return 1 / (1 + np.exp(-4 * u))

        known = dict(**options(dynamics), **values, fire=fire)
        held = simulate(kind, x, **known)[2] if dynamics.detach_reset else None

        def expected(x, known=known, held=held):
            out, v, _ = simulate(kind, x, **known, held=held)
            return np.cos(out).sum() + np.sin(v[:, -1]).sum()

        def of_membrane(x, neuron=neuron):
            out, end = nn.run(neuron, x, mode="layer")
            return jnp.sum(jnp.cos(out)) + jnp.sum(jnp.sin(end if hasattr(end, "shape") else end.v))

        found = jax.grad(of_membrane)(jnp.asarray(x))
        np.testing.assert_allclose(found, finite_difference(expected, x), atol=2e-4, rtol=1e-3)


def test_a_recurrent_neuron_that_fires_after_the_update_sends_the_spikes_of_the_step_before():
    x = np.random.default_rng(0).normal(0.4, 1.0, (2, 12, 3)).astype(np.float32)
    for kind in VALUES:
        values = {**VALUES[kind], "threshold": 0.6}
        for dynamics in ("paper", "spyx"):
            known = dict(**values, dynamics=dynamics)
            neuron = getattr(nn, f"R{kind}")(3, **known, recurrent_init=lambda *_: jnp.asarray(W), rngs=nnx.Rngs(0))
            expected, membranes, _ = simulate(kind, x, **options(neuron.dynamics), **values, w=W)
            spikes, end = nn.run(neuron, x)
            np.testing.assert_array_equal(spikes, expected)
            end = end if hasattr(end, "shape") else end.v
            np.testing.assert_allclose(end, membranes[:, -1], atol=2e-6, rtol=1e-6)
            inner = nn.Recurrent(
                getattr(nn, kind)(3, **known), recurrent_init=lambda *_: jnp.asarray(W), rngs=nnx.Rngs(0)
            )
            np.testing.assert_array_equal(nn.run(inner, x)[0], expected)
    state = nn.RLIF(3, 0.9, dynamics="paper", rngs=nnx.Rngs(0)).initial_state(2)
    assert state._fields == ("v", "z")
    assert nn.RALIF.State._fields == ("v", "a")


CONFORMANT = [
    ("IF", "paper"),
    ("LIF", "paper"),
    ("LIF", "snntorch"),
    ("LIF", Dynamics(reset="none")),
    ("ALIF", "sinabs"),
    ("ALIF", Dynamics(reset="none")),
    ("CuBaLIF", "spikingjelly"),
    ("RLIF", "paper"),
    ("RALIF", "norse"),
]


@pytest.mark.parametrize(("kind", "dynamics"), CONFORMANT)
def test_conformance(kind, dynamics):
    recurrent = {"recurrent_init": nnx.initializers.normal(0.5)} if kind.startswith("R") else {}
    check_neuron(getattr(nn, kind)((3,), rngs=nnx.Rngs(0), dynamics=dynamics, **recurrent))


def test_without_a_reset_all_of_time_is_one_scan():
    lif = nn.LIF(3, 0.8, dynamics=Dynamics("after", "none"))
    x = jax.random.normal(jax.random.key(0), (2, 9, 3))
    (plan,) = nn.explain(lif, x, mode="parallel")
    assert plan.mode == "parallel"
    np.testing.assert_allclose(nn.run(lif, x, mode="parallel")[1], nn.run(lif, x)[1], rtol=1e-5, atol=1e-6)


def test_names_and_a_neuron_without_leak():
    assert nn.LIF(1, 0.5).dynamics == Dynamics() == Dynamics.preset("spyx")
    assert nn.IF(1, dynamics="paper").dynamics == Dynamics("after", "zero", True)
    assert Dynamics.preset("snntorch", reset="zero") == Dynamics("after", "zero", True, delayed=True)
    assert str(nnx.split(nn.LIF(1, 0.5, dynamics="paper"))[0]) != str(nnx.split(nn.LIF(1, 0.5))[0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Dynamics(spike="late"),
            ValueError,
            r"^spyx\.nn\.Dynamics\(spike=\): expected one of before, after; got",
        ),
        (lambda: Dynamics(reset="hard"), ValueError, r"expected one of subtract, zero, none; got 'hard'"),
        (lambda: Dynamics(delayed=True), ValueError, r"\(delayed=True\): expected spike='after'; got spike='before'"),
        (lambda: Dynamics("after", loses_input=True), ValueError, r"expected delayed=True and reset='zero'"),
        (
            lambda: nn.LIF(1, 0.5, dynamics="torch"),
            ValueError,
            r"preset: expected one of spyx, snntorch, .*; got 'torch'",
        ),
        (lambda: nn.LIF(1, 0.5, dynamics=3), TypeError, r"^spyx\.nn\.LIF\(dynamics=\): expected a Dynamics or a name"),
        (
            lambda: nn.IF(1, dynamics=Dynamics(gain="complement")),
            ValueError,
            r"^spyx\.nn\.IF\(dynamics=\): expected gain",
        ),
        (
            lambda: nn.ALIF(1, 0.5, 0.5, dynamics="snntorch"),
            ValueError,
            r"^spyx\.nn\.ALIF\(dynamics=\): expected delayed",
        ),
    ],
)
def test_wrong_dynamics(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_detached_has_no_derivative_of_any_order():
    def cubed(x):
        return x * nn.detached(x) ** 2

    assert jax.grad(cubed)(3.0) == 9.0
    assert jax.grad(jax.grad(cubed))(3.0) == 0.0
    assert jax.jvp(nn.detached, (2.0,), (1.0,)) == (2.0, 0.0)
