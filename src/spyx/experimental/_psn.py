"""`PSN` and `MaskedPSN`: a matrix over time in place of a membrane that decays (Fang et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import nnx

from spyx.axn import Activation, superspike
from spyx.experimental._sequences import batch_major, time_major
from spyx.nn._execution import AUTO, Execution
from spyx.nn._layer import Layer
from spyx.nn._neuron import like
from spyx.nn._parameters import Shape, draw, hidden_shape_of

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num

    from spyx.experimental._sequences import PerStep, Sequences, TimeMajor


class TimeWeighted(Layer):
    """What weights over time have in common: their owner's name in errors, a shape and an activation."""

    def __init__(self, hidden_shape: Shape, activation: Activation | None, name: str | None) -> None:
        self.hidden_shape = hidden_shape_of(self.owner, hidden_shape)
        self.activation = superspike() if activation is None else activation
        self.name = name
        if not callable(self.activation):
            raise TypeError(
                f"{self.owner}(activation=): expected a surrogate from spyx.axn; got {activation!r}. "
                "For example spyx.axn.superspike()."
            )

    @property
    def owner(self) -> str:
        """The public name, for errors."""
        return f"spyx.experimental.{type(self).__name__}"

    def count(self, argument: str, value: object) -> int:
        """A number of time steps, checked."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self.owner}({argument}=): expected an int; got {value!r}. Pass a number of steps.")
        if value < 1:
            raise ValueError(f"{self.owner}({argument}=): expected at least 1; got {value}. Pass a number of steps.")
        return value


class PSN(TimeWeighted):
    """Parallel spiking neuron: `h = W x` over time, `z = H(h - threshold)`.

    `W[t, s]` is what step t takes from the input of step s, the same for every unit. It reads the whole sequence, the
    future included, so it cannot be stepped and has no state; `MaskedPSN` and `SlidingPSN` can look back only.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        num_steps: length of every sequence, 1 or more.
        activation: surrogate; None is `superspike()`.
        rngs: needed, W starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x (batch, num_steps, *hidden_shape) -> spikes of that shape.

    Raises:
        TypeError: `num_steps` is not an int; an activation that is not callable.
        ValueError: no `rngs`; an input of another shape or length; a single step asked for.

    Example:
        >>> layer = PSN(3, num_steps=5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 5, 3))).shape
        (2, 5, 3)

    Reference:
        Fang et al. 2023, arXiv:2304.12760; thresholds start at 1, and the default surrogate is spyx's.
    """

    whole_time = True

    def __init__(
        self,
        hidden_shape: Shape,
        num_steps: int,
        activation: Activation | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, activation, name)
        self.num_steps = self.count("num_steps", num_steps)
        init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.weight = nnx.Param(draw(self.owner, "weight", rngs, init, (self.num_steps, self.num_steps)))
        self.threshold = nnx.Param(jnp.ones(self.num_steps, jnp.float32))

    def weights(self) -> Float[Array, "num_steps num_steps"]:
        """W as it is applied, (num_steps, num_steps)."""
        return self.weight[...]

    def initial_state(self, batch_size: int) -> tuple[()]:
        """Nothing to carry: all of time is one call."""
        return ()

    def __call__(self, x: Sequences, state: None = None) -> PerStep:  # type: ignore[override]
        """All of time: x (batch, num_steps, *hidden_shape) -> spikes."""
        if state is not None:
            raise ValueError(
                f"{self.owner}: expected all of time in one call; got one time step. "
                "Run it with spyx.nn.run in a mode other than 'step', or use SlidingPSN."
            )
        return batch_major(self.sequence(time_major(self.owner, x, self.hidden_shape), ())[0])

    def sequence(
        self, xs: Num[Array, "num_steps batch *hidden"], state: tuple[()], how: Execution = AUTO
    ) -> tuple[TimeMajor, tuple[()]]:
        """All of time: `xs` (num_steps, batch, *hidden_shape) -> (spikes, the empty state)."""
        if xs.shape[0] != self.num_steps or xs.shape[2:] != self.hidden_shape:
            raise ValueError(
                f"{self.owner}: expected {self.num_steps} steps of shape {self.hidden_shape}; got {xs.shape[0]} of "
                f"{xs.shape[2:]}. Its weights are per step: pad or cut the sequence, or use SlidingPSN."
            )
        how.note(self, xs, "parallel", "one matrix product over all of time", granted=True)
        x = xs if jnp.issubdtype(xs.dtype, jnp.floating) else xs.astype(jnp.float32)  # spikes may travel as integers
        threshold = self.threshold[...].reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
        spikes = self.activation(jnp.tensordot(self.weights().astype(x.dtype), x, axes=1) - threshold)
        return like(spikes, xs), state


class MaskedPSN(PSN):
    """PSN that looks back over `order` steps: `h = (W * M) x`, `M[t, s] = 1` where `0 <= t - s < order`.

    No latency: the spike of step t uses the inputs from `t - order + 1` to t.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        num_steps: length of every sequence, 1 or more.
        order: number of steps it sees, itself included; 1 or more.
        activation: surrogate; None is `superspike()`.
        masking: 1 (default) applies the mask, 0 none of it; between, what is outside the mask is scaled by
            `1 - masking`. Raise `layer.masking` from 0 to 1 while training, the paper's progressive masking; a run is
            causal at 1 only.
        rngs: needed, W starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x (batch, num_steps, *hidden_shape) -> spikes of that shape.

    Raises:
        TypeError: `num_steps` or `order` is not an int.
        ValueError: no `rngs`; a masking outside [0, 1]; an input of another shape or length; a single step asked for.

    Example:
        >>> layer = MaskedPSN(3, num_steps=5, order=2, rngs=nnx.Rngs(0))
        >>> (layer.weights() != 0).sum(axis=1).tolist()
        [1, 2, 2, 2, 2]

    Reference:
        Fang et al. 2023, arXiv:2304.12760.
    """

    def __init__(
        self,
        hidden_shape: Shape,
        num_steps: int,
        order: int,
        activation: Activation | None = None,
        *,
        masking: float = 1.0,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, num_steps, activation, rngs=rngs, name=name)
        self.order = self.count("order", order)
        self.masking = masking
        self.weights()

    def weights(self) -> Float[Array, "num_steps num_steps"]:
        """W as it is applied, (num_steps, num_steps)."""
        if not 0 <= self.masking <= 1:
            raise ValueError(f"{self.owner}(masking=): expected a number in [0, 1]; got {self.masking}. 1 is causal.")
        ages = jnp.arange(self.num_steps)[:, None] - jnp.arange(self.num_steps)[None]
        return self.weight[...] * jnp.where((ages >= 0) & (ages < self.order), 1.0, 1.0 - self.masking)
