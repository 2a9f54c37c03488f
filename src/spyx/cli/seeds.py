"""`spyx train --seeds`: one network from several seeds, a run folder for each."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console

from spyx import optimize
from spyx.cli import inputs, make_network, train
from spyx.cli.compare import compare
from spyx.cli.config import LIMITS, OWN, Config
from spyx.cli.doctor import fresh_network
from spyx.cli.errors import Interrupted, UserError
from spyx.cli.make_solver import make_solver
from spyx.cli.own import is_own
from spyx.cli.progress import Shown
from spyx.cli.provenance import record_of
from spyx.cli.resume import (
    CHECKPOINTS,
    SEEDS,
    acknowledge,
    at_once,
    check_checkpoints,
    go_on,
    in_words_of_options,
    resumed,
    settings_of,
    stopped,
)
from spyx.cli.runs import (
    BEST,
    CHOSEN_BY,
    SETTINGS,
    add_epoch,
    is_finished,
    new_folder,
    read_json,
    save_epochs,
    save_text,
    save_weights,
)
from spyx.cli.score import batches, class_weights, make_loss, make_metric, weighed
from spyx.cli.text import safe

if TYPE_CHECKING:
    from spyx import nn
    from spyx.cli.config import Settings

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
    for seed in seeds:
        _folder(above, seed).mkdir()
        save_text(_folder(above, seed), SETTINGS, replace(config, seed=seed).to_toml())
    save_text(above, SEEDS, json.dumps(seeds) + "\n")
    own = {name: value for name in OWN if is_own(value := getattr(config, name))}
    return _go(config, seeds, above, samples, own, console, began, resume=False)


def resume_seeds(above: Path, given: Settings, console: Console) -> list[Path]:
    """Go on with several seeds that were stopped, from the newest checkpoint that is whole.

    Raises:
        UserError: as `train.resume`.
    """
    began = time.perf_counter()
    try:
        seeds = parsed(",".join(map(str, read_json(above / SEEDS))), None)
    except (OSError, ValueError, TypeError, RecursionError, UserError) as error:
        raise UserError(f"--resume: expected a list of seeds in {above / SEEDS}; got another file.") from error
    left = [folder for seed in seeds if not is_finished(folder := _folder(above, seed))]
    if not left:
        raise UserError(
            f"--resume: {above} is finished. Look at it with: spyx compare {shlex.quote(str(above))}/seed-*"
        )
    config = replace(resumed(left[0], given), seed=seeds[0])
    check_checkpoints(above)
    samples = train.loaded(left[0], config, console)
    return _go(config, seeds, above, samples, given, console, began, resume=True)


def _go(
    config: Config,
    seeds: list[int],
    above: Path,
    samples: inputs.Inputs,
    given: Settings,
    console: Console,
    began: float,
    *,
    resume: bool,
) -> list[Path]:
    if config.encoder == "rate" or config.dataset == "randman":
        how = "one after the other, because the seed draws the data too"
        console.print(f"{len(seeds)} seeds, {how}", soft_wrap=True)
        done = [_folder(above, seed) for seed in seeds]
        for folder in done:
            _alone(folder, above, given, console) if not is_finished(folder) else None
    else:
        console.print(f"[bold]{config.dataset}[/]: {len(seeds)} seeds by one program", soft_wrap=True)
        done = _together(config, seeds, above, samples, console, began, resume=resume)
    if done:
        compare(done, console)
    return done


def _alone(folder: Path, above: Path, given: Settings, console: Console) -> None:
    """One seed from its settings or its checkpoint on; the command that goes on is that of all seeds."""
    try:
        train.resume(folder, given, console)
    except Interrupted as error:
        told = Interrupted(str(error).replace(go_on(folder), go_on(above)))
        told.code = error.code
        raise told from error


def _folder(above: Path, seed: int) -> Path:
    return above / f"seed-{seed}"


def _together(
    config: Config,
    seeds: list[int],
    above: Path,
    samples: inputs.Inputs,
    console: Console,
    began: float,
    *,
    resume: bool,
) -> list[Path]:
    folders = [_folder(above, seed) for seed in seeds]
    lengths = [samples.lengths["train"]] if "train" in samples.lengths else []
    x, y, *lengths = batches(samples.x["train"], samples.y["train"], config.batch_size, *lengths)
    shown = Shown(console, config.epochs, len(y))

    def make(seed: int) -> nn.Sequential:
        return fresh_network(replace(config, seed=seed), samples)

    def start(histories: list[optimize.History]) -> None:
        for folder, history in zip(folders, histories, strict=True):
            save_epochs(folder, history)
        shown.start(max(histories, key=len))

    def note(epoch: int, numbers: dict[int, dict[str, float]]) -> None:
        if numbers:
            shown.epoch(
                epoch, {name: fmean(row[name] for row in numbers.values()) for name in ("train_loss", "eval_acc")}
            )
        try:
            for number, row in numbers.items():
                add_epoch(folders[number], epoch + 1, row)
        except OSError as error:  # all rows are written again at the end
            train.warn(console, f"{error.filename}: {error.strerror}.")

    try:
        with shown:
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
                best=CHOSEN_BY,
                folder=above / CHECKPOINTS,
                resume=resume,
                settings=settings_of(config),
                on_start=start,
                on_epoch_start=partial(make_network.set_widths, config) if make_network.learns_delays(config) else None,
                on_epoch_end=note,
                on_signal=partial(acknowledge, finishing="epoch"),
                notify=partial(train.warn, console),
            )
    except FloatingPointError as error:
        raise UserError(str(error)) from error
    except optimize.CheckpointError as error:
        raise in_words_of_options(error) from error
    except optimize.Stopped as error:
        raise stopped(error, above, config.epochs) from error
    except KeyboardInterrupt as error:
        raise at_once(above) from error
    done = []
    for member, folder in zip(found.members, folders, strict=True):
        if member.ended:
            console.print(f"[yellow]seed {member.seed}: {safe(member.ended)}[/]", soft_wrap=True)
            continue
        done.append(folder)
        if not is_finished(folder):
            _finish(config, member, found, folder, samples, began)
    return done


def _finish(
    config: Config,
    member: optimize.Member,
    found: optimize.Population,
    folder: Path,
    samples: inputs.Inputs,
    began: float,
) -> None:
    """Write the weights of one seed, its scores and all else that a run's folder holds."""
    seeds = [each.seed for each in found.members]
    share = found.compile_s / len(seeds), found.run_s / len(seeds)
    trained = optimize.Trained(member.model, member.history, member.best_model, member.best_epoch, *share)
    save_weights(folder, member.model)
    if member.best_model is not None:
        save_weights(folder, member.best_model, BEST)
    record = record_of(samples, member.model, seeds)
    train.finish(Console(quiet=True), folder, replace(config, seed=member.seed), trained, samples, began, record)
