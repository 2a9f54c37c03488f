"""Which loop, scan or kernel a traced run has in it: read off its primitives, without asking the library's plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax

KERNELS = {"spyx_kernel_forward"}
KERNELS_BACKWARD = {"spyx_kernel_backward"}


def equations(jaxpr: Any, inside: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every equation, with the names of the equations around it; a rule of the library is opened."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        yield equation, inside
        for inner in _inside(equation):
            yield from equations(inner, (*inside, name))


def ran(jaxpr: Any) -> str:
    """The mode of a layer's forward pass: "fused", "fixed_point", "layer" (a loop over time) or "parallel" (none)."""
    # A branch of `cond` is what happens to numbers that are not finite.
    found = Counter(e.primitive.name for e, inside in equations(jaxpr) if "cond" not in inside)
    if KERNELS & set(found):
        return "fused"
    if found["while"]:
        return "fixed_point"
    return "layer" if found["scan"] else "parallel"


def ran_backward(jaxpr: Any) -> str:
    """The mode of the forward and backward passes of a traced gradient."""
    mode = ran(jaxpr)
    found = {e.primitive.name for e, _ in equations(jaxpr)}
    assert (mode == "fused") == bool(KERNELS_BACKWARD & found), "one pass is a kernel and the other is not"
    return mode


def _inside(equation: Any) -> Iterator[Any]:
    if equation.primitive.name == "spyx_call":
        rule, tree = equation.params["rule"], equation.params["tree"]
        types = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
        yield jax.make_jaxpr(lambda *flat: rule.forward(*jax.tree.unflatten(tree, flat)))(*types).jaxpr
        return
    for value in equation.params.values():
        for candidate in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(candidate, "eqns"):
                yield candidate
            elif hasattr(candidate, "jaxpr"):
                yield candidate.jaxpr
