"""Fused kernels of recurrent neurons: a `Recurrent` step is two lane programs around one product.

The forward pass is event-driven: it adds the rows of W that spikes ask for. The backward pass has a dense product per
step, with W's transpose; the gradient of W is one product over all of time, after the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from spyx.engine import events
from spyx.engine.derivative import Changes
from spyx.engine.fused.local import ByKernel, unbroadcast
from spyx.engine.fused.recurrent import call, cpu, fed
from spyx.engine.fused.recurrent.fed import fed_spec as fed_spec
from spyx.engine.fused.spec import Spec
from spyx.engine.recurrent import Recurrent


@dataclass(frozen=True)
class FusedRecurrent(ByKernel):
    """The kernels of a recurrent step; their arrays are (time, batch, units) and (batch, units)."""

    step: Recurrent

    def run_forward(self, p: Any, xs: Any, s0: Any) -> tuple[Any, Any]:
        x_flat, p_flat, w = self._flat(p, xs)
        s_leaves, s_tree = jax.tree.flatten(s0)
        ys, ends, marks = call.forward(self.spec, x_flat, p_flat, [s.reshape(self._lanes) for s in s_leaves], w)
        sent, shape, io = ys[fed.spikes_at(self.spec)], self.spec.shape, jax.tree.leaves(xs)[0].dtype
        outs = [y.astype(io).reshape(-1, *shape) for y in ys[: self.spec.n_y - 1]]
        out_tree = self.spec.out_tree.children()[0]
        results = jax.tree.unflatten(out_tree, outs), jax.tree.unflatten(s_tree, [e.reshape(shape) for e in ends])
        return results, (marks, sent)

    def run_backward(self, args: tuple[Any, ...], kept: Any, cotangents: Changes) -> tuple[Changes, ...]:
        p, xs, _ = args
        marks, sent = kept
        x_flat, p_flat, w = self._flat(p, xs)
        n, steps, shape, io = self.spec.n_y - 1, x_flat[0].shape[0], self.spec.shape, jax.tree.leaves(xs)[0].dtype
        g_ys = [g.astype(self.spec.dtype).reshape(steps, *self._lanes) for g in cotangents[:n]]
        g_ends = [g.reshape(self._lanes) for g in cotangents[n:]]
        g_xs, g_ps, g_ss = call.backward(self.spec, x_flat, p_flat, marks, sent, g_ys, g_ends, w)
        g_w = _weight_gradient(sent, g_xs[fed.current_at(self.spec)])
        local = self.step.local_parameters(p)
        found = {
            name: unbroadcast(g.reshape(shape), getattr(local, name).shape)
            for name, g in zip(local._names, g_ps, strict=True)
        }
        (name,) = self.step.via.names
        found[name] = g_w.reshape(getattr(p, name).shape)
        return (
            [found[name] for name in p._names],
            [g.astype(io).reshape(steps, *shape) for g in g_xs[: self.spec.n_x - 1]],
            [g.reshape(shape) for g in g_ss],
        )

    @property
    def _lanes(self) -> tuple[int, int]:
        return self.spec.shape[0], math.prod(self.spec.shape[1:])

    def _flat(self, p: Any, xs: Any) -> tuple[Changes, Changes, jax.Array]:
        x_leaves, units = jax.tree.leaves(xs), self._lanes[1]
        x_flat = [x.astype(self.spec.dtype).reshape(x.shape[0], *self._lanes) for x in x_leaves]
        local = jax.tree.leaves(self.step.local_parameters(p))
        p_flat = [jnp.broadcast_to(a, self.spec.shape).reshape(self._lanes) for a in local]
        (name,) = self.step.via.names
        return x_flat, p_flat, getattr(p, name).reshape(units, units)


def recurrent_source(spec: Spec) -> str:
    """The generated CPU kernels, forward and backward, as Python."""
    return f"{cpu.forward_source(spec)}\n{cpu.backward_source(spec)}"


def _weight_gradient(spikes: jax.Array, g_current: jax.Array) -> jax.Array:
    """One product over time and batch."""
    units = spikes.shape[-1]
    return events.outer(spikes.reshape(-1, units), g_current.reshape(-1, units))
