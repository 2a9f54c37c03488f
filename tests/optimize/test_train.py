"""`train`: the numbers of `compile_fit`, and a run that was stopped goes on with the same bits."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import data, fn, nn, optimize
from spyx.optimize import _checkpoint

EPOCHS, BATCHES = 4, 3
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.random((BATCHES, 8, 5, 6)) < 0.5, jnp.float32)
Y = jnp.asarray(RNG.integers(0, 3, (BATCHES, 8)), jnp.int32)
BEST = "eval_loss"  # the largest: of the first epoch, so that a resumed run must have kept it
TX = optax.adam(optax.cosine_decay_schedule(0.02, EPOCHS * BATCHES))


def make(hidden=7):
    rngs = nnx.Rngs(0)
    layers = (nnx.Linear(6, hidden, rngs=rngs), nn.LIF(hidden, rngs=rngs), nnx.Dropout(0.3, rngs=rngs))
    return nn.Sequential(*layers, nnx.Linear(hidden, 3, rngs=rngs))


def loss_fn(model, x, y, mask=None):
    traces = nn.run(model, x)[0]
    if mask is None:
        return fn.integral_crossentropy()(traces, y)
    losses = optax.softmax_cross_entropy_with_integer_labels(traces.sum(1), y)
    return jnp.sum(losses, where=mask) / jnp.sum(mask, dtype=losses.dtype)


def metric_fn(model, x, y):
    traces = nn.run(model, x)[0]
    return {"acc": fn.integral_accuracy()(traces, y)[0], "loss": fn.integral_crossentropy()(traces, y)}


COMMON = dict(epochs=EPOCHS, eval_data=(X, Y), metric_fn=metric_fn, key=jax.random.key(1))


def train(model=None, tx=TX, source=(X, Y), **more):
    return optimize.train(make() if model is None else model, tx, loss_fn, source, **(COMMON | more))


def leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]


def same(a, b):
    return all(np.array_equal(one, other) for one, other in zip(leaves(a), leaves(b), strict=True))


@pytest.fixture(scope="module")
def whole():
    """The run that is never stopped."""
    return train(best=BEST)


@pytest.fixture
def eager(monkeypatch):
    """A checkpoint after every turn, written before the next begins."""
    monkeypatch.setattr(_checkpoint, "SHARE", 0)
    save = _checkpoint.Checkpoints.save
    monkeypatch.setattr(_checkpoint.Checkpoints, "save", lambda self, *given, wait=True: save(self, *given, wait=True))


class Boom(Exception):
    pass


def stop_at(epoch, step):
    """For on_step."""

    def called(*at):
        if at[:2] == (epoch, step):
            raise Boom

    return called


@pytest.fixture
def half(tmp_path, eager):
    """A folder with checkpoints in the middle of the third epoch, which the process left without a word."""
    with pytest.raises(Boom):
        train(best=BEST, folder=tmp_path, on_step=stop_at(2, BATCHES), settings={"seed": 1})
    return tmp_path


def go_on(folder, **more):
    return train(folder=folder, resume=True, **({"best": BEST, "settings": {"seed": 1}} | more))


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def test_the_numbers_are_those_of_compile_fit(whole):
    model, history = optimize.compile_fit(make(), TX, loss_fn, (X, Y), **COMMON)
    assert [row["train_loss"] for row in whole.history] == history["train_loss"].tolist()
    assert [row["eval_acc"] for row in whole.history] == history["eval_metric"]["acc"].tolist()
    assert same(model, whole.model)


def test_the_best_epoch_is_kept(whole):
    losses = [row["eval_loss"] for row in whole.history]
    assert whole.best_epoch == int(np.argmax(losses)) == 0
    assert same(whole.best_model, train(stop_when=lambda history: True).model)
    assert not same(whole.best_model, whole.model)
    assert train(best="-eval_loss").best_epoch == int(np.argmin(losses)) > 0


def test_epochs_that_are_equal_are_told_apart_by_the_next_number(whole):
    def with_a_tie(model, x, y):
        return metric_fn(model, x, y) | {"tie": jnp.float32(1)}

    losses = [row["eval_loss"] for row in whole.history]
    assert train(best="eval_tie", metric_fn=with_a_tie).best_epoch == 0
    assert train(best="eval_tie, -eval_loss", metric_fn=with_a_tie).best_epoch == int(np.argmin(losses)) > 0


def test_a_resumed_run_ends_with_the_same_bits(whole, half):
    begun = []
    again = go_on(half, on_start=begun.extend)
    assert begun == whole.history[:2]
    assert again.history == whole.history
    assert same(again.model, whole.model)
    assert again.best_epoch == whole.best_epoch
    assert same(again.best_model, whole.best_model)
    assert len(names(half)) == 2
    assert go_on(half, on_step=stop_at(0, 1)).history == whole.history  # finished: nothing is left to do


def test_a_resumed_run_begins_in_the_middle_of_an_epoch(half):
    seen = []
    go_on(half, on_step=lambda *at: seen.append(at[:2]))
    assert seen[0] == (2, 2)


def every_file(folder):
    newest = sorted(path for path in folder.iterdir() if path.name.isdigit())[-1]
    return newest, [path for path in sorted(newest.rglob("*")) if path.is_file()]


def test_a_flipped_bit_in_any_file_is_noticed(whole, half, monkeypatch):
    newest, files = every_file(half)
    assert len(files) > 6
    read = []
    monkeypatch.setattr(_checkpoint, "_read", lambda path, listed: read.append(path) or {})
    monkeypatch.setattr(_checkpoint, "_replaced", lambda like, saved: like)
    store = _checkpoint.Checkpoints(half, 2, "here")
    monkeypatch.setattr(store, "_suits", lambda *given: None)
    for file in files:
        content = file.read_bytes()
        for place in RNG.integers(0, 8 * len(content), 4) if content else ():
            spoiled = bytearray(content)
            spoiled[place // 8] ^= 1 << (place % 8)
            file.write_bytes(spoiled)
            said = []
            store.restore(lambda *_: {}, said.append)
            assert read.pop() != newest, (file, place)
            assert len(said) == 1
            assert str(newest) in said[0]
        file.write_bytes(content[:-1])
        store.restore(lambda *_: {}, said.append)
        assert read.pop() != newest or not content
        file.write_bytes(content)
    store.restore(lambda *_: {}, said.append)
    assert read.pop() == newest


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(whole, half):
    newest, files = every_file(half)
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"")
    with pytest.warns(UserWarning, match=rf"{newest} is damaged and is passed over: arrays/\S+ has another SHA-256"):
        again = go_on(half)
    assert same(again.model, whole.model)
    assert newest.name not in names(half)


@pytest.mark.parametrize("change", ["missing", "extra", "link", "no list"])
def test_a_checkpoint_must_hold_its_files_and_no_others(half, change):
    newest, files = every_file(half)
    if change == "missing":
        files[-1].unlink()
    elif change == "extra":
        (newest / "more").write_text("")
    elif change == "link":
        (newest / "more").symlink_to(files[0])
    else:
        (newest / _checkpoint.SUMS).unlink()
    said = []
    with pytest.raises(Boom):
        go_on(half, notify=said.append, on_step=stop_at(2, BATCHES))
    assert len(said) == 1
    assert "is damaged and is passed over" in said[0]


def test_without_a_checkpoint_that_is_whole_a_run_starts_again(whole, half):
    for path in half.glob("0*"):
        (path / _checkpoint.INFO).write_text("{}")
    said = []
    assert go_on(half, notify=said.append).history == whole.history
    assert len(said) == 2


def refused(message, folder, **more):
    before = names(folder)
    with pytest.raises(optimize.CheckpointError, match=message) as caught:
        go_on(folder, **more)
    assert "\n" not in str(caught.value)
    assert names(folder) == before


def test_a_checkpoint_of_something_else_is_refused(half):
    refused(r"got best\.0\.layers\.0\.bias\.value as float32 \(7,\) in place of float32 \(5,\)", half, model=make(5))
    refused(r"in place of nothing|nothing in place of", half, tx=optax.sgd(0.1))
    refused("expected the same settings .* got seed=2 in place of 1", half, settings={"seed": 2})
    refused("expected the same data", half, source=(X + 1, Y))
    refused("expected the same key", half, key=jax.random.key(2))
    with pytest.raises(optimize.CheckpointError, match="which holds a run. Pass resume=True"):
        train(folder=half)


def test_a_checkpoint_of_another_format_is_refused(half, monkeypatch):
    monkeypatch.setattr(_checkpoint, "FORMAT", 2)
    refused(r"expected a checkpoint in format 2; got format 1, of spyx 2\.0", half)


def test_one_run_at_a_time(half):
    with _checkpoint.Checkpoints(half, 2, "here").locked():
        refused(f"in which process {os.getpid()} trains", half)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(optimize.CheckpointError, match="expected a folder that can be written; got .*: "):
        train(folder=tmp_path / "file" / "below")


def test_a_disk_that_is_full_for_a_while_costs_nothing(whole, half, monkeypatch, caplog):
    before, said = names(half), []

    def full(self, *given, **more):
        code = compile("logging.error('a traceback')", "/site-packages/orbax/future.py", "exec")
        exec(code, {"logging": logging.getLogger("absl")})
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 10470 bytes to file 15: [os_error_code='28']")

    with monkeypatch.context() as changed:
        changed.setattr("orbax.checkpoint.Checkpointer.save", full)
        again = go_on(half, notify=said.append)
    assert same(again.model, whole.model)
    assert names(half) == before
    assert re.fullmatch(
        r"a checkpoint could not be written: \S+/00000\d: No space left on device\. The newest is \S+", said[0]
    )
    assert not caplog.records
    assert same(go_on(half).model, whole.model)


def send(*numbers):
    """For on_step: the signals, at the first step of the second epoch."""

    def called(*at):
        if at[:2] == (1, 1):
            for number in numbers:
                signal.raise_signal(number)

    return called


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_the_step(whole, tmp_path, number):
    before, told = signal.getsignal(number), []
    with pytest.raises(optimize.Stopped) as caught:
        train(best=BEST, folder=tmp_path, on_step=send(number), on_signal=told.append)
    assert (caught.value.signal, caught.value.epoch, caught.value.step) == (number, 1, 1)
    assert told == [number]
    assert signal.getsignal(number) == before
    seen = []
    again = go_on(tmp_path, settings=None, on_step=lambda *at: seen.append(at[:2]))
    assert seen[0] == (1, 2)
    assert same(again.model, whole.model)


def test_a_second_ctrl_c_ends_a_run_at_once(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        train(folder=tmp_path, on_step=send(signal.SIGINT, signal.SIGTERM, signal.SIGINT))
    assert not isinstance(caught.value, optimize.Stopped)


def test_signals_are_left_alone_in_other_threads_and_without_a_folder(tmp_path):
    before, seen = signal.getsignal(signal.SIGINT), []
    look = lambda *_: seen.append(signal.getsignal(signal.SIGINT))  # noqa: E731
    train(on_step=look)
    thread = threading.Thread(target=train, kwargs={"folder": tmp_path, "on_step": look})
    thread.start()
    thread.join()
    assert set(seen) == {before}
    assert len(seen) > 2


def test_early_stopping_survives(tmp_path, eager):
    stop = optimize.early_stopping("eval_loss", patience=2)  # larger is better: it never is
    whole = train(stop_when=stop)
    assert len(whole.history) == 3
    with pytest.raises(Boom):
        train(stop_when=stop, folder=tmp_path, on_step=stop_at(2, 1))
    for _ in range(2):  # also when it is finished
        assert train(stop_when=stop, folder=tmp_path, resume=True).history == whole.history
    with pytest.raises(ValueError, match="expected 1 or more; got 0"):
        optimize.early_stopping("eval_loss", patience=0)
    with pytest.raises(ValueError, match=r"got '-nothing'. There are: train_loss, eval_acc, eval_loss"):
        train(best="-nothing")


def test_early_stopping_counts_what_is_better_by_more_than_the_least():
    stop = optimize.early_stopping("eval_acc", patience=2, least=0.1)
    for scores, expected in (((0.5, 0.55, 0.65), False), ((0.5, 0.55, 0.59), True), ((0.5, 0.55, 0.6, 0.6), True)):
        assert stop([{"eval_acc": score} for score in scores]) == expected
    assert not optimize.early_stopping("eval_acc", patience=1)([{"eval_acc": 0.5}, {"eval_acc": 0.500001}])


def loader():
    split = data.Split(np.asarray(X).reshape(24, 5, 6)[:22], np.asarray(Y).reshape(24)[:22])
    return data.Loader(split, 8, key=3)


def test_a_loader_resumes_in_the_middle_of_an_epoch(tmp_path, eager):
    common = dict(epochs=2, eval_data=loader(), metric_fn=loss_fn)
    whole = train(source=loader(), **common)
    model = make()
    batches = loader()
    optimize.fit(model, TX, loss_fn, lambda: batches, epochs=2)
    assert same(whole.model, model)
    with pytest.raises(Boom):
        train(source=loader(), folder=tmp_path, on_step=stop_at(1, 3), **common)
    seen = []
    again = train(source=loader(), folder=tmp_path, resume=True, on_step=lambda *at: seen.append(at[:2]), **common)
    assert seen[0] == (1, 2)
    assert again.history == whole.history
    assert same(again.model, whole.model)


def test_a_step_that_is_no_number_is_named():
    spoiled = X.at[1, 2, 3, 4].set(jnp.nan)
    with pytest.raises(FloatingPointError, match=r"spyx\.optimize\.train: epoch 0, step 1: .*got NaN in batch\[0\]"):
        train(source=(spoiled, Y), key=None)


def test_arguments_out_of_range():
    for more, message in (
        ({"epochs": 0}, r"epochs=\): expected a whole number"),
        ({"keep": 0}, r"keep=\): expected a whole number"),
        ({"metric_fn": None}, "expected eval_data and metric_fn together"),
        ({"eval_data": None, "metric_fn": None, "best": "eval_acc"}, "expected '-train_loss' without eval_data"),
    ):
        with pytest.raises(ValueError, match=message):
            train(**more)


def test_parts_of_a_killed_process_are_removed(half):
    (half / "000009.part" / "arrays").mkdir(parents=True)
    go_on(half)
    assert not (half / "000009.part").exists()
    shutil.rmtree(half)


def test_a_network_is_looked_at_after_every_epoch_and_not_changed():
    seen = []

    def look(epoch, model):
        seen.append((epoch, leaves(model)))
        nnx.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))

    trained = train(on_epoch_model=look)
    assert [epoch for epoch, _ in seen] == list(range(EPOCHS))
    for a, b in zip(seen[-1][1], leaves(trained.model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(seen[0][1], seen[1][1], strict=True))
