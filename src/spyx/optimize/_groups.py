"""The members of a population on the device: groups of equal width, each advanced by one compiled program.

A group of one member is not batched: on CPUs a batch of small products is slower than one after the other, and
products with spikes skip zeros only for a single member.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from spyx.engine.jit_cache import jit
from spyx.fn._labels import strict_labels
from spyx.optimize._checkpoint import Checkpoints
from spyx.optimize._compiled import (
    batch_of,
    check_eval_labels,
    mean_score,
    metric_of,
    order_of,
    rest_of,
    score,
    solver_of,
)
from spyx.optimize._diagnose import stop
from spyx.optimize._fit import History
from spyx.optimize._resuming import bytes_of, check_same, newest, save_and_stop, save_if_due, unsound, waiting
from spyx.optimize._signals import Asked
from spyx.optimize._stopping import names_of, scores_of
from spyx.optimize._watch import Watch, advance, begin, start

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

    from spyx.optimize.types import (
        JSON,
        AllBatches,
        Info,
        MemberState,
        Notify,
        Numbers,
        OnEpochStart,
        Optimiser,
        OptimiserOf,
        Rest,
        Scores,
        Seeded,
        Static,
        StopWhen,
        Trainable,
        Unbuilt,
        Variables,
        Wait,
    )

    Drop = Callable[[dict[int, History]], Iterable[int]]
    """`({number: history}) -> numbers` of the members that end."""

    OnEpochOfAll = Callable[[int, dict[int, Numbers]], object]
    """`(epoch, {number: numbers of this epoch})`, after each epoch; what it returns is not used."""

    How = tuple[int, bool, OnEpochStart | None]
    """How wide groups are, whether samples are shuffled, what is called before epochs."""

    Measured = dict[str, Float[Array, "*members"]]
    """The numbers of one epoch of a group; without the axis for a group of one."""

    BadSteps = Int[Array, "*members"]
    """The first step of each that was not a number, or -1."""

    Found = tuple[Measured, BadSteps]
    """What one epoch of a group returns beside its state."""

    Hyper = dict[str, Shaped[Array, ""]]
    """The settings of one member that its solver takes."""

T = TypeVar("T")
R = TypeVar("R")

OWNER = "spyx.optimize.population"
DROPPED, STOPPED = "dropped", "stopped"


class Group:
    """Members side by side; the last one fills up the places that are left.

    Args:
        members: their numbers, as many as the group is wide or fewer.
        width: how many are computed.
        states: by number, `(params, rest, key, hyper)` of each member.
    """

    def __init__(self, members: list[int], width: int, states: dict[int, MemberState]) -> None:
        self.members, self.width = members, width
        places = [*members, *[members[-1]] * (width - len(members))]
        self.given = states[places[0]] if width == 1 else stacked([states[place] for place in places])
        self.watch: Watch | None = None
        self.best: Variables | None = None

    def each(self, tree: T) -> Iterator[tuple[int, T]]:
        """Every member with its part of a tree that the group's program has returned."""
        for place, member in enumerate(self.members):
            yield member, tree if self.width == 1 else jax.tree.map(lambda a, at=place: a[at], tree)


def stacked(trees: list[T]) -> T:
    """Trees of equal structure as one, with a first axis of members."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def solver_with(solver: OptimiserOf, hyper: Hyper) -> Optimiser:
    """The solver of one member: `solver` itself, or what it makes of the settings that it names."""
    if (names := settings_of(solver, tuple(hyper))) is None:
        return cast("Optimiser", solver)
    with jax.numpy_dtype_promotion("standard"):  # schedules mix Python's numbers with those of the settings
        return cast("Callable[..., Optimiser]", solver)(**{name: hyper[name] for name in names})


def settings_of(solver: OptimiserOf, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The settings that a function takes, or None where it is an optimiser or a `Solver`."""
    if isinstance(solver, optax.GradientTransformation) or not callable(solver):
        return None
    taken = tuple(inspect.signature(solver).parameters)
    return taken if set(taken) <= set(names) else None


@jit(0, 1)
def started(static: Unbuilt, width: int, given: MemberState) -> Watch:
    """Before the first step."""

    def one(params: Trainable, rest: Rest, key: PRNGKeyArray, hyper: Hyper) -> Watch:
        return start(solver_of(_built(static, hyper), params, rest)[0], key)

    return _over(one, width)(*given)


@jit(0, 1, donate_argnums=2)
def epoch_of(
    static: Unbuilt,
    how: How,
    watch: Watch,
    given: MemberState,
    train_data: AllBatches,
    eval_data: AllBatches | None,
    epoch: Int[Array, ""],
) -> tuple[Watch, Found]:
    """One epoch of a group: `(watch, numbers)`."""
    width, shuffle, hook = how
    one = partial(_one_epoch, static, shuffle, hook, train_data, eval_data, epoch)
    return _over(one, width)(watch, *given)


@jit(0, 1)
def state_of(static: Unbuilt, width: int, watch: Watch, given: MemberState) -> Variables:
    """`(params, rest)` by now."""

    def one(watch: Watch, params: Trainable, rest: Rest, key: PRNGKeyArray, hyper: Hyper) -> Variables:
        impl, _ = solver_of(_built(static, hyper), params, rest)
        return jax.tree.map(jnp.copy, (impl.get_params(watch.solver), rest_of(impl, watch, rest)))

    return _over(one, width)(watch, *given)


@jit(0)
def where(width: int, better: Bool[Array | np.ndarray, "*members"], new: Variables, old: Variables) -> Variables:
    """`new` for the members that are better, `old` for the others."""
    return _over(lambda b, n, o: jax.tree.map(lambda x, y: jnp.where(b, x, y), n, o), width)(better, new, old)


def _over(one: Callable[..., R], width: int) -> Callable[..., R]:
    return one if width == 1 else jax.vmap(one)


def _built(static: Unbuilt, hyper: Hyper) -> Static:
    return static[0], solver_with(static[1], hyper), *static[2:]


def _one_epoch(
    static: Unbuilt,
    shuffle: bool,
    hook: OnEpochStart | None,
    train_data: AllBatches,
    eval_data: AllBatches | None,
    epoch: Int[Array, ""],
    watch: Watch,
    params: Trainable,
    rest: Rest,
    key: PRNGKeyArray,
    hyper: Hyper,
) -> tuple[Watch, Found]:
    built = _built(static, hyper)
    graphdef = built[0]
    impl, _ = solver_of(built, params, rest)
    if hook is not None:
        state = impl.get_params(watch.solver), rest_of(impl, watch, rest)
        watch = begin(OWNER, impl, (graphdef, *state), watch, hook, epoch)
    order = order_of(train_data, key, epoch, shuffle)

    def one_step(watch: Watch, step: Int[Array, ""]) -> tuple[Watch, Float[Array, ""]]:
        return advance(impl, watch, batch_of(train_data, order, step), key)

    watch, losses = jax.lax.scan(one_step, watch, jnp.arange(jax.tree.leaves(train_data)[0].shape[0]))
    numbers: dict[str, Scores] = {"train_loss": losses.mean()}
    if eval_data is not None:
        model = graphdef, impl.get_params(watch.solver), rest_of(impl, watch, rest)
        with strict_labels():
            scores = jax.lax.map(lambda batch: score(OWNER, metric_of(built), nnx.merge(*model), batch), eval_data)
        found = mean_score(scores, eval_data)
        named = found if isinstance(found, dict) else {"metric": found}
        numbers |= {f"eval_{name}": value for name, value in named.items()}
    return watch, (numbers, watch.bad_step)


def usual_width(count: int) -> int:
    """One on a CPU, all members on an accelerator."""
    return 1 if jax.default_backend() == "cpu" else count


def run_groups(work: Callable[[Group], R], groups: list[Group], wait: Wait, *, compiled: bool) -> list[R]:
    """What `work` returns for every group; on CPUs several at a time, once the program is compiled."""
    if jax.default_backend() != "cpu" or len(groups) == 1:
        return [wait(work(group)) for group in groups]
    first = [] if compiled else [wait(work(groups[0]))]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="spyx-population") as pool:
        return [*first, *pool.map(lambda group: jax.block_until_ready(work(group)), groups[len(first) :])]


def numbers_of(group: Group, numbers: Measured, bad: BadSteps) -> Iterator[tuple[int, Numbers, int]]:
    """Each member's numbers of one epoch, and the first step of it that was not a number, or -1."""
    fetched = {name: np.atleast_1d(np.asarray(values)) for name, values in numbers.items()}
    steps = np.atleast_1d(np.asarray(bad))
    for place, member in enumerate(group.members):
        yield member, {name: float(values[place]) for name, values in fetched.items()}, int(steps[place])


class Saved(TypedDict):
    """The arrays of a checkpoint: of groups by their place, of members that have ended by their number."""

    watch: dict[str, Watch | None]
    best: dict[str, Variables]
    last: dict[str, Variables]
    best_of_ended: dict[str, Variables]


class Run:
    """The state of one population."""

    def __init__(
        self,
        static: Unbuilt,
        who: list[Seeded],
        states: list[MemberState],
        data: tuple[AllBatches, AllBatches | None],
        best: str | None,
    ) -> None:
        self.static, self.who, self.best = static, who, best
        self.train_data, self.eval_data = data
        self.states = dict(enumerate(states))
        self.how: How = (1, True, None)
        self.histories: list[History] = [[] for _ in who]
        self.ended: dict[int, str] = {}
        self.last: dict[int, Variables] = {}
        self.best_of: dict[int, tuple[int, list[float]]] = dict.fromkeys(self.states, (-1, [-math.inf]))
        self.best_state: dict[int, Variables] = {}
        self.seconds = {"compile_s": 0.0, "run_s": 0.0}
        self.epoch = 0
        self.groups: list[Group] = []
        self.same: dict[str, JSON] = {}

    def begin(self, how: How) -> None:
        """Members in groups, before the first epoch: how wide, whether shuffled, what is called before epochs."""
        self.how = how
        numbers, width = list(self.states), how[0]
        self.groups = [Group(numbers[i : i + width], width, self.states) for i in range(0, len(numbers), width)]

    def go(
        self,
        epochs: int,
        stop_when: StopWhen | None,
        drop: Drop | None,
        on_epoch_end: OnEpochOfAll | None,
        asked: Asked,
        store: Checkpoints | None,
        notify: Notify,
    ) -> None:
        """Every epoch that is left of every member."""
        compiled = False
        with waiting() as wait:
            while self.groups:
                began = time.perf_counter()
                done = run_groups(partial(self._epoch, self.epoch), self.groups, wait, compiled=compiled)
                self.seconds["run_s" if compiled else "compile_s"] += time.perf_counter() - began
                self._after(done, epochs, stop_when, drop)
                if on_epoch_end is not None:
                    numbers = {n: dict(h[-1]) for n, h in enumerate(self.histories) if len(h) == self.epoch + 1}
                    on_epoch_end(self.epoch, numbers)
                self.epoch, compiled = self.epoch + 1, True
                save_if_due(store, self._tree, self._info, notify, last=not self.groups)
                if self.groups and asked.number is not None:
                    save_and_stop(store, self._tree, self._info, asked.number, self.epoch, 0)
        faults = [reason for reason in self.ended.values() if reason not in ("", STOPPED, DROPPED)]
        if faults and len(faults) == len(self.who):
            raise FloatingPointError(faults[-1])

    def _after(self, done: list[Found], epochs: int, stop_when: StopWhen | None, drop: Drop | None) -> None:
        """What an epoch of all groups that train has brought."""
        for group, (found, bad) in zip(self.groups, done, strict=True):
            self._note(group, found, bad, self.epoch)
        self._end([n for n in self.states if n not in self.ended], self.epoch + 1 >= epochs, stop_when, drop)
        for group in self.groups:
            self._keep(group, self.epoch)
        self.groups = [group for group in self.groups if any(n not in self.ended for n in group.members)]

    def _epoch(self, epoch: int, group: Group) -> Found:
        if group.watch is None:
            group.watch = started(self.static, group.width, group.given)
        given = (group.given, self.train_data, self.eval_data, np.int32(epoch))
        group.watch, (numbers, bad) = epoch_of(self.static, self.how, group.watch, *given)
        return numbers, bad

    def _note(self, group: Group, numbers: Measured, bad: BadSteps, epoch: int) -> None:
        """The numbers of an epoch, and the members for which one was none."""
        for member, found, step in numbers_of(group, numbers, bad):
            if member in self.ended:
                continue
            if step >= 0:
                self.ended[member] = self._fault(group, member, step)
                continue
            if any(math.isnan(value) for value in found.values()) and self.eval_data is not None:
                state = dict(group.each(state_of(self.static, group.width, group.watch, group.given)))[member]
                check_eval_labels(OWNER, metric_of(self.static), nnx.merge(self.static[0], *state), self.eval_data)
            self.histories[member].append(found)

    def _fault(self, group: Group, member: int, step: int) -> str:
        """In words, why a step was not a number; a label that is no class is an error of the whole population."""
        params, rest, key, hyper = self.states[member]
        static = _built(self.static, hyper)
        state = dict(group.each(state_of(self.static, group.width, group.watch, group.given)))[member]
        epoch, step = divmod(step, jax.tree.leaves(self.train_data)[0].shape[0])
        batch = batch_of(self.train_data, order_of(self.train_data, key, epoch, self.how[1]), step)
        try:
            stop(solver_of(static, params, rest)[1], state[0], state[1], batch, epoch=epoch, step=step)
        except FloatingPointError as error:
            seed, settings = self.who[member]
            return f"{error} ({', '.join([f'seed {seed}', *(f'{name}={value}' for name, value in settings.items())])})"

    def _end(self, running: list[int], last: bool, stop_when: StopWhen | None, drop: Drop | None) -> None:
        """Who ends after this epoch."""
        if last:
            self.ended |= dict.fromkeys(running, "")
            return
        self.ended |= {n: STOPPED for n in running if stop_when is not None and stop_when(self.histories[n])}
        left = {n: self.histories[n] for n in running if n not in self.ended}
        dropped = list(drop(left)) if drop is not None and left else []
        if wrong := set(dropped) - set(left):
            raise ValueError(
                f"{OWNER}(drop=): expected numbers of members that still train; got {sorted(wrong)}. "
                "Return some of the keys that it is given."
            )
        self.ended |= dict.fromkeys(dropped, DROPPED)

    def _keep(self, group: Group, epoch: int) -> None:
        """The best states so far, and the last ones of the members that have ended."""
        better = [self._better(member, epoch) for member in group.members]
        ending = [n for n in group.members if n in self.ended and n not in self.last]
        if not any(better) and not ending:
            return
        state = state_of(self.static, group.width, group.watch, group.given)
        if any(better):
            filled = np.array([*better, *[False] * (group.width - len(better))])
            mask = filled[0] if group.width == 1 else filled
            group.best = state if group.best is None else where(group.width, mask, state, group.best)
        for n, own in group.each(state):
            if n in ending:
                self.last[n] = own
        if group.best is not None:
            for n, own in group.each(group.best):
                if n in ending:
                    self.best_state[n] = own

    def _better(self, member: int, epoch: int) -> bool:
        history = self.histories[member]
        if self.best is None or len(history) != epoch + 1:
            return False
        found = scores_of(self.best, history[-1])
        if not found > self.best_of[member][1]:
            return False
        self.best_of[member] = epoch, found
        return True

    def restore(self, store: Checkpoints, resume: bool, same: dict[str, JSON], notify: Notify) -> None:
        """From the newest checkpoint that is whole, where there is one."""
        self.same = same
        found = newest(OWNER, store, resume, self._like, notify, self._most() if store.all() else 0)
        if found is None:
            return
        tree, info = found
        self.seconds = {name: float(info["seconds"][name]) for name in self.seconds}
        self.last = {int(n): state for n, state in tree["last"].items()}
        self.best_state = {int(n): state for n, state in tree["best_of_ended"].items()}
        for place, group in enumerate(self.groups):
            group.watch, group.best = tree["watch"][str(place)], tree["best"].get(str(place))

    def _most(self) -> int:
        """Bytes of the arrays of a checkpoint: groups with their best states, and members that have ended."""
        watches = [jax.eval_shape(partial(started, self.static, g.width), g.given) for g in self.groups]
        return bytes_of(watches) + 3 * bytes_of([state[:2] for state in self.states.values()])

    def _like(self, info: Info, path: Path) -> Saved:
        """The numbers of a checkpoint are taken, for they decide which arrays it holds."""
        check_same(OWNER, self.same, info, path)
        try:
            self.epoch = int(info["epoch"])
            self.histories = [[{str(k): float(v) for k, v in row.items()} for row in h] for h in info["histories"]]
            self.ended = {int(n): str(reason) for n, reason in info["ended"].items()}
            self.best_of = {
                int(n): (int(at), [float(one) for one in scores]) for n, (at, scores) in info["best_of"].items()
            }
            float(info["seconds"]["compile_s"] + info["seconds"]["run_s"])
            sound = len(self.histories) == len(self.who) and self.best_of.keys() == self.states.keys()
            sound = sound and self.ended.keys() <= self.states.keys()
            needed = {"train_loss", *names_of(self.best or "train_loss")}
            sound = sound and all(needed <= row.keys() for history in self.histories for row in history)
        except (ArithmeticError, KeyError, TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            raise unsound(OWNER, path)
        self.begin(self.how)
        self.last = {n: self.states[n][:2] for n in self.ended}
        self.best_state = {n: self.states[n][:2] for n in self.ended if self.best_of[n][0] >= 0}
        self.groups = [group for group in self.groups if any(n not in self.ended for n in group.members)]
        for group in self.groups:
            group.watch = started(self.static, group.width, group.given)
            group.best = group.given[:2] if any(self.best_of[n][0] >= 0 for n in group.members) else None
        return self._tree()

    def _tree(self) -> Saved:
        numbered = [(str(place), group) for place, group in enumerate(self.groups)]
        return {
            "watch": {place: group.watch for place, group in numbered},
            "best": {place: group.best for place, group in numbered if group.best is not None},
            "last": {str(n): state for n, state in self.last.items()},
            "best_of_ended": {str(n): self.best_state[n] for n in self.last if self.best_of[n][0] >= 0},
        }

    def _info(self) -> dict[str, JSON]:
        return {  # copies: the loop goes on while a thread writes
            **self.same,
            "epoch": self.epoch,
            "histories": [list(history) for history in self.histories],
            "ended": {str(n): reason for n, reason in self.ended.items()},
            "best_of": {str(n): best for n, best in self.best_of.items()},
            "seconds": dict(self.seconds),
        }
