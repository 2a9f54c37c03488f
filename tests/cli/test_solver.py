"""From settings to an optimiser: learning rate, clipping, and augmentation in the shape of a frame."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from spyx import nn
from spyx.cli import make_network
from spyx.cli import score as scoring
from spyx.cli.config import AugmentTable, Config
from spyx.cli.make_solver import make_solver
from spyx.cli.score import make_loss, make_metric, score


def updates(config: Config, gradient: float, count: int) -> list[float]:
    """What the optimiser does to one weight at 0 under the same gradient again and again."""
    tx = make_solver(config, 100, (1,))
    params = jnp.float32(0.0)
    state, found = tx.init(params), []
    for _ in range(count):
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes
            update, state = tx.update(jnp.float32(gradient), state, params)
        found.append(float(update))
    return found


def test_the_learning_rate_rises_and_falls():
    falls = updates(Config(learning_rate=0.1), 1.0, 3)
    np.testing.assert_allclose(falls, [-0.05 * (1 + np.cos(np.pi * step / 100)) for step in range(3)], rtol=1e-3)
    rises = updates(Config(learning_rate=0.1, warmup=0.04), 1.0, 5)
    np.testing.assert_allclose(rises, [0.0, -0.025, -0.05, -0.075, -0.1], rtol=1e-3, atol=1e-6)


def test_without_extras_it_is_plain_adamw():
    tx = optax.adamw(optax.cosine_decay_schedule(0.005, 100), weight_decay=1e-4)
    ours = make_solver(Config(), 100, (1,))
    assert jax.tree.structure(ours.init(jnp.float32(0))) == jax.tree.structure(tx.init(jnp.float32(0)))


def test_clipping_bounds_the_gradient():
    tx = make_solver(Config(clip=0.5), 100, (1,))
    with jax.numpy_dtype_promotion("standard"):
        _, state = tx.update(jnp.float32(8.0), tx.init(jnp.float32(0.0)), jnp.float32(0.0))
    moments = [float(leaf) for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32]
    np.testing.assert_allclose(moments, [0.1 * 0.5, 0.001 * 0.25], rtol=1e-5)


AUGMENTED = [
    ({"shift_space": 1}, (4, 4, 2)),
    ({"shift_time": 2}, (32,)),
    ({"jitter_time": 2}, (32,)),
    ({"drop_spikes": 0.5}, (32,)),
    ({"mask_time": 3}, (32,)),
    ({"mask_space": 8}, (32,)),
]


@pytest.mark.parametrize(("table", "frame"), AUGMENTED, ids=[next(iter(table)) for table, _ in AUGMENTED])
def test_every_augmentation_reaches_the_loss_anew_in_each_step(table, frame):
    solver = make_solver(Config(augment=AugmentTable(**table)), 10, frame)
    time, space = jnp.arange(5, dtype=jnp.float32), jnp.arange(32, dtype=jnp.float32)
    impl = solver(lambda params, batch: params * jnp.einsum("btf,t,f->", batch[0], time, space), jnp.float32(1.0))
    state = impl.init(jax.random.key(0))
    x = jnp.zeros((3, 5, 32), jnp.float32).at[:, 1:4, 10:22].set(1.0)
    losses = {float(impl.step(state, (x,), jax.random.key(number))[1]) for number in range(4)}
    assert len(losses) > 1
    assert float(impl.step(state, (x,), jax.random.key(0))[1]) == float(impl.step(state, (x,), jax.random.key(0))[1])


def test_readout_and_smoothing_reach_loss_and_metric_alike():
    model = nn.LI(3, beta=np.float32(0.5))
    x = jnp.arange(24).reshape(2, 4, 3).astype(jnp.uint8)
    y = jnp.array([1, 2], jnp.int32)
    losses = set()
    for config in (Config(), Config(readout="mean"), Config(smoothing=0.0)):
        loss = float(make_loss(config)(model, x, y))
        metric = make_metric(config)(model, x, y, jnp.ones(2, jnp.float32))
        np.testing.assert_allclose(metric["loss"], loss, rtol=1e-5)
        assert float(metric["acc"]) == 0.5
        losses.add(round(loss, 4))
    assert len(losses) == 3


@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_a_part_is_scored_as_plain_means_over_its_samples(monkeypatch, readout):
    """7 samples in batches of 3: the two that fill up the last batch count nowhere; time is 5, no batch size."""
    monkeypatch.setattr(scoring, "BATCH", 3)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, (7, 5, 4)).astype(np.uint8), np.array([3, 0, 1, 2, 3, 3, 0], np.int32)
    beta, smoothing = 0.5, 0.1
    traces = np.zeros((7, 5, 4))
    for t in range(5):
        traces[:, t] = beta * (traces[:, t - 1] if t else 0) + x[:, t]
    sums = traces.sum(1) if readout == "sum" else traces.mean(1)
    log_p = sums - np.log(np.exp(sums).sum(1, keepdims=True))
    target = np.eye(4)[y] * (1 - smoothing) + smoothing / 4
    config = Config(readout=readout, smoothing=smoothing)
    found = scoring.score(config, nn.LI(4, beta=np.float32(beta)), jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found["loss"], -(target * log_p).sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(found["acc"], (sums.argmax(1) == y).mean(), rtol=1e-6)


def test_batches_hold_every_sample_and_fill_up_from_the_start():
    x, y = np.arange(14).reshape(7, 2), np.arange(7)
    xs, ys = scoring.batches(x, y, 3)
    assert ys.tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]
    np.testing.assert_array_equal(xs, x[np.asarray(ys)])
    assert scoring.batches(x, y, 100)[1].tolist() == [list(range(7))]
    assert scoring.batches(x[:6], y[:6], 3)[1].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_weights_decay_and_the_rate_ends_at_zero():
    falls = updates(Config(learning_rate=0.1), 1.0, 101)
    np.testing.assert_allclose(falls[99], -0.05 * (1 + np.cos(np.pi * 0.99)), rtol=1e-3)
    assert falls[100] == 0.0
    tx = make_solver(Config(learning_rate=0.1, weight_decay=0.5), 100, (1,))
    params = jnp.float32(2.0)
    with jax.numpy_dtype_promotion("standard"):
        update, _ = tx.update(jnp.float32(0.0), tx.init(params), params)
    np.testing.assert_allclose(update, -0.1 * 0.5 * 2.0, rtol=1e-5)


def augmented(table: dict[str, float], frame: tuple[int, ...], x: jnp.ndarray) -> np.ndarray:
    """What the loss is given, for 4 keys one after the other: (samples, time, features)."""
    seen = []
    solver = make_solver(Config(augment=AugmentTable(**table)), 10, frame)
    impl = solver(lambda params, batch: (seen.append(np.asarray(batch[0])), params**2)[1], jnp.float32(1.0))
    for number in range(4):
        impl.step(impl.init(jax.random.key(0)), (x,), jax.random.key(number))
    return np.concatenate(seen)


def test_every_augmentation_acts_along_its_own_axes():
    """32 features are 32 units, or 4 rows of 4 columns of 2 polarities."""
    units, camera = (32,), (4, 4, 2)
    one = jnp.zeros((3, 5, 32), jnp.float32).at[:, 2, 2 * 8 + 1 * 2 + 1].set(1.0)
    for table in ({"shift_time": 1}, {"jitter_time": 1}):
        _, steps, unit = np.nonzero(augmented(table, units, one))
        assert (set(steps), set(unit)) == ({1, 2, 3}, {19})
    _, steps, unit = np.nonzero(augmented({"shift_space": 1}, units, one))
    assert (set(steps), set(unit)) == ({2}, {18, 19, 20})
    _, steps, unit = np.nonzero(augmented({"shift_space": 1}, camera, one))
    assert (set(steps), set(unit // 8), set(unit // 2 % 4), set(unit % 2)) == ({2}, {1, 2, 3}, {0, 1, 2}, {1})
    _, steps, unit = np.nonzero(augmented({"shift_space": 1}, (4, 8), one))  # without polarities
    assert (set(steps), set(unit // 8), set(unit % 8)) == ({2}, {1, 2, 3}, {2, 3, 4})
    ones = jnp.ones((3, 5, 32), jnp.float32)
    for table, frame, axes in (
        ({"mask_time": 3}, units, (2,)),
        ({"mask_space": 9}, units, (1,)),
        ({"mask_space": 3}, camera, (1, 3, 4)),
    ):
        shown = augmented(table, frame, ones).reshape(12, 5, *frame)
        whole = shown.mean(axes)
        assert set(np.unique(whole)) == {0.0, 1.0}  # a step, a unit or a row is silent as a whole
    assert 0.3 < augmented({"drop_spikes": 0.5}, units, ones).mean() < 0.7


def test_delays_have_a_rate_of_their_own_and_are_scored_rounded():
    config = Config(hidden=(3,), delays=4, learning_rate=0.01, delay_learning_rate=0.5)
    model = make_network.make_network(config, 2, 2)
    params = nnx.state(model, nnx.Param)
    tx = make_solver(config, 100, (2,))
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes
        updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["layers"][0]["delays"][...], -0.5, rtol=1e-4)
    np.testing.assert_allclose(updates["layers"][0]["connection"]["kernel"][...], -0.01, rtol=1e-2)
    x, y = jax.random.uniform(jax.random.key(0), (4, 9, 2)) * 9, jnp.array([0, 1, 0, 1])
    assert score(config, model, x, y) == score(config, nn.rounded(model), x, y)
