"""Stochastic neurons without reset: a leaky membrane, solved in parallel over time, and a coin at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import jax
import jax.numpy as jnp
from flax import nnx

from spyx import engine
from spyx.experimental._bernoulli import Bernoulli, refractory_sigmoid_bernoulli, sigmoid_bernoulli
from spyx.experimental._keys import NoisyState, checked_key, uniform, with_key
from spyx.experimental._sequences import batch_major, check_start, time_major
from spyx.nn import Neuron, decay
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._neuron import compute_dtype, like
from spyx.nn._parameters import Shape

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Key, Num, PRNGKeyArray, PyTree

    from spyx.engine.params import Params
    from spyx.engine.types import State, Units
    from spyx.experimental._sequences import PerStep, Sequences, TimeMajor
    from spyx.nn._fields import Field
    from spyx.nn._parameters import ParameterLike


class StochasticNeuron(Neuron):
    """Base of the stochastic neurons: `step` moves the membrane and returns it, `activation(v, key)` fires.

    `layer(key, x)` runs all of time in parallel and draws every spike from `key`. As a layer of spyx it takes one
    step, `layer(x, state)`, and runs through `spyx.nn.run` and containers; its state is a `NoisyState`, which carries
    the keys. Give it one: `with_key(model.initial_state(batch_size), key)`, or build the layer with
    `noise=nnx.Rngs(0)`, which then makes a new key for every sequence, as Dropout does.

    The same key for an input's noise and for the spikes makes one draw of both, and so does the same key for two layers
    of a shape: split keys.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        activation: a `Bernoulli`: `act(v, key)` with `act.fire(v, noise)`.
        spike: False returns the membrane where the spikes would be.
        noise: a source of keys for `initial_state`; None asks for `with_key`.
        name: stored, for your own use.
        rngs: needed when a field starts from a random draw.
        values: of the fields, by name.

    Example:
        >>> class Coin(StochasticNeuron):
        ...     affine = "always"
        ...     @staticmethod
        ...     def step(p, x, v):
        ...         return x, x
        >>> coin = Coin(3, sigmoid_bernoulli())
        >>> spikes, v = coin(jax.random.key(0), jnp.ones((1, 5, 3)))
        >>> spikes.shape
        (1, 5, 3)
    """

    activation: Bernoulli  # type: ignore[assignment]

    def __init__(
        self,
        hidden_shape: Shape,
        activation: Bernoulli,
        *,
        spike: bool = True,
        noise: nnx.Rngs | None = None,
        name: str | None = None,
        rngs: nnx.Rngs | None = None,
        **values: ParameterLike | Field,
    ) -> None:
        super().__init__(hidden_shape, activation, rngs=rngs, name=name, **values)
        self.spiking = bool(spike)
        self.noise = noise

    @property
    def owner(self) -> str:
        """The public name, for errors."""
        return f"spyx.experimental.{type(self).__name__}"

    def initial_state(
        self, batch_size: int, dtype: DTypeLike = jnp.float32, *, key: PRNGKeyArray | None = None
    ) -> NoisyState:
        """A resting membrane, and one key per sample from `key`, from `noise`, or to be set by `with_key`."""
        state = NoisyState(super().initial_state(batch_size, dtype), None, jnp.zeros((batch_size,), jnp.int32))
        if key is None and self.noise is not None:
            key = self.noise.spikes()
        return state if key is None else with_key(state, key)

    @overload
    def __call__(self, x: Num[Array, "batch *hidden"], state: NoisyState, /) -> tuple[Units, NoisyState]: ...

    @overload
    def __call__(
        self,
        key: PRNGKeyArray | None,
        x: Sequences,
        *,
        start: PyTree[Units] | None = None,
        return_state: Literal[False] = False,
    ) -> tuple[PerStep, PerStep]: ...

    @overload
    def __call__(
        self, key: PRNGKeyArray | None, x: Sequences, *, start: PyTree[Units] | None = None, return_state: Literal[True]
    ) -> tuple[PerStep, PerStep, PyTree[Units]]: ...

    def __call__(
        self,
        key: PRNGKeyArray | Num[Array, "batch *hidden"] | None,
        x: Sequences | NoisyState,
        *,
        start: PyTree[Units] | None = None,
        return_state: bool = False,
    ) -> PerStep | tuple[Array | PyTree[Units], ...]:
        """All of time, `layer(key, x) -> (spikes, v)`; or one step of a layer, `layer(x, state) -> (spikes, state)`.

        Args:
            key: every spike is drawn from it; a new one for every call.
            x: (batch, time, *hidden_shape).
            start: the membrane's state before the first step; None is rest.
            return_state: return `(spikes, v, state)`, to go on with the next chunk from `start=state` and a new key.
        """
        if isinstance(x, NoisyState):
            return self._one_step(key, x)  # type: ignore[arg-type]
        key = checked_key(self.owner, key) if self.spiking else key  # type: ignore[arg-type]
        xs = self._time_major(x)
        rest = self._rest(xs)
        v, end = self._membrane(xs, rest if start is None else check_start(self.owner, start, rest))
        v = batch_major(v)
        out = self._answer(self.activation(v, key) if self.spiking else v, v)  # type: ignore[arg-type]
        return (*(out if isinstance(out, tuple) else (out,)), end) if return_state else out

    @takes_masks
    def sequence(
        self, xs: Num[Array, "time batch *hidden"], state: NoisyState, how: Execution = AUTO
    ) -> tuple[TimeMajor, NoisyState]:
        """All of time, `xs` (time, batch, *hidden_shape), as every layer: `(spikes, state)`."""
        self._check(xs.shape[1:], state.membrane)
        v, end = self._membrane_of_run(xs.astype(compute_dtype(state.membrane)), state.membrane, how)
        counts = jnp.ones(xs.shape[:2], jnp.int32) if how.mask is None else how.mask.alive.astype(jnp.int32)
        times = state.time[None] + counts.cumsum(0) - counts
        out = v
        if self.spiking:
            keys = self._keys(state)
            noise = jax.vmap(lambda t: uniform(keys, t, self.hidden_shape, v.dtype))(times)
            out = self.activation.fire(v, noise)
        return how.alive(like(out, xs)), NoisyState(end, state.key, state.time + counts.sum(0))

    def _one_step(self, x: Num[Array, "batch *hidden"], state: NoisyState) -> tuple[Units, NoisyState]:
        self._check(x.shape, state.membrane)
        dtype = compute_dtype(state.membrane)
        v, end = self.step(self.params().astype(dtype), x.astype(dtype), state.membrane)
        if self.spiking:
            v = self.activation.fire(v, uniform(self._keys(state), state.time, self.hidden_shape, v.dtype))
        return like(v, x), NoisyState(end, state.key, state.time + 1)

    def _membrane_of_run(self, xs: TimeMajor, start: PyTree[Units], how: Execution) -> tuple[TimeMajor, PyTree[Units]]:
        return super().sequence(xs, start, how)

    def _membrane(self, xs: TimeMajor, start: PyTree[Units]) -> tuple[TimeMajor, PyTree[Units]]:
        dtype = compute_dtype(start)
        solve = engine.layer if 0 in xs.shape else engine.parallel
        return solve(self.step, self.params().astype(dtype), xs.astype(dtype), start)

    def _time_major(self, x: Sequences) -> TimeMajor:
        return time_major(self.owner, x, self.hidden_shape)

    def _rest(self, xs: TimeMajor) -> PyTree[Units]:
        return super().initial_state(xs.shape[1])

    def _answer(self, spikes: PerStep, v: PerStep) -> PerStep | tuple[PerStep, PerStep]:
        return spikes, v

    def _keys(self, state: NoisyState) -> Key[Array, " batch"]:
        if state.key is None:
            raise ValueError(
                f"{self.owner}: expected a state with a random key; got one without. Set it with "
                "spyx.experimental.with_key(state, jax.random.key(0)), or build the layer with noise=nnx.Rngs(0)."
            )
        return state.key


class StochasticAssociativeLIF(StochasticNeuron):
    """Leaky membrane without reset that fires by chance.

    `v' = beta v + x`, then a spike with probability `0.8 sigmoid(k (v' - threshold))`. No latency: the spike uses
    this step's input.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        threshold: membrane at which a spike has probability 0.4; default 1.
        k: steepness of the odds; default 100.
        spike: False returns `(v, v)`; the key is then not used.
        name: stored, for your own use.
        beta: decay per step in [0, 1]; None, number, array or `Fixed`, as in `spyx.nn.LIF`.
        grad: "probability" (default) or "derivative", as in `sigmoid_bernoulli`.
        noise: a source of keys for `initial_state`, for runs that are not given a state with keys.
        rngs: needed when `beta` is None.

    Shapes:
        over time: key, x (batch, time, *hidden_shape) -> (spikes, v), both of that shape.
        one step: x (batch, *hidden_shape), `NoisyState` -> spikes, `NoisyState`.

    Raises:
        TypeError: no key; the arguments in the order `(x, key)`.
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape; a state without a key.

    Example:
        >>> layer = StochasticAssociativeLIF(1, beta=0.5)
        >>> spikes, v = layer(jax.random.key(0), jnp.ones((1, 3, 1)))
        >>> v.ravel().tolist()
        [1.0, 1.5, 1.75]

    Reference:
        Spyx; after Yarga & Wood 2023, arXiv:2306.12666.
    """

    affine = "always"
    beta = decay()

    def __init__(
        self,
        hidden_shape: Shape,
        threshold: float = 1,
        k: float = 100,
        spike: bool = True,
        name: str = "SALIF",
        *,
        beta: ParameterLike = None,
        grad: str = "probability",
        noise: nnx.Rngs | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        coin = sigmoid_bernoulli(k, threshold, grad=grad)
        super().__init__(hidden_shape, coin, spike=spike, noise=noise, name=name, beta=beta, rngs=rngs)

    @staticmethod
    def step(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
        v = p.beta * v + x
        return v, v


class StochasticAssociativeCuBaLIF(StochasticNeuron):
    """Synapse and leaky membrane without reset that fires by chance.

    `i' = alpha i + u`, `v' = beta v + i'`, then a spike with the odds of `refractory_sigmoid_bernoulli(k, threshold)`
    at `v'`. No latency: the spike uses this step's input.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        threshold: membrane at which a spike has probability one half; default 1.
        k: steepness of the odds; default 100.
        name: stored, for your own use.
        alpha: synaptic decay per step in [0, 1]; None, number, array or `Fixed`, as in `spyx.nn.CuBaLIF`.
        beta: membrane decay per step in [0, 1]; likewise.
        grad: "probability" (default) or "derivative", as in `sigmoid_bernoulli`.
        noise: a source of keys for `initial_state`, for runs that are not given a state with keys.
        rngs: needed when `alpha` or `beta` is None.

    Shapes:
        over time: key, u (batch, time, *hidden_shape) -> spikes of that shape, alone.
        one step: u (batch, *hidden_shape), `NoisyState` with membrane `State(v, i)` -> spikes, `NoisyState`.

    Raises:
        TypeError: no key; the arguments in the order `(u, key)`.
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape; a state without a key.

    Example:
        >>> layer = StochasticAssociativeCuBaLIF(2, alpha=0.5, beta=0.5)
        >>> layer(jax.random.key(0), jnp.ones((1, 3, 2))).shape
        (1, 3, 2)

    Reference:
        Spyx.
    """

    affine, state = "always", dict(v=0.0, i=0.0)
    alpha, beta = decay(), decay()

    def __init__(
        self,
        hidden_shape: Shape,
        threshold: float = 1,
        k: float = 100,
        name: str = "SACuBaLIF",
        *,
        alpha: ParameterLike = None,
        beta: ParameterLike = None,
        grad: str = "probability",
        noise: nnx.Rngs | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        coin = refractory_sigmoid_bernoulli(k, threshold, grad=grad)
        super().__init__(hidden_shape, coin, noise=noise, name=name, alpha=alpha, beta=beta, rngs=rngs)

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        i = p.alpha * s.i + x
        v = p.beta * s.v + i
        return v, s._replace(v=v, i=i)

    def _answer(self, spikes: PerStep, v: PerStep) -> PerStep:
        return spikes
