"""`fit`: epochs over any source of batches."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.data import Batch, SequenceBatch
from spyx.fn._labels import strict_labels
from spyx.optimize._batches import call, rows_of, without_padding
from spyx.optimize._checkup import Checkup
from spyx.optimize._devices import OneDevice, places, split_rows
from spyx.optimize._diagnose import stop
from spyx.optimize._solver import Objective, SolverImpl, as_solver
from spyx.optimize._steps import in_evaluation
from spyx.optimize._watch import Watch, advance, any_nan, begin, refuse_wrong_labels, split, start

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from spyx.optimize.types import (
        BatchLike,
        Doctor,
        EvalFn,
        Loss,
        Numbers,
        OneBatch,
        OnEpochEnd,
        OnStep,
        Optimiser,
        Rest,
        SolverState,
        Trainable,
    )

    Batches = Callable[[], Iterable[BatchLike]]
    """Returns a fresh iterable of batches at each call."""

    Shapes = tuple[tuple[tuple[int, ...], str], ...]
    """Shape and dtype of every array of a batch."""

    Scored = tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]
    """`(accuracy, loss, whether the batch holds NaN)`."""

M = TypeVar("M", bound=nnx.Module)

History = list[dict[str, float]]
"""Type alias: one dictionary of numbers per epoch."""

OWNER = "spyx.optimize.fit"
AHEAD = 16
"""Batches of an evaluation that are under way before the first score is looked at."""


def fit(
    model: M,
    tx: Optimiser,
    loss_fn: Loss,
    train_iter: Callable[[], Iterable[BatchLike]],
    *,
    epochs: int,
    eval_iter: Callable[[], Iterable[BatchLike]] | None = None,
    eval_fn: EvalFn | None = None,
    on_epoch_start: Callable[[int, M], object] | None = None,
    on_epoch_end: OnEpochEnd | None = None,
    on_step: OnStep | None = None,
    check_every: int = 16,
    mesh: jax.sharding.Mesh | None = None,
    doctor: bool | Doctor = False,
) -> History:
    """Train a model in place: `params' = params + tx(dloss / dparams)` for every batch of every epoch.

    The model is brought up to date before each `on_epoch_end` and when `fit` ends, however it ends: after Ctrl-C or an
    error it holds the last healthy parameters. One compiled step serves all epochs; a batch of another shape costs
    one more compilation, so let a loader pad its last batch (`spyx.data.Loader` does).

    Args:
        model: any Flax NNX module; Dropout and BatchNorm work.
        tx: an Optax optimiser, or a `Solver`.
        loss_fn: `(model, *batch) -> loss`. It sees the model in the mode that it was given in. Or a loss of `spyx.fn`:
            then the model is run over x, and the loss is that of its outputs and y.
        train_iter: function without arguments that returns a fresh iterable of batches, called once per epoch. A batch
            is a tuple, passed on as arguments, or anything else, passed on as one argument. Of a batch of
            `spyx.data.Loader`, a loss of `spyx.fn` and `nn.run` get the lengths, and rows that are padding weight 0; a
            loss of your own gets `mask` and `lengths` by name. One that takes no `mask` does not see such rows, which
            costs one more compilation.
        epochs: passes over the data, >= 1.
        eval_iter: as `train_iter`, for the evaluation after each epoch.
        eval_fn: `(model, *batch) -> (accuracy, loss)`; it sees a copy of the model in evaluation mode, and of a
            loader's batch what `loss_fn` would. Needed with `eval_iter`.
        on_epoch_start: called as `(epoch, model)` before each epoch, to set in place what is not trained, for example
            `lambda epoch, model: spyx.nn.set_width(model, widths(epoch))`. Changes of parameters are ignored.
        on_epoch_end: called as `(epoch, numbers of this epoch)` after each.
        on_step: called as `(epoch, step, loss)` every `check_every` steps; epoch and step count from 0.
        check_every: steps between two looks at the loss, >= 1; looking makes the device wait. Default 16.
        mesh: over whose devices batches are split, such as `device_mesh(4)`; the numbers are those of one device, up to
            rounding. None (default): one device. See the page "Several devices and machines".
            Of several processes, each has iterables of its own rows of every batch.
        doctor: True lets `spyx.report.doctor` look at the network and a batch before the first step, and again where
            the training loss has not fallen by 1 % for five epochs; what it finds is a warning, each finding once. Or a
            function like it. Default False.

    Returns:
        One dictionary per epoch: `train_loss` (mean over batches), `eval_acc` and `eval_loss` (mean over samples) when
        evaluating, `run_s` and `compile_s`, the seconds spent with and without a compiled step.

    Raises:
        RuntimeError: an epoch without batches.
        FloatingPointError: a loss, gradient or batch that is not a number; names the epoch, the step and the first
            layer whose state is not finite. Found up to `check_every` steps later, undone back to the step.
        ValueError: an argument out of its range, an empty batch; a shape that a layer or the loss does not take; a
            label that is no class, in training or evaluation, where a loss or metric of `spyx.fn` is given it.
        TypeError: an iterable instead of a function that returns one; a doctor that is no function; a loss that is more
            than one number, or takes no lengths where the batches have them.

    Example:
        >>> import optax
        >>> from spyx import nn
        >>> model, batch = nn.LI(1, beta=0.5), jnp.ones((1, 3, 1))
        >>> history = fit(
        ...     model, optax.sgd(0.1), lambda model, x: -nn.run(model, x)[0].mean(), lambda: [batch, batch], epochs=2
        ... )
        >>> len(history), history[1]["train_loss"] < history[0]["train_loss"]
        (2, True)
    """
    _check(train_iter, epochs, eval_iter, eval_fn, check_every)
    place = places(OWNER, mesh)
    checkup = Checkup(OWNER, doctor, loss_fn, lambda line: warnings.warn(line, stacklevel=4))
    graphdef, params, rest = split(OWNER, model)
    objective = Objective(OWNER, loss_fn, graphdef, rest)
    impl = as_solver(OWNER, tx)(objective, params)
    rest_of = impl.get_rest or (lambda _: rest)
    key = place.everywhere(jax.random.key(0))

    step = jax.jit(partial(advance, impl), donate_argnums=0)
    measure = None if eval_iter is None or eval_fn is None else _measure(eval_fn, eval_iter, graphdef, place)
    with place.on():
        watch = place.state(start(impl, key))
    history: History = []
    seen: set[Shapes] = set()

    try:
        for epoch in range(epochs):
            began, compile_s = time.perf_counter(), 0.0
            watch, recent, number = watch._replace(loss_sum=place.state(jnp.float32(0))), [], -1
            batch: OneBatch = ()
            if on_epoch_start is not None:
                state = impl.get_params(watch.solver), rest_of(watch.solver)
                watch = place.state(begin(OWNER, impl, (graphdef, *state), watch, on_epoch_start, epoch))
            for number, batch in enumerate(map(_as_tuple, train_iter())):
                batch = place.batch("train_iter", without_padding(f"{OWNER}(loss_fn=)", loss_fn, batch))
                shapes = _shapes(batch, epoch, number)
                if checkup and epoch == number == 0:
                    checkup.begins(model, batch)
                called = time.perf_counter()
                with place.on():
                    watch, loss = step(watch, batch, key)
                if shapes not in seen:
                    seen.add(shapes)
                    compile_s += time.perf_counter() - called
                recent.append(batch)
                if (number + 1) % check_every == 0:
                    _look(objective, impl, watch, rest_of, recent, epoch, number)
                    recent = []
                    if on_step is not None:
                        on_step(epoch, number, float(loss))
            if number < 0:
                raise RuntimeError(
                    f"{OWNER}(train_iter=): expected at least one batch in epoch {epoch}; got none. Return a fresh "
                    "iterable at each call, and check that the data set is not empty and no smaller than one batch."
                )
            _look(objective, impl, watch, rest_of, recent, epoch, number)
            numbers = {"train_loss": float(watch.loss_sum) / (number + 1)}
            if measure is not None:
                numbers |= measure(impl.get_params(watch.solver), place.state(rest_of(watch.solver)), epoch)
            numbers |= {"run_s": time.perf_counter() - began - compile_s, "compile_s": compile_s}
            history.append(numbers)
            if checkup and checkup.plateau(history):
                checkup.stalls(
                    nnx.merge(graphdef, impl.get_params(watch.solver), rest_of(watch.solver)), batch, history
                )
            if on_epoch_end is not None:
                solver = jax.tree.map(jnp.copy, watch.solver)
                nnx.update(model, *place.home((impl.get_params(solver), rest_of(solver))))
                on_epoch_end(epoch, dict(numbers))
    finally:
        nnx.update(model, *place.home((impl.get_params(watch.solver), rest_of(watch.solver))))
    return history


def _look(
    objective: Objective,
    impl: SolverImpl,
    watch: Watch,
    rest_of: Callable[[SolverState], Rest],
    recent: list[OneBatch],
    epoch: int,
    last: int,
) -> None:
    """Fetch the flag; on a bad step, find out why and raise. `recent` are the batches up to step `last`."""
    bad = int(watch.bad_step)
    if bad >= 0:
        ago = int(watch.steps) - bad
        params, rest = impl.get_params(watch.solver), rest_of(watch.solver)
        stop(objective, params, rest, recent[-ago], epoch=epoch, step=last + 1 - ago)


def _score(eval_fn: EvalFn, graphdef: nnx.GraphDef, params: Trainable, rest: Rest, batch: OneBatch) -> Scored:
    batch = split_rows(batch)
    with strict_labels():
        model = in_evaluation(nnx.merge(graphdef, params, rest))
        accuracy, loss = call(f"{OWNER}(eval_fn=)", eval_fn, model, batch)
    return accuracy, loss, any_nan(batch)


def _measure(
    eval_fn: EvalFn, eval_iter: Batches, graphdef: nnx.GraphDef, place: OneDevice
) -> Callable[[Trainable, Rest, int], Numbers]:
    """`(params, rest, epoch) -> numbers` of an evaluation; one compiled function serves all epochs."""
    score = partial(_score, eval_fn, graphdef)
    compiled = jax.jit(score)

    def measure(params: Trainable, rest: Rest, epoch: int) -> Numbers:
        state = params, rest
        return _evaluate(partial(compiled, *state), partial(score, *state), eval_fn, eval_iter, epoch, place)

    return measure


def _evaluate(
    evaluate: Callable[[OneBatch], Scored],
    uncompiled: Callable[[OneBatch], Scored],
    eval_fn: EvalFn,
    eval_iter: Batches,
    epoch: int,
    place: OneDevice,
) -> Numbers:
    """Mean over samples: a last batch that is smaller weighs less."""
    scores: list[list[float]] = []
    weights: list[int] = []
    under_way: deque[tuple[OneBatch, Scored]] = deque()

    def look() -> None:
        batch, found = under_way.popleft()
        accuracy, loss, nan = (float(value) for value in found)
        where = f"in batch {len(scores)} of the evaluation after epoch {epoch}"
        if nan:
            raise FloatingPointError(
                f"{OWNER}(eval_iter=): expected batches of numbers; got NaN {where}. "
                "Drop or fill the missing values first."
            )
        if np.isnan([accuracy, loss]).any() and not np.isnan(scores).any():  # the first batch of them tells
            refuse_wrong_labels(f"{OWNER}(eval_iter=), {where}", lambda: uncompiled(batch), batch)
        scores.append([accuracy, loss])

    for number, batch in enumerate(map(_as_tuple, eval_iter())):
        batch = place.batch("eval_iter", without_padding(f"{OWNER}(eval_fn=)", eval_fn, batch))
        _shapes(batch, epoch, number)
        weights.append(rows_of(batch))
        with place.on():
            under_way.append((batch, evaluate(batch)))
        if len(under_way) > AHEAD:
            look()
    while under_way:
        look()
    if not weights:
        raise RuntimeError(
            f"{OWNER}(eval_iter=): expected at least one batch in epoch {epoch}; got none. "
            "Return a fresh iterable at each call, and check that the data set is not empty."
        )
    accuracy, loss = np.average(scores, axis=0, weights=weights)
    return {"eval_acc": float(accuracy), "eval_loss": float(loss)}


def _as_tuple(batch: BatchLike) -> OneBatch:
    if isinstance(batch, (Batch, SequenceBatch)):
        return batch
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def _shapes(batch: OneBatch, epoch: int, number: int) -> Shapes:
    """What decides whether the step must be compiled again; refuses a batch without samples."""
    shapes = tuple((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(batch))
    if not shapes or any(0 in shape for shape, _ in shapes):
        raise ValueError(
            f"{OWNER}: expected batches of at least one sample; got shapes {[shape for shape, _ in shapes]} in epoch "
            f"{epoch}, batch {number}. Check the data set and the batch size."
        )
    return shapes


def _check(
    train_iter: Batches, epochs: int, eval_iter: Batches | None, eval_fn: EvalFn | None, check_every: int
) -> None:
    for name, value in (("epochs", epochs), ("check_every", check_every)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{OWNER}({name}=): expected a whole number, 1 or more; got {value!r}. Give at least 1.")
    for name, source in (("train_iter", train_iter), ("eval_iter", eval_iter)):
        if source is not None and not callable(source):
            raise TypeError(
                f"{OWNER}({name}=): expected a function that returns a fresh iterable of batches; got "
                f"{type(source).__name__}. Write lambda: batches."
            )
    if (eval_iter is None) != (eval_fn is None):
        raise ValueError(
            f"{OWNER}: expected eval_iter and eval_fn together; got only "
            f"{'eval_fn' if eval_iter is None else 'eval_iter'}. Give both, or neither."
        )
