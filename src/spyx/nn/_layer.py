"""`Layer`: what containers accept, and the door at which everything else becomes one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.engine import loop, over_devices
from spyx.engine.derivative import together
from spyx.engine.masks import where
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._parameters import UNCHANGING

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Num, Shaped

    from spyx.engine.types import Input, Inputs, Output, Outputs, Shapes, State, Tree

    Carried = tuple[State, nnx.State]
    """The state of a layer, and what it changes on itself."""

    Seen = dict[str, Outputs]
    """What was observed, by path."""


Model = nnx.Module | Callable[..., Any]
"""What `run` and every container accept: a `Layer`, an object with `initial_state` and `layer(x, state)` of any class,
or a module or function without state."""


class Layer(nnx.Module):
    """What `run` and every container work with: `out, state' = layer(x, state)`, once per time step.

    Only `__call__` must be written. `initial_state` is None unless there is a state; `sequence` steps through time
    unless the layer knows a faster way. See the page "Extending" for a worked example.

    Shapes:
        one step: x (batch, *features), state with the batch on axis 0 -> out (batch, *features'), state.
        `sequence`: xs (time, batch, *features) -> outs (time, batch, *features'), state.

    Example:
        >>> class Sum(Layer):
        ...     def initial_state(self, batch_size):
        ...         return jnp.zeros((batch_size, 2))
        ...     def __call__(self, x, state):
        ...         return state + x, state + x
        >>> from spyx import nn
        >>> nn.run(nn.Sequential(Sum()), jnp.ones((1, 3, 2)))[0][0, :, 0].tolist()
        [1.0, 2.0, 3.0]
    """

    container = False
    """It runs layers inside it."""

    counts_spikes = False
    """Its state is a count of spikes, which `spyx.fn.spike_counts` collects."""

    whole_time = False
    """It needs all of time in one call: `run` never cuts time for it."""

    at_once = False
    """It is faster for all of time in one call: `run` cuts time only where asked."""

    @property
    def _kind(self) -> str:
        """The name of its class, as plans and errors print it."""
        return type(self).__name__

    @property
    def _widths(self) -> tuple[int | None, int | None]:
        """The features that it takes and returns on the last axis, where they follow from neither shape."""
        return None, None

    def sources(self) -> dict[str, tuple[str, ...]] | None:
        """The children whose outputs each child takes, by name; None where each takes that of the one before."""
        return None

    @property
    def state_needs_input(self) -> bool:
        """The shape of its state depends on that of its input: `state_for` makes it, `initial_state` may not."""
        return False

    def initial_state(self, batch_size: int) -> State:
        """The state of `batch_size` samples before the first step; None for a layer without state."""
        return None

    def state_for(self, x: Input | Shapes) -> State:
        """The state before the first step for input like `x`: one time step, or its `jax.ShapeDtypeStruct`."""
        return self.initial_state(jax.tree.leaves(x)[0].shape[0])

    def __call__(self, x: Input, state: State) -> tuple[Output, State]:
        """One time step: `(x, state) -> (out, new state)`."""
        raise NotImplementedError("spyx.nn.Layer: write __call__(x, state) -> (out, new_state) in your subclass.")

    @takes_masks
    def sequence(self, xs: Inputs, state: State, how: Execution = AUTO) -> tuple[Outputs, State]:
        """All of time: `xs` has time on axis 0. `how` is the request of the run; a layer may leave it alone."""
        how.note(self, xs, "step", "one call per time step")
        return step_through(self, xs, state, how)

    def children(self, state: State) -> list[tuple[Model, State]]:
        """The layers inside, each with its part of `state`; empty for a layer that is no container."""
        return list(self.named_children(state).values())

    def named_children(self, state: State) -> dict[str, tuple[Model, State]]:
        """`children` by name: what a container writes."""
        return {}


def as_layer(owner: str, module: Model) -> Layer:
    """The door: a layer as it is, and every foreign module in the view that makes it one.

    Args:
        owner: the public name to blame.
        module: a `Layer`; an object with `initial_state` and `__call__`, of any class; a Flax module or a function
            without state; an Equinox module, which becomes an `EquinoxLayer`.

    Raises:
        TypeError: something that is none of these.
    """
    if isinstance(module, Layer):
        return module
    if isinstance(module, type):
        raise TypeError(f"{owner}: expected a layer; got the class {module.__name__}. Make an instance of it.")
    if callable(getattr(module, "initial_state", None)) and callable(module):
        return Stateful(module)
    if isinstance(module, (nnx.Linear, nnx.Conv)):
        from spyx.nn._linear_and_conv import Product

        return Product(module)
    if callable(module):
        return Stateless(module)
    raise TypeError(
        f"{owner}: expected a layer or a function; got {type(module).__name__}. "
        "A layer has initial_state(batch_size) and layer(x, state)."
    )


def checked_module(owner: str, module: Model) -> Model:
    """What a container stores: the module itself, an Equinox module wrapped, or the error of `as_layer`."""
    equinox = sys.modules.get("equinox")  # whoever holds an Equinox module has imported it
    if equinox is not None and isinstance(module, equinox.Module):
        from spyx.nn._equinox_layer import EquinoxLayer

        return EquinoxLayer(module)
    as_layer(owner, module)
    return module


class View(Layer):
    """A foreign module as a layer. It is made where the module is used and holds nothing of its own."""

    module: Any

    def __init__(self, module: Model) -> None:
        self.module = module if isinstance(module, nnx.Module) else nnx.static(module)

    @property
    def _kind(self) -> str:
        return getattr(self.module, "__name__", type(self.module).__name__)

    @property
    def _widths(self) -> tuple[int | None, int | None]:
        taken = getattr(self.module, "in_features", getattr(self.module, "num_features", None))
        found = (taken, getattr(self.module, "out_features", None))
        return tuple(n if isinstance(n, int) and isinstance(self.module, nnx.Module) else None for n in found)  # type: ignore


class Stateful(View):
    """An object with `initial_state(batch_size)` and `layer(x, state)`, of a class that is not ours."""

    def __init__(self, module: Model) -> None:
        super().__init__(module)
        takes = inspect.signature(module.sequence).parameters if hasattr(module, "sequence") else None  # type: ignore[union-attr]
        self._sequence, self._takes_how = takes is not None, takes is not None and "how" in takes

    @property
    def state_needs_input(self) -> bool:
        return getattr(self.module, "state_needs_input", False)

    def initial_state(self, batch_size: int) -> State:
        return self.module.initial_state(batch_size)

    def state_for(self, x: Input | Shapes) -> State:
        return self.module.state_for(x) if hasattr(self.module, "state_for") else super().state_for(x)

    def __call__(self, x: Input, state: State) -> tuple[Output, State]:
        return self.module(x, state)

    @takes_masks
    def sequence(self, xs: Inputs, state: State, how: Execution = AUTO) -> tuple[Outputs, State]:
        if not self._sequence or how.watched(self) is not None or how.mask is not None:
            return super().sequence(xs, state, how)
        if self._takes_how:
            return self.module.sequence(xs, state, how)
        how.note(self, xs, "layer", "its own `sequence`")
        return self.module.sequence(xs, state)


class Stateless(View):
    """A function or a Flax module without state: it sees all of time in one call, time and batch merged."""

    def __call__(self, x: Input, state: State) -> tuple[Output, State]:
        check_features(self, x, lead=1)
        return self.module(jax.tree.map(as_current, x)), state

    @takes_masks
    def sequence(self, xs: Inputs, state: State, how: Execution = AUTO) -> tuple[Outputs, State]:
        check_features(self, xs, lead=2)
        how.note(self, xs, "layer", "no state: one call over all of time")
        return _without_state(self.module, xs), state


def _without_state(module: Model, xs: Inputs) -> Outputs:
    """A module without state over all of time; inside a mesh, where it can be, without gathering samples."""

    def merged_time(module: Model, xs: Inputs) -> Outputs:
        return over_merged_time(lambda x: module(jax.tree.map(as_current, x)), xs)

    parts = over_devices.here()
    if parts is not None and _takes_any_axes(module):
        return module(as_current(xs))
    if parts is None or not getattr(module, "each_sample_alone", False) or not parts.rows(xs):
        return merged_time(module, xs)
    graphdef, weights = nnx.split(module)
    nothing = jax.tree.map(lambda a: False, weights)
    return parts.per_device(lambda w, xs: merged_time(nnx.merge(graphdef, w), xs), weights, nothing, xs, False)


def _takes_any_axes(module: Model) -> bool:
    """It gives the same numbers, and draws the same, whether time and batch are one axis or two."""
    if type(module) not in (nnx.Dropout, nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm):
        return False
    if isinstance(module, nnx.Dropout):
        return not module.broadcast_dims
    if isinstance(module, nnx.BatchNorm):
        return module.axis == -1
    norm = isinstance(module, (nnx.LayerNorm, nnx.RMSNorm))
    return norm and (module.reduction_axes, module.feature_axes) == (-1, -1)


def over_time(layer: Layer, xs: Inputs, state: State, how: Execution = AUTO) -> tuple[Outputs, State]:
    """`layer.sequence`, or step by step where it does not know of masks and there is one."""
    xs = how.input(layer, xs)
    if how.mask is None or getattr(type(layer).sequence, "takes_masks", False):
        return layer.sequence(xs, state, how)
    if layer.whole_time:
        raise ValueError(
            f"spyx.nn.run(lengths=): expected layers that can stop at the end of a sample; got {layer._kind}, which "
            "needs all of time in one call. Run samples of equal length together, without lengths."
        )
    how.note(layer, xs, "step", "one call per time step: its own `sequence` does not know of masks")
    return step_through(layer, xs, state, how)


def over_merged_time(function: Callable[[Input], Output], xs: Inputs) -> Outputs:
    """One call with (time, batch) as one axis: one matrix product instead of one per step."""
    steps, batch = jax.tree.leaves(xs)[0].shape[:2]
    outs = function(jax.tree.map(lambda a: a.reshape(steps * batch, *a.shape[2:]), xs))
    return jax.tree.map(lambda a: a.reshape(steps, batch, *a.shape[1:]), outs)


def as_current(x: Shaped[Array, "..."]) -> Num[Array, "..."]:
    """Spikes travel as uint8 or bool; a product needs a floating dtype, and strict promotion would refuse the mix."""
    return x.astype(jnp.float32) if x.dtype in (jnp.uint8, jnp.bool_) else x


def check_features(layer: Layer, x: Tree, lead: int) -> None:
    """Flax names the width that it takes; a wrong one is reported in the layer's words, not in those of a product."""
    expected, shape = layer._widths[0], getattr(x, "shape", None)
    if expected is not None and shape is not None and shape[-1] != expected:
        got = ", ".join(map(str, ("batch", *shape[lead:])))
        raise ValueError(
            f"{layer._kind}: expected {expected} features on the last axis; got input of shape ({got}). "
            "Change the layer, or what feeds it."
        )


def step_shape(layer: Layer, x: Input | Shapes) -> Shapes:
    """Shape and dtype of the output of one step for input like `x`; nothing is computed or changed."""
    graphdef, variables = nnx.split(layer)  # a copy, so that BatchNorm cannot store a tracer

    def probe(variables: nnx.State, x: Input) -> Output:
        copy = nnx.merge(graphdef, variables)
        return copy(x, copy.state_for(x))[0]

    return jax.eval_shape(probe, variables, x)


class ByIdentity:
    """A structure that cannot be hashed, equal to itself alone: what is compiled with it serves one call."""

    def __init__(self, value: nnx.GraphDef) -> None:
        self.value = value


def hashable(graphdef: nnx.GraphDef) -> nnx.GraphDef | ByIdentity:
    """The structure of a module as a static argument: a layer may store what has no hash, such as a list."""
    try:
        hash(graphdef)
    except TypeError:
        return ByIdentity(graphdef)
    return graphdef


def merged(graphdef: nnx.GraphDef | ByIdentity, *states: nnx.State) -> Layer:
    """The module of a structure from `hashable`, on variables of its own."""
    structure = graphdef.value if isinstance(graphdef, ByIdentity) else graphdef
    return nnx.merge(structure, *states, copy=True)


def step_through(layer: Layer, xs: Inputs, state: State, how: Execution = AUTO) -> tuple[Outputs, State]:
    """One call of the layer per time step; what it changes on itself (BatchNorm, Dropout) is carried."""
    graphdef, weights, changing = nnx.split(layer, UNCHANGING, ...)
    inner = how.fresh().unmasked().all_samples(how.mask is not None) if how.tap is not None else None
    step: Calls | Masked | Added = Calls(hashable(graphdef), inner, _token(layer))
    if added := how.added_inside():
        step, xs = Added(step), (xs, added)
    if how.mask is not None:
        step, xs = Masked(step), (xs, how.mask.alive)
    weights, xs, start = together(weights, xs, (state, changing))
    touched = _touched(step, weights, xs, start) if jax.tree.leaves(changing) else set()
    (outs, seen), (state, after) = loop.layer(step, weights, xs, start)
    how.absorb(seen)
    if jax.tree.leaves(changing):
        # What no call touched may belong to an outer trace, where it cannot be written.
        nnx.update(layer, nnx.from_flat_state([(p, v) for p, v in nnx.to_flat_state(after) if p in touched]))
    return outs, state


@dataclass(frozen=True)
class Calls:
    """A layer's call as a step of the engine: parameters are its weights, the state holds what it changes on itself."""

    graphdef: nnx.GraphDef | ByIdentity
    how: Execution | None = None
    token: object = None

    def __call__(self, weights: nnx.State, x: Input, s: Carried) -> tuple[tuple[Output, Seen], Carried]:
        state, changing = s
        layer = merged(self.graphdef, weights, changing)
        if self.how is None:
            out, state = layer(x, state)
            seen: Seen = {}
        else:
            out, state, seen = self._observed(layer, x, state)
        return (out, seen), (state, nnx.split(layer, UNCHANGING, ...)[2])  # type: ignore[return-value]

    def _observed(self, layer: Layer, x: Input, state: State) -> tuple[Output, State, Seen]:
        how = self.how.fresh()  # type: ignore[union-attr]
        first = partial(jax.tree.map, lambda a: a[None])
        if layer.container:
            out, state = layer.sequence(first(x), state, how)
            return jax.tree.map(lambda a: a[0], out), state, how.seen
        out, state = layer(x, state)
        if how.watched(layer) is not None:
            how.states(first(named(state)))
        return out, state, how.seen


def named(state: State) -> dict[str, State]:
    """State variables by name: fields of a NamedTuple, keys of a dict, "state" for a bare array."""
    if hasattr(state, "_asdict"):
        return state._asdict()
    if isinstance(state, dict):
        return {str(k): v for k, v in state.items()}
    return {} if state is None else {"state": state}


@dataclass(frozen=True)
class Added:
    """Calls on inputs `(x, added)`, where `added` goes onto the inputs of the layers inside."""

    step: Calls

    def __call__(
        self, weights: nnx.State, x: tuple[Input, dict[str, Input]], s: Carried
    ) -> tuple[tuple[Output, Seen], Carried]:
        x, added = x
        how = replace(self.step.how, added=jax.tree.map(lambda a: a[None], added))  # type: ignore[type-var]
        return replace(self.step, how=how)(weights, x, s)


@dataclass(frozen=True)
class Masked:
    """Calls on inputs `(x, alive)`: a sample keeps its state at a step that does not count, and sends zeros."""

    step: Calls | Added

    def __call__(self, weights: nnx.State, x: tuple[Input, Array], s: Carried) -> tuple[tuple[Output, Seen], Carried]:
        inner, alive = x
        (out, seen), (state, changing) = self.step(weights, inner, s)
        return (where(alive, out), seen), (unless(alive, state, s[0]), changing)


def unless(alive: Bool[Array, " batch"], after: State, before: State) -> State:
    """The state `after` a step of the samples that are alive, and the state `before` it of those that are not.

    What has no batch axis, a position or a key, goes on for all. A part of the state that holds such a position beside
    what every sample has gives a method `unless(alive, before)` of its own.
    """

    def one(after: State, before: State) -> State:
        if hasattr(after, "unless"):
            return after.unless(alive, before)
        shape = getattr(after, "shape", ())
        if shape[:1] != alive.shape or jnp.issubdtype(after.dtype, jax.dtypes.extended):
            return after
        return where(alive, after, before)

    return jax.tree.map(one, after, before, is_leaf=lambda part: hasattr(part, "unless"))


def _touched(step: Calls | Masked | Added, weights: nnx.State, xs: Inputs, start: Carried) -> set[tuple[Hashable, ...]]:
    """Paths of the variables that one call changes."""
    found: set[tuple[Hashable, ...]] = set()

    def probe(weights: nnx.State, x: Input, s: Carried) -> None:
        before = {path: v.get_value() for path, v in nnx.to_flat_state(s[1])}
        _, (_, after) = step(weights, x, s)
        found.update(path for path, v in nnx.to_flat_state(after) if v.get_value() is not before[path])

    jax.eval_shape(probe, weights, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs), start)
    return found


def _token(layer: Layer) -> object:
    """Arrays inside a foreign object are constants of a compiled loop: it is compiled again for every call."""
    foreign = isinstance(layer, Stateful) and not isinstance(layer.module, nnx.Module)
    return object() if foreign else None
