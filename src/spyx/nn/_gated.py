"""Leaky neurons whose leak, gates and compartments are learned: PLIF, GLIF, TC-LIF, and DH-LIF with its dendrites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flax import nnx

from spyx.nn._dynamics import Dynamics
from spyx.nn._fields import between, constant, decay, per_unit
from spyx.nn._integrate_and_fire import LIF
from spyx.nn._neuron import Neuron
from spyx.nn._parameters import Shape, hidden_shape_of
from spyx.nn._sequential import Sequential

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.axn import Activation
    from spyx.engine.params import Params
    from spyx.engine.types import State, Units
    from spyx.nn._parameters import ParameterLike

SOMA = Dynamics("after", detach_reset=False, gain="complement", delayed=True)
"""The soma of DH-LIF: its reset takes the threshold away at the next step, outside the leak."""


class PLIF(LIF):
    """Parametric LIF: `LIF` with one learned time constant for the layer, fired after the update and reset to zero.

    `u = beta v + (1 - beta) x`, `z = H(u - threshold)`, `v' = (1 - z) u`; what is stored and trained is the logit of
    beta, and `beta = 1 - 1 / tau`. No latency.

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v.

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = PLIF(2)
        >>> z, v = layer(jnp.array([[1.0, 3.0]]), layer.initial_state(1))
        >>> z.tolist(), v.tolist(), layer.beta[...].item()
        ([[0.0, 1.0]], [[0.5, 0.0]], 0.0)

    Reference:
        Fang et al. 2021, doi:10.1109/ICCV48922.2021.00266; tau starts at 2.
    """

    beta = decay(0.5, by="sigmoid", shared=True, tau="tau_ms", doc="membrane decay per step")
    dynamics = "spikingjelly"


class GLIF(Neuron):
    """Gated LIF: learned gates choose between two kinds of leak, of integration and of reset.

    `u = (1 - alpha (1 - tau)) v`, `v' = u (1 - gamma z) - (1 - alpha) leak + (1 - beta (1 - conduct)) x
    - (1 - gamma) reset z`, `z' = H(v' - threshold)`; z is the spike of the step before, `H(v - threshold)`. Gates at 1
    are an exponential leak, a scaled input and a hard reset; at 0 a linear leak, a plain input and a soft reset. No
    latency.

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v.

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> layer = GLIF(1, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0]]), layer.initial_state(1))[0].item()
        1.0

    Reference:
        Yao et al. 2022, NeurIPS, arXiv:2210.13768, with its initialisation for 4 steps. There `conduct` has a value for
        every step, here it is one for all, so that sequences may have any length.
    """

    affine = "given_spikes"
    alpha = per_unit(between(0.475, 0.525), low=0.0, high=1.0, by="sigmoid", doc="gate of the leak")
    beta = per_unit(between(0.475, 0.525), low=0.0, high=1.0, by="sigmoid", doc="gate of the input")
    gamma = per_unit(between(0.475, 0.525), low=0.0, high=1.0, by="sigmoid", doc="gate of the reset")
    tau = per_unit(0.25, low=0.0, high=1.0, by="sigmoid", doc="what an exponential leak leaves")
    leak = per_unit(0.0625, low=0.0, high=1.0, by="sigmoid", doc="what a linear leak takes away")
    conduct = per_unit(0.5, low=0.0, high=1.0, by="sigmoid", doc="scale of a gated input")
    reset = per_unit(0.5, low=0.0, high=1.0, by="sigmoid", doc="what a soft reset takes away")
    threshold = per_unit(0.5, low=0.0, high=1.0, by="sigmoid", doc="firing threshold")

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        z = p.spike(v - p.threshold)
        u = (1 - p.alpha * (1 - p.tau)) * v
        current = (1 - p.beta * (1 - p.conduct)) * x - (1 - p.alpha) * p.leak
        v = u - u * p.gamma * z + current - (1 - p.gamma) * p.reset * z
        return p.spike(v - p.threshold), v


class TCLIF(Neuron):
    """Two-compartment LIF: a dendrite d and a soma v that inhibit and excite each other, a slow memory.

    `d = d - beta_d v + x`, `v = v + beta_v d` with the new d, `z = H(v - threshold)`; a spike takes gamma from the
    dendrite and the threshold from the soma. No latency.

    Shapes:
        x: (batch, *hidden_shape); state `TCLIF.State(d, v)`, each (batch, *hidden_shape).

    Raises:
        ValueError: an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = TCLIF(1)
        >>> z, s = layer(jnp.array([[3.0]]), layer.initial_state(1))
        >>> z.item(), s.d.item(), s.v.item()
        (1.0, 2.5, 0.5)

    Reference:
        Zhang et al. 2024, AAAI, arXiv:2308.13250; both couplings start at 0.5 and are stored as logits.
    """

    state = dict(d=0.0, v=0.0)
    affine = "given_spikes"
    beta_d = decay(0.5, by="sigmoid", shared=True, doc="inhibition of the dendrite by the soma")
    beta_v = decay(0.5, by="sigmoid", shared=True, doc="excitation of the soma by the dendrite")
    gamma = constant(0.5, doc="what a spike takes from the dendrite")
    threshold = constant(1.0, doc="firing threshold")

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        d = s.d - p.beta_d * s.v + x
        v = s.v + p.beta_v * d
        z = p.spike(v - p.threshold)
        return z, s._replace(d=d - z * p.gamma, v=v - z * p.threshold)


class Dendrites(Neuron):
    """Dendritic branches of `DHLIF`: `d' = beta d + (1 - beta) x`; the output is `d'`. No latency.

    Shapes:
        x, state d: (batch, *hidden_shape) -> d (batch, *hidden_shape), d.

    Raises:
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> branches = Dendrites((4, 2), beta=0.5)  # 4 branches of 2 neurons
        >>> branches(jnp.ones((1, 4, 2)), branches.initial_state(1))[0][0, :, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]

    Reference:
        Zheng et al. 2024, doi:10.1038/s41467-023-44614-z.
    """

    state = dict(d=0.0)
    affine = "always"
    beta = decay(lambda key, shape: nnx.sigmoid(between(0.0, 4.0)(key, shape)), by="sigmoid", doc="decay per step")

    @staticmethod
    def step(p: Params, x: Units, d: Units) -> tuple[Units, Units]:
        d = p.beta * d + (1 - p.beta) * x
        return d, d


class DHLIF(Sequential):
    """LIF with dendritic branches, each with a leak of its own: `d_k = beta_k d_k + (1 - beta_k) x_k` for branch k.

    The soma sums them, `i = sum_k d_k`, and is a LIF: `v' = alpha v + (1 - alpha) i - z threshold` with the spike of
    the step before, `z' = H(v' - threshold)`. No latency. It is a `Sequential` of `Dendrites`, a sum and a `LIF`, so
    each part runs in the mode that suits it.

    Args:
        hidden_shape: shape of one sample's neurons; int, list or tuple.
        branches: number of branches of a neuron, 1 or more. Default 4.
        threshold: firing threshold; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        rngs: needed, leaks start from a random draw.

    Shapes:
        x: (batch, branches, *hidden_shape), a current for every branch -> spikes (batch, *hidden_shape); the state is
        that of a `Sequential`.

    Raises:
        ValueError: no `rngs`; fewer than one branch; an input of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = DHLIF(3, branches=4, rngs=nnx.Rngs(0))
        >>> spikes, state = layer(jnp.ones((2, 4, 3)), layer.initial_state(2))
        >>> spikes.shape
        (2, 3)

    Reference:
        Zheng et al. 2024, doi:10.1038/s41467-023-44614-z, with its initialisation: leaks are sigmoids of numbers drawn
        from [0, 4). There every branch reads its own part of the inputs: mask the weight before it.
    """

    def __init__(
        self,
        hidden_shape: Shape,
        branches: int = 4,
        threshold: ParameterLike = 1.0,
        activation: Activation | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        shape = hidden_shape_of("spyx.nn.DHLIF", hidden_shape)
        if isinstance(branches, bool) or not isinstance(branches, int) or branches < 1:
            raise ValueError(f"spyx.nn.DHLIF(branches=): expected an int of at least 1; got {branches!r}. Default 4.")
        dendrites = Dendrites((branches, *shape), rngs=rngs)
        beta = decay(lambda key, size: nnx.sigmoid(between(0.0, 4.0)(key, size)), by="sigmoid")
        super().__init__(dendrites, over_branches, LIF(shape, beta, threshold, activation, dynamics=SOMA, rngs=rngs))


def over_branches(d: Float[Array, "batch branches *hidden"]) -> Units:
    """The current of the soma: the sum over branches."""
    return d.sum(axis=1)
