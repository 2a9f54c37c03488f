"""The CPU kernels: two lane programs written out as Python, compiled by Numba, called through XLA's FFI.

A kernel handles a block of lanes at a time, all of time for each: the state stays in the first-level cache, and the
inner loop over lanes is one the compiler turns into vector instructions. Arrays are (time, lanes), lanes contiguous.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax

from spyx.engine import native
from spyx.engine.fused.build import call
from spyx.engine.fused.emit import Lines, Names, write
from spyx.engine.fused.spec import SPECS

if TYPE_CHECKING:
    from spyx.engine.fused.spec import Spec

LANES = native.Share(axis=1, smallest=64, largest=1024)
"""Arrays are (time, lanes): a block's state fits the first-level cache and its loop is made of whole vectors."""


def forward(spec: Spec, xs: Sequence[jax.Array], ps: Sequence[jax.Array], ss: Sequence[jax.Array]) -> list[jax.Array]:
    """Outputs (time, lanes), last states (lanes), checkpoints (chunks, lanes)."""
    source, shapes = forward_source(spec), spec.forward_shapes(*xs[0].shape)
    return call("forward", source, spec.dtype, LANES, [*xs, *ps, *ss], shapes)


def backward(spec: Spec, xs: Any, ps: Any, marks: Any, g_ys: Any, g_ends: Any) -> list[jax.Array]:
    """Cotangents of inputs (time, lanes), parameters (lanes) and first states (lanes)."""
    arrays = [*xs, *ps, *marks, *g_ys, *g_ends]
    source, shapes = backward_source(spec), spec.backward_shapes(*xs[0].shape)
    return call("backward", source, spec.dtype, LANES, arrays, shapes)


@functools.lru_cache(maxsize=SPECS)
def forward_source(spec: Spec) -> str:
    """The forward kernel as Python."""
    names = Names(spec.n_x, spec.n_p, spec.n_s, spec.n_y)
    body = Lines()
    body.add(0, "for i in range(first, last):", *(f"    e{k}[i] = s{k}[i]" for k in names.states))
    body.add(0, "for t in range(T):", "    r = t * N")
    body.add(1, f"if t % {spec.chunk} == 0:", f"    m = t // {spec.chunk} * N", "    for i in range(first, last):")
    body.add(3, *(f"m{k}[m + i] = e{k}[i]" for k in names.states))
    body.add(1, "for i in range(first, last):")
    writes = [*(f"y{k}[r + i]" for k in names.outs), *names.each("e", "[i]")]
    write(body, 2, spec.forward, names.step_inputs("e{k}[i]"), writes)
    arguments = [*names.inputs, "s", "y", "e", "m"]
    return _function(spec, "forward", names.expand(arguments), body)


@functools.lru_cache(maxsize=SPECS)
def backward_source(spec: Spec) -> str:
    """The backward kernel as Python: states again from the last checkpoint, then the step's vjp in reverse."""
    names = Names(spec.n_x, spec.n_p, spec.n_s, spec.n_y)
    k, ty = names.states, spec.dtype.name
    body = Lines()
    body.add(0, "width = last - first")
    body.add(0, *(f"b{j} = scratch({spec.chunk} * width * {spec.dtype.itemsize})" for j in k))
    body.add(0, "for i in range(first, last):", *(f"    h{j}[i] = f{j}[i]" for j in k))
    body.add(1, *(f"q{j}[i] = {ty}(0)" for j in names.params))
    body.add(0, f"for chunk in range((T - 1) // {spec.chunk}, -1, -1):")
    body.add(1, f"begin = chunk * {spec.chunk}", f"end = min(T, begin + {spec.chunk})", "m = chunk * N")
    body.add(1, "for i in range(first, last):", *(f"    b{j}[i - first] = m{j}[m + i]" for j in k))
    body.add(1, "for t in range(begin, end - 1):", "    r = t * N", "    o = (t - begin) * width - first")
    body.add(2, "for i in range(first, last):")
    again = names.step_inputs("b{k}[o + i]")
    write(body, 3, spec.advance, again, names.each("b", "[o + width + i]"))
    body.add(1, "for t in range(end - 1, begin - 1, -1):", "    r = t * N", "    o = (t - begin) * width - first")
    body.add(2, "for i in range(first, last):")
    reads = again + [f"g{j}[r + i]" for j in names.outs] + [f"h{j}[i]" for j in k]
    writes = [*(f"u{j}[r + i]" for j in names.xs), *names.each("h", "[i]")]
    write(body, 3, spec.backward, reads, writes, [f"q{j}[i]" for j in names.params])
    body.add(0, *(f"release(b{j})" for j in k))
    arguments = [*names.inputs, "m", "g", "f", "u", "q", "h"]
    return _function(spec, "backward", names.expand(arguments), body)


_LEGEND = """\
# T time steps, N lanes; arrays are (T, N) or, one value per lane, (N).
# x input, p parameter, s first state, e last state, y output, m checkpoints, b states since the last checkpoint;
# cotangents: g of y, f of e, u of x, q of p, h of s.
"""


def _function(spec: Spec, name: str, pointers: list[str], body: Lines) -> str:
    head = f"# {spec.name}, {name}, {spec.dtype.name}\n{_LEGEND}"
    return f"{head}def {name}(first, last, T, N, {', '.join(pointers)}):\n" + "\n".join(body.lines) + "\n"
