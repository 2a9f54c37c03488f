"""`compile_fit`: the whole run in one compiled loop, over data that is already on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.engine.definitions import jit
from spyx.fn.labels import strict_labels
from spyx.optimize.diagnose import stop
from spyx.optimize.solver import Objective, SolverImpl, as_solver
from spyx.optimize.steps import in_evaluation, make_eval_step
from spyx.optimize.watch import Watch, advance, any_nan, refuse_wrong_labels, split, start

OWNER = "spyx.optimize.compile_fit"


def compile_fit(
    model: nnx.Module,
    solver: Any,
    loss_fn: Callable[..., jax.Array],
    train_data: Any,
    *,
    epochs: int,
    eval_data: Any = None,
    metric_fn: Callable[..., Any] | None = None,
    key: jax.Array | None = None,
    on_epoch_end: Callable[[int, dict[str, Any]], None] | None = None,
) -> tuple[nnx.Module, dict[str, Any]]:
    """Train in one compiled loop over epochs and batches; the model that was passed in stays as it was.

    Compiled once for equal networks, shapes and the same `solver`, `loss_fn`, `metric_fn` and `epochs`: pass the same
    objects again (two calls of `optax.adam(1e-3)` make two solvers) and the second run starts at once.

    Args:
        model: any Flax NNX module; Dropout and BatchNorm work.
        solver: an Optax optimiser, or a `Solver`.
        loss_fn: `(model, *batch) -> loss`. It sees the model in the mode that it was given in.
        train_data: tuple of arrays (batches, batch, ...), passed to `loss_fn` batch by batch.
        epochs: passes over the data, >= 1.
        eval_data: as `train_data`, measured after each epoch.
        metric_fn: `(model, *batch) -> number`, for instance an accuracy, or a tree of numbers; it sees the model in
            evaluation mode. Needed with `eval_data`.
        key: shuffles all samples over all batches in every epoch, and is passed on to the solver. None keeps the order.
        on_epoch_end: called as `(epoch, numbers of this epoch)`; the device then comes back to the host after each
            epoch, with the same numbers as without.

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
    if eval_data is not None and bool(any_nan(eval_data)):
        raise FloatingPointError(
            f"{OWNER}(eval_data=): expected numbers; got NaN. Drop or fill the missing values first."
        )
    graphdef, params, rest = split(OWNER, model)
    as_solver(OWNER, solver)
    static = (graphdef, solver, loss_fn, metric_fn)
    draws = jax.random.key(0) if key is None else key
    shuffle = key is not None
    watch = _start(static, params, rest, draws)
    together = epochs if on_epoch_end is None else 1
    parts: list[dict[str, Any]] = []
    for first in range(0, epochs, together):
        watch, history = _epochs(static, together, shuffle, watch, params, rest, train_data, eval_data, draws, first)
        parts.append(history)
        if (bad := int(watch.bad_step)) >= 0:
            epoch, step = divmod(bad, jax.tree.leaves(train_data)[0].shape[0])
            batch = _batch(train_data, _order(train_data, draws, epoch, shuffle), step)
            impl, objective = _solver(static, params, rest)
            stop(objective, impl.get_params(watch.solver), _rest(impl, watch, rest), batch, epoch=epoch, step=step)
        if eval_data is not None and bool(any_nan(history["eval_metric"])):
            impl, _ = _solver(static, params, rest)
            state = impl.get_params(watch.solver), _rest(impl, watch, rest)
            _check_labels(metric_fn, nnx.merge(graphdef, *state), eval_data)
        if on_epoch_end is not None:
            on_epoch_end(first, jax.tree.map(lambda values: float(values[0]), history))
    impl, _ = _solver(static, params, rest)
    trained = nnx.merge(graphdef, impl.get_params(watch.solver), _rest(impl, watch, rest))
    return trained, jax.tree.map(lambda *part: jnp.concatenate(part), *parts)


@jit(0)
def _start(static: Any, params: Any, rest: Any, key: jax.Array) -> Watch:
    return start(_solver(static, params, rest)[0], key)


@jit(0, 1, 2, donate_argnums=3)
def _epochs(
    static: Any,
    count: int,
    shuffle: bool,
    watch: Watch,
    params: Any,
    rest: Any,
    train_data: Any,
    eval_data: Any,
    key: jax.Array,
    first: jax.Array,
) -> tuple[Watch, dict[str, Any]]:
    """`count` epochs from epoch `first` on."""
    graphdef, _, _, metric_fn = static
    impl, _ = _solver(static, params, rest)

    def one_epoch(watch: Watch, epoch: jax.Array) -> tuple[Watch, dict[str, Any]]:
        order = _order(train_data, key, epoch, shuffle)

        def one_step(watch: Watch, step: jax.Array) -> tuple[Watch, jax.Array]:
            return advance(impl, watch, _batch(train_data, order, step), key)

        watch, losses = jax.lax.scan(one_step, watch, jnp.arange(jax.tree.leaves(train_data)[0].shape[0]))
        numbers: dict[str, Any] = {"train_loss": losses.mean()}
        if eval_data is not None:
            model = (graphdef, impl.get_params(watch.solver), _rest(impl, watch, rest))
            with strict_labels():
                score = jax.lax.map(lambda batch: metric_fn(in_evaluation(nnx.merge(*model)), *batch), eval_data)
            numbers["eval_metric"] = jax.tree.map(lambda values: values.astype(jnp.float32).mean(), score)
        return watch, numbers

    return jax.lax.scan(one_epoch, watch, first + jnp.arange(count))


def _check_labels(metric_fn: Any, model: Any, eval_data: Any) -> None:
    """Raise if the first batch whose metric is NaN holds a label that is no class."""
    evaluate = make_eval_step(metric_fn)
    for number in range(jax.tree.leaves(eval_data)[0].shape[0]):
        batch = _batch(eval_data, None, number)
        with strict_labels():
            found = evaluate(model, *batch)
        if bool(any_nan(found)):
            where = f"{OWNER}(eval_data=), in batch {number}"
            refuse_wrong_labels(where, partial(metric_fn, in_evaluation(model), *batch), batch)
            return


def _solver(static: Any, params: Any, rest: Any) -> tuple[SolverImpl, Objective]:
    graphdef, solver, loss_fn, _ = static
    objective = Objective(OWNER, loss_fn, graphdef, rest)
    return as_solver(OWNER, solver)(objective, params), objective


def _rest(impl: SolverImpl, watch: Watch, rest: Any) -> Any:
    return rest if impl.get_rest is None else impl.get_rest(watch.solver)


def _order(data: Any, key: jax.Array, epoch: Any, shuffle: bool) -> jax.Array | None:
    """Which sample is where in this epoch, (batches, batch); None is as they came."""
    if not shuffle:
        return None
    batches, batch = jax.tree.leaves(data)[0].shape[:2]
    return jax.random.permutation(jax.random.fold_in(key, epoch), batches * batch).reshape(batches, batch)


def _batch(data: Any, order: jax.Array | None, step: Any) -> Any:
    if order is None:
        return jax.tree.map(lambda a: a[step], data)
    rows, columns = jnp.divmod(order[step], order.shape[1])
    return jax.tree.map(lambda a: a[rows, columns], data)


def _checked(epochs: Any, train_data: Any, eval_data: Any, metric_fn: Any) -> tuple[Any, Any]:
    if not isinstance(epochs, Integral) or isinstance(epochs, bool) or epochs < 1:
        raise ValueError(f"{OWNER}(epochs=): expected a whole number, 1 or more; got {epochs!r}. Give at least 1.")
    if (eval_data is None) != (metric_fn is None):
        raise ValueError(
            f"{OWNER}: expected eval_data and metric_fn together; got only "
            f"{'metric_fn' if eval_data is None else 'eval_data'}. Give both, or neither."
        )
    staged = [_staged("train_data", train_data), None if eval_data is None else _staged("eval_data", eval_data)]
    return staged[0], staged[1]


def _staged(name: str, data: Any) -> tuple[Any, ...]:
    if not isinstance(data, (tuple, list)):
        raise TypeError(
            f"{OWNER}({name}=): expected a tuple of arrays, the arguments of the loss; got {type(data).__name__}. "
            "Write (x, y)."
        )
    data = jax.tree.map(jnp.asarray, tuple(data))
    shapes = [leaf.shape for leaf in jax.tree.leaves(data)]
    if not shapes or any(len(shape) < 2 or 0 in shape for shape in shapes) or len({s[:2] for s in shapes}) > 1:
        raise ValueError(
            f"{OWNER}({name}=): expected arrays (batches, batch, ...), none empty, that agree on both; got shapes "
            f"{shapes}. Reshape (samples, ...) to (samples // batch, batch, ...)."
        )
    return data
