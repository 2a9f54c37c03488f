"""Inputs of earlier steps, weighted by lag: causal convolutions over time, and fixed delays as reads.

Everywhere `seen` is what came in, the `lags - 1` steps before the first one included: (lags - 1 + time, batch, ...).
Entry l of a kernel weighs what came in l steps ago.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine import device
from spyx.engine.derivative import Bilinear, call, together

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Shaped

    from spyx.engine.derivative import Arguments, Changes
    from spyx.engine.types import Tree

FREQUENCY_PRODUCTS = 2**21
"""Multiplications per lag from which the products of frequencies were measured to be faster on a CPU."""


def by_frequency(steps: int, lags: int, batch: int, inputs: int, outputs: int) -> bool:
    """`dense` is faster by products of frequencies than by one product per lag; both are the same up to rounding.

    Args:
        steps: time steps.
        lags: of the kernel.
        batch: samples.
        inputs: features that come in.
        outputs: features that go out.
    """
    if device.backend() != "cpu" or lags < 4 or steps * batch * inputs * outputs < FREQUENCY_PRODUCTS:
        return False
    direct = lags * batch * inputs * outputs
    return 1.5 * _cost(_block(steps, lags, batch, inputs, outputs), lags, batch, inputs, outputs) < direct


def dense(
    seen: Float[Array, "past+time batch inputs"], kernel: Float[Array, "lags inputs outputs"], *, exact: bool = False
) -> Float[Array, "time batch outputs"]:
    """`y[t] = sum_l seen[lags - 1 + t - l] kernel[l]`.

    Args:
        seen: (lags - 1 + time, batch, inputs).
        kernel: (lags, inputs, outputs).
        exact: sums of numbers without rounding errors stay without: never by frequencies.
    """
    lags, inputs, outputs = kernel.shape
    steps, batch = seen.shape[0] - lags + 1, seen.shape[1]
    if 0 in (steps, batch):
        return jnp.zeros((steps, batch, outputs), seen.dtype)
    if steps == 1:
        rows = jnp.moveaxis(seen, 0, 1).reshape(batch, lags * inputs)
        return (rows @ kernel[::-1].reshape(lags * inputs, outputs))[None]
    if not exact and by_frequency(steps, lags, batch, inputs, outputs):
        return _by_frequency(seen, kernel)
    return call(_Dense(), seen, kernel)


@dataclass(frozen=True)
class _Dense(Bilinear):
    """One convolution; both its transposes are others, batch first as well.

    JAX's own transposes have other layouts, which XLA compiles to loops of single numbers where they stand inside
    another loop, as the steps of training do.
    """

    def forward(
        self, seen: Float[Array, "past+time batch inputs"], kernel: Float[Array, "lags inputs outputs"]
    ) -> Float[Array, "time batch outputs"]:
        numbers = ("NWC", "WIO", "NWC")
        rows = jax.lax.conv_general_dilated(seen.swapaxes(0, 1), kernel[::-1], (1,), "VALID", dimension_numbers=numbers)
        return rows.swapaxes(0, 1)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        (seen, kernel), (g,) = args, cotangents
        past = len(kernel) - 1
        around = jnp.pad(g, ((past, past), (0, 0), (0, 0)))
        d_seen = call(self, around, kernel[::-1].swapaxes(1, 2))
        return [d_seen], [call(self, seen.swapaxes(1, 2), g[::-1])[::-1]]


def filtered(
    seen: Float[Array, "past+time batch *units"], taps: Float[Array, "lags ..."]
) -> Float[Array, "time batch *units"]:
    """`y[t, k] = sum_l taps[l, k] seen[lags - 1 + t - l, k]`, unit by unit.

    Args:
        seen: (lags - 1 + time, batch, *units).
        taps: (lags, *units), or fewer units of the last axes.
    """
    lags = taps.shape[0]
    steps = seen.shape[0] - lags + 1
    seen, taps = together(seen, taps.astype(seen.dtype))

    @jax.checkpoint
    def one(total: jax.Array, tap: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        lag, weight = tap
        window = jax.lax.dynamic_slice_in_dim(seen, lags - 1 - lag, steps)
        return total + window * weight.reshape((1,) * (seen.ndim - weight.ndim) + weight.shape), None

    start = jnp.zeros_like(seen[:steps])
    return jax.lax.scan(one, start, (jnp.arange(lags), taps))[0]


def shifted(
    seen: Shaped[Array, "past+time batch *units"], steps_ago: Int[Array, "..."], lags: int
) -> Shaped[Array, "time batch *units"]:
    """`y[t, k] = seen[lags - 1 + t - steps_ago[k], k]`, unit by unit: a read.

    Args:
        seen: (lags - 1 + time, batch, *units).
        steps_ago: whole numbers from 0 to lags - 1, for the units of the last axes.
        lags: the longest delay and one more.
    """
    steps = seen.shape[0] - lags + 1
    first = lags - 1 - steps_ago
    time = jnp.arange(steps, dtype=first.dtype).reshape(steps, *(1,) * (seen.ndim - 1))
    at = time + first.reshape((1,) * (seen.ndim - first.ndim) + first.shape)
    return jnp.take_along_axis(seen, at, axis=0)


def _cost(block: int, lags: int, batch: int, inputs: int, outputs: int) -> float:
    """Multiplications per time step for blocks of that many steps."""
    length = block + lags - 1
    frequencies = length // 2 + 1
    turned = 2 * frequencies * (batch * (length * inputs + block * outputs) + lags * inputs * outputs)
    return (3 * frequencies * batch * inputs * outputs + turned) / block


def _block(steps: int, lags: int, batch: int, inputs: int, outputs: int) -> int:
    """The length of equal blocks that costs least."""
    lengths = {math.ceil(steps / count) for count in range(1, max(2, steps // lags + 1))}
    return min(lengths, key=lambda n: _cost(n, lags, batch, inputs, outputs))


@jax.checkpoint
def _by_frequency(
    seen: Float[Array, "past+time batch inputs"], kernel: Float[Array, "lags inputs outputs"]
) -> Float[Array, "time batch outputs"]:
    """Blocks of time as (real, imaginary) frequencies, one product of three matrices each, and back.

    The transforms are products with small matrices: blocks are short, and a product leaves the arrays as they lie.
    """
    lags, inputs, outputs = kernel.shape
    steps, batch = seen.shape[0] - lags + 1, seen.shape[1]
    block = _block(steps, lags, batch, inputs, outputs)
    count = math.ceil(steps / block)
    length = block + lags - 1
    seen = jnp.pad(seen, ((0, count * block - steps), (0, 0), (0, 0)))
    rows = [seen[i * block : i * block + length] for i in range(count)]
    blocks = rows[0] if count == 1 else jnp.concatenate(rows, 1)

    frequencies = length // 2 + 1
    angle = 2 * np.pi * (np.outer(np.arange(frequencies), np.arange(length)) % length) / length
    cos, sin = (jnp.asarray(wave, seen.dtype) for wave in (np.cos(angle), np.sin(angle)))
    share = np.full((frequencies, 1), 2.0)  # all but the first frequency, and the last of an even length, count twice
    share[0] = 1.0
    share[-1] = 1.0 if length % 2 == 0 else 2.0
    back_cos, back_sin = (
        jnp.asarray((share / length * wave(angle)).T[lags - 1 :], seen.dtype) for wave in (np.cos, np.sin)
    )

    x_real, x_imag = (jnp.tensordot(wave, blocks, 1) for wave in (cos, -sin))
    k_real, k_imag = (jnp.tensordot(wave[:, :lags], kernel, 1) for wave in (cos, -sin))
    real, imag = x_real @ k_real, x_imag @ k_imag
    mixed = (x_real + x_imag) @ (k_real + k_imag)
    outs = jnp.tensordot(back_cos, real - imag, 1) - jnp.tensordot(back_sin, mixed - real - imag, 1)
    outs = jnp.moveaxis(outs.reshape(block, count, batch, outputs), 1, 0)
    return outs.reshape(count * block, batch, outputs)[:steps]
