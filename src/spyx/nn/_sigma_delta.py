"""`SigmaDelta`: graded spikes that carry what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.nn._fields import constant, per_unit
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from spyx.engine.params import Params
    from spyx.engine.types import State, Units


class SigmaDelta(Neuron):
    """Sigma-delta neuron: sums the changes that come in, and sends on the change of its own activation.

    `s' = s + x`, `y = max(s' + bias, 0)`, `d = y - r`, `z = d H(|d| - threshold)`, `r' = r + z`. The spike is graded:
    it carries the change d since the last one, so `r'` is what a receiver has summed up. Nothing is sent while the
    activation stays within the threshold. No latency.

    Shapes:
        x: (batch, *hidden_shape); state `SigmaDelta.State(s, r)`, each (batch, *hidden_shape) -> graded spikes.

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> layer = SigmaDelta(1, threshold=0.5)
        >>> z, s = layer(jnp.array([[2.0]]), layer.initial_state(1))
        >>> z2, s = layer(jnp.array([[0.25]]), s)
        >>> z.item(), z2.item(), s.r.item()
        (2.0, 0.0, 2.0)

    Reference:
        O'Connor & Welling 2016, arXiv:1611.02024.
    """

    state = dict(s=0.0, r=0.0)
    bias = per_unit(0.0, doc="added to the sum before the activation")
    threshold = constant(0.1, doc="smallest change that is sent")

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        total = s.s + x
        change = jnp.maximum(total + p.bias, 0) - s.r
        z = change * p.spike(jnp.abs(change) - p.threshold)
        return z, s._replace(s=total, r=s.r + z)
