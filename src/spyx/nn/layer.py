"""What a container accepts as a layer, and how anything it accepts runs over time.

A layer has `initial_state(batch_size)` and `layer(x, state) -> (out, state)`; one that also has
`sequence(xs, state)` handles all of time itself. A plain callable or a stateless Flax module is a layer without
state: it sees all of time in one call, time and batch merged.

A layer whose state depends on the shape of its input (a delay line) says so with `state_needs_input = True` and has
`state_for(x)`, where `x` is one time step of input, or only its shape and dtype.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.engine.adjoint import KEPT
from spyx.nn.execution import Execution
from spyx.nn.parameters import Constant
from spyx.nn.products import WHY, by_events

Call = Callable[[Any, Any, Any], tuple[Any, Any]]

Again = Literal["nothing", "cheap", "all"]
"""What the way back computes again: "cheap" is all but the loops over time of neurons, and what only those read."""


@runtime_checkable
class StatefulLayer(Protocol):
    """The two methods that make a layer stateful.

    Example:
        >>> from spyx import nn
        >>> isinstance(nn.LI(4), StatefulLayer)
        True
    """

    def initial_state(self, batch_size: int) -> Any:
        """The state of `batch_size` samples before the first step."""
        ...

    def __call__(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One time step: `(x, state) -> (out, new state)`."""
        ...


def is_stateful(layer: Any) -> bool:
    """Has it a state, that is an `initial_state` method?"""
    return callable(getattr(layer, "initial_state", None))


def initial_state(layer: Any, batch_size: int) -> Any:
    """The layer's state before the first step; None for a layer without state."""
    return layer.initial_state(batch_size) if is_stateful(layer) else None


def needs_input(layer: Any) -> bool:
    """Does the shape of its state depend on the shape of its input?"""
    return getattr(layer, "state_needs_input", False)


def state_for(layer: Any, x: Any) -> Any:
    """The layer's state before the first step, for input like `x`: one time step, or its `jax.ShapeDtypeStruct`."""
    if needs_input(layer):
        return layer.state_for(x)
    return initial_state(layer, jax.tree.leaves(x)[0].shape[0])


def step_shape(layer: Any, x: Any) -> Any:
    """Shape and dtype of what one step of the layer answers to input like `x`; nothing is computed or changed."""
    if not isinstance(layer, nnx.Module):
        return jax.eval_shape(lambda x: one_step(layer, x, state_for(layer, x))[0], x)
    graphdef, variables = nnx.split(layer)  # a copy, so that BatchNorm cannot keep a tracer

    def probe(variables: Any, x: Any) -> Any:
        copy = nnx.merge(graphdef, variables)
        return one_step(copy, x, state_for(copy, x))[0]

    return jax.eval_shape(probe, variables, x)


def one_step(layer: Any, x: Any, state: Any) -> tuple[Any, Any]:
    """One time step of any layer."""
    if is_stateful(layer):
        return layer(x, state)
    _check_features(layer, x, lead=1)
    return layer(jax.tree.map(_as_current, x)), None


def over_time(layer: Any, xs: Any, state: Any, how: Execution) -> tuple[Any, Any]:
    """All of time of any layer: `xs` has time on axis 0."""
    if not is_stateful(layer):
        return _merged(layer, xs, how), None
    if hasattr(layer, "sequence"):
        takes_how = "how" in inspect.signature(layer.sequence).parameters
        return layer.sequence(xs, state, how) if takes_how else layer.sequence(xs, state)
    how.note(layer, xs, "step", "has no `sequence`: one call per time step")
    return scan_layer(layer, xs, state)


def scan_layer(layer: Any, xs: Any, state: Any) -> tuple[Any, Any]:
    """One call of `layer` per time step inside one scan; what it changes on itself (BatchNorm, Dropout) is carried."""
    return scan_calls(layer, lambda layer, x, s: layer(x, s), xs, state)


def scan_calls(layer: Any, call: Call, xs: Any, state: Any, *, again: Again = "nothing") -> tuple[Any, Any]:
    """One `call(layer, x, state) -> (out, state)` per entry of `xs`; `again` is what the way back recomputes."""
    changing: Any = {}
    touched: set[Any] = set()
    if isinstance(layer, nnx.Module):
        graphdef, weights, changing = nnx.split(layer, (nnx.Param, Constant), ...)

    def fixed(s: Any, x: Any) -> tuple[Any, Any]:
        out, s = call(layer, x, s)
        return s, out

    def mutable(carry: Any, x: Any) -> tuple[Any, Any]:
        s, changing = carry
        before = _values(changing)
        module = nnx.merge(graphdef, weights, changing)
        out, s = call(module, x, s)
        after = nnx.split(module, (nnx.Param, Constant), ...)[2]
        touched.update(path for path, value in _values(after).items() if value is not before[path])
        return (s, after), out

    def wrap(body: Any) -> Any:
        if again == "nothing":
            return body
        policy = jax.checkpoint_policies.save_only_these_names(KEPT) if again == "cheap" else None
        return jax.checkpoint(body, prevent_cse=False, policy=policy)

    if not jax.tree.leaves(changing):
        state, outs = jax.lax.scan(wrap(fixed), state, xs)
        return outs, state
    (state, changing), outs = jax.lax.scan(wrap(mutable), (state, changing), xs)
    # What no call touched may belong to an outer trace, where it cannot be written.
    nnx.update(layer, nnx.from_flat_state([(p, v) for p, v in nnx.to_flat_state(changing) if p in touched]))
    return outs, state


def _values(state: Any) -> dict[Any, Any]:
    return {path: variable.get_value() for path, variable in nnx.to_flat_state(state)}


def _merged(layer: Any, xs: Any, how: Execution) -> Any:
    """Call a stateless layer once, with (time, batch) as one axis: one matrix product instead of one per step."""
    _check_features(layer, xs, lead=2)
    steps, batch = jax.tree.leaves(xs)[0].shape[:2]
    flat = jax.tree.map(lambda a: a.reshape(steps * batch, *a.shape[2:]), xs)
    outs = by_events(layer, flat) if how.mode in ("auto", "fused") else None
    why = "no state: one call over all of time"
    how.note(layer, xs, "layer", why if outs is None else f"{why}; {WHY}")
    if outs is None:
        outs = layer(jax.tree.map(_as_current, flat))
    return jax.tree.map(lambda a: a.reshape(steps, batch, *a.shape[1:]), outs)


def _as_current(x: jax.Array) -> jax.Array:
    # Spikes travel as uint8 or bool; a product needs a floating dtype, and strict promotion would refuse the mix.
    return x.astype(jnp.float32) if x.dtype in (jnp.uint8, jnp.bool_) else x


def _check_features(layer: Any, x: Any, lead: int) -> None:
    """Flax names the width that it takes; a wrong one is said in the layer's words, not in those of a product."""
    expected = getattr(layer, "in_features", getattr(layer, "num_features", None))
    shape = getattr(x, "shape", None)
    if isinstance(layer, nnx.Module) and isinstance(expected, int) and shape is not None and shape[-1] != expected:
        got = ", ".join(map(str, ("batch", *shape[lead:])))
        raise ValueError(
            f"{type(layer).__name__}: expected {expected} features on the last axis; got input of shape ({got}). "
            "Change the layer, or what feeds it."
        )
