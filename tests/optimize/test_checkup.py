"""`fit(doctor=True)` and `train(doctor=True)`: who is asked, when, and what is said."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import fn, nn, optimize
from spyx.report import Diagnosis, Finding

X = (np.random.default_rng(0).random((8, 6, 4)) < 0.4).astype(np.float32)
Y = np.arange(8) % 2
FOUND = Finding("dull data", "input", "all the same", "Why.", "others.", 50)


def network(threshold=0.3):
    rngs = nnx.Rngs(0)
    first = nn.Linear(4, 6, rngs=rngs)
    return nn.Sequential(
        first, nn.LIF(6, beta=0.9, threshold=threshold), nn.Linear(6, 2, rngs=rngs), nn.LI(2, beta=0.9)
    )


def fitted(doctor, *, epochs=1, threshold=0.3):
    """With a learning rate of 0 the loss is a plateau from the first epoch on."""
    return optimize.fit(
        network(threshold), optax.sgd(0.0), fn.integral_crossentropy(), lambda: [(X, Y)], epochs=epochs, doctor=doctor
    )


def trained(doctor, *, epochs=1, notify=None):
    data = (jnp.asarray(X)[None], jnp.asarray(Y)[None])
    own = lambda model, x, y: fn.integral_crossentropy()(nn.run(model, x)[0], y)  # noqa: E731
    return optimize.train(network(), optax.sgd(0.0), own, data, epochs=epochs, doctor=doctor, notify=notify)


def test_true_asks_the_doctor_before_the_first_step():
    with pytest.warns(
        UserWarning, match=r"fit\(doctor=\): before the first step: silent layer at 1 LIF: no unit fires"
    ):
        fitted(True, threshold=1000.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(True)


@pytest.mark.parametrize("loop", ["fit", "train"])
def test_it_is_asked_again_at_a_plateau_and_says_nothing_twice(loop):
    asked, told = [], []

    def doctor(model, batch, *, history, loss=None, objective=None):
        asked.append((len(history), batch[0].shape, loss is None, objective is None))
        return Diagnosis([FOUND])

    if loop == "fit":
        with pytest.warns(UserWarning, match="dull data") as caught:
            fitted(doctor, epochs=7)
        told = [str(warning.message) for warning in caught]
    else:
        trained(doctor, epochs=7, notify=told.append)
    assert asked == [(0, X.shape, loop == "train", loop == "fit"), (6, X.shape, loop == "train", loop == "fit")]
    assert told == [f"spyx.optimize.{loop}(doctor=): before the first step: {FOUND}"]


def test_a_loss_that_falls_is_no_plateau():
    asked = []

    def decay(model, x, y):
        return jnp.sum(model.layers[0].kernel[...] ** 2)

    doctor = lambda *given, **how: asked.append(given) or []  # noqa: E731
    optimize.fit(network(), optax.sgd(0.1), decay, lambda: [(X, Y)], epochs=8, doctor=doctor)
    assert len(asked) == 1


def test_a_doctor_that_cannot_look_does_not_stop_the_training():
    def doctor(*given, **how):
        raise ValueError("no such batch")

    told = []
    assert len(trained(doctor, notify=told.append).history) == 1
    assert "the doctor could not look: no such batch" in told[0]
    with pytest.raises(TypeError, match=r"fit\(doctor=\): expected True, False or a function .*; got str"):
        fitted("yes")
