"""SNNAX's formalism, for those who come from there: `GraphStructure` (a graph in numbers), `States`, `init_states`,
`default_forward_fn`, `debug_forward_fn` and `StatefulModel`. New networks are simpler as a `spyx.graph.Graph`.

A numbered graph is given names by `plan_of`; its shapes, order and execution are then those of `Graph`.

Reference:
    SNNAX (Lohoff, Finkbeiner and Neftci 2024), doi:10.48550/arXiv.2409.02842.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.graph import _execute, _shapes
from spyx.graph._arguments import own_merge
from spyx.graph._delay import Ring
from spyx.graph._execute import GraphState
from spyx.graph._merge import MERGES, merge
from spyx.graph._schedule import Edge, reachable
from spyx.graph._topology import Plan, raise_all
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._layer import Layer, Stateless, as_layer, checked_module, step_through

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

    from spyx.engine.types import Input, Inputs, Output, Outputs, State
    from spyx.engine.types import Shapes as ShapesLike
    from spyx.graph.types import InputShapes, SampleShape, Spec
    from spyx.nn._layer import Model

OWNER = "spyx.graph.StatefulModel"

One = TypeVar("One")
"""What belongs to one external input: its values, or its shape."""


@dataclass(frozen=True)
class GraphStructure:
    """A graph in numbers: which layers see the input, and which layer sees which.

    An edge from an earlier layer (j < i) leads forward; one from the layer itself or a later one (j >= i) is feedback.
    The last layer is the output.

    Args:
        num_layers: number of layers, at least 1.
        input_layer_ids: for every layer the indices of the external inputs that it sees; () for none.
        input_connectivity: for every layer the indices of the layers that it sees, its parents; () for none.
        merge: how a layer merges several inputs, parents first, then external ones: "concatenate" (default, on the
            last axis), "sum", "mean" or "list"; one for all, or a dict by layer.

    Raises:
        ValueError: everything that is wrong, in one list.

    Example:
        >>> GraphStructure(3, ((0,), (), ()), ((), (0, 2), (1,))).feedback
        ((2, 1),)

    Reference:
        SNNAX (Lohoff, Finkbeiner and Neftci 2024), doi:10.48550/arXiv.2409.02842. The merge is ours:
        there a layer with several inputs receives a list.
    """

    num_layers: int
    input_layer_ids: Sequence[Sequence[int]]
    input_connectivity: Sequence[Sequence[int]]
    merge: str | Mapping[int, str] | tuple[tuple[int, str], ...] = "concatenate"

    def __post_init__(self) -> None:
        raise_all("spyx.graph.GraphStructure", _problems(self))
        for name in ("input_layer_ids", "input_connectivity"):
            object.__setattr__(self, name, tuple(tuple(int(i) for i in ids) for ids in getattr(self, name)))
        if isinstance(self.merge, Mapping):
            object.__setattr__(self, "merge", tuple(sorted(self.merge.items())))

    @property
    def num_inputs(self) -> int:
        """Number of external inputs."""
        return 1 + max(index for ids in self.input_layer_ids for index in ids)

    @property
    def feedback(self) -> tuple[tuple[int, int], ...]:
        """The edges (source, target) that lead back, or from a layer to itself."""
        return tuple((j, i) for i, parents in enumerate(self.input_connectivity) for j in parents if j >= i)

    def merge_of(self, index: int, layer: Model | None = None) -> str:
        """How layer `index` merges its inputs: as the structure says, or else as the layer itself does."""
        if isinstance(self.merge, str):
            return own_merge(layer) or self.merge
        return dict(self.merge).get(index) or own_merge(layer) or "concatenate"


def plan_of(struct: GraphStructure, layers: Sequence[Model], delayed: bool, owner: str) -> Plan:
    """The same graph with names, so that shapes, order and execution are those of `Graph`."""
    edges = []
    for index in range(struct.num_layers):
        for j in struct.input_connectivity[index]:
            edges.append(Edge(str(j), str(index), int(delayed or j >= index)))
        edges += [Edge(f"input {k}", str(index)) for k in struct.input_layer_ids[index]]
    edges.append(Edge(str(struct.num_layers - 1), "output"))
    merges = [(str(index), struct.merge_of(index, layer)) for index, layer in enumerate(layers)]
    inputs = tuple(f"input {k}" for k in range(struct.num_inputs))
    names = tuple(name for name, _ in merges)
    return Plan(owner, names, inputs, ("output",), tuple(edges), (*merges, ("output", "concatenate")))


def _problems(struct: GraphStructure) -> list[str]:
    count = struct.num_layers
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return [f"num_layers is {count!r}: a graph has at least 1 layer"]
    problems = []
    for name in ("input_layer_ids", "input_connectivity"):
        ids = getattr(struct, name)
        if not isinstance(ids, (list, tuple)) or not all(isinstance(entry, (list, tuple)) for entry in ids):
            problems.append(f"{name} is {ids!r}: write one tuple of indices per layer, () for none")
        elif len(ids) != count:
            problems.append(f"{name} has {len(ids)} entries: there are {count} layers")
        elif not all(isinstance(i, int) and not isinstance(i, bool) for entry in ids for i in entry):
            problems.append(f"{name} is {ids!r}: indices are whole numbers")
    if problems:
        return problems
    for layer in range(count):
        external, parents = struct.input_layer_ids[layer], struct.input_connectivity[layer]
        problems += [f"layer {layer}: there is no layer {j}" for j in parents if not 0 <= j < count]
        problems += [f"layer {layer}: there is no external input {k}" for k in external if k < 0]
        for name, ids in (("layer", parents), ("external input", external)):
            problems += [
                f"layer {layer}: {name} {j} is there twice" for j in sorted({j for j in ids if ids.count(j) > 1})
            ]
    used = {k for ids in struct.input_layer_ids for k in ids}
    problems += [f"external input {k} feeds no layer" for k in range(max(used, default=0)) if k not in used]
    starts = [str(i) for i, ids in enumerate(struct.input_layer_ids) if ids]
    edges = [Edge(str(j), str(i)) for i, parents in enumerate(struct.input_connectivity) for j in parents]
    alive = reachable(starts, edges)
    problems += [
        f"layer {i} is unreachable: no edge leads to it from an input" for i in range(count) if str(i) not in alive
    ]
    if not isinstance(struct.merge, (str, Mapping)):
        return [*problems, f"merge is {struct.merge!r}: write one of {', '.join(MERGES)}, or a dict by layer"]
    merges = struct.merge if isinstance(struct.merge, Mapping) else {0: struct.merge}
    problems += [f"merge of layer {i}: there is no such layer" for i in merges if i not in range(count)]
    return problems + [
        f"merge {how!r}: the merges are {', '.join(MERGES)}" for how in merges.values() if how not in MERGES
    ]


class States(NamedTuple):
    """State of a numbered graph between two time steps.

    Args:
        layers: the state of every layer, None for a layer without state.
        outputs: layer index to its last output, for the edges that deliver it a step later.

    Example:
        >>> from spyx import nn
        >>> states = init_states([nn.LI(2)], GraphStructure(1, ((0,),), ((),)), 1, (2,))
        >>> states.outputs[0].tolist()
        [[0.0, 0.0]]
    """

    layers: list[State]
    outputs: dict[int, Output]


def init_states(layers: Sequence[Model], struct: GraphStructure, batch_size: int, input_shapes: InputShapes) -> States:
    """The states before the first step: layers at rest, and every layer's output for the delayed edges.

    The output of a layer with state is 0 before the first step, that of a layer without is its output for an
    input of zeros (its bias), as in SNNAX.

    Args:
        layers: one per node, in the order of the structure.
        struct: the structure.
        batch_size: number of samples.
        input_shapes: shape of one sample at one step, without batch; a list of such shapes for several inputs.

    Raises:
        ValueError: shapes that do not fit, all of them in one list; another number of layers or of inputs.

    Example:
        >>> states = init_states([jnp.tanh, jnp.sin], GraphStructure(2, ((0,), ()), ((), (0,))), 3, (4,))
        >>> states.layers, states.outputs[1].shape
        ([None, None], (3, 4))
    """
    layers = checked_layers("spyx.graph.init_states", layers, struct)
    given = given_inputs("spyx.graph.init_states", struct, input_shapes, batch_size)
    return states_before(layers, struct, batch_size, given, range(struct.num_layers))


def states_before(
    layers: Sequence[Model], struct: GraphStructure, batch_size: int, given: Mapping[str, Spec], delayed: Iterable[int]
) -> States:
    """States at rest, with the outputs of the layers whose edges are `delayed`."""
    owner = "spyx.graph.init_states"
    plan = plan_of(struct, layers, True, owner)
    views = [as_layer(owner, layer) for layer in layers]
    named = dict(zip(plan.names, views, strict=True))
    found = _shapes.infer(plan, named, given, batch_size)
    raise_all(owner, found.problems)
    unknown = [j for j in delayed if str(j) not in found.signals]
    unknown += [j for j, layer in enumerate(views) if layer.state_needs_input and str(j) not in found.taken]
    if unknown:
        raise ValueError(
            f"{owner}: expected to know the shapes that the states depend on; got none for the layers "
            f"{', '.join(map(str, unknown))}. Give input_shapes=, or leave the state to run."
        )
    states = [
        layer.state_for(found.taken[name]) if layer.state_needs_input else layer.initial_state(batch_size)
        for name, layer in named.items()
    ]
    return States(states, {j: _before(views[j], found, str(j)) for j in delayed})


def _before(layer: Layer, found: _shapes.Shapes, name: str) -> Output:
    """The output before the first step."""
    if not isinstance(layer, Stateless) or name not in found.taken:
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), found.signals[name])
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), found.taken[name])
    return nnx.clone(layer)(zeros, None)[0]  # a copy: BatchNorm must not learn from it


def checked_layers(owner: str, layers: Sequence[Model], struct: GraphStructure) -> list[Model]:
    """Layers, as many as the structure has."""
    if not isinstance(struct, GraphStructure):
        raise TypeError(f"{owner}(struct=): expected a GraphStructure; got {type(struct).__name__}. Make one.")
    if len(layers) != struct.num_layers:
        raise ValueError(
            f"{owner}: expected {struct.num_layers} layers, as in the structure; got {len(layers)}. Pass one per node."
        )
    return [checked_module(owner, layer) for layer in layers]


def as_inputs(owner: str, struct: GraphStructure, data: One | Sequence[One]) -> list[One]:
    """One input or a list of them, as a list of the right length."""
    inputs: list[One] = list(data) if isinstance(data, (list, tuple)) else [data]  # type: ignore[list-item]
    if len(inputs) != struct.num_inputs:
        raise ValueError(
            f"{owner}: expected {struct.num_inputs} inputs, as in the structure; got {len(inputs)}. "
            "Pass a list with one entry per external input."
        )
    return inputs


def given_inputs(owner: str, struct: GraphStructure, input_shapes: InputShapes, batch_size: int) -> dict[str, Spec]:
    """Shapes of the external inputs by their name in the plan."""
    one = isinstance(input_shapes, int) or all(isinstance(n, int) for n in input_shapes)
    listed: list[SampleShape] = as_inputs(owner, struct, [input_shapes] if one else list(input_shapes))  # type: ignore
    sizes = [(shape,) if isinstance(shape, int) else tuple(shape) for shape in listed]
    return {f"input {k}": jax.ShapeDtypeStruct((batch_size, *s), jnp.float32) for k, s in enumerate(sizes)}


def default_forward_fn(
    layers: Sequence[Model], struct: GraphStructure, key: PRNGKeyArray | None, states: States, data: Input
) -> tuple[States, list[Output]]:
    """One time step, straight through: an edge from an earlier layer arrives within the step, feedback in the next one.

    `out_i[t] = layer_i(merge(out_j[t] for j < i, out_j[t - 1] for j >= i, data[t]))`. The output of a spiking layer is
    still one step late by itself.

    Args:
        layers: one per node: neurons, Flax or Equinox modules, functions, mixed.
        struct: the structure.
        key: random key, split among the layers whose call takes `key=`; None is fine where none does.
        states: from `init_states`, or from the step before.
        data: input of this step (batch, *features), or a list of such arrays for several external inputs.

    Returns:
        `(new_states, outputs)`, where `outputs` is `[output of the last layer]`.

    Raises:
        ValueError: another number of layers or inputs; inputs that cannot merge.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx.graph import init_states
        >>> struct = GraphStructure(2, ((0,), ()), ((), (0,)))
        >>> double = lambda x: 2 * x
        >>> states = init_states([double, double], struct, 1, (1,))
        >>> states, outputs = default_forward_fn([double, double], struct, None, states, jnp.ones((1, 1)))
        >>> outputs[0].tolist()
        [[4.0]]

    Reference:
        SNNAX's documentation of `default_forward_fn`; its code delays every edge, which is `debug_forward_fn` here.
    """
    states, outputs = _step("spyx.graph.default_forward_fn", layers, struct, key, states, data, delayed=False)
    return states, outputs[-1:]


def debug_forward_fn(
    layers: Sequence[Model], struct: GraphStructure, key: PRNGKeyArray | None, states: States, data: Input
) -> tuple[States, list[Output]]:
    """One time step where every edge between layers takes one step: an impulse leaves a chain of L layers at t = L - 1.

    `out_i[t] = layer_i(merge(out_j[t - 1] for every parent j, data[t]))`. All outputs are stored until the next
    step, which costs their memory.

    Args:
        layers: as for `default_forward_fn`.
        struct: the structure.
        key: as for `default_forward_fn`.
        states: from `init_states`, or from the step before.
        data: as for `default_forward_fn`.

    Returns:
        `(new_states, outputs)`, where `outputs` has the output of every layer; the last one is the network's.

    Raises:
        ValueError: as for `default_forward_fn`.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx.graph import init_states
        >>> struct = GraphStructure(2, ((0,), ()), ((), (0,)))
        >>> double = lambda x: 2 * x
        >>> states = init_states([double, double], struct, 1, (1,))
        >>> states, first = debug_forward_fn([double, double], struct, None, states, jnp.ones((1, 1)))
        >>> states, second = debug_forward_fn([double, double], struct, None, states, jnp.zeros((1, 1)))
        >>> first[-1].tolist(), second[-1].tolist()
        ([[0.0]], [[4.0]])

    Reference:
        SNNAX's documentation of `debug_forward_fn`, not implemented there.
    """
    return _step("spyx.graph.debug_forward_fn", layers, struct, key, states, data, delayed=True)


def _step(
    owner: str,
    layers: Sequence[Model],
    struct: GraphStructure,
    key: PRNGKeyArray | None,
    states: States,
    data: Input,
    delayed: bool,
) -> tuple[States, list[Output]]:
    layers = checked_layers(owner, layers, struct)
    data = as_inputs(owner, struct, data)
    keys = [None] * len(layers) if key is None else list(jax.random.split(key, len(layers)))
    after, outputs = [], []
    for index, layer in enumerate(layers):
        parents = struct.input_connectivity[index]
        x = [outputs[j] if j < index and not delayed else states.outputs[j] for j in parents]
        x += [data[k] for k in struct.input_layer_ids[index]]
        try:
            out, state = _call(layer, merge(struct.merge_of(index, layer), x), states.layers[index], keys[index])
        except (TypeError, ValueError) as error:
            raise type(error)(f"{owner}: layer {index} ({type(layer).__name__}): {error}") from error
        outputs.append(out)
        after.append(state)
    return States(after, {j: outputs[j] for j in states.outputs}), outputs


def _call(layer: Model, x: Input, state: State, key: PRNGKeyArray | None) -> tuple[Output, State]:
    view = as_layer("spyx.graph.default_forward_fn", layer)
    if key is None or "key" not in _parameters(layer):
        return view(x, state)
    return (layer(x, key=key), None) if isinstance(view, Stateless) else layer(x, state, key=key)


def _parameters(layer: Model) -> Iterable[str]:
    try:
        return inspect.signature(layer).parameters
    except (TypeError, ValueError):  # a compiled function tells no signature
        return ()


if TYPE_CHECKING:
    ForwardFn: TypeAlias = Callable[
        [Sequence[Model], GraphStructure, PRNGKeyArray | None, States, Input], tuple[States, list[Output]]
    ]
    """`(layers, struct, key, states, data) -> (new_states, outputs)` of one step; the last output is the network's."""


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
        layers: Sequence[Model],
        forward_fn: ForwardFn = default_forward_fn,
        *,
        input_shapes: InputShapes | None = None,
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
        return bool(self._delayed()) or any(layer.state_needs_input for layer in self._layers())

    def initial_state(self, batch_size: int) -> States:
        """The states before the first step, as `init_states` makes them.

        Raises:
            ValueError: a shape follows neither from `input_shapes` nor from the layers.
        """
        plan = self._plan()
        known = dict(zip(plan.names, self._layers(), strict=True))
        if self._given is None:
            given = _shapes.guessed_inputs(plan, known, batch_size)
        else:
            given = {n: jax.ShapeDtypeStruct((batch_size, *spec.shape[1:]), spec.dtype) for n, spec in self._given}
        return states_before(self.layers, self.struct, batch_size, given, self._delayed())

    def state_for(self, x: Input | ShapesLike) -> States:
        """The states before the first step, for input like `x`: one time step of it, or its `jax.ShapeDtypeStruct`."""
        inputs = as_inputs(OWNER, self.struct, x)
        given = {f"input {k}": jax.ShapeDtypeStruct(a.shape, a.dtype) for k, a in enumerate(inputs)}
        return states_before(self.layers, self.struct, inputs[0].shape[0], given, self._delayed())

    def __call__(self, x: Input, state: States) -> tuple[Output, States]:
        """One time step: `(x, state) -> (out, new state)`."""
        state, outputs = self.forward_fn(list(self.layers), self.struct, None, state, x)
        return outputs[-1], state

    @takes_masks
    def sequence(self, xs: Inputs, state: States, how: Execution = AUTO) -> tuple[Outputs, States]:
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
        past = {str(j): _as_ring(state.outputs[j]) for j in self._delayed()}
        nodes = dict(zip(plan.names, state.layers, strict=True))
        outs, after = _execute.sequence(plan, layers, named, GraphState(nodes, past), how)
        outputs = {j: jax.tree.map(lambda a: a[:, 0], after.past[str(j)].past) for j in self._delayed()}
        return outs, States([after.nodes[name] for name in plan.names], outputs)

    def named_children(self, state: States) -> dict[str, tuple[Model, State]]:
        """Every layer by its index, with its part of `state`."""
        return {str(i): (layer, s) for i, (layer, s) in enumerate(zip(self.layers, state.layers, strict=True))}

    def _layers(self) -> list[Layer]:
        return [as_layer(OWNER, layer) for layer in self.layers]

    def _plan(self) -> Plan:
        return plan_of(self.struct, self.layers, self.forward_fn is debug_forward_fn, OWNER)

    def _delayed(self) -> list[int]:
        """The layers whose last output is read a step later; all of them for a forward function of your own."""
        if self.forward_fn is default_forward_fn:
            return sorted({source for source, _ in self.struct.feedback})
        if self.forward_fn is debug_forward_fn:
            return sorted({j for parents in self.struct.input_connectivity for j in parents})
        return list(range(self.struct.num_layers))


def _as_ring(output: Output) -> Ring:
    return Ring(jax.tree.map(lambda a: a[:, None], output), jnp.zeros((), jnp.int32))
