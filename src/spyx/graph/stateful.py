"""`StatefulModel`: a numbered graph as a layer, so that `run`, `fit` and containers take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.graph import execute, shapes
from spyx.graph.delay import Ring
from spyx.graph.execute import GraphState
from spyx.graph.forward import debug_forward_fn, default_forward_fn
from spyx.graph.plan import Plan
from spyx.graph.states import States, as_inputs, checked_layers, given_inputs, states_before
from spyx.graph.structure import GraphStructure, plan_of
from spyx.nn.execution import AUTO, Execution, takes_masks
from spyx.nn.layer import Layer, as_layer, step_through

OWNER = "spyx.graph.StatefulModel"


class StatefulModel(Layer):
    """Layers, the structure that connects them and a forward function, as one layer.

    `out[t] = last output of forward_fn(layers, struct, None, states, x[t])`. With `debug_forward_fn` the same network
    runs with every edge delayed by one step. Over time, layers outside every cycle run over all of time at once.

    Args:
        struct: the structure.
        layers: one per node, in the order of the structure.
        forward_fn: `default_forward_fn` (default), `debug_forward_fn`, or your own with the same arguments; one of your
            own is called step by step.
        input_shapes: shape of one sample at one step, or a list of them, for `initial_state` without data where the
            shapes do not follow from the layers; default None.

    Shapes:
        one step: (batch, *features), or a list of such arrays -> (batch, *features'). State: `States`.

    Raises:
        TypeError: something that is not a layer or not a function.
        ValueError: another number of layers than in the structure.

    Example:
        >>> from spyx import nn
        >>> struct = GraphStructure(2, ((0,), ()), ((), (0,)))
        >>> model = StatefulModel(struct, [nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nn.LI(2)])
        >>> out, states = nn.run(model, jnp.ones((5, 7, 3)))
        >>> out.shape
        (5, 7, 2)
    """

    container = True

    def __init__(
        self,
        struct: GraphStructure,
        layers: Sequence[Any],
        forward_fn: Callable[..., Any] = default_forward_fn,
        *,
        input_shapes: Any = None,
    ) -> None:
        if not callable(forward_fn):
            raise TypeError(f"{OWNER}(forward_fn=): expected a function; got {forward_fn!r}. Use default_forward_fn.")
        self.layers = nnx.List(checked_layers(OWNER, layers, struct))
        self.struct = struct
        self.forward_fn = forward_fn
        self._given = None if input_shapes is None else tuple(given_inputs(OWNER, struct, input_shapes, 1).items())

    @property
    def state_needs_input(self) -> bool:
        """Does the shape of the state depend on the input's? Then `state_for` makes it."""
        return bool(self._kept()) or any(layer.state_needs_input for layer in self._layers())

    def initial_state(self, batch_size: int) -> States:
        """The states before the first step, as `init_states` makes them.

        Raises:
            ValueError: a shape follows neither from `input_shapes` nor from the layers.
        """
        plan = self._plan()
        known = dict(zip(plan.names, self._layers(), strict=True))
        if self._given is None:
            given = shapes.guessed_inputs(plan, known, batch_size)
        else:
            given = {n: jax.ShapeDtypeStruct((batch_size, *spec.shape[1:]), spec.dtype) for n, spec in self._given}
        return states_before(self.layers, self.struct, batch_size, given, self._kept())

    def state_for(self, x: Any) -> States:
        """The states before the first step, for input like `x`: one time step of it, or its `jax.ShapeDtypeStruct`."""
        inputs = as_inputs(OWNER, self.struct, x)
        given = {f"input {k}": jax.ShapeDtypeStruct(a.shape, a.dtype) for k, a in enumerate(inputs)}
        return states_before(self.layers, self.struct, inputs[0].shape[0], given, self._kept())

    def __call__(self, x: Any, state: States) -> tuple[Any, States]:
        """One time step: `(x, state) -> (out, new state)`."""
        state, outputs = self.forward_fn(list(self.layers), self.struct, None, state, x)
        return outputs[-1], state

    @takes_masks
    def sequence(self, xs: Any, state: States, how: Execution = AUTO) -> tuple[Any, States]:
        """All of time: `xs` is (time, batch, *features), or a list of such arrays."""
        if self.forward_fn not in (default_forward_fn, debug_forward_fn):
            how.note(self, xs, "step", "a forward function of your own: one call per time step")
            return step_through(self, xs, state, replace(how, tap=None))
        if how.mask is not None and not how.mask.ends and state.outputs:
            return step_through(self, xs, state, how)
        plan = self._plan()
        layers = dict(zip(plan.names, self._layers(), strict=True))
        inputs = as_inputs(OWNER, self.struct, xs)
        named = inputs[0] if len(inputs) == 1 else dict(zip(plan.inputs, inputs, strict=True))
        past = {str(j): _as_ring(state.outputs[j]) for j in self._kept()}
        nodes = dict(zip(plan.names, state.layers, strict=True))
        outs, after = execute.sequence(plan, layers, named, GraphState(nodes, past), how)
        outputs = {j: jax.tree.map(lambda a: a[:, 0], after.past[str(j)].past) for j in self._kept()}
        return outs, States([after.nodes[name] for name in plan.names], outputs)

    def named_children(self, state: States) -> dict[str, tuple[Any, Any]]:
        """Every layer by its index, with its part of `state`."""
        return {str(i): (layer, s) for i, (layer, s) in enumerate(zip(self.layers, state.layers, strict=True))}

    def _layers(self) -> list[Layer]:
        return [as_layer(OWNER, layer) for layer in self.layers]

    def _plan(self) -> Plan:
        return plan_of(self.struct, self.layers, self.forward_fn is debug_forward_fn, OWNER)

    def _kept(self) -> list[int]:
        """The layers whose last output is read a step later; all of them for a forward function of your own."""
        if self.forward_fn is default_forward_fn:
            return sorted({source for source, _ in self.struct.feedback})
        if self.forward_fn is debug_forward_fn:
            return sorted({j for parents in self.struct.input_connectivity for j in parents})
        return list(range(self.struct.num_layers))


def _as_ring(output: Any) -> Ring:
    return Ring(jax.tree.map(lambda a: a[:, None], output), jnp.zeros((), jnp.int32))
