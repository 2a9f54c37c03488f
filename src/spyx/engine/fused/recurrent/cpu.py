"""The recurrent CPU kernels: a block of samples at a time, and in every step lane programs around a product with W.

Arrays are (time, batch, units). All units of a sample belong to one block, so that its product needs nobody else; a
block's lanes lie side by side, so that the loops over lanes are those of a local neuron.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

from spyx.engine import native
from spyx.engine.fused.build import call
from spyx.engine.fused.emit import Lines, Names, write
from spyx.engine.fused.recurrent import fed
from spyx.engine.fused.spec import SPECS, Spec

SAMPLES = native.Share(axis=1, smallest=4, largest=32)
"""Four samples share every row of W that is loaded on the way back; the states of 32 stay in the cache."""


def forward(spec: Spec, xs: Any, ps: Any, ss: Any, w: jax.Array) -> list[jax.Array]:
    """Outputs (time, batch, units), last states (batch, units), checkpoints (chunks, batch, units)."""
    shapes = fed.forward_shapes(spec, *xs[0].shape)
    return call("forward", forward_source(spec), spec.dtype, SAMPLES, [*xs, *ps, *ss, w], shapes)


def backward(
    spec: Spec, xs: Any, ps: Any, marks: Any, z: jax.Array, g_ys: Any, g_ends: Any, w: jax.Array
) -> list[jax.Array]:
    """Cotangents of inputs (time, batch, units), parameters and first states (batch, units)."""
    arrays, shapes = [*xs, *ps, *marks, z, *g_ys, *g_ends, w, w.T], fed.backward_shapes(spec, *xs[0].shape)
    return call("backward", backward_source(spec), spec.dtype, SAMPLES, arrays, shapes)


@functools.lru_cache(maxsize=SPECS)
def forward_source(spec: Spec) -> str:
    """The forward kernel as Python."""
    names, z = _names(spec), fed.spikes_at(spec)
    body = Lines()
    body.add(0, *_LANES, f"c = scratch(width * {spec.dtype.itemsize})")
    body.add(0, "for i in range(first, last):", *(f"    e{k}[i] = s{k}[i]" for k in names.states))
    body.add(0, "for t in range(T):", "    r = t * N")
    body.add(1, f"if t % {spec.chunk} == 0:", f"    m = t // {spec.chunk} * N", "    for i in range(first, last):")
    body.add(3, *(f"m{k}[m + i] = e{k}[i]" for k in names.states))
    reads = names.step_inputs("e{k}[i]", "c[i - first]")
    body.add(1, "for i in range(first, last):")
    write(body, 2, fed.spikes(spec), reads, [f"y{z}[r + i]"])
    body.add(1, f"by_events(y{z}, r + first, w, c, 0, width, U)", "for i in range(first, last):")
    writes = [*(f"y{k}[r + i]" for k in names.outs if k != z), *names.each("e", "[i]")]
    write(body, 2, fed.forward(spec), reads, writes)
    body.add(0, "release(c)")
    outs = [f"y{k}" for k in range(fed.kept(z, spec.n_y))]
    return _function(spec, "forward", [*names.expand("xps"), "w", *outs, *names.expand("em")], body)


@functools.lru_cache(maxsize=SPECS)
def backward_source(spec: Spec) -> str:
    """The backward kernel as Python: states and currents again from the last checkpoint, then back through them."""
    names, size, c = _names(spec), spec.dtype.itemsize, fed.current_at(spec)
    k = names.states
    body = Lines()
    body.add(0, *_LANES, f"a, c = scratch(width * {size}), scratch({spec.chunk} * width * {size})")
    body.add(0, *(f"b{j} = scratch({spec.chunk + 1} * width * {size})" for j in k))
    body.add(0, "for i in range(first, last):", *(f"    h{j}[i] = f{j}[i]" for j in k))
    body.add(1, *(f"q{j}[i] = {spec.dtype.name}(0)" for j in names.params))
    body.add(0, f"for chunk in range((T - 1) // {spec.chunk}, -1, -1):")
    body.add(1, f"begin = chunk * {spec.chunk}", f"end = min(T, begin + {spec.chunk})", "m = chunk * N")
    body.add(1, "for i in range(first, last):", *(f"    b{j}[i - first] = m{j}[m + i]" for j in k))

    again = names.step_inputs("b{k}[o + i]", "c[o + i]")
    body.add(1, "for t in range(begin, end):", "    r = t * N", "    o = (t - begin) * width - first")
    body.add(2, "by_events(z, r + first, w, c, o + first, width, U)", "for i in range(first, last):")
    write(body, 3, spec.advance, again, names.each("b", "[o + width + i]"))

    cotangents = [*(f"g{j}[r + i]" for j in names.outs), "a[i - first]", *names.each("h", "[i]")]
    body.add(1, "for t in range(end - 1, begin - 1, -1):", "    r = t * N", "    o = (t - begin) * width - first")
    body.add(2, "for i in range(first, last):")
    write(body, 3, fed.current_cotangent(spec), again + cotangents, [f"u{c}[r + i]"])
    body.add(2, f"product(u{c}, r + first, wt, a, 0, width, U)", "for i in range(first, last):")
    writes = [*(f"u{j}[r + i]" for j in names.xs if j != c), *names.each("h", "[i]")]
    write(body, 3, fed.backward(spec), again + cotangents, writes, [f"q{j}[i]" for j in names.params])
    body.add(0, *(f"release({b})" for b in ("a", "c", *names.each("b", ""))))
    inputs = [f"u{k}" for k in range(fed.kept(c, spec.n_x))]
    pointers = [*names.expand("xpm"), "z", *names.expand("gf"), "w", "wt", *inputs, *names.expand("qh")]
    return _function(spec, "backward", pointers, body)


_LANES = ("N = B * U", "first = first * U", "last = last * U", "width = last - first")

_LEGEND = """\
# T time steps, B samples, U units, N lanes; arrays are (T, N) or, one value per lane, (N).
# x input, p parameter, s first state, e last state, y output, m checkpoints, b states since the last checkpoint;
# w recurrent weight, wt its transpose, z spikes fed back (some y), c their current z w;
# cotangents: g of y, f of e, u of x and, the same or the last of them, of c, q of p, h of s, a of z.
"""


def _names(spec: Spec) -> Names:
    """The current and the spikes fed back, last of inputs and outputs, have names of their own."""
    return Names(spec.n_x - 1, spec.n_p, spec.n_s, spec.n_y - 1)


def _function(spec: Spec, name: str, pointers: list[str], body: Lines) -> str:
    head = f"# {spec.name}, recurrent {name}, {spec.dtype.name}\n{_LEGEND}"
    return f"{head}def {name}(first, last, T, B, U, {', '.join(pointers)}):\n" + "\n".join(body.lines) + "\n"
