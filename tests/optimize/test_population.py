"""`population`: every member has the numbers of its own run, and ends alone."""

from __future__ import annotations

import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import fn, nn, optimize
from spyx.optimize import _checkpoint

EPOCHS = 4
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.random((3, 8, 5, 6)) < 0.5, jnp.float32)
Y = jnp.asarray(RNG.integers(0, 3, (3, 8)), jnp.int32)
HYPER = {"rate": [0.003, 0.03], "beta": [0.5, 0.9]}


def make(seed, beta=0.7):
    rngs = nnx.Rngs(seed)
    neuron = nn.LIF(7, beta=np.float32(beta), rngs=rngs)
    return nn.Sequential(nnx.Linear(6, 7, rngs=rngs), neuron, nnx.Dropout(0.3, rngs=rngs), nnx.Linear(7, 3, rngs=rngs))


def solver(rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, EPOCHS * 3)))


def loss_fn(model, x, y):
    return fn.integral_crossentropy()(nn.run(model, x)[0], y)


def metric_fn(model, x, y):
    traces = nn.run(model, x)[0]
    loss = fn.integral_crossentropy()(traces, y)
    return {"acc": fn.integral_accuracy()(traces, y)[0], "loss": loss, "tie": jnp.float32(1)}


def grow(**more):
    how = dict(epochs=EPOCHS, seeds=(3, 5), eval_data=(X, Y), metric_fn=metric_fn) | more
    return optimize.population(make, solver, loss_fn, (X, Y), **({"hyper": HYPER} | how))


@pytest.fixture(scope="module")
def grown():
    return grow(best="eval_tie,-eval_loss")


def same(a, b, rtol=1e-5):
    for one, other in zip(*(jax.tree.leaves(nnx.state(model, nnx.Param)) for model in (a, b)), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-6)


def test_each_member_has_the_numbers_of_its_own_run(grown):
    assert [(m.seed, *m.settings.values()) for m in grown.members] == [
        (seed, rate, beta) for rate in HYPER["rate"] for beta in HYPER["beta"] for seed in (3, 5)
    ]
    for member in (grown.members[1], grown.members[6]):
        single = optimize.train(
            make(member.seed, member.settings["beta"]),
            solver(member.settings["rate"]),
            loss_fn,
            (X, Y),
            epochs=EPOCHS,
            eval_data=(X, Y),
            metric_fn=metric_fn,
            key=jax.random.key(member.seed),
            best="-eval_loss",
        )
        for mine, theirs in zip(member.history, single.history, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5)
        same(member.model, single.model)
        same(member.best_model, single.best_model)
        assert member.best_epoch == single.best_epoch
        assert member.ended == ""


def test_members_side_by_side_have_the_same_numbers(grown):
    found = grow(best="-eval_loss", width=3)
    assert found.width == 3
    for one, other in zip(grown.members, found.members, strict=True):
        for mine, theirs in zip(one.history, other.history, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4)
        same(one.model, other.model, 1e-3)
        same(one.best_model, other.best_model, 1e-3)


def test_the_table_and_the_means(grown):
    rows, means = grown.table(), grown.means()
    assert len(rows) == 8
    assert len(means) == 4
    assert rows[0] == {
        "seed": 3,
        "rate": 0.003,
        "beta": 0.5,
        "epochs": EPOCHS,
        "ended": "",
        **grown.members[0].history[-1],
    }
    losses = [grown.members[n].history[-1]["eval_loss"] for n in (6, 7)]
    assert means[3]["eval_loss"] == pytest.approx(np.mean(losses))
    assert means[3]["eval_loss_deviation"] == pytest.approx(np.std(losses, ddof=1))


def test_the_hopeless_end_early_and_keep_what_they_had(grown):
    seen = []
    drop = optimize.halving("-eval_loss", at=(1, 2))
    found = grow(drop=drop, width=1, on_epoch_end=lambda epoch, numbers: seen.append(len(numbers)))
    assert seen == [8, 4, 2, 2]
    assert sorted(m.ended for m in found.members) == ["", "", *["dropped"] * 6]
    first = [m.history[0]["eval_loss"] for m in grown.members]
    worst = set(np.argsort(first)[4:])
    assert {n for n, m in enumerate(found.members) if len(m.history) == 1} == worst
    for one, other in zip(grown.members, found.members, strict=True):
        assert other.history == one.history[: len(other.history)]
    stopped = grow(stop_when=lambda history: len(history) == 2, seeds=1)
    assert {m.ended for m in stopped.members} == {"stopped"}
    assert stopped.means()[0]["seeds"] == 1


def test_a_member_that_is_not_a_number_ends_alone():
    found = grow(hyper={"rate": [0.003, 1e38]}, seeds=(3,))
    good, bad = found.members
    assert good.ended == ""
    assert len(good.history) == EPOCHS
    assert "spyx.optimize.population: epoch" in bad.ended
    assert bad.ended.endswith("(seed 3, rate=1e+38)")
    assert len(bad.history) < EPOCHS
    with pytest.raises(FloatingPointError, match=r"rate=1e\+38"):
        grow(hyper={"rate": [1e38]}, seeds=(3,))


def test_what_is_not_trained_is_set_before_each_epoch():
    def hook(epoch, model):
        nn.set_width(model, 3.0 - epoch.astype(jnp.float32))

    def delayed(seed):
        rngs = nnx.Rngs(seed)
        return nn.Sequential(nn.Delayed(nnx.Linear(6, 3, rngs=rngs), 4, rngs=rngs), nn.LI(3))

    found = optimize.population(
        delayed, optax.adam(0.01), loss_fn, (X, Y), epochs=2, seeds=2, on_epoch_start=hook, width=2
    )
    single = optimize.train(
        delayed(1), optax.adam(0.01), loss_fn, (X, Y), epochs=2, key=jax.random.key(1), on_epoch_start=hook
    )
    same(found.members[1].model, single.model)


BAD = [
    (dict(seeds=0), ValueError, r"population\(seeds=\): expected different whole numbers"),
    (dict(seeds=[1, 1]), ValueError, r"population\(seeds=\)"),
    (dict(hyper={"rate": [0.1], "gamma": [1]}), ValueError, r"population\(hyper=\): expected settings that.*got gamma"),
    (dict(hyper={"rate": 0.1}), ValueError, r"population\(hyper=\): expected a list of values"),
    (dict(hyper={"rate": ["fast"]}), ValueError, r"population\(hyper=\): expected numbers; got rate='fast'"),
    (dict(hyper=[{"rate": 0.1}, {"beta": 0.1}]), ValueError, r"same names"),
    (dict(width=0), ValueError, r"population\(width=\)"),
    (dict(epochs=0), ValueError, r"population\(epochs=\)"),
    (dict(metric_fn=None), ValueError, r"population: expected eval_data and metric_fn together"),
    (dict(best=("eval_acc", "-eval_loss")), TypeError, r"expected the name of a number, or several with commas"),
    (dict(best="eval_accuracy"), ValueError, r"expected the name of a number"),
    (dict(drop=lambda histories: [99]), ValueError, r"population\(drop=\)"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD, ids=[str(list(a)[0]) for a, _, _ in BAD])
def test_mistakes_are_told(arguments, kind, message):
    with pytest.raises(kind, match=message):
        grow(**arguments)


def test_members_of_another_structure_are_refused():
    def other(seed):
        return nn.Sequential(nnx.Linear(6, 3 + seed, rngs=nnx.Rngs(seed)), nn.LI(3 + seed))

    with pytest.raises(ValueError, match=r"population\(model_fn=\).*another structure for seed 1"):
        optimize.population(other, optax.adam(0.1), loss_fn, (X, Y), epochs=1, seeds=2)
    with pytest.raises(TypeError, match=r"population\(solver=\)"):
        optimize.population(make, "adam", loss_fn, (X, Y), epochs=1, seeds=2)
    with pytest.raises(ValueError, match="halving"):
        optimize.halving("eval_acc", at=(), keep=0.5)


def kept(folder, **more):
    """Members that end at different epochs, in groups of two, with checkpoints after every epoch."""
    how = dict(drop=optimize.halving("-eval_loss", at=(2,)), best="-eval_loss", width=2, folder=folder, seeds=3)
    return grow(hyper=[{"rate": 0.003, "beta": 0.5}], **(how | more))


def bits(found):
    leaves = [jax.tree.leaves(nnx.state(net)) for m in found.members for net in (m.model, m.best_model) if net]
    return [(m.history, m.best_epoch, m.ended) for m in found.members], [
        np.asarray(a if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else jax.random.key_data(a)).tobytes()
        for of in leaves
        for a in of
    ]


def test_a_population_that_was_stopped_is_resumed_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "SHARE", 0)
    whole = bits(kept(None))

    def interrupt(epoch, _):
        signal.raise_signal(signal.SIGINT) if epoch == last else None

    for last in (0, 2):
        with pytest.raises(optimize.Stopped) as stopped:
            kept(tmp_path, resume=last > 0, on_epoch_end=interrupt)
        assert (stopped.value.signal, stopped.value.epoch, stopped.value.fault) == (signal.SIGINT, last + 1, None)
    copy, begun = shutil.copytree(tmp_path, tmp_path / "copy"), []
    assert bits(kept(tmp_path, resume=True, on_start=begun.extend)) == whole
    assert [len(history) for history in begun] == [3, 2, 3]
    assert bits(kept(tmp_path, resume=True, on_epoch_end=lambda *_: pytest.fail("trained again"))) == whole

    with pytest.raises(optimize.CheckpointError, match=r"population\(folder=\): expected a folder without checkpoints"):
        kept(tmp_path)
    for other, message in (
        (dict(seeds=(0, 1, 3)), r"same seeds .* got \[0, 1, 3\] in place of \[0, 1, 2\] in .*\d\. Call it as it was"),
        (dict(width=1), r"same width .* got 1 in place of 2"),
        (dict(settings={"a": 1}), r"same settings .* got a=1 in place of None"),
    ):
        with pytest.raises(optimize.CheckpointError, match=rf"population\(resume=True\): expected the {message}"):
            kept(tmp_path, resume=True, **other)
    newest = max(copy.glob("0*"))
    (newest / "info.json").write_text("{}")
    said = []
    assert bits(kept(copy, resume=True, notify=said.append)) == whole
    assert "is damaged and is passed over" in said[0]
