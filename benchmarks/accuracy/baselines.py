"""Networks without spikes, trained by the same pipeline as the rows of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

from spyx import nn

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class GRU(nn.Layer):
    """Gated recurrent units in the place of neurons: `r, z = sigmoid(...)`, `n = tanh(W x + b + r (U h))`,
    `h' = (1 - z) n + z h`; emits h'.

    Args:
        hidden_shape: number of units, which is that of the inputs as well.
        rngs: draws the weights.

    Shapes:
        one step: (batch, units) -> (batch, units); the state is h, (batch, units).

    Reference:
        Cho et al. 2014, arXiv:1406.1078, in the variant of Flax's `GRUCell`.
    """  # noqa: D205

    def __init__(self, hidden_shape: int, *, rngs: nnx.Rngs) -> None:
        self.cell = nnx.GRUCell(hidden_shape, hidden_shape, rngs=rngs)
        self.units = hidden_shape

    def initial_state(self, batch_size: int) -> Float[Array, "batch units"]:
        """Zeros."""
        return jnp.zeros((batch_size, self.units))

    def __call__(
        self, x: Float[Array, "batch units"], state: Float[Array, "batch units"]
    ) -> tuple[Float[Array, "batch units"], Float[Array, "batch units"]]:
        """One step."""
        state, out = self.cell(state, x)
        return out, state
