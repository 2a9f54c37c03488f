"""`compile_fit`: the whole run in one compiled loop, over data that is already on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.data import Batch, SequenceBatch
from spyx.engine.jit_cache import jit
from spyx.fn._labels import strict_labels
from spyx.optimize._batches import ADVICE, call, takes_mask
from spyx.optimize._devices import places, split_rows
from spyx.optimize._diagnose import stop
from spyx.optimize._solver import Objective, SolverImpl, as_solver
from spyx.optimize._steps import in_evaluation
from spyx.optimize._watch import Watch, advance, any_nan, begin, refuse_wrong_labels, split, start

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

    from spyx.optimize.types import (
        AllBatches,
        AllLengths,
        Curves,
        Epoch,
        Loss,
        Metric,
        OneBatch,
        OnEpochStart,
        Optimiser,
        Order,
        Rest,
        Scores,
        Static,
        Trainable,
        Unbuilt,
    )

OWNER = "spyx.optimize.compile_fit"

M = TypeVar("M", bound=nnx.Module)


def compile_fit(
    model: M,
    solver: Optimiser,
    loss_fn: Loss,
    train_data: AllBatches,
    *,
    epochs: int,
    eval_data: AllBatches | None = None,
    metric_fn: Metric | None = None,
    lengths: AllLengths | None = None,
    eval_lengths: AllLengths | None = None,
    key: PRNGKeyArray | None = None,
    on_epoch_start: OnEpochStart[M] | None = None,
    on_epoch_end: Callable[[int, dict[str, PyTree[float]]], object] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[M, Curves]:
    """Train in one compiled loop over epochs and batches; the model that was passed in stays as it was.

    Compiled once for equal networks, shapes and the same `solver`, `loss_fn`, `metric_fn` and `epochs`: pass the same
    objects again (two calls of `optax.adam(1e-3)` make two solvers) and the second run starts at once.

    Args:
        model: any Flax NNX module; Dropout and BatchNorm work.
        solver: an Optax optimiser, or a `Solver`.
        loss_fn: `(model, *batch) -> loss`. It sees the model in the mode that it was given in. Or a loss of `spyx.fn`:
            then the model is run over x, and the loss is that of its outputs and y.
        train_data: tuple of arrays (batches, batch, ...), passed to `loss_fn` batch by batch; or a `spyx.data.Batch` or
            `SequenceBatch` of such arrays, whose mask and lengths reach the loss as in `fit`.
        epochs: passes over the data, >= 1.
        eval_data: as `train_data`, measured after each epoch.
        metric_fn: `(model, *batch) -> number`, for instance an accuracy, or a tree of numbers; it sees the model in
            evaluation mode. Needed with `eval_data`. Or a metric of `spyx.fn`.
        lengths: how many steps of each sample of `train_data`, then (x, y), are its own: (batches, batch), whole
            numbers. Passed to `nn.run` and the loss, or by name to a loss of your own. Default None: all.
        eval_lengths: the same of `eval_data`.
        key: shuffles all samples over all batches in every epoch, and is passed on to the solver. None keeps the order.
        on_epoch_start: called as `(epoch, model)` before each epoch, to set in place what is not trained, for example
            `lambda epoch, model: spyx.nn.set_width(model, widths(epoch))`. Changes of parameters are ignored. It
            is compiled, and the epoch is traced.
        on_epoch_end: called as `(epoch, numbers of this epoch)`; the device then comes back to the host after each
            epoch, with the same numbers as without.
        mesh: over whose devices batches are split, such as `device_mesh(4)`; the numbers are those of one device, up to
            rounding. None (default): one device. See the page "Several devices and machines".
            Every device holds all of `train_data`, and its share of `eval_data`.

    Shapes:
        train_data, eval_data: each array (batches, batch, ...). History: each array (epochs,).

    Returns:
        The trained model and `{"train_loss": ...}`, with `"eval_metric"` when evaluating: means over the batches of
        each epoch.

    Raises:
        FloatingPointError: a loss, gradient or batch that is not a number; names the epoch, the step and the first
            layer whose state is not finite.
        ValueError: an argument out of its range; data without a batch; arrays that differ in their number of batches; a
            label that is no class, in training or evaluation, where a loss or metric of `spyx.fn` is given it.
        TypeError: a loss that is more than one number; no Optax optimiser and no solver.

    Example:
        >>> import optax
        >>> from spyx import nn
        >>> data = (jnp.ones((2, 1, 3, 1)),)
        >>> loss = lambda model, x: -nn.run(model, x)[0].mean()
        >>> model, history = compile_fit(nn.LI(1, beta=0.5), optax.sgd(0.1), loss, data, epochs=3)
        >>> history["train_loss"].shape, bool(model.beta[...] > 0.5)
        ((3,), True)

    Reference:
        Spyx 1.0's function of that name, which compiled again at every call.
    """
    train_data, eval_data = _checked(epochs, train_data, eval_data, metric_fn)
    train_data = with_rows(OWNER, "loss_fn", loss_fn, with_lengths(OWNER, "lengths", train_data, lengths))
    if eval_data is not None and metric_fn is not None:
        eval_data = with_lengths(OWNER, "eval_lengths", eval_data, eval_lengths)
        eval_data = with_rows(OWNER, "metric_fn", metric_fn, eval_data)
    if eval_data is not None and bool(any_nan(eval_data)):
        raise FloatingPointError(
            f"{OWNER}(eval_data=): expected numbers; got NaN. Drop or fill the missing values first."
        )
    place = places(OWNER, mesh)
    place.check_rows("train_data", train_data)
    graphdef, *like = split(OWNER, model)
    as_solver(OWNER, solver)
    params, rest = place.state(like)
    train_data = place.everywhere(train_data)
    eval_data = None if eval_data is None else place.rows("eval_data", eval_data)
    static = (graphdef, solver, loss_fn, metric_fn, OWNER)
    draws = place.everywhere(jax.random.key(0) if key is None else key)
    shuffle = key is not None
    with place.on():
        watch = place.state(start_of(static, params, rest, draws))
    together = epochs if on_epoch_end is None else 1
    parts: list[Curves] = []
    for first in range(0, epochs, together):
        how = together, shuffle, on_epoch_start
        with place.on():
            watch, history = _epochs(static, how, watch, params, rest, train_data, eval_data, draws, first)
        parts.append(history)
        if (bad := int(watch.bad_step)) >= 0:
            epoch, step = divmod(bad, jax.tree.leaves(train_data)[0].shape[0])
            batch = batch_of(train_data, order_of(train_data, draws, epoch, shuffle), step)
            impl, objective = solver_of(static, params, rest)
            stop(objective, impl.get_params(watch.solver), rest_of(impl, watch, rest), batch, epoch=epoch, step=step)
        if eval_data is not None and metric_fn is not None and bool(any_nan(history["eval_metric"])):
            impl, _ = solver_of(static, params, rest)
            state = impl.get_params(watch.solver), rest_of(impl, watch, rest)
            check_eval_labels(OWNER, metric_fn, nnx.merge(graphdef, *state), eval_data)
        if on_epoch_end is not None:
            on_epoch_end(first, jax.tree.map(lambda values: float(values[0]), history))
    impl, _ = solver_of(static, params, rest)
    trained = nnx.merge(graphdef, *place.home((impl.get_params(watch.solver), rest_of(impl, watch, rest))))
    return trained, place.home(jax.tree.map(lambda *part: jnp.concatenate(part), *parts))


@jit(0)
def start_of(static: Static, params: Trainable, rest: Rest, key: PRNGKeyArray) -> Watch:
    """Before the first step."""
    return start(solver_of(static, params, rest)[0], key)


@jit(0, 1, donate_argnums=2)
def _epochs(
    static: Static,
    how: tuple[int, bool, OnEpochStart | None],
    watch: Watch,
    params: Trainable,
    rest: Rest,
    train_data: AllBatches,
    eval_data: AllBatches | None,
    key: PRNGKeyArray,
    first: Int[Array, ""],
) -> tuple[Watch, Curves]:
    """`count` epochs from epoch `first` on."""
    graphdef = static[0]
    count, shuffle, on_epoch_start = how
    impl, _ = solver_of(static, params, rest)

    def one_epoch(watch: Watch, epoch: Int[Array, ""]) -> tuple[Watch, dict[str, Scores]]:
        if on_epoch_start is not None:
            state = impl.get_params(watch.solver), rest_of(impl, watch, rest)
            watch = begin(OWNER, impl, (graphdef, *state), watch, on_epoch_start, epoch)
        order = order_of(train_data, key, epoch, shuffle)

        def one_step(watch: Watch, step: Int[Array, ""]) -> tuple[Watch, Float[Array, ""]]:
            return advance(impl, watch, batch_of(train_data, order, step), key)

        watch, losses = jax.lax.scan(one_step, watch, jnp.arange(jax.tree.leaves(train_data)[0].shape[0]))
        numbers: dict[str, Scores] = {"train_loss": losses.mean()}
        if eval_data is not None:
            model = (graphdef, impl.get_params(watch.solver), rest_of(impl, watch, rest))
            with strict_labels():
                scores = jax.lax.map(lambda batch: score(OWNER, metric_of(static), nnx.merge(*model), batch), eval_data)
            numbers["eval_metric"] = mean_score(scores, eval_data)
        return watch, numbers

    return jax.lax.scan(one_epoch, watch, first + jnp.arange(count))


def check_eval_labels(owner: str, metric_fn: Metric, model: nnx.Module, eval_data: AllBatches) -> None:
    """Raise if the first batch whose metric is NaN holds a label that is no class."""
    graphdef, state = nnx.split(model)
    evaluate = jax.jit(lambda state, batch: score(owner, metric_fn, nnx.merge(graphdef, state), batch))
    for number in range(jax.tree.leaves(eval_data)[0].shape[0]):
        batch = batch_of(eval_data, None, number)
        with strict_labels():
            found = evaluate(state, batch)
        if bool(any_nan(found)):
            where = f"{owner}(eval_data=), in batch {number}"
            refuse_wrong_labels(where, partial(score, owner, metric_fn, model, batch), batch)
            return


def score(owner: str, metric_fn: Metric, model: nnx.Module, batch: OneBatch) -> Scores:
    """The metric of one batch, of the network in evaluation mode."""
    return call(f"{owner}(metric_fn=)", metric_fn, in_evaluation(model), split_rows(batch))


def mean_score(scores: PyTree[Shaped[Array, " batches"]], data: AllBatches) -> Scores:
    """Means over batches (axis 0), each with the weight of its rows that are no padding."""
    mask = getattr(data, "mask", None)

    def mean(values: Shaped[Array, " batches"]) -> Float[Array, ""]:
        values = values.astype(jnp.float32)
        if mask is None:
            return values.mean()
        rows = mask.sum(1).astype(jnp.float32)
        return (values * rows).sum() / rows.sum()

    return jax.tree.map(mean, scores)


def solver_of(static: Static, params: Trainable, rest: Rest) -> tuple[SolverImpl, Objective]:
    """The solver of one network, and the loss that it makes small."""
    graphdef, solver, loss_fn, _, owner = static
    objective = Objective(owner, loss_fn, graphdef, rest)
    return as_solver(owner, solver)(objective, params), objective


def metric_of(static: Static | Unbuilt) -> Metric:
    """The metric: there is one where there are data for it, which `train` and the others ask for."""
    return cast("Metric", static[3])


def rest_of(impl: SolverImpl, watch: Watch, rest: Rest) -> Rest:
    """What else the network holds by now."""
    return rest if impl.get_rest is None else impl.get_rest(watch.solver)


def order_of(data: AllBatches, key: PRNGKeyArray, epoch: Epoch, shuffle: bool) -> Order | None:
    """Which sample is where in this epoch, (batches, batch); None is as they came."""
    if not shuffle:
        return None
    batches, batch = jax.tree.leaves(data)[0].shape[:2]
    return jax.random.permutation(jax.random.fold_in(key, epoch), batches * batch).reshape(batches, batch)


def batch_of(data: AllBatches, order: Order | None, step: int | Int[Array, ""]) -> OneBatch:
    """The batch of one step."""
    if order is None:
        return jax.tree.map(lambda a: a[step], data)
    rows, columns = jnp.divmod(order[step], order.shape[1])
    return jax.tree.map(lambda a: a[rows, columns], data)


def _checked(
    epochs: int, train_data: AllBatches, eval_data: AllBatches | None, metric_fn: Metric | None
) -> tuple[AllBatches, AllBatches | None]:
    if not isinstance(epochs, Integral) or isinstance(epochs, bool) or epochs < 1:
        raise ValueError(f"{OWNER}(epochs=): expected a whole number, 1 or more; got {epochs!r}. Give at least 1.")
    if (eval_data is None) != (metric_fn is None):
        raise ValueError(
            f"{OWNER}: expected eval_data and metric_fn together; got only "
            f"{'metric_fn' if eval_data is None else 'eval_data'}. Give both, or neither."
        )
    return (
        staged(OWNER, "train_data", train_data),
        None if eval_data is None else staged(OWNER, "eval_data", eval_data),
    )


def with_lengths(owner: str, argument: str, data: AllBatches, lengths: AllLengths | None) -> AllBatches:
    """Data (x, y) with lengths as a `SequenceBatch`, checked; as they are without."""
    if lengths is None:
        return data
    x, found = data[0], np.asarray(lengths)
    if len(data) != 2 or x.ndim < 3:
        raise ValueError(
            f"{owner}({argument}=): expected data (x, y) with x (batches, batch, time, ...); got {len(data)} parts and "
            f"x {x.shape}. Put a mask and lengths into a spyx.data.SequenceBatch."
        )
    if found.dtype.kind not in "iu" or found.shape != x.shape[:2] or (found < 0).any() or (found > x.shape[2]).any():
        raise ValueError(
            f"{owner}({argument}=): expected whole numbers in 0..{x.shape[2]} of shape {x.shape[:2]}; got dtype "
            f"{found.dtype}, shape {found.shape}, {found.min(initial=0)} to {found.max(initial=0)}. Count steps."
        )
    return SequenceBatch(*data, mask=None, lengths=jnp.asarray(found, jnp.int32))  # type: ignore[arg-type]


def with_rows(owner: str, argument: str, function: Loss | Metric, data: AllBatches) -> AllBatches:
    """Without the mask where the function does not take it and every row is real."""
    if not isinstance(data, (Batch, SequenceBatch)) or data.mask is None or takes_mask(function):
        return data
    if padding := int((~data.mask).sum()):
        raise TypeError(
            f"{owner}({argument}=): expected a function that takes mask, because of {padding} rows that are "
            f"padding; got one that does not. {ADVICE['mask']}"
        )
    return data._replace(mask=None)  # type: ignore[arg-type]


def staged(owner: str, name: str, data: AllBatches) -> AllBatches:
    """Arrays (batches, batch, ...) on the device."""
    if not isinstance(data, (tuple, list)):
        raise TypeError(
            f"{owner}({name}=): expected a tuple of arrays, the arguments of the loss; got {type(data).__name__}. "
            "Write (x, y)."
        )
    data = jax.tree.map(jnp.asarray, data if isinstance(data, (Batch, SequenceBatch)) else tuple(data))
    shapes = [leaf.shape for leaf in jax.tree.leaves(data)]
    if not shapes or any(len(shape) < 2 or 0 in shape for shape in shapes) or len({s[:2] for s in shapes}) > 1:
        raise ValueError(
            f"{owner}({name}=): expected arrays (batches, batch, ...), none empty, that agree on both; got shapes "
            f"{shapes}. Reshape (samples, ...) to (samples // batch, batch, ...)."
        )
    return data
