"""`spyx train --seeds`: one network from several seeds, a run folder for each."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from spyx import optimize
from spyx.cli import inputs, network, train
from spyx.cli.compare import compare
from spyx.cli.config import LIMITS, Config
from spyx.cli.doctor import fresh_network
from spyx.cli.errors import Interrupted, UserError
from spyx.cli.progress import working
from spyx.cli.provenance import record_of
from spyx.cli.runs import BEST, new_folder, save_text, save_weights
from spyx.cli.score import batches, class_weights, make_loss, make_metric, weighed
from spyx.cli.solver import make_solver
from spyx.cli.text import safe

MOST = 1000


def parsed(text: str, seed: int | None) -> list[int]:
    """`0..4`, both ends included, or `0,3,7`.

    Raises:
        UserError: anything else, a seed twice, or `--seed` besides.
    """
    if seed is not None:
        raise UserError("--seeds: expected no --seed beside it; got both.")
    first, dots, last = text.partition("..")
    try:
        found = list(range(int(first), int(last) + 1)) if dots else [int(part) for part in text.split(",")]
    except (ValueError, MemoryError, OverflowError):
        found = []
    low, high = LIMITS["seed"]
    if not 1 <= len(found) <= MOST or len(set(found)) < len(found) or not all(low <= n <= high for n in found):
        raise UserError(f"--seeds: expected seeds such as 0..4 or 0,3,7, at most {MOST}, none twice; got {text!r}.")
    return found


def train_seeds(config: Config, seeds: list[int], output: Path | None, console: Console) -> list[Path]:
    """Train from every seed: together by one program, or one after the other where the seed changes the data too.

    Raises:
        UserError: as `train`.
    """
    began = time.perf_counter()
    config = replace(config, seed=seeds[0])
    config, samples = train.prepared(config, output, console)
    above = new_folder(output, config)
    folders = [above / f"seed-{seed}" for seed in seeds]
    if config.encoder == "rate" or config.dataset == "randman":
        how = "one after the other, because the seed draws the data too"
        console.print(f"{len(seeds)} seeds, {how}", soft_wrap=True)
        for seed, folder in zip(seeds, folders, strict=True):
            train.train(replace(config, seed=seed), folder, console)
        done = folders
    else:
        console.print(
            f"[bold]{config.dataset}[/]: {len(seeds)} seeds by one program, without checkpoints", soft_wrap=True
        )
        done = _together(config, seeds, folders, samples, console, began)
    if done:
        compare(done, console)
    return done


def _together(
    config: Config, seeds: list[int], folders: list[Path], samples: inputs.Inputs, console: Console, began: float
) -> list[Path]:
    lengths = [samples.lengths["train"]] if "train" in samples.lengths else []
    x, y, *lengths = batches(samples.x["train"], samples.y["train"], config.batch_size, *lengths)

    def make(seed: int) -> Any:
        return fresh_network(replace(config, seed=seed), samples)

    for seed, folder in zip(seeds, folders, strict=True):
        folder.mkdir()
        save_text(folder, "config.toml", replace(config, seed=seed).to_toml())
    try:
        with working(console, f"training {len(seeds)} seeds"):
            found = optimize.population(
                make,
                make_solver(config, config.epochs * len(y), samples.frame),
                make_loss(config, class_weights(config, samples)),
                (x, y),
                epochs=config.epochs,
                seeds=seeds,
                lengths=lengths[0] if lengths else None,
                eval_data=weighed(*samples.part("validation")),
                metric_fn=make_metric(config),
                best="eval_acc,-eval_loss",
                on_epoch_start=partial(network.set_widths, config) if network.learns_delays(config) else None,
            )
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted. Seeds that are trained together keep no checkpoints: start again.") from error
    done = []
    for member, folder in zip(found.members, folders, strict=True):
        if member.ended:
            console.print(f"[yellow]seed {member.seed}: {safe(member.ended)}[/]", soft_wrap=True)
            continue
        share = found.compile_s / len(seeds), found.run_s / len(seeds)
        trained = optimize.Trained(member.model, member.history, member.best_model, member.best_epoch, *share)
        save_weights(folder, member.model)
        if member.best_model is not None:
            save_weights(folder, member.best_model, BEST)
        own = replace(config, seed=member.seed)
        record = record_of(samples, member.model, seeds)
        train.finish(Console(quiet=True), folder, own, trained, samples, began, record)
        done.append(folder)
    return done
