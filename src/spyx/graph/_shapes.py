"""Shapes of all signals, found by evaluating every node abstractly and going around cycles to a fixed point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spyx.graph._merge import conflict, merge, text
from spyx.graph._topology import Plan
from spyx.nn._layer import Layer, step_shape
from spyx.nn._neuron import Neuron
from spyx.nn._sequential import Sequential

if TYPE_CHECKING:
    from spyx.graph.types import Spec, Specs, Trials


class Shapes(NamedTuple):
    """What one time step of a graph looks like.

    Args:
        signals: the output of every input and node: name to shape and dtype.
        taken: the merged input of every node.
        problems: in words, why shapes do not fit.
    """

    signals: Specs
    taken: Specs
    problems: list[str]


def infer(plan: Plan, layers: Mapping[str, Layer], given: Mapping[str, Spec], batch: int = 1) -> Shapes:
    """Shapes of one time step, from those of the inputs; with fewer inputs given, those that follow from the neurons.

    Args:
        plan: the structure.
        layers: the nodes.
        given: input name to `jax.ShapeDtypeStruct` (batch, *features), or a tree of them.
        batch: batch size of what does not follow from `given`.
    """
    # What a neuron in a cycle returns is first a guess, in a dtype that may be the inputs' or that of their products.
    floats = [leaf.dtype for leaf in jax.tree.leaves(dict(given)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    found = [_infer(plan, layers, given, batch, jnp.dtype(jnp.float32))]
    for dtype in dict.fromkeys(floats):
        if found[-1].problems:
            found.append(_infer(plan, layers, given, batch, dtype))
    return found[0] if found[-1].problems else found[-1]


def _infer(plan: Plan, layers: Mapping[str, Layer], given: Mapping[str, Spec], batch: int, dtype: np.dtype) -> Shapes:
    """`infer` with neurons that return `dtype` until their inputs are known."""
    outputs: Trials = {}
    taken: Specs = {}
    signals = {**_of_neurons(plan, layers, batch, dtype, outputs), **given}
    for _ in range(2 * len(plan.names) + 2):
        before = dict(signals)
        taken, problems = _sweep(plan, layers, signals, outputs)
        if signals == before and (not set(given) >= set(plan.inputs) or not _guess(plan, layers, signals, outputs)):
            break
    else:
        problems = [f"the shapes around {', '.join(_largest_cycle(plan))} grow from step to step"]
    if not problems and set(given) >= set(plan.inputs):
        problems = [
            f"the shape of {name!r} does not follow from the input" for name in plan.names if name not in signals
        ]
    return Shapes(signals, taken, problems)


def guessed_inputs(plan: Plan, layers: Mapping[str, Layer], batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
    """Inputs as (batch, width), for those whose width can be read off the layers that they feed."""
    guessed = {}
    for name in plan.inputs:
        targets = [e.target for e in plan.edges if e.source == name and len(plan.incoming[e.target]) == 1]
        known = {shape for target in targets if target in plan.names and (shape := _sample_shape(layers[target]))}
        if len(known) == 1:
            guessed[name] = jax.ShapeDtypeStruct((batch, *known.pop()), jnp.float32)
    return guessed


def early_problems(plan: Plan, layers: Mapping[str, Layer]) -> list[str]:
    """What cannot fit, whatever shape the input will have."""
    known = infer(plan, layers, {})
    problems = list(known.problems)
    for target, edges in plan.incoming.items():
        widths = {
            _output_width(layers[e.source], known.signals.get(e.source)) for _, e in edges if e.source in plan.names
        }
        different = sorted(width for width in widths if width)
        reported = any(problem.startswith(_blame(plan, target)) for problem in problems)
        if plan.merge_of[target] in ("sum", "mean") and len(different) > 1 and not reported:
            listed = " and ".join(f"(..., {width})" for width in different)
            problems.append(f"{_blame(plan, target)}: shapes {listed} cannot merge by {plan.merge_of[target]}")
    return problems


def _sweep(plan: Plan, layers: Mapping[str, Layer], signals: Specs, outputs: Trials) -> tuple[Specs, list[str]]:
    """Every node and output once, in order; `signals` is updated in place."""
    taken: Specs = {}
    problems: list[str] = []
    for target in (*plan.order, *plan.outputs):
        sources = [e.source for _, e in plan.incoming[target]]
        if not sources or not all(source in signals for source in sources):
            continue
        values = [signals[source] for source in sources]
        how = plan.merge_of[target]
        if conflict(how, values):
            problems.append(_merge_problem(plan, target, signals))
            continue
        taken[target] = jax.eval_shape(lambda *v, how=how: merge(how, v), *values)
        if target in plan.names:
            output = _output(target, layers[target], taken[target], outputs)
            if isinstance(output, Exception):
                problems.append(f"node {target!r} cannot take input of shape {_shown(taken[target])}: {output}")
            else:
                signals[target] = output
    return taken, problems


def _output(name: str, layer: Layer, x: Spec, outputs: Trials) -> Spec | Exception:
    """The node's output for `x`, or the error that it raised; each question is asked once."""
    leaves, tree = jax.tree.flatten(x)
    question = (name, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    if question not in outputs:
        try:
            outputs[question] = step_shape(layer, x)
        except (TypeError, ValueError) as error:
            outputs[question] = error
    return outputs[question]


def _guess(plan: Plan, layers: Mapping[str, Layer], signals: Specs, outputs: Trials) -> bool:
    """Open a cycle whose shapes wait for one another: try a node with what is known of its input."""
    for target in plan.order:
        values = [signals[e.source] for _, e in plan.incoming[target] if e.source in signals]
        how = plan.merge_of[target]
        if target in signals or not values or conflict(how, values):
            continue
        x = jax.eval_shape(lambda *v, how=how: merge(how, v), *values)
        width = _first(layers[target])._widths[0]
        if width and hasattr(x, "shape"):
            x = jax.ShapeDtypeStruct((*x.shape[:-1], width), x.dtype)
        output = _output(target, layers[target], x, outputs)
        if not isinstance(output, Exception):
            signals[target] = output
            return True
    return False


def _of_neurons(plan: Plan, layers: Mapping[str, Layer], batch: int, dtype: np.dtype, outputs: Trials) -> Specs:
    """A neuron, or a chain that begins with one, takes exactly one shape: its output is known before its input is."""
    known = {}
    for name in plan.names:
        layer = layers[name]
        first = _first(layer)
        if isinstance(first, Neuron):
            x = jax.ShapeDtypeStruct((batch, *first.hidden_shape), dtype)
            known[name] = _output(name, layer, x, outputs)
    return {name: output for name, output in known.items() if not isinstance(output, Exception)}


def _first(layer: Layer) -> Layer:
    """The layer that the input of this one reaches first: it says what a chain takes."""
    while isinstance(layer, Sequential):
        layer = layer._layers()[0]
    return layer


def _sample_shape(layer: Layer) -> tuple[int, ...] | None:
    layer = _first(layer)
    if isinstance(layer, Neuron):
        return layer.hidden_shape
    width = layer._widths[0]
    return (width,) if width else None


def _output_width(layer: Layer, known: Spec | None) -> int | None:
    """The last axis of a layer's output: known from its shape, or declared by a Flax layer whatever its input."""
    shape = getattr(known, "shape", None)
    if shape:
        return shape[-1]
    return layer._widths[1]


def _merge_problem(plan: Plan, target: str, signals: Mapping[str, Spec]) -> str:
    values = [signals[edge.source] for _, edge in plan.incoming[target]]
    return f"{_blame(plan, target)}: {conflict(plan.merge_of[target], values)}"


def _blame(plan: Plan, target: str) -> str:
    return f"inputs of {target!r} ({', '.join(edge.source for _, edge in plan.incoming[target])})"


def _largest_cycle(plan: Plan) -> tuple[str, ...]:
    return max((c.members for c in plan.components if c.cyclic), key=len, default=plan.names)


def _shown(x: Spec) -> str:
    return text(x.shape) if hasattr(x, "shape") else str(jax.tree.map(lambda a: text(a.shape), x))
