"""How a batch reaches a loss: a loader's mask and lengths by name, rows that are padding without weight."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from optimize.conftest import ACCURACY, CLASSES, LOSS, STEPS, WIDTH, loss_fn, network, params_of
from spyx import data as spyx_data
from spyx import nn, optimize

SAMPLES, BATCH = 6, 4  # the last batch holds two samples, and two rows of padding
RANDOM = np.random.default_rng(0)
X = (RANDOM.random((SAMPLES, STEPS, WIDTH)) < 0.5).astype(np.float32)
Y = RANDOM.integers(0, CLASSES, SAMPLES).astype(np.int32)
TX = optax.sgd(0.1)


def loader():
    return spyx_data.Loader(spyx_data.Split(X, Y), BATCH, prefetch=0)


def weighed(model, x, y, mask):
    return LOSS(nn.run(model, x)[0], y, weights=mask)


WAYS = {
    "a loss that knows no mask": loss_fn,
    "mask by name": lambda model, x, y, *, mask: weighed(model, x, y, mask),
    "mask by place": lambda model, x, y, real: weighed(model, x, y, real),
    "everything": lambda model, *batch: weighed(model, *batch),
    "any name": lambda model, x, y, **names: weighed(model, x, y, **names),
    "a loss of spyx.fn": LOSS,
}


@pytest.fixture(scope="module")
def expected():
    """Two steps over the real rows alone: the losses, and the parameters after them."""
    model = network()
    history = optimize.fit(model, TX, loss_fn, lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])], epochs=1)
    return history[0]["train_loss"], params_of(model)


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_are_padding_have_no_weight(expected, way):
    model = network()
    history = optimize.fit(model, TX, WAYS[way], loader, epochs=1)
    np.testing.assert_allclose(history[0]["train_loss"], expected[0], rtol=1e-6)
    for got, wanted in zip(params_of(model), expected[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_evaluation_weighs_real_rows_alone():
    def scores(model, x, y):
        out = nn.run(model, x)[0]
        return ACCURACY(out, y)[0], LOSS(out, y)

    def masked(model, x, y, mask):
        out = nn.run(model, x)[0]
        return ACCURACY(out, y, weights=mask)[0], LOSS(out, y, weights=mask)

    def evaluated(eval_iter, eval_fn):
        tx = optax.sgd(0.0)
        return optimize.fit(network(), tx, LOSS, loader, epochs=1, eval_iter=eval_iter, eval_fn=eval_fn)[0]

    whole = evaluated(lambda: [(X, Y)], scores)
    for eval_fn in (scores, masked):
        found = evaluated(loader, eval_fn)
        np.testing.assert_allclose([found["eval_acc"], found["eval_loss"]], [whole["eval_acc"], whole["eval_loss"]])


def test_single_steps_take_a_batch_of_a_loader(expected):
    model = network()
    optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
    for way in ("a loss that knows no mask", "a loss of spyx.fn"):
        model = network()
        optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
        step = optimize.make_train_step(WAYS[way])
        losses = [step(model, optimizer, batch) for batch in loader()]
        np.testing.assert_allclose(np.mean(losses), expected[0], rtol=1e-6)
        for got, wanted in zip(params_of(model), expected[1], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
    *_, last = loader()
    score = optimize.make_eval_step(ACCURACY)(model, last)
    np.testing.assert_allclose(score, ACCURACY(nn.run(model, X[4:])[0], Y[4:])[0])


def staged(*batches):
    return jax.tree.map(lambda *parts: jnp.stack(parts), *batches)


def test_compile_fit_takes_masks(expected):
    batches = staged(*loader())
    for way in ("mask by name", "a loss of spyx.fn"):
        model, history = optimize.compile_fit(
            network(), TX, WAYS[way], batches, epochs=1, eval_data=batches, metric_fn=ACCURACY
        )
        np.testing.assert_allclose(history["train_loss"], [expected[0]], rtol=1e-6)
        for got, wanted in zip(params_of(model), expected[1], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
        np.testing.assert_allclose(history["eval_metric"], [ACCURACY(nn.run(model, X)[0], Y)[0]], rtol=1e-6)
    message = r"compile_fit\(loss_fn=\): expected a function that takes mask, because of 2 rows that are padding; got"
    with pytest.raises(TypeError, match=message):
        optimize.compile_fit(network(), TX, loss_fn, batches, epochs=1)
    real = staged(*list(loader())[:1])
    _, history = optimize.compile_fit(network(), TX, loss_fn, real, epochs=1)  # no padding: nothing to know
    assert np.isfinite(history["train_loss"]).all()


def test_a_batch_without_names_is_passed_on_as_it_is(expected):
    seen = []

    def loss(model, *batch):
        seen.append([part.shape for part in batch])
        return loss_fn(model, *batch[:2])

    optimize.fit(network(), TX, loss, lambda: [(X, Y, np.ones(3))], epochs=1)
    assert seen[0] == [X.shape, Y.shape, (3,)]
    with pytest.raises(
        ValueError, match=r"fit\(loss_fn=\): expected batches \(x, y\) for a function of spyx.fn; got 3"
    ):
        optimize.fit(network(), TX, LOSS, lambda: [(X, Y, np.ones(3))], epochs=1)


# Samples of unequal length

LENGTHS = np.array([5, 2, 3, 5, 1, 4])


def sequences(buckets=1):
    split = spyx_data.Split([x[:n] for x, n in zip(X, LENGTHS, strict=True)], Y)
    return spyx_data.Loader(split, BATCH, prefetch=0, buckets=buckets)


def with_lengths(model, x, y, lengths, mask=None):
    return LOSS(nn.run(model, x, lengths=lengths)[0], y, lengths=lengths, weights=mask)


@pytest.fixture(scope="module")
def each_alone():
    """Two steps, whose loss is the mean over the samples of a batch, each run without its padding."""

    def loss(model, *samples):
        return sum(loss_fn(model, x, y) for x, y in samples) / len(samples)

    samples = [(X[i : i + 1, :n], Y[i : i + 1]) for i, n in enumerate(LENGTHS)]
    model = network()
    history = optimize.fit(model, TX, loss, lambda: [tuple(samples[:4]), tuple(samples[4:])], epochs=1)
    return history[0]["train_loss"], params_of(model)


def same(history, model, expected):
    np.testing.assert_allclose(np.mean(history), expected[0], rtol=1e-6)
    for got, wanted in zip(params_of(model), expected[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", [LOSS, with_lengths, lambda model, x, y, lengths: with_lengths(model, x, y, lengths)])
def test_training_on_unequal_lengths_is_training_on_each_sample_alone(each_alone, loss):
    model = network()
    same([optimize.fit(model, TX, loss, sequences, epochs=1)[0]["train_loss"]], model, each_alone)


def test_steps_and_compile_fit_take_lengths(each_alone):
    model = network()
    optimizer = nnx.Optimizer(model, TX, wrt=nnx.Param)
    step, evaluate = optimize.make_train_step(LOSS), optimize.make_eval_step(ACCURACY)
    batches = list(sequences())
    first = step(model, optimizer, batches[0].x, batches[0].y, lengths=batches[0].lengths)
    same([first, step(model, optimizer, batches[1])], model, each_alone)
    whole = ACCURACY(nn.run(model, X, lengths=LENGTHS)[0], Y, lengths=LENGTHS)[0]
    np.testing.assert_allclose(evaluate(model, X, Y, lengths=LENGTHS), whole)
    trained, history = optimize.compile_fit(
        network(), TX, LOSS, staged(*batches), epochs=1, eval_data=(X[None], Y[None]), metric_fn=ACCURACY,
        eval_lengths=LENGTHS[None],
    )  # fmt: skip
    same(history["train_loss"], trained, each_alone)
    np.testing.assert_allclose(history["eval_metric"], [whole])
    beyond = np.arange(STEPS) >= LENGTHS[:, None]
    endless = np.where(beyond[..., None], np.inf, X)  # what the network is not told to leave out makes its gradient NaN
    one, _ = optimize.compile_fit(network(), TX, LOSS, (endless[None], Y[None]), epochs=1, lengths=LENGTHS[None])
    model = network()
    optimize.fit(model, TX, with_lengths, lambda: [spyx_data.SequenceBatch(X, Y, None, LENGTHS)], epochs=1)
    for got, wanted in zip(params_of(one), params_of(model), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_a_loss_that_takes_no_lengths_is_told_what_to_change():
    message = (
        r"fit\(loss_fn=\): expected a function that takes lengths, because the batches have it; got \(model, x, y\)\. "
        r"Add lengths, and pass it on: nn\.run\(model, x, lengths=lengths\) and loss\(traces, y, lengths=lengths\)"
    )
    with pytest.raises(TypeError, match=message):
        optimize.fit(network(), TX, loss_fn, sequences, epochs=1)
    with pytest.raises(TypeError, match=r"make_eval_step\(metric_fn=\): expected a function that takes lengths"):
        optimize.make_eval_step(loss_fn)(network(), X, Y, lengths=LENGTHS)


@pytest.mark.parametrize(
    ("data", "lengths", "message"),
    [
        ((X[None], Y[None]), LENGTHS, r"whole numbers in 0\.\.5 of shape \(1, 6\); got dtype int64, shape \(6,\)"),
        ((X[None], Y[None]), LENGTHS[None] + 1, r"whole numbers in 0\.\.5 of .* shape \(1, 6\), 0 to 6"),
        ((X[None], Y[None]), LENGTHS[None] / 2, "whole numbers in .* got dtype float64"),
        ((X[None],), LENGTHS[None], r"expected data \(x, y\) with x \(batches, batch, time, ...\); got 1 parts"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(data, lengths, message):
    with pytest.raises(ValueError, match=rf"compile_fit\(lengths=\): expected {message.removeprefix('expected ')}"):
        optimize.compile_fit(network(), TX, LOSS, data, epochs=1, lengths=lengths)


def test_wrong_labels_in_padding_are_no_reason_to_stop_and_others_are():
    y = np.array([1, 7, 0, 1, 2, 1])
    batch = spyx_data.SequenceBatch(X, y, np.array([1, 0, 1, 1, 1, 1], bool), LENGTHS)
    optimize.fit(network(), TX, LOSS, lambda: [batch], epochs=1)
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.2, for 3 classes; got 7 at batch\[1\]\[1\]"):
        optimize.fit(network(), TX, LOSS, lambda: [batch._replace(mask=np.ones(6, bool))], epochs=1)
