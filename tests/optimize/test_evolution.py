"""`evolve`: a strategy of evosax in the loops, where the package is installed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import fn, nn, optimize

Y = np.arange(32) % 2
X = (np.random.default_rng(0).random((32, 6, 4)) < np.where(Y == 1, 0.8, 0.1)[:, None, None]).astype(np.float32)
DATA = (jnp.asarray(X)[None], jnp.asarray(Y)[None])


def network(seed=0):
    rngs = nnx.Rngs(seed)
    return nn.Sequential(nnx.Linear(4, 6, rngs=rngs), nn.LIF(6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs), nn.LI(2))


def test_a_strategy_learns_and_is_resumed_to_the_same_bits(tmp_path):
    algorithms = pytest.importorskip("evosax.algorithms")
    solver = optimize.evolve(
        algorithms.Open_ES, 16, optimizer=optax.adam(0.05), std_schedule=optax.constant_schedule(0.1)
    )

    def train(epochs, **more):
        given = dict(key=jax.random.key(0), epochs=epochs, best="-train_loss")
        return optimize.train(network(), solver, fn.integral_crossentropy(), DATA, **given, **more)

    whole = train(30)
    losses = [row["train_loss"] for row in whole.history]
    assert losses[-1] < 0.6 * losses[0]

    def stop(history):
        return len(history) == 7 and pytest.fail("stopped")

    with pytest.raises(pytest.fail.Exception):
        train(30, folder=tmp_path, stop_when=stop)
    again = train(30, folder=tmp_path, resume=True)
    assert [row["train_loss"] for row in again.history] == losses
    for one, other in zip(*(jax.tree.leaves(nnx.state(t.model, nnx.Param)) for t in (whole, again)), strict=True):
        np.testing.assert_array_equal(one, other)
    found = optimize.population(network, solver, fn.integral_crossentropy(), DATA, epochs=2, seeds=2)
    assert len({member.history[-1]["train_loss"] for member in found.members}) == 2


def test_mistakes_are_told():
    algorithms = pytest.importorskip("evosax.algorithms")
    with pytest.raises(TypeError, match=r"evolve\(strategy=\): expected a class of evosax.algorithms"):
        optimize.evolve("Open_ES", 16)
    with pytest.raises(TypeError, match=r"that has a mean; got .*DifferentialEvolution"):
        optimize.evolve(algorithms.DifferentialEvolution, 16)
    with pytest.raises(ValueError, match=r"evolve\(members=\): expected a whole number, 2 or more; got 1"):
        optimize.evolve(algorithms.Open_ES, 1)
    wrong = optimize.evolve(algorithms.Open_ES, 16, sigma=1.0)
    with pytest.raises(ValueError, match=r"that Open_ES takes; got 16 members, sigma. It says: .*'sigma'"):
        optimize.train(network(), wrong, fn.integral_crossentropy(), DATA, epochs=1)
