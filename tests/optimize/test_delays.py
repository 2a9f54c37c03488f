"""Training delays: a learning rate of their own, widths by epoch, positions held in their range."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import nn, optimize

X = jnp.zeros((1, 8, 2)).at[0, 0].set(1.0)


def network():
    return nn.Sequential(nn.Delayed(2, 5, delays=[1.0, 4.5]), nn.LI(2, beta=0.5))


def late(model, x):
    """Falls as the inputs arrive later."""
    return -(nn.run(model.layers[0], x)[0] * jnp.arange(8.0)[None, :, None]).sum() + model.layers[1].beta[...].sum()


def widths(epoch, model):
    nn.set_width(model, nn.shrinking(epoch, 2.0, 0.5, epochs=2))


def rates(delays):
    return optax.multi_transform(
        {"weights": optax.sgd(0.0), "decays": optax.sgd(0.01), "delays": optax.sgd(delays)}, optimize.parameter_kinds
    )


def test_kinds():
    model = nn.Sequential(
        nn.Delayed(nn.Linear(2, 3, rngs=nnx.Rngs(0)), 4, rngs=nnx.Rngs(0)),
        nn.LIF(3, threshold=nn.positive(1.0), rngs=nnx.Rngs(0)),
    )
    found = dict(nnx.to_flat_state(optimize.parameter_kinds(model)))
    assert found == {
        ("layers", 0, "connection", "kernel"): "weights",
        ("layers", 0, "connection", "bias"): "weights",
        ("layers", 0, "delays"): "delays",
        ("layers", 1, "beta"): "decays",
        ("layers", 1, "threshold"): "weights",
    }


@pytest.mark.parametrize("compiled", [False, True])
def test_every_kind_at_its_rate_and_positions_stay_in_range(compiled):
    model, seen = network(), []

    def on_epoch_start(epoch, model):
        widths(epoch, model)
        seen.append(epoch)

    if compiled:
        data = (X[None],)
        model, _ = optimize.compile_fit(model, rates(0.4), late, data, epochs=3, on_epoch_start=on_epoch_start)
    else:
        optimize.fit(model, rates(0.4), late, lambda: [X], epochs=3, on_epoch_start=on_epoch_start)
        assert seen == [0, 1, 2]
    np.testing.assert_allclose(model.layers[0].width[...], 0.5)
    np.testing.assert_allclose(model.layers[1].beta[...], 0.5 - 0.03, atol=1e-6)
    first, last = model.layers[0].delays[...].tolist()
    assert 1.5 < first < 3.0
    assert last == 5.0

    def weight(model, x):
        return 1e3 * late(model, x)

    optimizer = nnx.Optimizer(model, optax.sgd(1.0), wrt=nnx.Param)
    optimize.make_train_step(weight)(model, optimizer, X)
    assert model.layers[0].delays[...].tolist() == [5.0, 5.0]


def test_the_width_of_an_epoch_is_that_of_its_loss():
    """Epoch by epoch in one run, or run by run: resuming at an epoch needs the epoch alone."""
    model = network()
    history = optimize.fit(model, rates(0.1), late, lambda: [X], epochs=4, on_epoch_start=widths)
    again = network()
    for epoch in range(4):
        numbers = optimize.fit(
            again, rates(0.1), late, lambda: [X], epochs=1, on_epoch_start=lambda _, model, at=epoch: widths(at, model)
        )
        assert numbers[0]["train_loss"] == history[epoch]["train_loss"]
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(model))


def test_a_solver_that_leaves_the_rest_alone_is_refused():
    def solver(loss, params):
        return optimize.SolverImpl(
            lambda key: params, lambda state, batch, key: (state, loss(state, batch)), lambda s: s
        )

    with pytest.raises(TypeError, match=r"fit\(on_epoch_start=\): expected a solver that carries what is not trained"):
        optimize.fit(network(), solver, late, lambda: [X], epochs=1, on_epoch_start=widths)
