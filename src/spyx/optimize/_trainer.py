"""`train`: a whole run that survives being stopped, with checkpoints, the best epoch and early stopping."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypedDict, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.data import Loader
from spyx.engine.jit_cache import jit
from spyx.optimize._checkpoint import CheckpointError, Checkpoints
from spyx.optimize._checkup import Checkup
from spyx.optimize._compiled import check_eval_labels, metric_of, rest_of, solver_of, start_of
from spyx.optimize._devices import OneDevice, places
from spyx.optimize._diagnose import stop
from spyx.optimize._fit import History
from spyx.optimize._processes import arrays_from_first, from_first, gathered
from spyx.optimize._resuming import bytes_of, check_same, newest, save_and_stop, save_if_due, unsound, waiting, words_of
from spyx.optimize._run_arguments import check_run
from spyx.optimize._signals import Asked, listening
from spyx.optimize._solver import as_solver
from spyx.optimize._sources import OWNER, Arrays, Batches, as_source, evaluate, on_device
from spyx.optimize._stopping import names_of, scores_of
from spyx.optimize._watch import Watch, any_nan, begin, split

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray

    from spyx.optimize.types import (
        JSON,
        AllBatches,
        AllLengths,
        Doctor,
        Info,
        Loss,
        Metric,
        Notify,
        Numbers,
        OnEpochEnd,
        OnEpochStart,
        OnSignal,
        OnStep,
        Optimiser,
        Rest,
        Static,
        StopWhen,
        Trainable,
        Variables,
    )

M = TypeVar("M", bound=nnx.Module)

TURN_S = 0.25
"""How long the device works before the host looks at signals and progress."""


class Trained(NamedTuple, Generic[M]):
    """What `train` returns.

    Args:
        model: the network after the last epoch.
        history: one dictionary per epoch: `train_loss`, and `eval_...` for each number of the metric.
        best_model: the network after the best epoch, where `best` was given; otherwise None.
        best_epoch: that epoch, counted from 0; -1 without `best`.
        compile_s: seconds that first calls took longer than later ones, over all parts of the run.
        run_s: seconds of training and evaluation besides.
    """

    model: M
    history: History
    best_model: M | None
    best_epoch: int
    compile_s: float
    run_s: float


def train(
    model: M,
    solver: Optimiser,
    loss_fn: Loss,
    train_data: AllBatches | Loader,
    *,
    epochs: int,
    eval_data: AllBatches | Loader | None = None,
    metric_fn: Metric | None = None,
    lengths: AllLengths | None = None,
    eval_lengths: AllLengths | None = None,
    key: PRNGKeyArray | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    keep: int = 2,
    best: str | None = None,
    settings: Mapping[str, JSON] | None = None,
    stop_when: StopWhen | None = None,
    on_start: Callable[[History], object] | None = None,
    on_epoch_start: OnEpochStart[M] | None = None,
    on_epoch_end: OnEpochEnd | Sequence[OnEpochEnd] = (),
    on_epoch_model: Callable[[int, M], object] | None = None,
    on_step: OnStep | None = None,
    on_signal: OnSignal | None = None,
    notify: Notify = warnings.warn,
    mesh: jax.sharding.Mesh | None = None,
    doctor: bool | Doctor = False,
) -> Trained[M]:
    """Train in a loop that can be stopped and resumed; the model that was passed in stays as it was.

    With `folder`, checkpoints are written in the background as often as costs at most 5 % of the time: parameters,
    the optimiser's state, epoch and step, the history, the best parameters, versions and `settings`. A run that was
    killed and is resumed by the same call with `resume=True` ends with the same bits, on the same machine, as one
    that was not. Ctrl-C and SIGTERM finish the step, save, and raise `Stopped`; a second Ctrl-C stops at once.

    With equal arguments the numbers are those of `compile_fit`, but for the rounding of compiled loops.

    Args:
        model: any Flax NNX module; Dropout and BatchNorm work.
        solver: an Optax optimiser, with any schedule, clipping or accumulation in it; or a `Solver`.
        loss_fn: `(model, *batch) -> loss`, or a loss of `spyx.fn`, as for `fit`.
        train_data: tuple of arrays (batches, batch, ...), or a `spyx.data.Loader`, whose mask and lengths reach the
            loss by name, as in `fit`.
        epochs: passes over the data, >= 1.
        eval_data: as `train_data`, measured after each epoch.
        metric_fn: `(model, *batch) -> number` or a dictionary of numbers; it sees the model in evaluation mode. The
            means over all samples are `eval_metric`, or `eval_NAME` for each. Needed with `eval_data`. Or a metric of
            `spyx.fn`.
        lengths: how many steps of each sample of arrays `(x, y)` are its own, (batches, batch); as for `compile_fit`.
        eval_lengths: the same of `eval_data`.
        key: shuffles arrays in every epoch, and is passed on to the solver. None keeps the order.
        folder: for checkpoints; made if it is not there. None keeps nothing.
        resume: go on from the newest checkpoint that is whole; from the start where there is none.
        keep: checkpoints that are kept, >= 1. Default 2.
        best: name of the number whose best epoch is kept: `"eval_acc"` for the largest, `"-eval_loss"`, with a minus,
            for the smallest. `"eval_acc,-eval_loss"`: the second decides between epochs that the first finds equal,
            as accuracies on few samples often are; otherwise the earlier one is kept.
        settings: what JSON can hold; written into checkpoints and compared when resuming.
        stop_when: `(history) -> bool`, asked after each epoch, such as `early_stopping("-eval_loss", patience=5)`.
        on_start: called before the first step with the history so far, which is empty unless the run is resumed.
        on_epoch_start: called as `(epoch, model)` before each epoch, to set in place what is not trained, as for
            `compile_fit`. It is compiled, and the epoch is traced.
        on_epoch_end: called as `(epoch, numbers of this epoch)` after each; one function, or several.
        on_epoch_model: called as `(epoch, model)` after each, before those, with a copy of the network to be measured;
            where it has a method `due(epoch)`, only if that returns true, which saves the copy.
        on_step: called as `(epoch, steps taken in it, loss)` about four times a second.
        on_signal: called with the number of the signal that will end the run after the step.
        notify: is given a line for each damaged checkpoint, each that could not be written, and each look of the
            doctor that found something. Default: a warning.
        mesh: over whose devices batches are split, such as `device_mesh(4)`; the numbers are those of one device, up to
            rounding. None (default): one device. See the page "Several devices and machines".
            Of several processes, each reads its own rows of every batch, and process 0 alone uses `folder`.
        doctor: True lets `spyx.report.doctor` look at the network and a batch before the first step, and again where
            the training loss has not fallen by 1 % for five epochs. Or a function like it. Default False.

    Shapes:
        train_data, eval_data: each array (batches, batch, ...).

    Raises:
        Stopped: a signal ended the run; only with `folder`.
        CheckpointError: the folder is in use, cannot be written, or holds the checkpoints of another run, network,
            optimiser, data set or version. Nothing in it is changed.
        FloatingPointError: a loss, gradient or batch that is not a number.
        ValueError: an argument out of its range.
        TypeError: neither arrays nor a loader; no Optax optimiser and no solver.
        ImportError: `folder` without orbax-checkpoint.

    Example:
        >>> import optax
        >>> from spyx import nn
        >>> data = (jnp.ones((2, 1, 3, 1)),)
        >>> loss = lambda model, x: -nn.run(model, x)[0].mean()
        >>> trained = train(nn.LI(1, beta=0.5), optax.sgd(0.1), loss, data, epochs=3, best="-train_loss")
        >>> len(trained.history), trained.best_epoch, bool(trained.model.beta[...] > 0.5)
        (3, 2, True)
    """
    check_run(OWNER, {"epochs": epochs, "keep": keep}, eval_data, metric_fn, best)
    place = places(OWNER, mesh)
    graphdef, *like = split(OWNER, model)
    as_solver(OWNER, solver)
    params, rest = place.state(like)
    static = (graphdef, solver, loss_fn, metric_fn, OWNER)
    draws = jax.random.key(0) if key is None else key
    given = place.everywhere(draws)
    source = as_source(static, (params, rest), train_data, lengths, given, key is not None, place)
    if eval_data is not None and metric_fn is not None and not isinstance(eval_data, Loader):
        eval_data = on_device("eval_data", "eval_lengths", eval_data, eval_lengths, "metric_fn", metric_fn)
        eval_data = place.rows("eval_data", eval_data)
        if bool(any_nan(eval_data)):
            raise FloatingPointError(
                f"{OWNER}(eval_data=): expected numbers; got NaN. Drop or fill the missing values first."
            )
    run = _Run(static, (params, rest), source, eval_data, given, best, on_epoch_start, on_epoch_model, place)
    run.checkup = Checkup(OWNER, doctor, loss_fn, notify)
    calls = (on_epoch_end,) if callable(on_epoch_end) else tuple(on_epoch_end)
    begin = on_start or (lambda history: None)
    if folder is None:
        begin([])
        run.go(epochs, None, Asked(), stop_when, calls, on_step, notify)
        return run.result()
    first = jax.process_index() == 0
    store = Checkpoints(folder, keep, OWNER) if first else None
    with store.locked() if store is not None else contextlib.nullcontext():
        same: dict[str, JSON] = {
            "settings": dict(settings or {}),
            "data": source.mark(),
            "key": words_of(draws),
            "best": best,
        }
        run.restore(store, resume, same, notify)
        begin(list(run.history))
        try:
            with listening(on_signal) as asked:
                run.go(epochs, store, asked, stop_when, calls, on_step, notify)
        except Exception:
            with contextlib.suppress(OSError):
                store.finish() if store is not None else None
            raise
    return run.result()


@jit(0, 1, donate_argnums=2)
def _begun(
    static: Static, hook: OnEpochStart, watch: Watch, params: Trainable, rest: Rest, epoch: Int[Array, ""]
) -> Watch:
    """At the start of an epoch, once the hook has set what is not trained."""
    impl, _ = solver_of(static, params, rest)
    state = impl.get_params(watch.solver), rest_of(impl, watch, rest)
    return begin(OWNER, impl, (static[0], *state), watch, hook, epoch)


class _Saved(TypedDict):
    """The arrays of a checkpoint."""

    watch: Watch
    losses: Float[Array, " steps"]
    best: Variables | tuple[()]


class _Found(TypedDict):
    """What process 0 has found in the folder: why nothing can be used, or the numbers of a checkpoint."""

    fault: str | None
    info: Info | None


class _Run:
    """The state of one run: what the device holds, and where it is."""

    def __init__(
        self,
        static: Static,
        like: Variables,
        source: Arrays | Batches,
        eval_data: AllBatches | Loader | None,
        key: PRNGKeyArray,
        best: str | None,
        on_epoch_start: OnEpochStart | None,
        on_epoch_model: Callable[[int, M], object] | None,
        place: OneDevice,
    ) -> None:
        self.on_epoch_start, self.on_epoch_model, self.place = on_epoch_start, on_epoch_model, place
        self.static, self.like, self.source, self.eval_data, self.best = static, like, source, eval_data, best
        with place.on():
            self.watch: Watch = place.state(start_of(static, *like, key))
        self.losses = place.state(jnp.zeros(source.steps, jnp.float32))
        self.signal: int | None = None
        self.epoch, self.step, self.done = 0, 0, False
        self.history: History = []
        self.best_epoch, self.best_scores = -1, [-np.inf]
        self.best_state: Variables | tuple[()] = jax.tree.map(jnp.copy, self._state()) if best else ()
        self.seconds = {"compile_s": 0.0, "run_s": 0.0}
        self.compiled: set[str] = set()
        self.same: dict[str, JSON] = {}
        self.checkup: Checkup | None = None

    def restore(self, store: Checkpoints | None, resume: bool, same: dict[str, JSON], notify: Notify) -> None:
        """From the newest checkpoint that is whole, where there is one: process 0 reads it for all."""
        self.same = same
        tree, found, fault = self._tree(), None, None
        try:
            found = None if store is None else newest(OWNER, store, resume, lambda *_: tree, notify, bytes_of(tree))
        except CheckpointError as error:
            fault = error
        seen: _Found = from_first({"fault": str(fault) if fault else None, "info": found[1] if found else None})
        if seen["fault"] is not None:
            raise fault or CheckpointError(seen["fault"])
        if seen["info"] is not None:
            tree = arrays_from_first(tree if found is None else found[0])
            self._take(tree, seen["info"], "" if store is None else str(store.newest))

    def _take(self, tree: _Saved, info: Info, where: str) -> None:
        check_same(OWNER, self.same, info, where)
        given = tree["watch"], tree["losses"], tree["best"]
        self.watch, self.losses, self.best_state = self.place.state(given)
        try:
            self.epoch, self.step, self.done = int(info["epoch"]), int(info["step"]), bool(info["done"])
            self.history = [{str(name): float(value) for name, value in row.items()} for row in info["history"]]
            self.seconds = {name: float(info["seconds"][name]) for name in self.seconds}
            self.best_epoch, self.best_scores = int(info["best_epoch"]), [float(value) for value in info["best_scores"]]
            needed = {"train_loss", *names_of(self.best or "train_loss")}
            sound = len(self.history) == self.epoch and 0 <= self.step <= self.source.steps
            sound = sound and all(needed <= row.keys() for row in self.history)
        except (ArithmeticError, KeyError, TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            raise unsound(OWNER, where)

    def go(
        self,
        epochs: int,
        store: Checkpoints | None,
        asked: Asked,
        stop_when: StopWhen | None,
        calls: tuple[OnEpochEnd, ...],
        on_step: OnStep | None,
        notify: Notify,
    ) -> None:
        """All epochs that are left."""
        if self.checkup and self.epoch == self.step == 0:
            self.checkup.begins(self.result().model, self.source.batch(0, 0))
        while not self.done and self.epoch < epochs:
            if self.on_epoch_start is not None and self.step == 0:
                with self.place.on():
                    given = self.static, self.on_epoch_start, self.watch, *self.like, np.int32(self.epoch)
                    self.watch = self.place.state(_begun(*given))
            for loss in self._turns(asked):
                if on_step is not None:
                    on_step(self.epoch, self.step, loss)
                self._may_end(store, asked)
                self._may_save(store, notify)
            self._measure()
            look = self.on_epoch_model
            if look is not None and getattr(look, "due", _always)(self.epoch):
                state = jax.tree.map(jnp.copy, self.place.home(self._state()))  # the next step takes the buffers
                look(self.epoch, nnx.merge(self.static[0], *state))
            if self.checkup and self.checkup.plateau(self.history):
                self.checkup.stalls(self.result().model, self.source.batch(self.epoch, 0), self.history)
            for call in calls:
                call(self.epoch, dict(self.history[-1]))
            self.epoch, self.step = self.epoch + 1, 0
            self.done = self.epoch >= epochs or bool(stop_when is not None and stop_when(self.history))
            self._may_save(store, notify, last=self.done)
            if not self.done:
                self._may_end(store, asked)

    def result(self) -> Trained:
        """What there is after the last epoch."""
        graphdef = self.static[0]
        home = self.place.home
        best = nnx.merge(graphdef, *home(self.best_state)) if self.best_epoch >= 0 else None
        return Trained(nnx.merge(graphdef, *home(self._state())), self.history, best, self.best_epoch, **self.seconds)

    def _turns(self, asked: Asked) -> Iterator[float]:
        """The rest of the epoch in turns of about `TURN_S`; yields the loss of the last step of each.

        Several processes agree after each turn on the length of the next, and on whether a signal came to one of them.
        """
        count = 1
        with waiting() as wait:
            while self.step < self.source.steps:
                began, first = time.perf_counter(), self.step
                last = min(first + count, self.source.steps)
                with self.place.on():
                    watch, losses = self.source.run(self.watch, self.losses, self.epoch, first, last)
                self.watch, self.losses = watch, losses
                wait(losses)
                took = time.perf_counter() - began
                usual = took / (last - first)
                count = max(1, min(8 * count, int(TURN_S / max(usual, 1e-6))))
                self._spent(took, "steps")
                self.step = last
                if self.place.processes > 1:
                    numbers = gathered([count, asked.number or 0])
                    count, self.signal = int(numbers[0, 0]), int(numbers[:, 1].max()) or None
                self._look()
                yield float(losses[last - 1])

    def _look(self) -> None:
        """Raise if a step was not a number."""
        if (bad := int(self.watch.bad_step)) >= 0:
            epoch, step = divmod(bad, self.source.steps)
            impl, objective = solver_of(self.static, *self.like)
            batch = self.source.batch(epoch, step)
            stop(objective, impl.get_params(self.watch.solver), self._state()[1], batch, epoch=epoch, step=step)

    def _measure(self) -> None:
        """The numbers of an epoch, and whether it is the best."""
        began = time.perf_counter()
        numbers: Numbers = {"train_loss": float(_mean(self.losses))}
        if self.eval_data is not None:
            with self.place.on():
                found = evaluate(self.static, self.watch, self.like[0], self.like[1], self.eval_data, self.place)
            if bool(any_nan(found)) and not isinstance(self.eval_data, Loader):
                model = nnx.merge(self.static[0], *self._state())
                check_eval_labels(OWNER, metric_of(self.static), model, self.eval_data)
            named = found if isinstance(found, Mapping) else {"metric": found}
            numbers |= {f"eval_{name}": float(value) for name, value in named.items()}
        self.history.append(numbers)
        if self.best is not None and (scores := scores_of(self.best, numbers)) > self.best_scores:
            self.best_epoch, self.best_scores = self.epoch, scores
            self.best_state = jax.tree.map(jnp.copy, self._state())
        self._spent(time.perf_counter() - began, "metric")

    def _spent(self, seconds: float, what: str) -> None:
        """First calls compile: the first turn is one step."""
        self.seconds["compile_s" if what not in self.compiled else "run_s"] += seconds
        self.compiled.add(what)

    def _may_save(self, store: Checkpoints | None, notify: Notify, *, last: bool = False) -> None:
        save_if_due(store, self._tree, self._info, notify, last=last)

    def _may_end(self, store: Checkpoints | None, asked: Asked) -> None:
        number = asked.number if self.place.processes == 1 else self.signal
        if number is not None:
            save_and_stop(store, self._tree, self._info, number, self.epoch, self.step)

    def _state(self) -> Variables:
        impl, _ = solver_of(self.static, *self.like)
        return impl.get_params(self.watch.solver), rest_of(impl, self.watch, self.like[1])

    def _tree(self) -> _Saved:
        tree: _Saved = {"watch": self.watch, "losses": self.losses, "best": self.best_state}
        return self.place.home(tree)

    def _info(self) -> dict[str, JSON]:
        return {
            **self.same,
            "epoch": self.epoch,
            "step": self.step,
            "done": self.done,
            "history": list(self.history),
            "best_epoch": self.best_epoch,
            "best_scores": self.best_scores,
            "seconds": dict(self.seconds),
        }


_mean = jax.jit(jnp.mean)


def _always(epoch: int) -> bool:
    return True
