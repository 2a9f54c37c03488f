"""What counts in losses and metrics: masks, lengths, weights, ignored labels, burn-in, and labels per step."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference import fn_oracle
from spyx import fn
from spyx.fn._labels import find_wrong_labels, strict_labels

BATCH, TIME, CLASSES = 4, 10, 3
RANDOM = np.random.default_rng(0)
SPIKES = (RANDOM.random((BATCH, TIME, CLASSES)) < 0.3).astype(np.float32)
TARGETS = np.array([1, 0, 2, 1], np.int32)
PER_STEP = RANDOM.integers(0, CLASSES, (BATCH, TIME)).astype(np.int32)
LENGTHS = np.array([10, 3, 10, 3], np.int32)
WITHIN = np.arange(TIME) < LENGTHS[:, None]
GAPS = WITHIN & (np.arange(TIME) % 3 != 1)  # with holes
WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0], np.float32)
PADDED = np.where(WITHIN[..., None], SPIKES, np.nan).astype(np.float32)  # what lies in the padding must not matter

LOSSES = {
    "integral_crossentropy": (fn.integral_crossentropy, fn_oracle.integral_crossentropy),
    "rate_crossentropy": (fn.rate_crossentropy, fn_oracle.rate_crossentropy),
    "rate_crossentropy of rates": (
        partial(fn.rate_crossentropy, logits="rate"),
        partial(fn_oracle.rate_crossentropy, logits="rate"),
    ),
    "rate_crossentropy of steps": (
        partial(fn.rate_crossentropy, logits="step"),
        partial(fn_oracle.rate_crossentropy, logits="step"),
    ),
    "max_crossentropy": (fn.max_crossentropy, fn_oracle.max_crossentropy),
    "mse_spikerate": (fn.mse_spikerate, fn_oracle.mse_spikerate),
    "first_spike_loss": (fn.first_spike_loss, fn_oracle.first_spike_loss),
}
METRICS = {
    "integral_accuracy": (fn.integral_accuracy, lambda x: x.sum(0)),
    "rate_accuracy": (fn.rate_accuracy, lambda x: x.sum(0)),
    "max_accuracy": (fn.max_accuracy, lambda x: x.max(0)),
    "first_spike_accuracy": (fn.first_spike_accuracy, lambda x: -fn_oracle.first_spike_time(x)),
}
STEPWISE = ["integral_crossentropy", "rate_crossentropy", "integral_accuracy", "rate_accuracy"]
WHOLE = ["max_crossentropy", "mse_spikerate", "first_spike_loss", "max_accuracy", "first_spike_accuracy"]
FACTORIES = {name: row[0] for name, row in (LOSSES | METRICS).items()}
EVERY_LOSS = pytest.mark.parametrize("name", LOSSES)
EVERY_METRIC = pytest.mark.parametrize("name", METRICS)
SOME = pytest.mark.parametrize("name", ["integral_crossentropy", "first_spike_loss", "first_spike_accuracy"])


@pytest.fixture(scope="module")
def made():
    """Each loss and metric with its defaults, compiled once for the module."""
    return {name: make() for name, make in FACTORIES.items()}


def first(result):
    return result[0] if isinstance(result, tuple) else result


def alone(oracle, mask, weights=WEIGHTS, targets=TARGETS):
    """The weighted mean of an oracle over the samples, each cut down to its own steps."""
    scores = [oracle(SPIKES[i, mask[i]][None], targets[i : i + 1]) for i in range(BATCH)]
    return np.average(scores, weights=weights)


# Nothing given: the formulas of before, to the bit


def crossentropy_of_before(logits, q):
    return -jnp.mean(jnp.sum(q * jax.nn.log_softmax(logits), axis=-1))


FORMULAS = {
    "integral_crossentropy": (0.3, lambda x, q: crossentropy_of_before(x.sum(0), q)),
    "rate_crossentropy": (0.0, lambda x, q: crossentropy_of_before(x.sum(0), q)),
    "rate_crossentropy of steps": (0.0, lambda x, q: crossentropy_of_before(x, jnp.broadcast_to(q, x.shape))),
    "mse_spikerate": (0.0, lambda x, q: jnp.mean((x.mean(0) - q * (0.25 * x.shape[0])) ** 2)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_with_nothing_given_no_bit_changes(made, name):
    traces = RANDOM.normal(size=SPIKES.shape).astype(np.float32)
    smoothing, formula = FORMULAS[name]

    @jax.jit
    def before(traces, targets):
        valid = (targets >= 0) & (targets < CLASSES) & (targets.astype(jnp.float32) == targets.astype(jnp.float32))
        truth = jnp.where(valid[..., None], jax.nn.one_hot(targets, CLASSES, dtype=jnp.float32), 0)
        return formula(jnp.moveaxis(traces, 1, 0), truth * (1 - smoothing) + smoothing / CLASSES)

    expected = jax.value_and_grad(before)(traces, TARGETS)
    for a, b in zip(jax.value_and_grad(made[name])(traces, TARGETS), expected, strict=True):
        np.testing.assert_array_equal(a, b)


# A padded batch is its samples alone


@EVERY_LOSS
def test_loss_and_gradient_of_a_padded_batch_are_those_of_the_samples_alone(made, name):
    graded = jax.value_and_grad(made[name])
    loss, gradient = graded(PADDED, TARGETS, lengths=LENGTHS, weights=WEIGHTS)
    np.testing.assert_allclose(loss, alone(LOSSES[name][1], WITHIN), rtol=1e-5)
    assert not gradient[~WITHIN].any()
    for i, length in enumerate(LENGTHS):
        value, own = graded(SPIKES[i, :length][None], TARGETS[i : i + 1])
        np.testing.assert_allclose(gradient[i, :length], own[0] * WEIGHTS[i] / WEIGHTS.sum(), rtol=1e-5, atol=1e-7)
        just_one = (np.arange(BATCH) == i).astype(np.float32)  # nothing of the others is left
        np.testing.assert_allclose(made[name](PADDED, TARGETS, lengths=LENGTHS, weights=just_one), value, rtol=1e-6)
    loss, gradient = graded(np.where(GAPS[..., None], SPIKES, np.nan), TARGETS, mask=GAPS, weights=WEIGHTS)
    np.testing.assert_allclose(loss, alone(LOSSES[name][1], GAPS), rtol=1e-5)
    assert not gradient[~GAPS].any()
    assert np.isfinite(gradient).all()


@EVERY_METRIC
def test_score_and_predictions_of_a_padded_batch_are_those_of_the_samples_alone(made, name):
    score, preds = made[name](PADDED, TARGETS, mask=GAPS, weights=WEIGHTS)
    expected = [METRICS[name][1](SPIKES[i, GAPS[i]]).argmax() for i in range(BATCH)]
    assert preds.tolist() == expected
    np.testing.assert_allclose(score, np.average(expected == TARGETS, weights=WEIGHTS), rtol=1e-6)


@SOME
def test_keywords_follow_the_axes(name):
    """Time first, several batch axes, one sample without any: mask in the traces' order."""
    expected = FACTORIES[name]()(PADDED, TARGETS, mask=GAPS, weights=WEIGHTS)
    time_first = FACTORIES[name](time_axis=0)
    found = time_first(np.moveaxis(PADDED, 1, 0), TARGETS, mask=GAPS.T, weights=WEIGHTS)
    stacked = FACTORIES[name](time_axis=-2)(
        PADDED.reshape(2, 2, TIME, CLASSES),
        TARGETS.reshape(2, 2),
        mask=GAPS.reshape(2, 2, TIME),
        weights=WEIGHTS.reshape(2, 2),
    )
    for other in (found, stacked):
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=1e-6)
    one = time_first(PADDED[3], 1, lengths=7, weights=2.0)
    np.testing.assert_allclose(first(one), first(time_first(PADDED[3, :7], 1)), rtol=1e-6)


@SOME
def test_jit_and_vmap_take_the_keywords(made, name):
    call = made[name]
    expected = first(call(PADDED, TARGETS, lengths=LENGTHS, weights=WEIGHTS))
    compiled = jax.jit(lambda x, y, n, w: call(x, y, lengths=n, weights=w))(PADDED, TARGETS, LENGTHS, WEIGHTS)
    np.testing.assert_allclose(first(compiled), expected, rtol=1e-6)
    each = jax.vmap(lambda x, y, n: call(x[None], y[None], lengths=n[None]))(PADDED, TARGETS, LENGTHS)
    np.testing.assert_allclose(np.average(first(each), weights=WEIGHTS), expected, rtol=1e-5)


# A target per step


@pytest.mark.parametrize("name", STEPWISE)
def test_a_target_per_step_scores_each_step_alone(made, name):
    """A step is a sequence of one step; the mean is over all steps that count, whatever the sample."""
    mask = GAPS & (PER_STEP != 1)
    labels = np.where(mask, PER_STEP, -7)
    weights = RANDOM.random(mask.shape).astype(np.float32)
    made_here = FACTORIES[name](ignore=-7)
    result = made_here(PADDED, labels, mask=GAPS, weights=weights)
    rows = SPIKES[mask][:, None]
    expected = first(made[name](rows, PER_STEP[mask], weights=weights[mask]))
    np.testing.assert_allclose(first(result), expected, rtol=1e-5)
    if name in METRICS:
        np.testing.assert_array_equal(result[1], np.where(GAPS, SPIKES.argmax(-1), -1))  # ignored ones have an answer
    else:
        oracle = [LOSSES[name][1](row[None], [y]) for row, y in zip(rows, PER_STEP[mask], strict=True)]
        np.testing.assert_allclose(first(result), np.average(oracle, weights=weights[mask]), rtol=1e-5)
        gradient = jax.grad(made_here)(PADDED, labels, mask=GAPS, weights=weights)
        assert not gradient[~mask].any()
        assert np.isfinite(gradient).all()
        assert gradient[mask].any()
    time_first = FACTORIES[name](time_axis=0, ignore=-7)
    turned = time_first(np.moveaxis(PADDED, 1, 0), labels.T, mask=GAPS.T, weights=weights.T)
    np.testing.assert_allclose(first(turned), first(result), rtol=1e-6)
    if name in METRICS:
        np.testing.assert_array_equal(turned[1].T, result[1])


@pytest.mark.parametrize("name", STEPWISE)
def test_targets_per_step_with_nothing_left_out(made, name):
    result = made[name](SPIKES, PER_STEP)
    expected = made[name](SPIKES.reshape(-1, 1, CLASSES), PER_STEP.ravel())
    for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=1e-6)
    per_sample = made[name](SPIKES, PER_STEP, weights=WEIGHTS)
    spread = made[name](SPIKES, PER_STEP, weights=np.repeat(WEIGHTS[:, None], TIME, 1))
    np.testing.assert_allclose(first(per_sample), first(spread), rtol=1e-6)


@pytest.mark.parametrize("name", WHOLE)
def test_what_reads_a_sequence_refuses_a_target_per_step(made, name):
    message = rf"^{name}: expected one target per sequence, shape \(4,\); got one per step, shape \(4, 10\)"
    with pytest.raises(ValueError, match=message):
        made[name](SPIKES, PER_STEP)


# What does not count


@SOME
def test_a_sample_that_does_not_count_is_not_there(made, name):
    """By label, weight, mask or length: neither its trace nor its label, NaN both, has any influence."""
    x, y = SPIKES.copy(), TARGETS.astype(np.float32)
    x[1], y[1] = np.nan, np.nan
    rest = [0, 2, 3]
    expected = first(made[name](SPIKES[rest], TARGETS[rest]))
    steps = np.ones((BATCH, TIME), bool)
    steps[1] = False
    ignored = np.where(np.arange(BATCH) == 1, -1, TARGETS)
    ways = {
        "weights": (made[name], y, {"weights": np.array([1, 0, 1, 1])}),
        "mask": (made[name], y, {"mask": steps}),
        "ignore": (FACTORIES[name](ignore=-1), ignored, {}),
    }
    for way, (call, labels, what) in ways.items():
        with strict_labels():
            if name in METRICS:
                score, preds = call(x, labels, **what)
                assert (int(preds[1]) == -1) == (way == "mask")
            else:
                score, gradient = jax.value_and_grad(call)(x, labels, **what)
                assert np.isfinite(gradient).all()
                assert not gradient[1].any()
                assert gradient[0].any()
            np.testing.assert_allclose(score, expected, rtol=1e-6)
        assert find_wrong_labels(partial(call, x, labels, **what)) is None


@pytest.mark.parametrize("name", ["max_crossentropy", "first_spike_loss", "first_spike_accuracy"])
def test_where_nothing_counts_the_result_is_zero(made, name):
    nowhere = np.zeros((BATCH, TIME), bool)
    x, y = np.full_like(SPIKES, np.nan), np.full(BATCH, -1)
    with strict_labels():
        assert first(made[name](x, y, mask=nowhere)) == 0
        assert first(FACTORIES[name](ignore=-1)(SPIKES, y)) == 0
        if name in LOSSES:
            assert not jax.grad(made[name])(x, y.astype(np.float32), mask=nowhere).any()
        else:
            assert made[name](x, y, mask=nowhere)[1].tolist() == [-1] * BATCH


@SOME
def test_a_wrong_label_that_counts_is_still_noticed(name):
    labels = np.array([1, -1, 7, 1])
    call = FACTORIES[name](ignore=-1)
    with strict_labels():
        assert np.isnan(first(call(SPIKES, labels)))
    for run in (call, jax.jit(call)):
        wrong = find_wrong_labels(partial(run, SPIKES, labels))
        assert wrong is not None
        assert (wrong.count, wrong.index, wrong.first) == (1, (2,), 7)
    assert np.isfinite(first(call(SPIKES, labels)))
    assert np.isnan(first(FACTORIES[name](class_weights=[1, 1, 1])(SPIKES, labels)))  # there is no weight for it


def test_every_dtype_of_an_ignored_label():
    expected = fn.integral_crossentropy()(SPIKES[:3], TARGETS[:3])
    for dtype, label in ((np.int8, -1), (np.uint8, 255), (np.float32, -1)):
        labels = TARGETS.astype(dtype)
        labels[3] = label
        np.testing.assert_allclose(fn.integral_crossentropy(ignore=label)(SPIKES, labels), expected, rtol=1e-6)
    wrapped = TARGETS.astype(np.uint32)
    wrapped[3] = 2**32 - 1  # is not -1
    with strict_labels():
        assert np.isnan(fn.integral_crossentropy(ignore=-1)(SPIKES, wrapped))


@SOME
def test_class_weights_weigh_samples_by_their_label(made, name):
    of_class = np.array([0.2, 3.0, 0.0])
    result = FACTORIES[name](class_weights=of_class)(SPIKES, TARGETS, weights=WEIGHTS)
    expected = made[name](SPIKES, TARGETS, weights=WEIGHTS * of_class[TARGETS])
    np.testing.assert_allclose(first(result), first(expected), rtol=1e-6)


def test_class_weights_make_a_balanced_accuracy():
    labels = np.where(np.arange(TIME) < 8, 0, 1)[None]
    traces = np.zeros((1, TIME, 2), np.float32)  # always answers 0
    counts = np.bincount(labels[0])
    assert fn.integral_accuracy()(traces, labels)[0] == np.float32(0.8)
    np.testing.assert_allclose(fn.integral_accuracy(class_weights=1 / counts)(traces, labels)[0], 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", ["mse_spikerate", "first_spike_loss", "max_accuracy"])
def test_burn_in_is_left_out(made, name):
    x = SPIKES.copy()
    x[:, :4] = np.nan
    later = FACTORIES[name](start=4)
    np.testing.assert_allclose(first(later(x, TARGETS)), first(made[name](SPIKES[:, 4:], TARGETS)), rtol=1e-6)
    both = later(x, TARGETS, lengths=np.array([10, 3, 4, 7]))  # two are over before it begins
    rest = made[name](SPIKES[[0, 3], 4:], TARGETS[[0, 3]], lengths=np.array([6, 3]))
    np.testing.assert_allclose(first(both), first(rest), rtol=1e-6)
    with pytest.raises(ValueError, match=r": start must be less than the 10 time steps of the traces; got 10"):
        FACTORIES[name](start=10)(SPIKES, TARGETS)


# Wrong arguments


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ({"mask": np.ones((4, 9), bool)}, ValueError, r"mask must have shape \(4, 10\); got \(4, 9\). Give the traces"),
        ({"mask": np.ones((10, 4), bool)}, ValueError, r"mask must have shape \(4, 10\); got \(10, 4\)"),
        ({"mask": np.ones((4, 10))}, TypeError, "mask must be booleans; got dtype float64. Write mask != 0"),
        ({"lengths": np.ones(3, int)}, ValueError, r"lengths must have shape \(4,\); got \(3,\). Give one number of"),
        ({"lengths": np.ones(4)}, TypeError, "lengths must be whole numbers; got dtype float64"),
        ({"lengths": np.array([1, 2, 11, 3])}, ValueError, r"lengths must be in 0\.\.10; got 11 at index \[2\]"),
        ({"lengths": jnp.array([1, -2, 1, 3])}, ValueError, r"lengths must be in 0\.\.10; got -2 at index \[1\]"),
        ({"lengths": LENGTHS, "mask": WITHIN}, ValueError, "expected mask or lengths; got both. Combine them"),
        ({"weights": np.ones((4, 10))}, ValueError, r"weights must have shape \(4,\); got \(4, 10\). Give one weight"),
        ({"weights": np.array([1, -0.5, 1, 1])}, ValueError, r"weights must be finite, 0 or more; got -0.5 at index"),
        ({"weights": np.array([1, 1, np.nan, 1])}, ValueError, r"weights must be finite, 0 or more; got nan at index"),
        ({"weights": np.ones(4) * 1j}, TypeError, "weights must be real numbers; got dtype complex128"),
    ],
)
def test_wrong_keywords(made, what, kind, message):
    for name in ("integral_crossentropy", "max_accuracy"):
        with pytest.raises(kind, match=f"^{name}: {message}"):
            made[name](SPIKES, TARGETS, **what)


@SOME
def test_a_traced_value_out_of_range_makes_the_result_nan(made, name):
    """Also where the sample itself would not count."""
    weigh = jax.jit(lambda w: first(made[name](SPIKES, TARGETS, weights=w)))
    cut = jax.jit(lambda n: first(made[name](SPIKES, TARGETS, lengths=n)))
    for call, good, bad in (
        (weigh, 0.0, -1.0),
        (weigh, 1.0, np.nan),
        (weigh, 1.0, np.inf),
        (cut, 10, 11),
        (cut, 0, -1),
    ):
        values = np.full(BATCH, good, np.float32 if isinstance(good, float) else np.int32)
        assert np.isfinite(call(values))
        values[2] = bad
        assert np.isnan(call(values))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"ignore": True}, TypeError, "ignore must be one whole number or None; got True"),
        ({"ignore": 0.5}, TypeError, "ignore must be one whole number or None; got 0.5"),
        ({"start": -1}, ValueError, "start must be a whole number of steps, 0 or more; got -1"),
        ({"start": 1.5}, ValueError, "start must be a whole number of steps, 0 or more; got 1.5"),
        ({"class_weights": [1, -1, 1]}, ValueError, "class_weights must be finite, 0 or more, and not all 0; got"),
        ({"class_weights": [0, 0]}, ValueError, "class_weights must be finite, 0 or more, and not all 0; got"),
        ({"class_weights": 3.0}, TypeError, r"class_weights must be one number per class; got dtype float64 and shape"),
        ({"class_weights": ["a"]}, TypeError, "class_weights must be one number per class; got dtype <U1"),
    ],
)
def test_options_are_checked_when_the_function_is_made(options, kind, message):
    for name in ("mse_spikerate", "first_spike_accuracy"):
        with pytest.raises(kind, match=f"^{name}: {message}"):
            FACTORIES[name](**options)


def test_one_class_weight_for_each_class(made):
    with pytest.raises(
        ValueError, match="^max_crossentropy: class_weights must be 3 numbers, one per class of the tra"
    ):
        fn.max_crossentropy(class_weights=[1, 2])(SPIKES, TARGETS)
