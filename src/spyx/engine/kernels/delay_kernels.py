"""A CPU kernel for synapses with whole delays: a spike puts every weight of its row down in the step where it arrives.

`y[t] = sum_l seen[lags - 1 + t - l] * w where delays == l`, by the entries of `seen` that are not zero. A sample is
summed up in memory of its own, longer than what is returned by the steps before and after, so that no arrival has to be
compared with an end. Compiled for one pair of dtypes, called through XLA's FFI.
"""
# pyright: reportUndefinedVariable=false
# ruff: noqa: F821 - names of the kernel language

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.derivative import together
from spyx.engine.kernels import xla_call
from spyx.engine.kernels.language import kernel
from spyx.engine.kernels.xla_call import BUFFERS

SAMPLES = xla_call.Share(axis=1, smallest=1, largest=8)


def arrivals(seen: jax.Array, w: jax.Array, delays: jax.Array, lags: int) -> jax.Array:
    """The currents (time, batch, outputs) for seen (lags - 1 + time, batch, inputs), w and delays (inputs, outputs).

    A delay outside of 0 to lags - 1, which only a state changed by hand can hold, delivers nothing.
    """
    there = (delays >= 0) & (delays < lags)  # the kernel writes where it is told
    w, delays = jnp.where(there, w, jnp.zeros((), w.dtype)), jnp.where(there, delays, jnp.zeros((), delays.dtype))
    outputs = w.shape[1]
    out = jax.ShapeDtypeStruct((seen.shape[0] - lags + 1, seen.shape[1], outputs), w.dtype)
    places = delays * np.int32(outputs) + jnp.arange(outputs, dtype=jnp.int32)[None]
    types = {"spikes": seen.dtype.name, "real": w.dtype.name}
    target = xla_call.register("arrivals", "arrivals", types, SAMPLES, lambda: _enter)
    return together(jax.ffi.ffi_call(target, out)(seen, w, places), seen, w, places)[0]


@kernel(seen="spikes*", w="real*", places="int32*", y="real*", sizes="int*", of_y="int*")
def _arrivals(first, last, sizes, of_y, seen, w, places, y):
    whole, batch, inputs = sizes[0], sizes[1], sizes[2]
    steps, outputs = of_y[0], of_y[2]
    before = whole - steps
    size = (whole + before) * outputs
    sums = real_at(malloc(8 * size + 8))
    for sample in range(first, last):
        for o in range(size):
            sums[o] = real(0)
        for t in range(whole):
            at_x, at_y = (t * batch + sample) * inputs, t * outputs
            for i in range(inputs):
                if seen[at_x + i] != 0:
                    x, row = real(seen[at_x + i]), i * outputs
                    for o in range(outputs):
                        sums[at_y + int(places[row + o])] += x * w[row + o]
        for t in range(steps):
            at_y, at_sum = (t * batch + sample) * outputs, (t + before) * outputs
            for o in range(outputs):
                y[at_y + o] = sums[at_sum + o]
    free(sums)


@kernel()
def _enter(context, first, last):
    c = int_at(context)
    sizes, of_y = int_at(c[BUFFERS + 1]), int_at(c[BUFFERS + 7])
    seen, w = spikes_at(c[BUFFERS]), real_at(c[BUFFERS + 2])
    _arrivals(first, last, sizes, of_y, seen, w, int32_at(c[BUFFERS + 4]), real_at(c[BUFFERS + 6]))
    return 0
