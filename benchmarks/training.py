"""What a training loop costs above its compiled step, what checkpoints cost, and what a population saves.

python -m benchmarks.training loops            # fit with a Loader, and compile_fit, over the bare step on W1
python -m benchmarks.training delays           # compile_fit over the bare step, with a learned delay for every synapse
python -m benchmarks.training checkpoints      # train with a folder over train without, on W1
python -m benchmarks.training recording        # report.record of rates over the same samples run plainly, on W1
python -m benchmarks.training population       # 16 seeds on digits in one program over 16 runs of their own

Every ratio is one of turns that follow each other, so that a busy machine hits both alike; CPU time (user and system)
beside wall time, because other processes lengthen the second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.peers import flax_steps, ours
from benchmarks.workloads import LEARNING_RATE, WORKLOADS
from spyx import data, fn, nn, optimize
from spyx import report as report_of

BATCHES, ROUNDS = 8, 7
SEEDS, EPOCHS, SINGLES = 16, 40, 4


class Clock:
    """Seconds of this process since the last look: `(wall, CPU)`."""

    def __init__(self) -> None:
        self.at = time.perf_counter(), time.process_time()

    def look(self) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        spent = now[0] - self.at[0], now[1] - self.at[1]
        self.at = now
        return spent


def network() -> nn.Sequential:
    rngs, workload = nnx.Rngs(0), WORKLOADS["W1"]
    layers = [ours._layer(layer, "lif", nnx.Conv, rngs) for layer in workload.layers]
    flax_steps.load(layers, workload)
    return nn.Sequential(*layers)


def samples() -> tuple[np.ndarray, np.ndarray]:
    """`BATCHES` batches of W1, (samples, time, features), in memory one sample after the other, as data sets are."""
    x, y = WORKLOADS["W1"].data()
    return np.concatenate([np.ascontiguousarray(x.swapaxes(0, 1))] * BATCHES), np.concatenate([y] * BATCHES)


def bare_epoch(model: nn.Sequential, x: np.ndarray, y: np.ndarray) -> Any:
    """The compiled step on batches that are on the device, with nothing around it."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    adam, loss_fn = optax.adam(LEARNING_RATE), fn.integral_crossentropy()

    def loss(params: Any, rest: Any, x: Any, y: Any) -> Any:
        return loss_fn(nn.run(nnx.merge(graphdef, params, rest), x)[0], y)

    def step(carry: Any, rest: Any, x: Any, y: Any) -> Any:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, rest, x, y)
        updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    compiled = jax.jit(step, donate_argnums=0)
    carry = (params, adam.init(params))

    def epoch() -> None:
        nonlocal carry
        for batch in range(len(x)):
            carry, value = compiled(carry, rest, x[batch], y[batch])
        jax.block_until_ready(carry)

    return epoch


def loops() -> None:
    adam, loss_fn = optax.adam(LEARNING_RATE), fn.integral_crossentropy()
    loader = data.Loader(data.Split(*samples()), WORKLOADS["W1"].batch, key=0)
    x, y = (a.reshape(BATCHES, -1, *a.shape[1:]) for a in samples())
    bare = bare_epoch(network(), x, y)

    def fit(hook: Any) -> None:
        optimize.fit(network(), adam, loss_fn, lambda: loader, epochs=ROUNDS + 1, on_epoch_end=hook)

    def compile_fit(hook: Any) -> None:
        given = dict(epochs=ROUNDS + 1, key=jax.random.key(0), on_epoch_end=hook)
        optimize.compile_fit(network(), adam, loss_fn, (x, y), **given)

    for name, run in (("fit with a Loader", fit), ("compile_fit, an epoch per call", compile_fit)):
        clock, pairs = Clock(), []

        def turn(epoch: int, numbers: dict[str, float], clock: Clock = clock, pairs: list[Any] = pairs) -> None:
            mine = clock.look()
            bare()
            theirs = clock.look()
            if epoch:  # the first compiles
                pairs.append((mine, theirs))

        run(turn)
        report(f"{name} : bare step, W1", pairs)


def delays() -> None:
    """20 inputs, 48 LIF units with delays of up to 20 steps, 50 steps, batches of 100: as in `spyx train --delays`."""
    rngs, draw = nnx.Rngs(0), np.random.default_rng(0)
    x = (draw.random((BATCHES, 100, 50, 20)) < 0.02).astype(np.float32)
    y = draw.integers(0, 10, (BATCHES, 100))

    def model() -> nn.Sequential:
        connection = nn.Delayed(nn.Linear(20, 48, rngs=rngs), 20, rngs=rngs)
        return nn.Sequential(connection, nn.LIF(48, beta=0.9), nn.Linear(48, 10, rngs=rngs), nn.LI(10, beta=0.9))

    bare, clock, pairs = bare_epoch(model(), x, y), Clock(), []

    def turn(epoch: int, numbers: dict[str, float]) -> None:
        mine = clock.look()
        bare()
        theirs = clock.look()
        if epoch:  # the first compiles
            pairs.append((mine, theirs))

    given = dict(epochs=4 * ROUNDS + 1, key=jax.random.key(0), on_epoch_end=turn)
    optimize.compile_fit(model(), optax.adam(LEARNING_RATE), fn.integral_crossentropy(), (x, y), **given)
    report("compile_fit : bare step, 48 units with delays", pairs)


def checkpoints() -> None:
    adam, loss_fn = optax.adam(LEARNING_RATE), fn.integral_crossentropy()
    x, y = (a.reshape(BATCHES, -1, *a.shape[1:]) for a in samples())
    pairs = []
    for turn in range(ROUNDS):
        spent = {}
        for kept in (True, False) if turn % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                clock = Clock()
                given = dict(epochs=12, key=jax.random.key(0), folder=folder if kept else None)
                optimize.train(network(), adam, loss_fn, (x, y), **given)
                spent[kept] = clock.look()
        if turn:
            pairs.append((spent[True], spent[False]))
    report("train with checkpoints : without, W1, 12 epochs", pairs)


def recording() -> None:
    """`report.record(what="rates")` over a jitted `nn.run`, both over all batches of W1, one after the other."""
    model, (x, _) = network(), samples()
    size = WORKLOADS["W1"].batch
    graphdef, weights = nnx.split(model)
    run = jax.jit(lambda weights, x: nn.run(nnx.merge(graphdef, weights), x)[0])

    def plain() -> None:
        for first in range(0, len(x), size):
            jax.block_until_ready(run(weights, jnp.asarray(x[first : first + size])))

    def record() -> None:
        report_of.record(model, x, what="rates", batch_size=size)

    pairs = []
    for turn in range(2 * ROUNDS + 1):
        clock = Clock()
        record()
        mine = clock.look()
        plain()
        if turn:  # the first compiles
            pairs.append((mine, clock.look()))
    report("record of rates : run, W1", pairs)


def digits(seeds: list[int], together: bool) -> dict[str, Any]:
    """Train on digits as `spyx train` does, compilation included, the imports left out."""
    from spyx.cli import inputs, make_network, score
    from spyx.cli.config import Config
    from spyx.cli.make_solver import make_solver

    config = Config(epochs=EPOCHS)
    given = inputs.load_inputs(config)
    batches = score.batches(given.x["train"], given.y["train"], config.batch_size)
    features = given.x["train"].shape[2]
    solver = make_solver(config, EPOCHS * len(batches[1]), given.frame)
    how = dict(epochs=EPOCHS, eval_data=score.weighed(*given.part("validation")), metric_fn=score.make_metric(config))
    clock = Clock()

    def make(seed: int) -> Any:
        from dataclasses import replace

        return make_network.make_network(replace(config, seed=seed), features, given.classes)

    if together:
        loss = score.make_loss(config)
        found = optimize.population(make, solver, loss, batches, seeds=seeds, best="eval_acc", **how)
        accuracies = [member.history[-1]["eval_acc"] for member in found.members]
    else:
        loss, key = score.make_loss(config), jax.random.key(seeds[0])
        single = optimize.train(make(seeds[0]), solver, loss, batches, key=key, best="eval_acc", **how)
        accuracies = [single.history[-1]["eval_acc"]]
    wall, cpu = clock.look()
    return {"wall": wall, "cpu": cpu, "accuracy": statistics.fmean(accuracies)}


def population() -> None:
    def child(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.training", "digits", *arguments]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    singles, all_at_once = [], {}
    for seed in range(SINGLES):
        singles.append(child("--seeds", str(seed)))
        if seed == SINGLES // 2 - 1:
            all_at_once = child("--seeds", ",".join(map(str, range(SEEDS))), "--together")
    for what in ("wall", "cpu"):
        one = statistics.fmean(single[what] for single in singles)
        many = all_at_once[what]
        print(
            f"{what} s: {SEEDS} seeds together {many:.1f}, a run of its own {one:.1f} (mean of {SINGLES}); "
            f"together : {SEEDS} runs = {many / (SEEDS * one):.2f}"
        )
    print(f"validation accuracy, mean: {all_at_once['accuracy']:.4f}, {singles[0]['accuracy']:.4f} of seed 0 alone")


def report(name: str, pairs: list[Any]) -> None:
    for place, what in enumerate(("wall", "CPU")):
        ratios = sorted(mine[place] / theirs[place] for mine, theirs in pairs)
        mine, theirs = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
        print(
            f"{name:48} {what:4} {mine:8.3f} s {theirs:8.3f} s  ratio {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training", description=__doc__)
    parser.add_argument("what", choices=("loops", "delays", "checkpoints", "recording", "population", "digits"))
    parser.add_argument("--seeds", default="0", help="for digits, what population starts as processes of their own")
    parser.add_argument("--together", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "digits":
        print(json.dumps(digits([int(seed) for seed in arguments.seeds.split(",")], arguments.together)))
        return
    runs = dict(loops=loops, delays=delays, checkpoints=checkpoints, recording=recording, population=population)
    runs[arguments.what]()


if __name__ == "__main__":
    main()
