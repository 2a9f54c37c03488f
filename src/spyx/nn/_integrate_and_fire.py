"""Integrate-and-fire neurons without recurrent weights: IF, LIF, LI, ALIF, CuBaLIF.

By default they spike from the membrane *before* this step's update: `out[t]` depends on the inputs up to `t - 1`, every
spiking layer adds one step of latency, and the last input of a sequence never reaches the output. LI, the readout, has
no latency. The gradient flows through the reset. A decay is clipped to [0, 1] whenever it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flax import nnx

from spyx.nn._dynamics import RESET_FREE, DynamicsField
from spyx.nn._fields import constant, decay
from spyx.nn._neuron import Neuron
from spyx.nn._parameters import Shape

if TYPE_CHECKING:
    from spyx.engine.params import Params
    from spyx.engine.types import State, Units
    from spyx.nn._parameters import ParameterLike


class IF(Neuron):
    """Integrate and fire, no leak: `z = H(v - threshold)`, then `v' = v + x - z threshold`.

    The spike depends on the inputs up to the step before. Simple to build in hardware.

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v.

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = IF(2, threshold=1.0)
        >>> z, v = layer(jnp.array([[0.5, 2.0]]), layer.initial_state(1))
        >>> z2, v2 = layer(jnp.array([[0.0, 0.0]]), v)
        >>> z2.tolist(), v2.tolist()
        ([[0.0, 1.0]], [[0.5, 1.0]])

    Reference:
        Lapicque 1907; Abbott 1999, doi:10.1016/S0361-9230(99)00161-6.
    """

    affine = RESET_FREE
    threshold = constant(1.0, doc="firing threshold and size of the subtractive reset")
    dynamics = DynamicsField(leaks=False)

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        return p.dynamics.fire(p.spike, v, p.threshold, lambda v: v + x)


class LIF(Neuron):
    """Leaky integrate and fire: `z = H(v - threshold)`, then `v' = beta v + x - z threshold`.

    The spike depends on the inputs up to the step before; input gain is 1 (not `1 - beta`).

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v.

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = LIF(1, beta=0.5)
        >>> z, v = layer(jnp.array([[3.0]]), layer.initial_state(1))
        >>> z, v = layer(jnp.array([[0.0]]), v)
        >>> z.item(), v.item()
        (1.0, 0.5)

    Reference:
        Spyx (Heckel & Nowotny 2024, arXiv:2402.18994). Departs from snnTorch's Leaky, which spikes from the updated
        membrane.
    """

    affine = RESET_FREE
    beta = decay(tau="tau_ms", doc="membrane decay per step")
    threshold = constant(1.0, doc="firing threshold and size of the subtractive reset")
    dynamics = DynamicsField()

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        current = p.dynamics.scaled(x, p.beta)
        return p.dynamics.fire(p.spike, v, p.threshold, lambda v: p.beta * v + current)


class LI(Neuron):
    """Leaky integrator, the readout: `v' = beta v + x`; the output is `v'`. It never spikes.

    No latency: the output depends on this step's input.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple. Also accepted as `layer_shape=`.
        beta: membrane decay per step in [0, 1]. None: one trainable value per unit, 0.8. A number: one trainable
            value. An array: trainable, broadcast to the units. `Fixed(value)`: not trained.
        tau_ms: time constant in ms in place of `beta`, which is `exp(-dt_ms / tau_ms)`.
        dt_ms: length of a time step in ms, beside a time constant.
        rngs: unused, accepted for uniformity.
        name: stored, for your own use.

    Shapes:
        x, state v: (batch, *hidden_shape) -> v (batch, *hidden_shape), v.

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = LI(1, beta=0.5)
        >>> out, v = layer(jnp.array([[2.0]]), layer.initial_state(1))
        >>> layer(jnp.array([[0.0]]), v)[0].item()
        1.0

    Reference:
        Dayan & Abbott 2001, Theoretical Neuroscience, section 5.4.
    """

    affine = "always"
    beta = decay(0.8, tau="tau_ms", doc="membrane decay per step")

    def __init__(
        self,
        hidden_shape: Shape | None = None,
        beta: ParameterLike = None,
        *,
        layer_shape: Shape | None = None,
        tau_ms: ParameterLike = None,
        dt_ms: float | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        shape = layer_shape if hidden_shape is None else hidden_shape
        if shape is None or None not in (hidden_shape, layer_shape):
            raise TypeError(
                f"spyx.nn.LI: expected one shape; got hidden_shape={hidden_shape!r} and layer_shape={layer_shape!r}. "
                "Pass hidden_shape."
            )
        super().__init__(shape, beta=beta, tau_ms=tau_ms, dt_ms=dt_ms, rngs=rngs, name=name)

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        v = p.beta * v + x
        return v, v


class ALIF(Neuron):
    """Adaptive LIF: every spike raises the threshold, which decays back.

    `th = threshold + adaptation a`, `z = H(v - th)`, `v' = beta v + x - z th`, `a' = gamma a + (1 - gamma) z`.
    The spike depends on the inputs up to the step before.

    Shapes:
        x: (batch, *hidden_shape); state `ALIF.State(v, a)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = ALIF(1, beta=0.5, gamma=0.5)
        >>> _, s = layer(jnp.array([[3.0]]), layer.initial_state(1))
        >>> z, s = layer(jnp.array([[0.0]]), s)
        >>> z.item(), s.v.item(), s.a.item()
        (1.0, 0.5, 0.5)

    Reference:
        Bellec et al. 2018, arXiv:1803.09574; there the adaptation strength is 1.8, here it is 1 unless given.
    """

    state = dict(v=0.0, a=0.0)
    affine = "given_spikes"
    beta = decay(tau="tau_ms", doc="membrane decay per step")
    gamma = decay(tau="tau_adaptation_ms", doc="decay of the adaptation per step")
    threshold = constant(1.0, doc="resting threshold")
    adaptation = constant(1.0, keyword=True, doc="strength of the adaptation")
    dynamics = DynamicsField(delays=False)

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        threshold = p.threshold + p.adaptation * s.a
        current = p.dynamics.scaled(x, p.beta)
        z, v = p.dynamics.fire(p.spike, s.v, threshold, lambda v: p.beta * v + current)
        return z, s._replace(v=v, a=p.gamma * s.a + (1 - p.gamma) * z)


class CuBaLIF(Neuron):
    """Current-based LIF, a synapse before the membrane.

    `z = H(v - threshold)`, `i' = alpha i + x`, `v' = beta (v - z threshold) + i'`. The reset is inside the leak. The
    spike depends on the inputs up to the step before.

    Shapes:
        x: (batch, *hidden_shape); state `CuBaLIF.State(v, i)`, each (batch, *hidden_shape).

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = CuBaLIF(1, alpha=0.5, beta=0.5)
        >>> _, s = layer(jnp.array([[2.0]]), layer.initial_state(1))
        >>> z, s = layer(jnp.array([[0.0]]), s)
        >>> z.item(), s.v.item(), s.i.item()
        (1.0, 1.5, 1.0)

    Reference:
        Spyx 1.0; the model of Zenke & Ganguli 2018, doi:10.1162/neco_a_01086, with input gain 1.
    """

    state = dict(v=0.0, i=0.0)
    affine = RESET_FREE
    alpha = decay(tau="tau_syn_ms", doc="synaptic decay per step")
    beta = decay(tau="tau_ms", doc="membrane decay per step")
    threshold = constant(1.0, doc="firing threshold and size of the subtractive reset")
    dynamics = DynamicsField()

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        i = p.alpha * s.i + x
        current = p.dynamics.scaled(i, p.beta)
        inside = p.dynamics.spike == "before"
        z, v = p.dynamics.fire(p.spike, s.v, p.threshold, lambda v: p.beta * v + current, inside=inside)
        return z, s._replace(v=v, i=i)
