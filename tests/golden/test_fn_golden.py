"""`spyx.fn` against the recorded vectors of Spyx 1.0; each intentional difference carries its ID."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from spyx import fn

FILE = "fn_spyx10"
LAYOUTS = ["BTC", "TBC_ax0", "TC_ax0", "TBBC_ax0", "B1T1"]
COUNTS = ["single", "two", "conv", "mixed", "batch1", "rank1"]
NORMS = {"l2": optax.l2_loss, "square": jnp.square, "abs": jnp.abs}


@pytest.fixture
def case(golden):
    vectors = golden(FILE)

    def read(name):
        found = {key.removeprefix(f"{name}/"): value for key, value in vectors.items() if key.startswith(f"{name}/")}
        assert found, f"{name} is not recorded"
        try:
            found["meta"] = json.loads(str(found["meta"]))
        except json.JSONDecodeError:
            found["meta"] = {}
        return found

    return read


def assert_loss_and_gradient(loss_fn, vectors):
    loss, gradient = jax.value_and_grad(loss_fn)(vectors["traces"], vectors["targets"])
    np.testing.assert_allclose(loss, vectors["loss"], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(gradient, vectors["grad_traces"], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("layout", [*LAYOUTS, "ties"])
def test_integral_accuracy(case, layout):
    vectors = case(f"integral_accuracy_{layout}")
    score, preds = fn.integral_accuracy(**vectors["meta"])(vectors["traces"], vectors["targets"])
    np.testing.assert_array_equal(preds, vectors["preds"])
    assert preds.dtype == jnp.int32
    assert score.dtype == jnp.float32
    np.testing.assert_allclose(score, vectors["score"], atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_integral_crossentropy(case, layout, smoothing):
    vectors = case(f"integral_crossentropy_{layout}_s{smoothing}")
    assert_loss_and_gradient(fn.integral_crossentropy(**vectors["meta"]), vectors)


@pytest.mark.parametrize("settings", ["sp0.25_s0.0", "sp0.7_s0.1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_F2_mse_spikerate_with_and_without_the_factor_of_time(case, layout, settings):
    vectors = case(f"mse_spikerate_{layout}_{settings}")
    assert_loss_and_gradient(fn.mse_spikerate(**vectors["meta"]), vectors)
    rate = fn.mse_spikerate(**vectors["meta"], scale_by_time=False)(vectors["traces"], vectors["targets"])
    np.testing.assert_allclose(rate, vectors["loss_without_t_scaling"], rtol=1e-5, atol=2e-5)


def assert_penalty_and_gradients(regulariser, vectors):
    counts = [vectors[f"spikes{i}"] for i in range(sum(key.startswith("spikes") for key in vectors))]
    loss, gradients = jax.value_and_grad(regulariser)(counts)
    np.testing.assert_allclose(loss, vectors["loss"], rtol=1e-5, atol=2e-5)
    for i, gradient in enumerate(gradients):
        np.testing.assert_allclose(gradient, vectors[f"grad{i}"], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("min_spikes", [0.0, 3.0, 6.5])
@pytest.mark.parametrize("counts", COUNTS)
def test_silence_reg(case, counts, min_spikes):
    assert_penalty_and_gradients(fn.silence_reg(min_spikes), case(f"silence_reg_{counts}_min{min_spikes}"))


@pytest.mark.parametrize("max_spikes", [0.0, 2.5, 3.4, 6.0])
@pytest.mark.parametrize("counts", COUNTS)
def test_sparsity_reg(case, counts, max_spikes):
    assert_penalty_and_gradients(fn.sparsity_reg(max_spikes), case(f"sparsity_reg_{counts}_max{max_spikes}"))


@pytest.mark.parametrize("norm", NORMS)
def test_sparsity_reg_with_another_norm(case, norm):
    vectors = case(f"sparsity_reg_two_norm_{norm}")
    assert_penalty_and_gradients(fn.sparsity_reg(vectors["meta"]["max_spikes"], NORMS[norm]), vectors)


def is_time_last(row):
    return row["time_axis"] % len(row["traces"]) == len(row["traces"]) - 1


def is_time_on_the_class_axis(row):
    return row["result"] == "ok" and is_time_last(row)


def shape_rows(case):
    return [row for row in case("shape_errors")["meta"] if "traces" in row]


def call(row):
    traces, targets = np.zeros(row["traces"], np.float32), np.zeros(row["targets"], np.int32)
    return getattr(fn, row["fn"])(time_axis=row["time_axis"])(traces, targets)


def test_shape_errors(case):
    rows = [row for row in shape_rows(case) if not is_time_on_the_class_axis(row)]
    assert len(rows) == 54
    for row in rows:
        if row["result"] == "ok":
            call(row)
            continue
        [phrase] = [p for p in ("at least 2 dimensions", "out of range", "does not match") if p in row["result"]]
        if phrase == "does not match" and is_time_last(row):
            phrase = "must not be the class axis"  # which is why nothing matches
        elif (
            phrase == "does not match" and row["targets"] == row["traces"][:-1]
        ):  # one target per step, which Spyx 1.0 did not know
            if row["fn"].startswith("integral"):
                call(row)
                continue
            phrase = "expected one target per sequence"
        with pytest.raises(ValueError, match=f"^{row['fn']}: .*{phrase}"):
            call(row)


def test_F4_time_on_the_class_axis_is_refused(case):
    rows = [row for row in shape_rows(case) if is_time_on_the_class_axis(row)]
    assert len(rows) == 9
    for row in rows:
        with pytest.raises(ValueError, match=f"^{row['fn']}: time_axis must not be the class axis"):
            call(row)


@pytest.mark.parametrize("make", [fn.silence_reg, fn.sparsity_reg])
def test_F3_regularisers_refuse_what_holds_no_counts(make):
    with pytest.raises(ValueError, match="expected at least one array"):
        make(1.0)([])
    with pytest.raises(ValueError, match="must have a batch axis"):
        make(1.0)([jnp.float32(2.0)])


def test_F8_a_label_out_of_range_has_no_true_class(case):
    vectors = case("integral_crossentropy_label_out_of_range")
    loss_fn = fn.integral_crossentropy()
    np.testing.assert_allclose(loss_fn(vectors["traces"], vectors["targets"]), vectors["loss"], atol=2e-5)
