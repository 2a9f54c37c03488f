"""`run`, `observe` and `explain`: the one place where time is handled."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

from spyx.engine import plan
from spyx.engine.derivative import call, together
from spyx.engine.plan import Cut, Plan
from spyx.nn import _mask_arguments
from spyx.nn._chunks import Chunks
from spyx.nn._execution import Execution, Recorder, Tap, check_granted, known_mode
from spyx.nn._layer import Layer, Stateless, as_layer, hashable, over_time, step_through
from spyx.nn._layers_by_path import named_layers
from spyx.nn._neuron import Neuron
from spyx.nn._parameters import UNCHANGING

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Shaped

    from spyx.engine.types import Data, Inputs, Outputs, State, Tree
    from spyx.nn._layer import Model
    from spyx.nn._mask_arguments import Lengths


def run(
    model: Model,
    x: PyTree[Shaped[ArrayLike, "batch time ..."]],
    state: State | None = None,
    *,
    time_axis: int = 1,
    mode: str = "auto",
    chunk: int | None = None,
    remat: bool = False,
    truncate: bool = False,
    lengths: Lengths | None = None,
    mask: Bool[ArrayLike, "batch time"] | None = None,
    check_finite: bool = False,
    batch_major: bool | None = None,
) -> tuple[PyTree[Shaped[Array, "batch time ..."]], State]:
    """Run a model over time: `out[t], state = model(x[t], state)` for every `t`.

    Args:
        model: a layer (`initial_state` and `layer(x, state)`): a neuron, a `Sequential`, a graph, or your own.
        x: input (batch, time, *features), or a pytree of such arrays. NumPy, uint8 and bool spikes are welcome.
        state: state before the first step; None is `model.initial_state(batch)`. Feed the returned state back in to
            go on with a stream.
        time_axis: where time is in `x` and in the outputs; default 1, batch-major. 0 is time-major.
        mode: "layer" lets a stateless layer see all of time in one call, and only neurons recur; "step" runs the
            whole network one time step at a time (least memory); "auto" (default) picks the fastest exact mode.
            "parallel" runs every neuron that never resets by an associative scan, "fixed_point" every resetting one by
            guessing its spikes until they agree, and "fused" every neuron by a kernel; the other layers run as in
            "layer". All modes give the same numbers, in value and in every derivative, forward mode and higher orders
            included.
        chunk: run this many time steps at a time and carry the state; None (default) runs all at once. Same numbers.
        remat: store only the state between chunks and recompute the rest in the backward pass: memory grows with the
            square root of the number of steps, for about one more forward pass. Without `chunk`, the square root is
            its size.
        truncate: let no gradient cross from a chunk to the one before it (truncated backpropagation through time). The
            first chunk passes none to `state` either.
        lengths: (batch,) whole numbers: how many steps of each sample count, 0 to all. After a sample's last step its
            state stays as it is and its outputs are zero, exactly as if it had been run alone; what `x` holds there,
            NaN included, has no part in anything. None (default): all steps count.
        mask: the same by step: bool, (batch, time) as `time_axis` says. A sample may come back after a gap; its state
            waits. Kernels and delays of a graph are faster by `lengths`. Not both.
        check_finite: refuse an input that holds NaN: spikes would hide it. It looks at the numbers, so the input must
            not be traced. Default False.
        batch_major: Spyx 1.0's spelling: True is `time_axis=1`, False is `time_axis=0`.

    Returns:
        `(outputs, final_state)`; outputs have time on `time_axis`.

    Raises:
        TypeError: a model without `initial_state`.
        ValueError: an unknown mode, or one that no layer of the model can run in; an axis out of range; a shape that a
            layer does not take; a chunk below 1, or `truncate` without one; NaN where `check_finite` looks for it;
            lengths or a mask that do not fit `x`, or a layer that they cannot be told: one that needs all of time in
            one call, or batch statistics in training.

    Example:
        >>> from spyx import nn
        >>> out, v = nn.run(nn.LI(2, beta=0.5), jnp.ones((1, 3, 2)))
        >>> out[0, :, 0].tolist()
        [1.0, 1.5, 1.75]
        >>> out, v = nn.run(nn.LI(2, beta=0.5), jnp.ones((1, 3, 2)), lengths=jnp.array([2]))
        >>> out[0, :, 0].tolist(), v[0, 0].item()
        ([1.0, 1.5, 0.0], 1.5)
    """
    asked = _asked_cut(chunk, remat, truncate)
    axis, how = _axis(time_axis, batch_major), Execution(known_mode(mode))
    job = _prepare(model, x, state, axis, how, asked, check_finite, lengths, mask)
    if job.pure:
        outs, state, _ = _carry_out(job)
    else:
        outs, state = over_time(job.layer, job.time_major(), job.state, job.how)
        outs = outs if isinstance(job.layer, Neuron) else job.how.alive(outs)
        check_granted(job.how)
    return job.as_given(outs), state


def observe(
    model: Model,
    x: PyTree[Shaped[ArrayLike, "batch time ..."]],
    state: State | None = None,
    *,
    what: str | tuple[str, ...] = ("outputs",),
    where: str | Collection[str] | Callable[[str, Layer], object] | None = None,
    time_axis: int = 1,
    mode: str = "auto",
    lengths: Lengths | None = None,
    mask: Bool[ArrayLike, "batch time"] | None = None,
    added: Mapping[str, Array] | None = None,
    summed: bool = False,
) -> tuple[PyTree[Shaped[Array, "batch time ..."]], State, dict[str, PyTree[Shaped[Array, "batch time ..."]]]]:
    """`run` with a tap: outputs and states of the layers inside, at every time step; the network is not changed.

    Args:
        model: as for `run`; any container, graphs with branches, delays and feedback included.
        x: as for `run`.
        state: as for `run`.
        what: "outputs"; "inputs", what goes into a layer, merged where several edges end; "state", every state
            variable; or names of state variables: "v" or "membrane", "i" or "current", "a" or "adaptation", or
            whatever a neuron calls its own. Default the outputs.
        where: paths of the layers to observe, or a function `(path, layer) -> bool`; None (default) is all of them.
        time_axis: as for `run`.
        mode: as for `run`.
        lengths: as for `run`; what is seen after a sample's end is zero.
        mask: as for `run`.
        added: arrays that are added to the inputs of layers, by path, each of the shape of that input. The derivative
            by one of them, at zero, is the derivative by what that layer is given.
        summed: sums over the samples, float32 (time, ...), in place of every sample: rates for hardly any cost. Default
            False.

    Returns:
        `(outputs, final_state, seen)`. `seen` maps paths to arrays (batch, time, ...), time on `time_axis`. The path of
        a layer in a `Sequential` is its index, in a graph its name; inside a nested container "2.0". The path alone is
        the layer's output, "2.0.inputs" its input, and "2.0.v" its state variable v after each step.

    Raises:
        TypeError: as for `run`.
        ValueError: as for `run`; nothing in the model is called as `what`, `where` or `added` asks.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.IF(2), nn.LI(2, beta=0.5))
        >>> out, state, seen = nn.observe(net, jnp.ones((1, 4, 2)), what=("outputs", "v"))
        >>> sorted(seen), seen["0.v"][0, :, 0].tolist()
        (['0', '0.v', '1', '1.v'], [1.0, 2.0, 2.0, 2.0])
    """
    tap = replace(_tap(what, where), summed=summed)
    how = Execution(known_mode(mode), tap=tap if tap.what else None)
    job = _prepare(model, x, state, time_axis, how, None, False, lengths, mask)
    if added is not None:
        job = _with_added(job, added)
    outs, state, seen = _carry_out(job)
    if tap.what and not seen:
        raise ValueError(
            f"spyx.nn.observe: expected what= and where= to name something in {job.layer._kind}; got {what!r} and "
            f"{where!r}, which name nothing. what='outputs' and where=None observe every layer."
        )
    seen = seen if summed else {path: job.as_given(value) for path, value in seen.items()}
    return job.as_given(outs), state, seen


class Explanation(list[Plan]):
    """What `explain` found: a list of `Plan`, printed as a table; `time` says whether time is cut, and why."""

    time: str | None = None

    def __str__(self) -> str:
        lines = [(c.layer, str(c.shape), c.mode, c.why) for c in self]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([*table, *([self.time] if self.time else [])])

    __repr__ = __str__


def explain(
    model: Model,
    x: PyTree[Shaped[ArrayLike, "batch time ..."]],
    state: State | None = None,
    *,
    time_axis: int = 1,
    mode: str = "auto",
    grad: bool = False,
    lengths: Lengths | None = None,
    mask: Bool[ArrayLike, "batch time"] | None = None,
) -> Explanation:
    """The plan that `run` would carry out, for these very dtypes, state and shapes. Nothing is computed.

    Args:
        model: as for `run`.
        x: as for `run`; only its shape and dtype matter.
        state: as for `run`.
        time_axis: as for `run`.
        mode: as for `run`.
        grad: the plan of a run whose gradient is taken, by the parameters. Default False.
        lengths: as for `run`.
        mask: as for `run`.

    Returns:
        One `Plan(layer, shape, mode, why)` per layer, in the order of execution; `shape` is (time, batch, ...), the
        time of a chunk where time is cut. It prints as a table.

    Raises:
        TypeError: as for `run`.
        ValueError: as for `run`.

    Example:
        >>> from spyx import nn
        >>> nn.explain(nn.LI(2), jnp.ones((1, 3, 2)))
        LI  (3, 1, 2)  layer  one loop over time with a hand-derived backward pass
    """
    recorder = Recorder()
    how = Execution(known_mode(mode), recorder=recorder)
    layer = as_layer("spyx.nn.explain", model)
    graphdef, weights, rest = nnx.split(layer, nnx.Param, ...)  # a copy, so that BatchNorm cannot store a tracer

    def carried_out(
        weights: nnx.State, rest: nnx.State, x: PyTree[Shaped[Array, "batch time ..."]]
    ) -> Float[Array, ""]:
        copy = nnx.merge(graphdef, weights, rest, copy=True)
        outs, _, _ = _carry_out(_prepare(copy, x, state, time_axis, how, None, False, lengths, mask))
        return sum(jnp.sum(jnp.real(leaf).astype(jnp.float32)) for leaf in jax.tree.leaves(outs))  # type: ignore[return-value]

    jax.eval_shape(jax.grad(carried_out) if grad else carried_out, weights, rest, jax.tree.map(jnp.asarray, x))
    found = Explanation(recorder.plans.values())
    found.time = recorder.time
    return found


class _Job(NamedTuple):
    """A run, checked: what runs, on what, and how time is cut."""

    layer: Layer
    x: PyTree[Shaped[Array, "batch time ..."]]
    axis: int
    state: State
    how: Execution
    cut: Cut | None

    @property
    def pure(self) -> bool:
        """It needs more than one call of the layer's `sequence`."""
        return self.cut is not None or self.how.mode == "step" or self.how.tap is not None

    def time_major(self) -> Inputs:
        return _mask_arguments.without_rest(
            jax.tree.map(lambda a: jnp.moveaxis(a, self.axis, 0), self.x), self.how.mask
        )

    def as_given(self, outs: Outputs) -> PyTree[Shaped[Array, "batch time ..."]]:
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, self.axis), outs)


def _prepare(
    model: Model,
    x: PyTree[Shaped[ArrayLike, "batch time ..."]],
    state: State | None,
    axis: int,
    how: Execution,
    cut: Cut | None,
    check_finite: bool,
    lengths: Lengths | None,
    mask: Bool[ArrayLike, "batch time"] | None,
) -> _Job:
    layer = as_layer("spyx.nn.run", model)
    if isinstance(layer, Stateless):
        raise TypeError(
            f"spyx.nn.run: expected a model with initial_state(batch_size); got {layer._kind}. "
            "Wrap layers without state in spyx.nn.Sequential(...)."
        )
    if check_finite:
        _refuse_nan(x)
    x = jax.tree.map(jnp.asarray, x)
    axis = _checked_axis(x, axis)
    if lengths is not None or mask is not None:
        _check_takes_masks(layer)
        how = replace(how, mask=_mask_arguments.asked(x, axis, lengths, mask))
    if state is None:
        state = layer.state_for(jax.tree.map(lambda a: jax.ShapeDtypeStruct(_without(a.shape, axis), a.dtype), x))
    x, state = _varying_together(layer, x, state)
    if how.mode in (*plan.PARALLEL, "fused") and how.recorder is None:
        how = replace(how, recorder=Recorder())
    if cut is None and how.mode == "auto":
        cut = _automatic_cut(layer, x, axis)
    steps = jax.tree.leaves(x)[0].shape[axis]
    return _Job(layer, x, axis, state, how, cut if steps else None)


def _with_added(job: _Job, added: Mapping[str, Array]) -> _Job:
    """The same run with arrays added to the inputs of layers, all of time at once."""
    known = named_layers(job.layer, job.state)
    unknown = [path for path in added if path not in known]
    if unknown:
        raise ValueError(
            f"spyx.nn.observe(added=): expected paths of layers of {job.layer._kind}; got {', '.join(unknown)}. "
            "observe(what='inputs') has the paths."
        )
    moved = {path: jnp.moveaxis(jnp.asarray(a), job.axis, 0) for path, a in added.items()}
    return job._replace(cut=None, how=replace(job.how, added=moved))


def _carry_out(job: _Job) -> tuple[Outputs, State, dict[str, Outputs]]:
    """Outputs with time on axis 0, the last state, and what was seen."""
    how = job.how.fresh()
    if job.cut is not None:
        return _in_chunks(job, job.cut)
    if how.mode == "step":
        how.note(job.layer, job.time_major(), "step", "asked for: the whole network inside one scan")
        outs, state = step_through(job.layer, job.time_major(), job.state, how)
    else:
        outs, state = over_time(job.layer, job.time_major(), job.state, how)
        check_granted(how)
    outs = how.alive(outs)
    how.output(job.layer, outs)
    how.seen.pop("", None) if job.layer.container else None
    if how.tap is not None and how.tap.summed:
        return outs, state, how.seen
    return outs, state, {path: how.alive(values) for path, values in how.seen.items()}


def _in_chunks(job: _Job, cut: Cut) -> tuple[Outputs, State, dict[str, Outputs]]:
    """The layer, a chunk of time at a time with the state carried over."""
    graphdef, weights, changing = nnx.split(job.layer, UNCHANGING, ...)
    how = replace(job.how, seen={}, mask=None)
    if how.recorder is not None:
        steps = jax.tree.leaves(job.x)[0].shape[job.axis]
        how.recorder.time = f"time is cut into chunks of {cut.steps(steps)} of {steps} steps: {cut.why}"
    mask = job.how.mask
    rule = Chunks(hashable(graphdef), how, job.axis, cut, None if mask is None else mask.ends)
    x = job.x if mask is None else (job.x, _mask_arguments.placed(mask.alive, job.axis))
    outs, state, after, seen = call(rule, weights, changing, x, job.state)
    if jax.tree.leaves(changing):
        nnx.update(job.layer, after)
    return outs, state, seen


def _automatic_cut(layer: Layer, x: Tree, axis: int) -> Cut | None:
    """What the plan needs to know of the model, read off its modules."""
    size = jax.tree.leaves(x)[0].shape
    modules = [module for _, module in nnx.iter_modules(layer)]
    neurons = [module for module in modules if isinstance(module, Neuron)]
    _, weights, changing = nnx.split(layer, UNCHANGING, ...)
    return plan.cut(
        size[axis],
        size[0 if axis else 1],
        max((math.prod(neuron.hidden_shape) for neuron in neurons), default=0),
        max((len(neuron.state) for neuron in neurons), default=1),
        jax.tree.leaves(weights),
        changes=bool(jax.tree.leaves(changing)),
        whole=any(isinstance(module, Layer) and (module.whole_time or module.at_once) for module in modules),
    )


def _check_takes_masks(layer: Layer) -> None:
    for _, module in nnx.iter_modules(layer):
        if isinstance(module, nnx.BatchNorm) and not module.use_running_average:
            raise ValueError(
                f"spyx.nn.run(lengths=): expected layers that know one sample at a time; got {type(module).__name__}, "
                "whose statistics would include what comes after the end of a sample. Use LayerNorm, or "
                "use_running_average=True (model.eval())."
            )


def _varying_together(layer: Layer, x: Tree, state: State) -> tuple[Tree, State]:
    """Inside `jax.shard_map`, the state made here varies from device to device as the input and the weights do."""
    _, x, state = together(jax.tree.leaves(nnx.state(layer)), x, state)
    return x, state


def _asked_cut(chunk: int | None, remat: bool, truncate: bool) -> Cut | None:
    """The cut that the arguments of `run` ask for, None for none."""
    if chunk is not None and (not isinstance(chunk, (int, np.integer)) or isinstance(chunk, bool) or chunk < 1):
        raise ValueError(f"spyx.nn.run(chunk=): expected at least 1 time step; got {chunk!r}. Pass an int, or None.")
    if truncate and chunk is None:
        raise ValueError("spyx.nn.run(truncate=): expected a chunk to cut at; got chunk=None. Pass chunk=.")
    if chunk is None and not remat:
        return None
    return Cut(None if chunk is None else int(chunk), "all" if remat else "nothing", truncate)


_ALIASES = {"membrane": "v", "current": "i", "adaptation": "a", "spikes": "outputs"}


def _tap(what: str | tuple[str, ...], where: str | Collection[str] | Callable[[str, Layer], object] | None) -> Tap:
    names = (what,) if isinstance(what, str) else tuple(what)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"spyx.nn.observe(what=): expected names; got {what!r}. For example ('outputs', 'v').")
    if where is not None and not callable(where):
        where = (where,) if isinstance(where, str) else tuple(where)
    return Tap(tuple(dict.fromkeys(_ALIASES.get(name, name) for name in names)), where)


def _refuse_nan(x: Data) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if isinstance(leaf, Tracer):
            raise ValueError(
                "spyx.nn.run(check_finite=): expected numbers to look at; got a traced input. "
                "Check before jax.jit, or use jax.experimental.checkify."
            )
        array = np.asarray(leaf)
        if jnp.issubdtype(array.dtype, jnp.inexact) and (count := int(np.isnan(array).sum())):
            at = f" in x{jax.tree_util.keystr(path)}" if path else ""
            raise ValueError(
                f"spyx.nn.run(check_finite=): expected input without NaN; got {count} of {array.size} values NaN{at}. "
                "Drop or fill the missing values first."
            )


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _axis(time_axis: int, batch_major: bool | None) -> int:
    if batch_major is None:
        return time_axis
    axis = 1 if batch_major else 0
    if time_axis not in (1, axis):
        raise ValueError(
            f"spyx.nn.run: expected time_axis and batch_major to agree; got time_axis={time_axis} and "
            f"batch_major={batch_major}. Pass only time_axis."
        )
    return axis


def _checked_axis(x: Tree, time_axis: int) -> int:
    leaves = jax.tree.leaves(x)
    if not leaves:
        raise ValueError("spyx.nn.run: expected an array (batch, time, ...); got an empty tree. Pass the input spikes.")
    rank = min(leaf.ndim for leaf in leaves)
    if rank < 2:
        raise ValueError(
            f"spyx.nn.run: expected input with a batch and a time axis; got shape {leaves[0].shape}. "
            "Add the batch axis with x[None]."
        )
    if not -rank <= time_axis < rank:
        raise ValueError(
            f"spyx.nn.run(time_axis=): expected an axis of the input {leaves[0].shape}; got {time_axis}. "
            "Use 1 for (batch, time, ...) and 0 for (time, batch, ...)."
        )
    axis = time_axis % leaves[0].ndim
    lengths = {leaf.shape[axis] for leaf in leaves}
    if len(lengths) > 1:
        raise ValueError(f"spyx.nn.run: expected inputs of one length; got {sorted(lengths)} steps. Pad them.")
    return axis
