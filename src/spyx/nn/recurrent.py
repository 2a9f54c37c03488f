"""Recurrent neurons: the integrate-and-fire family with a dense matrix from a layer's spikes back to its input.

`recurrent_w[i, j]` leads from unit i to unit j, self-connections included; for a hidden shape of rank n it has rank
2n and is contracted over all hidden axes. The recurrent current of a step comes from that step's spikes, which answer
the inputs up to the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from spyx.axn import Activation
from spyx.nn.integrate import ALIF, IF, LIF, CuBaLIF
from spyx.nn.neuron import Neuron
from spyx.nn.parameters import Shape, draw, public_name

Initializer = Callable[..., jax.Array]


def recurrent_weight(neuron: Neuron, init: Initializer | None, rngs: nnx.Rngs | None) -> nnx.Param:
    """The trainable matrix of a recurrent layer; by default a truncated normal of std 0.01."""
    init = nnx.initializers.truncated_normal() if init is None else init
    shape = neuron.hidden_shape * 2
    return nnx.Param(draw(public_name(neuron), "recurrent_w", rngs, init, shape))


class RIF(IF):
    """Recurrent integrate and fire: `z = H(v - threshold)`, then `v' = v + x + z W - z threshold`.

    The spike answers the inputs up to the step before.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        threshold: firing threshold and size of the subtractive reset; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        recurrent_init: initialiser `(key, shape) -> array` of W; None is a truncated normal of std 0.01.
        rngs: needed, W starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v. W: hidden_shape + hidden_shape.

    Raises:
        ValueError: no `rngs`; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = RIF(2, recurrent_init=nnx.initializers.constant(0.5), rngs=nnx.Rngs(0))
        >>> z, v = layer(jnp.zeros((1, 2)), jnp.array([[2.0, 0.0]]))
        >>> z.tolist(), v.tolist()
        ([[1.0, 0.0]], [[1.5, 0.5]])

    Reference:
        Spyx (Heckel & Nowotny 2024, arXiv:2402.18994).
    """

    affine, local = "given_spikes", False

    def __init__(
        self,
        hidden_shape: Shape,
        threshold: Any = 1.0,
        activation: Activation | None = None,
        *,
        recurrent_init: Initializer | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, threshold, activation, name=name)
        self.recurrent_w = recurrent_weight(self, recurrent_init, rngs)

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        z = p.spike(v - p.threshold)
        return z, v + x + p.feedback(z) - z * p.threshold


class RLIF(LIF):
    """Recurrent leaky integrate and fire: `z = H(v - threshold)`, then `v' = beta v + x + z W - z threshold`.

    The spike answers the inputs up to the step before. Sits on feature maps of any rank without flattening.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        beta: membrane decay per step in [0, 1]; None, number, array or `Fixed`, as in `LIF`.
        threshold: firing threshold and size of the subtractive reset; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        recurrent_init: initialiser `(key, shape) -> array` of W; None is a truncated normal of std 0.01.
        rngs: needed, W starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x, state v: (batch, *hidden_shape) -> spikes (batch, *hidden_shape), v. W: hidden_shape + hidden_shape.

    Raises:
        ValueError: no `rngs`; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = RLIF(2, beta=0.5, recurrent_init=nnx.initializers.constant(0.5), rngs=nnx.Rngs(0))
        >>> z, v = layer(jnp.zeros((1, 2)), jnp.array([[2.0, 0.0]]))
        >>> z.tolist(), v.tolist()
        ([[1.0, 0.0]], [[0.5, 0.5]])

    Reference:
        Spyx (Heckel & Nowotny 2024, arXiv:2402.18994). Departs from snnTorch's RLeaky, which spikes from the updated
        membrane.
    """

    affine, local = "given_spikes", False

    def __init__(
        self,
        hidden_shape: Shape,
        beta: Any = None,
        threshold: Any = 1.0,
        activation: Activation | None = None,
        *,
        recurrent_init: Initializer | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, beta, threshold, activation, rngs=rngs, name=name)
        self.recurrent_w = recurrent_weight(self, recurrent_init, rngs)

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        z = p.spike(v - p.threshold)
        return z, p.beta * v + x + p.feedback(z) - z * p.threshold


class RALIF(ALIF):
    """Recurrent adaptive LIF: `ALIF` with the recurrent current `z W` added to its input.

    `th = threshold + adaptation a`, `z = H(v - th)`, `v' = beta v + x + z W - z th`, `a' = gamma a + (1 - gamma) z`.
    The spike answers the inputs up to the step before.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        beta: membrane decay per step in [0, 1]; None, number, array or `Fixed`, as in `LIF`.
        gamma: decay of the adaptation per step in [0, 1]; None, number, array or `Fixed`.
        threshold: resting threshold; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        adaptation: strength of the adaptation; a number or a per-unit array. Default 1.
        recurrent_init: initialiser `(key, shape) -> array` of W; None is a truncated normal of std 0.01.
        rngs: needed, W starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x: (batch, *hidden_shape); state `RALIF.State(v, a)`. W: hidden_shape + hidden_shape.

    Raises:
        ValueError: no `rngs`; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = RALIF(2, beta=0.5, gamma=0.5, rngs=nnx.Rngs(0))
        >>> z, s = layer(jnp.ones((1, 2)), layer.initial_state(1))
        >>> s.v.tolist()
        [[1.0, 1.0]]

    Reference:
        The recurrent network of Bellec et al. 2018, arXiv:1803.09574 (LSNN).
    """

    affine, local = "given_spikes", False

    def __init__(
        self,
        hidden_shape: Shape,
        beta: Any = None,
        gamma: Any = None,
        threshold: Any = 1.0,
        activation: Activation | None = None,
        *,
        adaptation: Any = 1.0,
        recurrent_init: Initializer | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, beta, gamma, threshold, activation, adaptation=adaptation, rngs=rngs, name=name)
        self.recurrent_w = recurrent_weight(self, recurrent_init, rngs)

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        threshold = p.threshold + p.adaptation * s.a
        z = p.spike(s.v - threshold)
        v = p.beta * s.v + x + p.feedback(z) - z * threshold
        return z, RALIF.State(v=v, a=p.gamma * s.a + (1 - p.gamma) * z)


class RCuBaLIF(CuBaLIF):
    """Recurrent current-based LIF: the spikes feed back into the synaptic current.

    `z = H(v - threshold)`, `i' = alpha i + x + z W`, `v' = beta (v - z threshold) + i'`. The spike answers the inputs
    up to the step before.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        alpha: synaptic decay per step in [0, 1]; None, number, array or `Fixed`, as in `LIF`.
        beta: membrane decay per step in [0, 1]; None, number, array or `Fixed`.
        threshold: firing threshold and size of the subtractive reset; a number or a per-unit array. Default 1.
        activation: surrogate; None is `superspike()`.
        recurrent_init: initialiser `(key, shape) -> array` of W; None is a truncated normal of std 0.01.
        rngs: needed, W starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x: (batch, *hidden_shape); state `RCuBaLIF.State(v, i)`. W: hidden_shape + hidden_shape.

    Raises:
        ValueError: no `rngs`; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = RCuBaLIF(2, alpha=0.5, beta=0.5, rngs=nnx.Rngs(0))
        >>> z, s = layer(jnp.ones((1, 2)), layer.initial_state(1))
        >>> s.i.tolist(), s.v.tolist()
        ([[1.0, 1.0]], [[1.0, 1.0]])

    Reference:
        Spyx 1.0; compare Cramer et al. 2022, doi:10.1109/TNNLS.2020.3044364.
    """

    affine, local = "given_spikes", False

    def __init__(
        self,
        hidden_shape: Shape,
        alpha: Any = None,
        beta: Any = None,
        threshold: Any = 1.0,
        activation: Activation | None = None,
        *,
        recurrent_init: Initializer | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, alpha, beta, threshold, activation, rngs=rngs, name=name)
        self.recurrent_w = recurrent_weight(self, recurrent_init, rngs)

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        z = p.spike(s.v - p.threshold)
        i = p.alpha * s.i + x + p.feedback(z)
        return z, RCuBaLIF.State(v=p.beta * (s.v - z * p.threshold) + i, i=i)
