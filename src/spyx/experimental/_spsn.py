"""`SPSN`: the stochastic parallelizable spiking neuron, its gain, and a decay that does not collapse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from spyx.experimental._bernoulli import sigmoid_bernoulli
from spyx.experimental._sequences import time_major
from spyx.experimental._stochastic import StochasticNeuron
from spyx.nn import decay
from spyx.nn._execution import Execution
from spyx.nn._fields import Within
from spyx.nn._parameters import Fixed, Shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.engine.params import Params
    from spyx.engine.types import Units
    from spyx.experimental._sequences import Sequences, TimeMajor
    from spyx.nn._parameters import ParameterLike

GAINS = {
    "leak": lambda beta: 1 - beta,
    "none": jnp.ones_like,
    # the square root has no slope at 0; a decay of exactly 1 passes nothing and learns nothing
    "variance": lambda beta: jnp.where(beta < 1, jnp.sqrt(jnp.where(beta < 1, 1 - beta * beta, 1)), 0),
}


class SPSN(StochasticNeuron):
    """Stochastic parallelizable spiking neuron: a leaky membrane without reset that fires by chance.

    `v' = beta v + g(beta) x`, then a spike with probability `0.8 sigmoid(k (v' - threshold))`. No latency: the spike
    uses this step's input.

    With the gain `g = 1 - beta` a longer memory makes a smaller membrane: for white input its standard deviation is
    `sqrt((1 - beta) / (1 + beta))` times the input's. Whatever asks a layer for more spikes pushes `beta` down, and a
    clipped decay that has reached 0 stays there. `normalize="variance"` makes the membrane's size independent of `beta`
    for white input, and `bounded="sigmoid"` has no point of no return.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple. (1,) is one decay for whatever comes, in the call
            over all of time.
        threshold: membrane at which a spike has probability 0.4; default 1.
        k: steepness of the odds; default 10.
        name: stored, for your own use.
        beta: decay per step in [0, 1]. None: one trainable value per unit, drawn around 0.5. A number: one trainable
            value for the layer. An array: trainable, broadcast to the units. `Fixed(value)`: not trained.
        normalize: the gain g: "leak" (default) is `1 - beta`, "none" is 1, "variance" is `sqrt(1 - beta^2)`.
        bounded: how the decay is held in its range. "clip" (default) clips to [0, 1]. "sigmoid" stores its logit, so
            that it stays inside (0, 1) and can always come back; `beta` must be inside (0, 1) too.
        method: how a parallel run solves the membrane: "scan" (default), the engine's associative scan, or "fft", the
            paper's convolution with `g beta^t`, whose rounding is larger. Measure before you choose "fft": on CPUs it
            was the slower one at every length.
        grad: "probability" (default) or "derivative", as in `sigmoid_bernoulli`.
        noise: a source of keys for `initial_state`, for runs that are not given a state with keys.
        rngs: needed when `beta` is None.

    Shapes:
        over time: key, x (batch, time, *hidden_shape) -> (spikes, v), both of that shape.
        one step: x (batch, *hidden_shape), `NoisyState` -> spikes, `NoisyState`.

    Raises:
        TypeError: no key; the arguments in the order `(x, key)`.
        ValueError: no `rngs` where a value is drawn; an unknown option; a decay that a logit cannot hold; an input or a
            state of another shape; a state without a key.

    Example:
        >>> layer = SPSN(2, beta=0.5)
        >>> spikes, v = layer(jax.random.key(0), jnp.ones((1, 3, 2)))
        >>> [round(u, 3) for u in v[0, :, 0].tolist()]
        [0.5, 0.75, 0.875]

    Reference:
        Yarga & Wood 2023, arXiv:2306.12666; the numbers are Spyx 1.0's.
    """

    affine = "always"
    beta = decay()

    def __init__(
        self,
        hidden_shape: Shape,
        threshold: float = 1,
        k: float = 10,
        name: str = "SPSN",
        *,
        beta: ParameterLike = None,
        normalize: str = "leak",
        bounded: str = "clip",
        method: str = "scan",
        grad: str = "probability",
        noise: nnx.Rngs | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        coin = sigmoid_bernoulli(k, threshold, grad=grad)
        super().__init__(hidden_shape, coin, noise=noise, name=name, beta=beta, rngs=rngs)
        self.normalize = self._one_of("normalize", normalize, tuple(GAINS))
        self.method = self._one_of("method", method, ("scan", "fft"))
        self.bounded = self._one_of("bounded", bounded, ("clip", "sigmoid"))
        if self.bounded == "sigmoid":
            self.beta = self._as_logit(self.beta, isinstance(beta, Fixed))

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        v = p.beta * v + GAINS[p.normalize](p.beta) * x
        return v, v

    def decays(self) -> Float[Array, "..."]:
        """The decays in use, in [0, 1]: `beta` itself holds logits when `bounded="sigmoid"`."""
        held = self.beta[...]
        return jax.nn.sigmoid(held) if self.bounded == "sigmoid" else jnp.clip(held, 0, 1)

    def _time_major(self, x: Sequences) -> TimeMajor:
        if self.hidden_shape == (1,) and getattr(x, "ndim", 0) == 3:
            return time_major(self.owner, x, tuple(x.shape[2:]))
        return super()._time_major(x)

    def _rest(self, xs: TimeMajor) -> Units:
        return jnp.zeros(xs.shape[1:], jnp.float32)

    def _membrane_of_run(self, xs: TimeMajor, start: Units, how: Execution) -> tuple[TimeMajor, Units]:
        whole = how.watched(self) is None and how.mask is None
        if how.mode != "parallel" or self.method == "scan" or 0 in xs.shape or not whole:
            return super()._membrane_of_run(xs, start, how)
        how.note(self, xs, "parallel", "asked for: one convolution by FFT")
        return self._membrane(xs, start)

    def _membrane(self, xs: TimeMajor, start: Units) -> tuple[TimeMajor, Units]:
        if self.method == "scan" or 0 in xs.shape:
            return super()._membrane(xs, start)
        p = self.params().astype(start.dtype)
        v = convolve(p.beta, GAINS[p.normalize](p.beta), xs.astype(start.dtype), start)
        return v, v[-1]

    def _one_of(self, option: str, value: str, known: tuple[str, ...]) -> str:
        if value not in known:
            raise ValueError(f"{self.owner}({option}=): expected one of {known}; got {value!r}. See its docs.")
        return value

    def _as_logit(self, beta: nnx.Variable, fixed: bool) -> nnx.Variable:
        value = beta[...]
        if fixed or not (isinstance(value, Tracer) or bool(jnp.all((value > 0) & (value < 1)))):
            raise ValueError(
                f'{self.owner}(bounded="sigmoid"): expected a trainable beta inside (0, 1); got '
                f'{"a Fixed one" if fixed else value.tolist()}. Use bounded="clip".'
            )
        within = Within(by="sigmoid")
        return nnx.Param(within.stored(value), constraint=within)


def convolve(beta: Float[Array, "..."], gain: Float[Array, "..."], xs: TimeMajor, start: Units) -> TimeMajor:
    """`v_t = sum_j gain beta^j x_{t-j} + beta^(t+1) start` by FFT: every v, time on axis 0.

    Rounding is relative to the largest value of the sequence, and reaches back in time.
    """
    steps, rank = xs.shape[0], xs.ndim
    beta, gain = (a.reshape((1,) * (rank - a.ndim) + a.shape) for a in (beta, gain))
    # A product has a slope at 0, where a floating power has none.
    powers = jnp.cumprod(jnp.concatenate([jnp.ones_like(beta), jnp.repeat(beta, steps, axis=0)]), axis=0)
    spectrum = jnp.fft.rfft(gain * powers[:-1], n=2 * steps, axis=0) * jnp.fft.rfft(xs, n=2 * steps, axis=0)
    return jnp.fft.irfft(spectrum, n=2 * steps, axis=0)[:steps] + powers[1:] * start[None]
