"""`Neuron`: the one description of a neuron. A subclass gives parameters, a resting state and one pure step."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import engine
from spyx.axn import superspike
from spyx.engine.params import Params
from spyx.nn.execution import Execution
from spyx.nn.parameters import Shape, as_rank, hidden_shape_of, public_name, unit_interval


class Neuron(nnx.Module):
    """Base of every neuron: write `state` and `step`, and it runs in every mode.

    `step(p, x, s) -> (out, s')` is one time step for a batch: `x` is (batch, *hidden_shape), `s` is the bare array
    when the state has one variable and `State(...)` (a NamedTuple) when it has several, `p` holds every number,
    parameter and function that the constructor stored on `self`. `p.spike` is the activation; `p.feedback(z)` is the
    recurrent current when there is a `recurrent_w`.

    Class attributes:
        state: name of each state variable and its resting value.
        affine: is the new state affine in the old one? "always", "given_spikes" (only once the spikes are known) or
            "never". Decides which parallel modes are legal; `spyx.testing.check_neuron` proves it.
        local: no unit reads another unit's state (no recurrent weights).
        clipped: names of the decays, clipped to [0, 1], whatever variable holds them.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        activation: a `spyx.axn` surrogate; None is `superspike()`.
        name: stored, for your own use.

    Shapes:
        x (batch, *hidden_shape) -> out (batch, *hidden_shape). `hidden_shape` may have any rank, so that a neuron
        sits on a feature map as well as on a dense layer.

    Raises:
        TypeError: `hidden_shape` is not made of ints, or `activation` is not callable.
        ValueError: a size below 1; an input or a state of another shape.

    Example:
        >>> class Leaky(Neuron):
        ...     state = dict(v=0.0)
        ...     affine = "given_spikes"
        ...     @staticmethod
        ...     def step(p, x, v):
        ...         z = p.spike(v - 1.0)
        ...         return z, 0.9 * v + x - z
        >>> layer = Leaky(3)
        >>> out, v = layer(jnp.ones((2, 3)), layer.initial_state(2))
        >>> v.shape
        (2, 3)
    """

    state: ClassVar[Mapping[str, float]] = MappingProxyType({"v": 0.0})
    affine: ClassVar[Literal["always", "given_spikes", "never"]] = "never"
    local: ClassVar[bool] = True
    clipped: ClassVar[tuple[str, ...]] = ()
    State: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "state" in vars(cls):
            cls.State = collections.namedtuple(f"{cls.__name__}State", tuple(cls.state), module=cls.__module__)
            cls.State.__qualname__ = f"{cls.__qualname__}.State"

    def __init__(
        self, hidden_shape: Shape, activation: Callable[..., Any] | None = None, *, name: str | None = None
    ) -> None:
        self.hidden_shape = hidden_shape_of(public_name(self), hidden_shape)
        self.activation = superspike() if activation is None else activation
        self.name = name
        if not callable(self.activation):
            raise TypeError(
                f"{public_name(self)}(activation=): expected a surrogate from spyx.axn; "
                f"got {activation!r}. For example spyx.axn.superspike()."
            )

    @staticmethod
    def step(p: Any, x: Any, s: Any) -> tuple[Any, Any]:
        """One time step: `(out, new state)` from the parameters, this step's input and the state before it."""
        raise NotImplementedError("spyx.nn.Neuron: write `step(p, x, s) -> (out, new_state)` in your subclass.")

    def params(self) -> Params:
        """What `step` sees as `p`. Constraints apply here: once per sequence, not once per time step."""
        arrays: dict[str, Any] = {}
        static: dict[str, Any] = {"spike": self.activation}
        rank = 1 + len(self.hidden_shape)
        for name, value in vars(self).items():
            if name.startswith("_"):
                continue
            if isinstance(value, nnx.Variable):
                own = unit_interval if name in self.clipped else None
                constraint = value.get_metadata().get("constraint", own)
                array = value[...]
                arrays[name] = as_rank(constraint(array) if constraint else array, rank)
            elif isinstance(value, (jax.Array, np.ndarray)):
                arrays[name] = as_rank(jnp.asarray(value), rank)
            elif name not in ("activation", "name") and not isinstance(value, nnx.Pytree):
                static[name] = self._static(name, value)
        return Params(arrays, static)

    def _static(self, name: str, value: Any) -> Any:
        try:
            hash(value)
        except TypeError as error:
            raise TypeError(
                f"{public_name(self)}.{name}: expected a number, an array, a function or an nnx.Param; "
                f"got {type(value).__name__}. Store sequences as tuples or arrays."
            ) from error
        return value

    def initial_state(self, batch_size: int, dtype: Any = jnp.float32) -> Any:
        """The resting state of `batch_size` samples. Its dtype is the one `step` computes in.

        Args:
            batch_size: number of samples, 0 or more.
            dtype: dtype of the state; keep float32 when inputs are bfloat16 or float16.
        """
        values = [jnp.full((batch_size, *self.hidden_shape), rest, dtype) for rest in self.state.values()]
        return values[0] if len(values) == 1 else self.State(*values)

    def __call__(self, x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """One time step: `(x, state) -> (out, new state)`; the output has the dtype of a floating `x`."""
        self._check(x.shape, state)
        dtype = _compute_dtype(state)
        out, state = self.step(self.params().astype(dtype), x.astype(dtype), state)
        return _like(out, x), state

    def sequence(self, xs: jax.Array, state: Any, how: Execution | None = None) -> tuple[jax.Array, Any]:
        """All of time at once: `xs` (time, batch, *hidden_shape) -> outputs of that layout and the last state."""
        self._check(xs.shape[1:], state)
        how = Execution() if how is None else how
        dtype = _compute_dtype(state)
        mode = how.choose(self, xs)
        narrow = mode == "fused" and jnp.issubdtype(xs.dtype, jnp.floating)  # a kernel reads bfloat16 as it is
        inputs = xs if narrow else xs.astype(dtype)
        outs, state = engine.MODES[mode](self.step, self.params().astype(dtype), inputs, state)
        return _like(outs, xs), state

    def _check(self, shape: tuple[int, ...], state: Any) -> None:
        """Broadcasting here would be a wrong network that runs, so shapes must match exactly."""
        who = public_name(self)
        if len(shape) != 1 + len(self.hidden_shape) or shape[1:] != self.hidden_shape:
            raise ValueError(
                f"{who}: expected input of shape (batch, {', '.join(map(str, self.hidden_shape))}); got {shape}. "
                f"Make the layer before it produce {self.hidden_shape}, or change hidden_shape."
            )
        expected = (shape[0], *self.hidden_shape)
        for leaf in jax.tree.leaves(state):
            if leaf.shape != expected:
                raise ValueError(
                    f"{who}: expected a state of shape {expected} for input of shape {shape}; got {leaf.shape}. "
                    f"Make it with initial_state({shape[0]})."
                )


def _compute_dtype(state: Any) -> Any:
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(state))
    return next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), jnp.float32)


def _like(out: jax.Array, x: jax.Array) -> jax.Array:
    return out.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else out
