"""`AssociativeLIF`: a leaky neuron without reset, which needs no time loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.nn import Neuron, constant, decay

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float

    from spyx.engine.params import Params
    from spyx.engine.types import Units


class AssociativeLIF(Neuron):
    """Leaky neuron without reset: `v' = beta v + x`, then `z = H(v' - threshold)`.

    No latency: the spike uses this step's input. Nothing is subtracted when it fires, so it fires for as long as the
    membrane is above the threshold; in return `spyx.nn.run(mode="parallel")` solves all of time at once.

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v.

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> layer = AssociativeLIF(1, beta=0.5)
        >>> spikes, v = nn.run(layer, jnp.array([[[0.8], [0.8], [0.0]]]), mode="parallel")
        >>> spikes.ravel().tolist(), round(v.item(), 3)
        ([0.0, 1.0, 0.0], 0.6)

    Reference:
        Spyx 1.0's `PSU_LIF` and `AssociativeLIF`. Its `(x, v)` step is `layer(x, v)`; its time-major `.parallel(x)` is
        `run(layer, x, time_axis=0, mode="parallel")`.
    """

    affine = "always"
    beta = decay(doc="membrane decay per step")
    threshold = constant(1.0, doc="firing threshold")

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        v = p.beta * v + x
        return p.spike(v - p.threshold), v

    @staticmethod
    def beta_from_snntorch(beta: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """The decay `exp(-(1 - beta))` that one step of snnTorch's `StateLeaky(beta)` applies.

        Args:
            beta: snnTorch's number, in (0, 1]; a number or an array.

        Example:
            >>> round(float(AssociativeLIF.beta_from_snntorch(0.9)), 4)
            0.9048
        """
        return jnp.exp(jnp.asarray(beta, jnp.float32) - 1)

    @staticmethod
    def snntorch_beta_from_beta(beta: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """The number of snnTorch for a decay per step, `1 + log(beta)`: the inverse of `beta_from_snntorch`.

        Args:
            beta: decay per step, above `exp(-1)` for a number that snnTorch takes; a number or an array.

        Example:
            >>> round(float(AssociativeLIF.snntorch_beta_from_beta(0.9048374)), 4)
            0.9
        """
        return 1 + jnp.log(jnp.asarray(beta, jnp.float32))
