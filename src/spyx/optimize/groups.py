"""The members of a population on the device: groups of equal width, each advanced by one compiled program.

A group of one member is not batched: on CPUs a batch of small products is slower than one after the other, and
products with spikes skip zeros only for a single member.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from spyx.engine.definitions import jit
from spyx.fn.labels import strict_labels
from spyx.optimize.compiled import batch_of, check_eval_labels, mean_score, order_of, rest_of, score, solver_of
from spyx.optimize.diagnose import stop
from spyx.optimize.fit import History
from spyx.optimize.stopping import scores_of
from spyx.optimize.watch import advance, begin, start

OWNER = "spyx.optimize.population"
DROPPED, STOPPED = "dropped", "stopped"


class Group:
    """Members side by side; the last one fills up the places that are left.

    Args:
        members: their numbers, as many as the group is wide or fewer.
        width: how many are computed.
        states: by number, `(params, rest, key, hyper)` of each member.
    """

    def __init__(self, members: list[int], width: int, states: dict[int, Any]) -> None:
        self.members, self.width = members, width
        places = [*members, *[members[-1]] * (width - len(members))]
        self.given = states[places[0]] if width == 1 else stacked([states[place] for place in places])
        self.watch: Any = None
        self.best: Any = None

    def each(self, tree: Any) -> Iterator[tuple[int, Any]]:
        """Every member with its part of a tree that the group's program has returned."""
        for place, member in enumerate(self.members):
            yield member, tree if self.width == 1 else jax.tree.map(lambda a, at=place: a[at], tree)


def stacked(trees: list[Any]) -> Any:
    """Trees of equal structure as one, with a first axis of members."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def solver_with(solver: Any, hyper: dict[str, Any]) -> Any:
    """The solver of one member: `solver` itself, or what it makes of the settings that it names."""
    if (names := settings_of(solver, tuple(hyper))) is None:
        return solver
    with jax.numpy_dtype_promotion("standard"):  # schedules mix Python's numbers with those of the settings
        return solver(**{name: hyper[name] for name in names})


def settings_of(solver: Any, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The settings that a function takes, or None where it is an optimiser or a `Solver`."""
    if isinstance(solver, optax.GradientTransformation) or not callable(solver):
        return None
    taken = tuple(inspect.signature(solver).parameters)
    return taken if set(taken) <= set(names) else None


@jit(0, 1)
def started(static: Any, width: int, given: Any) -> Any:
    """Before the first step."""

    def one(params: Any, rest: Any, key: Any, hyper: Any) -> Any:
        return start(solver_of(_built(static, hyper), params, rest)[0], key)

    return _over(one, width)(*given)


@jit(0, 1, donate_argnums=2)
def epoch_of(static: Any, how: Any, watch: Any, given: Any, train_data: Any, eval_data: Any, epoch: Any) -> Any:
    """One epoch of a group: `(watch, numbers)`."""
    width, shuffle, hook = how
    one = partial(_one_epoch, static, shuffle, hook, train_data, eval_data, epoch)
    return _over(one, width)(watch, *given)


@jit(0, 1)
def state_of(static: Any, width: int, watch: Any, given: Any) -> Any:
    """`(params, rest)` by now."""

    def one(watch: Any, params: Any, rest: Any, key: Any, hyper: Any) -> Any:
        impl, _ = solver_of(_built(static, hyper), params, rest)
        return jax.tree.map(jnp.copy, (impl.get_params(watch.solver), rest_of(impl, watch, rest)))

    return _over(one, width)(watch, *given)


@jit(0)
def where(width: int, better: Any, new: Any, old: Any) -> Any:
    """`new` for the members that are better, `old` for the others."""
    return _over(lambda b, n, o: jax.tree.map(lambda x, y: jnp.where(b, x, y), n, o), width)(better, new, old)


def _over(one: Callable[..., Any], width: int) -> Callable[..., Any]:
    return one if width == 1 else jax.vmap(one)


def _built(static: Any, hyper: dict[str, Any]) -> Any:
    graphdef, solver, *others = static
    return graphdef, solver_with(solver, hyper), *others


def _one_epoch(
    static: Any,
    shuffle: bool,
    hook: Any,
    train_data: Any,
    eval_data: Any,
    epoch: Any,
    watch: Any,
    params: Any,
    rest: Any,
    key: Any,
    hyper: dict[str, Any],
) -> Any:
    graphdef, _, _, metric_fn, _ = static
    impl, _ = solver_of(_built(static, hyper), params, rest)
    if hook is not None:
        state = impl.get_params(watch.solver), rest_of(impl, watch, rest)
        watch = begin(OWNER, impl, (graphdef, *state), watch, hook, epoch)
    order = order_of(train_data, key, epoch, shuffle)

    def one_step(watch: Any, step: jax.Array) -> Any:
        return advance(impl, watch, batch_of(train_data, order, step), key)

    watch, losses = jax.lax.scan(one_step, watch, jnp.arange(jax.tree.leaves(train_data)[0].shape[0]))
    numbers: dict[str, Any] = {"train_loss": losses.mean()}
    if eval_data is not None:
        model = graphdef, impl.get_params(watch.solver), rest_of(impl, watch, rest)
        with strict_labels():
            scores = jax.lax.map(lambda batch: score(OWNER, metric_fn, nnx.merge(*model), batch), eval_data)
        found = mean_score(scores, eval_data)
        named = found if isinstance(found, dict) else {"metric": found}
        numbers |= {f"eval_{name}": value for name, value in named.items()}
    return watch, (numbers, watch.bad_step)


def usual_width(count: int) -> int:
    """One on a CPU, all members on an accelerator."""
    return 1 if jax.default_backend() == "cpu" else count


def run_groups(work: Callable[[Group], Any], groups: list[Group], *, compiled: bool) -> list[Any]:
    """What `work` returns for every group; on CPUs several at a time, once the program is compiled."""
    if jax.default_backend() != "cpu" or len(groups) == 1:
        return [work(group) for group in groups]
    first = [] if compiled else [work(groups[0])]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="spyx-population") as pool:
        return [*first, *pool.map(work, groups[len(first) :])]


def numbers_of(group: Group, numbers: dict[str, Any], bad: Any) -> Iterator[tuple[int, dict[str, float], int]]:
    """Each member's numbers of one epoch, and the first step of it that was not a number, or -1."""
    fetched = {name: np.atleast_1d(np.asarray(values)) for name, values in numbers.items()}
    steps = np.atleast_1d(np.asarray(bad))
    for place, member in enumerate(group.members):
        yield member, {name: float(values[place]) for name, values in fetched.items()}, int(steps[place])


class Run:
    """The state of one population."""

    def __init__(self, static: Any, who: Any, states: list[Any], data: Any, best: str | None) -> None:
        self.static, self.who, self.best = static, who, best
        self.train_data, self.eval_data = data
        self.states = dict(enumerate(states))
        self.how: tuple[int, bool, Any] = (1, True, None)
        self.histories: list[History] = [[] for _ in who]
        self.ended: dict[int, str] = {}
        self.last: dict[int, Any] = {}
        self.best_of: dict[int, tuple[int, list[float]]] = dict.fromkeys(self.states, (-1, [-math.inf]))
        self.best_state: dict[int, Any] = {}
        self.seconds = {"compile_s": 0.0, "run_s": 0.0}

    def go(self, epochs: int, stop_when: Any, drop: Any, on_epoch_end: Any) -> None:
        """Every epoch of every member."""
        width = self.how[0]
        numbers = list(self.states)
        groups = [Group(numbers[i : i + width], width, self.states) for i in range(0, len(numbers), width)]
        for epoch in range(epochs):
            began = time.perf_counter()
            done = run_groups(partial(self._epoch, epoch), groups, compiled=epoch > 0)
            self.seconds["run_s" if epoch else "compile_s"] += time.perf_counter() - began
            for group, (found, bad) in zip(groups, done, strict=True):
                self._note(group, found, bad, epoch)
            self._end([n for n in numbers if n not in self.ended], epoch + 1 == epochs, stop_when, drop)
            for group in groups:
                self._keep(group, epoch)
            if on_epoch_end is not None:
                on_epoch_end(epoch, {n: dict(h[-1]) for n, h in enumerate(self.histories) if len(h) == epoch + 1})
            groups = [group for group in groups if any(n not in self.ended for n in group.members)]
            if not groups:
                break
        faults = [reason for reason in self.ended.values() if reason not in ("", STOPPED, DROPPED)]
        if faults and len(faults) == len(numbers):
            raise FloatingPointError(faults[-1])

    def _epoch(self, epoch: int, group: Group) -> Any:
        if group.watch is None:
            group.watch = started(self.static, group.width, group.given)
        given = (group.given, self.train_data, self.eval_data, np.int32(epoch))
        group.watch, (numbers, bad) = epoch_of(self.static, self.how, group.watch, *given)
        return jax.block_until_ready((numbers, bad))

    def _note(self, group: Group, numbers: Any, bad: Any, epoch: int) -> None:
        """The numbers of an epoch, and the members for which one was none."""
        for member, found, step in numbers_of(group, numbers, bad):
            if member in self.ended:
                continue
            if step >= 0:
                self.ended[member] = self._fault(group, member, step)
                continue
            if any(math.isnan(value) for value in found.values()) and self.eval_data is not None:
                state = dict(group.each(state_of(self.static, group.width, group.watch, group.given)))[member]
                check_eval_labels(OWNER, self.static[3], nnx.merge(self.static[0], *state), self.eval_data)
            self.histories[member].append(found)

    def _fault(self, group: Group, member: int, step: int) -> str:
        """In words, why a step was not a number; a label that is no class is an error of the whole population."""
        params, rest, key, hyper = self.states[member]
        static = (self.static[0], solver_with(self.static[1], hyper), *self.static[2:])
        state = dict(group.each(state_of(self.static, group.width, group.watch, group.given)))[member]
        epoch, step = divmod(step, jax.tree.leaves(self.train_data)[0].shape[0])
        batch = batch_of(self.train_data, order_of(self.train_data, key, epoch, self.how[1]), step)
        try:
            stop(solver_of(static, params, rest)[1], state[0], state[1], batch, epoch=epoch, step=step)
        except FloatingPointError as error:
            seed, settings = self.who[member]
            return f"{error} ({', '.join([f'seed {seed}', *(f'{name}={value}' for name, value in settings.items())])})"

    def _end(self, running: list[int], last: bool, stop_when: Any, drop: Any) -> None:
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
