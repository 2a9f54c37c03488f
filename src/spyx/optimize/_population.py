"""`population`: many seeds and settings of one network, trained by one compiled program."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.optimize._checkpoint import Checkpoints
from spyx.optimize._compiled import staged, with_lengths, with_rows
from spyx.optimize._fit import History
from spyx.optimize._groups import OWNER, STOPPED, Run, settings_of, solver_with, usual_width
from spyx.optimize._run_arguments import check_run
from spyx.optimize._signals import Asked, listening
from spyx.optimize._solver import as_solver
from spyx.optimize._sources import mark_of
from spyx.optimize._stopping import score_of
from spyx.optimize._watch import any_nan, split

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Shaped

    from spyx.optimize.types import (
        JSON,
        AllBatches,
        AllLengths,
        Hyper,
        Loss,
        MemberState,
        Metric,
        Notify,
        Numbers,
        OnEpochStart,
        OnSignal,
        OptimiserOf,
        Seeded,
        Settings,
        StopWhen,
    )

M = TypeVar("M", bound=nnx.Module)


class Member(NamedTuple, Generic[M]):
    """One network of a population.

    Args:
        seed: of its weights and of the order of its data.
        settings: its values of `hyper`.
        model: the network after its last epoch.
        history: one dictionary per epoch, as that of `train`.
        best_model: the network after its best epoch, where `best` was given; otherwise None.
        best_epoch: that epoch, counted from 0; -1 without `best`.
        ended: empty after all epochs; `"stopped"` by `stop_when`, `"dropped"` by `drop`, or what was not a number.
    """

    seed: int
    settings: Settings
    model: M
    history: History
    best_model: M | None
    best_epoch: int
    ended: str


class Population(NamedTuple, Generic[M]):
    """What `population` returns.

    Args:
        members: every network, settings after settings, each with its seeds in order.
        width: members that were computed side by side.
        compile_s: seconds of the first calls.
        run_s: seconds of training and evaluation besides.
    """

    members: list[Member[M]]
    width: int
    compile_s: float
    run_s: float

    def table(self) -> list[dict[str, float | str]]:
        """One row per member: seed, settings, epochs, the numbers of its last epoch, and how it ended."""
        return [
            {"seed": m.seed, **m.settings, "epochs": len(m.history), **(m.history or [{}])[-1], "ended": m.ended}
            for m in self.members
        ]

    def means(self) -> list[Numbers]:
        """One row per settings: of every number of the last epochs `NAME`, the mean over the seeds that were neither
        dropped nor met what is not a number, and `NAME_deviation`, their standard deviation; `seeds` is how many.
        """
        rows: dict[tuple[tuple[str, float], ...], list[Member]] = {}
        for member in self.members:
            rows.setdefault(tuple(member.settings.items()), []).append(member)
        return [dict(settings) | _mean([m for m in of if m.ended in ("", STOPPED)]) for settings, of in rows.items()]


def population(
    model_fn: Callable[..., M],
    solver: OptimiserOf,
    loss_fn: Loss,
    train_data: AllBatches,
    *,
    epochs: int,
    seeds: int | Sequence[int],
    hyper: Hyper | None = None,
    eval_data: AllBatches | None = None,
    metric_fn: Metric | None = None,
    lengths: AllLengths | None = None,
    eval_lengths: AllLengths | None = None,
    shuffle: bool = True,
    best: str | None = None,
    stop_when: StopWhen | None = None,
    drop: Callable[[dict[int, History]], Iterable[int]] | None = None,
    width: int | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    keep: int = 2,
    settings: Mapping[str, JSON] | None = None,
    on_start: Callable[[list[History]], object] | None = None,
    on_epoch_start: OnEpochStart[M] | None = None,
    on_epoch_end: Callable[[int, dict[int, Numbers]], object] | None = None,
    on_signal: OnSignal | None = None,
    notify: Notify = warnings.warn,
) -> Population[M]:
    """Train a network from many seeds and with many settings, by one compiled program.

    Each member has the numbers of `train(model_fn(seed, ...), ..., key=jax.random.key(seed))`, but for the rounding
    of compiled loops. A member that meets what is not a number ends alone.

    With `folder`, checkpoints of all members are written in the background after epochs, as often as costs at most 5 %
    of the time. A population that was killed and is resumed by the same call with `resume=True` ends with the same bits
    in every member, on the same machine, as one that was not. Ctrl-C and SIGTERM finish the epoch, save, and raise
    `Stopped`; a second Ctrl-C stops without that.

    Args:
        model_fn: `(seed) -> model`, or with settings of `hyper` as further arguments, `(seed, beta) -> model`. Called
            once per member; the members may differ in the values of their arrays alone.
        solver: an Optax optimiser, or a `Solver`; or a function of settings of `hyper` that returns one, for instance
            `lambda learning_rate: optax.adam(learning_rate)`, with any schedule in it.
        loss_fn: as for `train`.
        train_data: tuple of arrays (batches, batch, ...), the same for all members.
        epochs: passes over the data, >= 1.
        seeds: whole numbers >= 0, or how many, from 0 on.
        hyper: values by the name of the setting, of which every combination is trained with every seed; or a list of
            settings. Values are numbers. Default None: seeds alone.
        eval_data: as `train_data`, measured after each epoch.
        metric_fn: as for `train`. Needed with `eval_data`.
        lengths: how many steps of each sample of `train_data` are its own, as for `compile_fit`.
        eval_lengths: the same of `eval_data`.
        shuffle: a new order of the samples in every epoch, another for every seed. Default True.
        best: name of the number whose best epoch is kept, as for `train`.
        stop_when: `(history) -> bool`, asked for each member after each epoch, such as `early_stopping(...)`.
        drop: `({number: history}) -> numbers`, called after each epoch with the members that still train; those that
            it returns end. Such as `halving(...)`.
        width: members that are computed side by side by `jax.vmap`, >= 1; the others follow one after the other, on
            CPUs one group per core at a time. Default: all on an accelerator, 1 on CPUs, where small batched products
            are slower than single ones. Members that have ended cost nothing once their whole group has.
        folder: for checkpoints; made if it is not there. None (default) keeps nothing.
        resume: go on from the newest checkpoint that is whole; from the start where there is none. Default False.
        keep: checkpoints that are kept, >= 1. Default 2.
        settings: what JSON can hold; written into checkpoints and compared when resuming.
        on_start: called before the first epoch with the history of every member so far, empty unless resumed.
        on_epoch_start: called as `(epoch, model)` before each epoch, as for `compile_fit`; it is compiled.
        on_epoch_end: called as `(epoch, {number: numbers of this epoch})`.
        on_signal: called with the number of the signal that will end the run after the epoch.
        notify: is given a line for each damaged checkpoint and each that could not be written. Default: a warning.

    Shapes:
        train_data, eval_data: each array (batches, batch, ...).

    Raises:
        Stopped: a signal ended the run; only with `folder`.
        CheckpointError: the folder is in use, cannot be written, or holds the checkpoints of another population,
            network, optimiser, data set or version. Nothing in it is changed.
        FloatingPointError: no member is left, the last of them for what was not a number.
        ValueError: an argument out of its range; a setting that nothing takes; members of different structure.
        TypeError: no Optax optimiser, no solver and no function of settings.
        ImportError: `folder` without orbax-checkpoint.

    Example:
        >>> import optax
        >>> from spyx import nn
        >>> data = (jnp.ones((2, 4, 5, 3)),)
        >>> found = population(
        ...     lambda seed: nn.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(seed)), nn.LI(2)),
        ...     lambda rate: optax.adam(rate),
        ...     lambda model, x: (nn.run(model, x)[0] ** 2).mean(),
        ...     data, epochs=3, seeds=2, hyper={"rate": [1e-3, 1e-2]},
        ... )
        >>> [(m.seed, m.settings["rate"]) for m in found.members]
        [(0, 0.001), (1, 0.001), (0, 0.01), (1, 0.01)]
        >>> slow, fast = (row["train_loss"] for row in found.means())
        >>> bool(fast < slow)
        True
    """
    drawn = _seeds(seeds)
    every = _settings(hyper)
    counts = {"epochs": epochs, "keep": keep, "width": 1 if width is None else width}
    check_run(OWNER, counts, eval_data, metric_fn, best)
    train_data = with_lengths(OWNER, "lengths", staged(OWNER, "train_data", train_data), lengths)
    train_data = with_rows(OWNER, "loss_fn", loss_fn, train_data)
    if eval_data is not None and metric_fn is not None:
        eval_data = with_lengths(OWNER, "eval_lengths", staged(OWNER, "eval_data", eval_data), eval_lengths)
        eval_data = with_rows(OWNER, "metric_fn", metric_fn, eval_data)
        if bool(any_nan(eval_data)):
            raise FloatingPointError(
                f"{OWNER}(eval_data=): expected numbers; got NaN. Drop or fill the missing values first."
            )
    who = [(seed, settings) for settings in every for seed in drawn]
    graphdef, states = _members(model_fn, solver, who)
    as_solver(f"{OWNER}(solver=)", solver_with(solver, states[0][3]))
    run = Run((graphdef, solver, loss_fn, metric_fn, OWNER), who, states, (train_data, eval_data), best)
    run.begin((min(width or usual_width(len(who)), len(who)), shuffle, on_epoch_start))
    start = on_start or (lambda histories: None)
    if folder is None:
        start(run.histories)
        run.go(epochs, stop_when, drop, on_epoch_end, Asked(), None, notify)
    else:
        store = Checkpoints(folder, keep, OWNER)
        same: dict[str, JSON] = {
            "settings": dict(settings or {}),
            "data": mark_of(train_data),
            "seeds": drawn,
            "hyper": every,
        }
        with store.locked():
            run.restore(store, resume, same | {"width": run.how[0], "shuffle": shuffle, "best": best}, notify)
            start([list(history) for history in run.histories])
            try:
                with listening(on_signal) as asked:
                    run.go(epochs, stop_when, drop, on_epoch_end, asked, store, notify)
            except Exception:
                with contextlib.suppress(OSError):
                    store.finish()
                raise
    members = []
    for n, (seed, settings) in enumerate(who):
        at = run.best_of[n][0]
        kept = nnx.merge(graphdef, *run.best_state[n]) if at >= 0 else None
        model = nnx.merge(graphdef, *run.last[n])
        members.append(Member(seed, dict(settings), model, run.histories[n], kept, at, run.ended[n]))
    return Population(members, run.how[0], **run.seconds)


def halving(score: str, at: Sequence[int], keep: float = 0.5) -> Callable[[dict[int, History]], list[int]]:
    """For `drop`: after each of some epochs, all but the best share of the members that still train end.

    Args:
        score: as `best` of `train`: `"eval_acc"`, or `"-eval_loss"` where smaller is better.
        at: after how many epochs, each >= 1.
        keep: the share that goes on, in (0, 1); rounded up, so that one always does. Default 0.5.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> drop = halving("eval_acc", at=(1,))
        >>> drop({0: [{"eval_acc": 0.5}], 1: [{"eval_acc": 0.9}], 2: [{"eval_acc": 0.7}], 3: [{"eval_acc": 0.2}]})
        [0, 3]

    Reference:
        Jamieson, Talwalkar (2016), "Non-stochastic best arm identification", arXiv:1502.07943.
    """
    if not 0 < keep < 1 or not at or any(not isinstance(n, Integral) or n < 1 for n in at):
        raise ValueError(
            f"spyx.optimize.halving: expected epochs of 1 or more and a share between 0 and 1; got at={tuple(at)}, "
            f"keep={keep}. Write halving('eval_acc', at=(5, 10))."
        )

    def drop(histories: dict[int, History]) -> list[int]:
        if not histories or len(next(iter(histories.values()))) not in at:
            return []
        order = sorted(histories, key=lambda number: -score_of(score, histories[number][-1]))
        return sorted(order[math.ceil(keep * len(order)) :])

    return drop


def _members(
    model_fn: Callable[..., M], solver: OptimiserOf, who: list[Seeded]
) -> tuple[nnx.GraphDef[M], list[MemberState]]:
    """The structure that all members share, and `(params, rest, key, hyper)` of each."""
    names = tuple(who[0][1])
    parameters = inspect.signature(model_fn).parameters
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    taken = tuple(name for name in names if name in parameters or everything)
    by_solver = settings_of(solver, names) or ()
    if unused := [name for name in names if name not in taken and name not in by_solver]:
        raise ValueError(
            f"{OWNER}(hyper=): expected settings that model_fn or solver take by name; got {', '.join(unused)}. "
            "Name it as an argument of one of them."
        )
    states, first = [], None
    for seed, settings in who:
        graphdef, params, rest = split(OWNER, model_fn(seed, **{name: settings[name] for name in taken}))
        params, rest = jax.tree.map(_array, (params, rest))
        mark = graphdef, [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((params, rest))]
        if first is None:
            first = mark
        elif mark != first:
            raise ValueError(
                f"{OWNER}(model_fn=): expected members that differ in the values of their arrays alone; got another "
                f"structure for seed {seed} and {settings}. Pass as arrays what differs, or train each structure apart."
            )
        states.append((params, rest, jax.random.key(seed), {name: _array(settings[name]) for name in by_solver}))
    return first[0], states  # type: ignore[index]


def _array(leaf: Shaped[ArrayLike, "*shape"]) -> Shaped[Array, "*shape"]:
    """Without the weak type of a Python number, which members could not share."""
    return jnp.array(leaf, dtype=jnp.result_type(leaf))


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    drawn = list(range(seeds)) if isinstance(seeds, Integral) and not isinstance(seeds, bool) else seeds
    listed = drawn if isinstance(drawn, (list, tuple, range)) else []
    if not listed or len(set(listed)) != len(listed) or any(not _whole(n) for n in listed):
        raise ValueError(
            f"{OWNER}(seeds=): expected different whole numbers from 0 to {2**31 - 1}, or how many, 1 or more; got "
            f"{seeds!r}. Write seeds=8 or seeds=(0, 1, 2)."
        )
    return [int(n) for n in listed]


def _whole(n: object) -> bool:
    return isinstance(n, Integral) and not isinstance(n, bool) and 0 <= int(n) < 2**31


def _settings(hyper: Hyper | None) -> list[Settings]:
    if hyper is None:
        return [{}]
    if isinstance(hyper, Mapping):
        if any(
            not isinstance(values, (list, tuple, range, np.ndarray)) or not len(values) for values in hyper.values()
        ):
            raise ValueError(
                f"{OWNER}(hyper=): expected a list of values for every setting; got {dict(hyper)}. "
                "Write hyper={'beta': [0.8, 0.9]}."
            )
        every = [dict(zip(hyper, values, strict=True)) for values in itertools.product(*hyper.values())]
    else:
        every = [dict(settings) for settings in hyper]
    if not every or any(set(settings) != set(every[0]) for settings in every):
        raise ValueError(
            f"{OWNER}(hyper=): expected settings of the same names, 1 or more; got {every}. Name all in each."
        )
    for settings in every:
        for name, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(
                    f"{OWNER}(hyper=): expected numbers; got {name}={value!r}. Train what is no number in "
                    "populations of its own."
                )
            settings[name] = value.item() if isinstance(value, np.generic) else value
    return every


def _mean(members: list[Member]) -> Numbers:
    row: Numbers = {"seeds": len(members)}
    for name in members[0].history[-1] if members else ():
        values = [member.history[-1][name] for member in members]
        row[name] = statistics.fmean(values)
        row[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return row
