"""`Delayed`: a connection whose inputs arrive later, each after a delay of its own that may be learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.engine import delays as lagged
from spyx.engine import events
from spyx.engine.derivative import together
from spyx.engine.masks import last_of_each
from spyx.nn._delay_arguments import OWNER, checked_delay, checked_width, positions, whole
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._fields import Within
from spyx.nn._layer import Layer, as_layer
from spyx.nn._linear_and_conv import has_own_product, like_conv, on_each_device
from spyx.nn._parameters import Constant, hidden_shape_of

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, DTypeLike, Float, Num

    from spyx.nn._fields import Initializer
    from spyx.nn._parameters import Shape

M = TypeVar("M", bound=nnx.Module)
Connection = TypeVar("Connection", nnx.Linear, nnx.Conv)

PER = ("synapse", "source", "target")
KERNELS = ("gauss", "triangle", "fixed")
NARROWEST = 0.27
"""Standard deviation of DCLS's Gaussian of width 0, in steps."""


class Delays(nnx.Param):
    """Learned delays in time steps: a parameter of a kind of its own, for a learning rate of its own.

    `nnx.state(model, nn.Delays)` finds them, `spyx.optimize.parameter_kinds` labels them.

    Example:
        >>> from spyx import nn
        >>> layer = nn.Delayed(nn.Linear(2, 3, rngs=nnx.Rngs(0)), 5, rngs=nnx.Rngs(1))
        >>> [leaf.shape for leaf in jax.tree.leaves(nnx.state(layer, nn.Delays))]
        [(2, 3)]
    """


class Width(Constant):
    """The width of the kernels of a `Delayed`, in steps; `spyx.nn.set_width` sets it.

    Example:
        >>> from spyx import nn
        >>> float(nn.Delayed(2, 8, delays=4.0).width[...])
        4.0
    """


class Delayed(Layer):
    """A connection with delays: `y_j[t] = b_j + sum_i sum_l w_ij k(l; d_ij) x_i[t - l]`, lags l from 0 to `max_delay`.

    `d` is a position in time steps, trained by gradients; the kernel `k` spreads it over neighbouring lags:

    - "gauss", of DCLS: `k(l; d) = exp(-((l - d) / s)^2 / 2) / c`, `s = |width| + 0.27`, with c the sum of the
      exponentials over all lags, and 1e-7.
    - "triangle", of DelRec: `k(l; d) = max(0, s - |l - d|) / s^2`, `s = 1 + width`, or
      `s = 1 + 2 width sigmoid(p)` with a trained p where `spread=True`. What of it lies outside the lags is lost.
    - "fixed": `k(l; d) = 1` where l = d, whole numbers that are not trained.

    `set_width` narrows the kernels during training, `rounded` returns the layer with the nearest fixed delays. An
    input acts `d` steps after the step that it came in; a delay of 0 is the plain connection. Positions stay in
    [0, `max_delay`]: they are clipped where they are used, with the gradient of the identity so that none gets stuck
    at an end, and `spyx.optimize` stores them clipped after every update.

    Args:
        connection: `nn.Linear`, `nn.Conv` or Flax's; or a shape, int or tuple: every unit then waits by itself.
        max_delay: longest delay in time steps, 1 or more.
        per: "synapse" (default), a delay for every weight; "source", for every feature that comes in; "target", for
            every feature that goes out. "source" and "target" cost one product of the connection, "synapse" one per
            lag or less.
        kernel: "gauss" (default), "triangle" or "fixed".
        delays: where the positions start: a number, an array, or an initialiser `(key, shape) -> array`, whose values
            are clipped to the range; None (default) is uniform in [0, max_delay], with `rngs`.
        width: in time steps, 0 or more; None (default) is half of `max_delay`, where DCLS starts.
        spread: "triangle" only: a trained p for every feature that comes in, or for "target" that goes out. Default
            False.
        rngs: needed where the positions start from a random draw.

    Shapes:
        x (batch, *features) -> what the connection returns. State: (batch, max_delay, *features), the last inputs,
        oldest first; for "target" the last currents. `delays`: the kernel's shape, (features in,) or (features out,).

    Raises:
        TypeError: another connection; a `max_delay` that is not an int.
        ValueError: an argument out of its range; no `rngs` for a random draw; an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> late = nn.Delayed(2, 3, kernel="fixed", delays=[0, 2])
        >>> spikes = jnp.zeros((1, 4, 2)).at[0, 0].set(1.0)
        >>> nn.run(late, spikes)[0][0].T.tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]

    Reference:
        DCLS: Hammouamri, Khalfaoui-Hassani & Masquelier 2024, arXiv:2306.17670, one position per synapse. DelRec:
        Queant et al. 2025, arXiv:2509.24852. Both store a position as here; DCLS counts it from the middle of the lags.
    """

    at_once = True

    def __init__(
        self,
        connection: nnx.Linear | nnx.Conv | Shape,
        max_delay: int,
        per: str = "synapse",
        kernel: str = "gauss",
        *,
        delays: ArrayLike | Sequence[float] | Initializer | None = None,
        width: float | None = None,
        spread: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.max_delay = checked_delay(max_delay)
        for name, value, known in (("per", per, PER), ("kernel", kernel, KERNELS)):
            if value not in known:
                raise ValueError(
                    f"{OWNER}({name}=): expected one of {', '.join(known)}; got {value!r}. Use {known[0]!r}."
                )
        if spread and kernel != "triangle":
            raise ValueError(f"{OWNER}(spread=): expected kernel='triangle'; got {kernel!r}. Leave spread out.")
        if kernel == "fixed" and width is not None:
            raise ValueError(f"{OWNER}(width=): expected None for kernel='fixed'; got {width!r}. Leave width out.")
        # A shape, or nnx.Linear or nnx.Conv where `_has_product` says so.
        self.connection: Any = _checked_connection(connection, per)
        self.per = per if self._has_product else "source"
        self.kernel = kernel
        value = positions(delays, self._positions_shape(), self.max_delay, rngs)
        if kernel == "fixed":
            self.delays: nnx.Variable = Constant(whole(value, drawn=delays is None or callable(delays)))
            self.spread: nnx.Param | None = None
            return
        self.delays = Delays(value, constraint=Within(0.0, float(self.max_delay)))
        self.width = Width(checked_width(OWNER, self.max_delay / 2 if width is None else width))
        shape = value.shape[-2:-1] if self.per == "synapse" else value.shape
        self.spread = nnx.Param(jnp.zeros(shape, value.dtype)) if spread else None

    @property
    def _has_product(self) -> bool:
        return isinstance(self.connection, nnx.Module)

    @property
    def _widths(self) -> tuple[int | None, int | None]:
        if self._has_product:
            return self.connection.in_features, self.connection.out_features
        return self.connection[-1], self.connection[-1]

    @property
    def _kind(self) -> str:
        inner = type(self.connection).__name__ if self._has_product else self.connection
        return f"Delayed({inner})"

    @property
    def state_needs_input(self) -> bool:
        """A convolution takes images of any size."""
        return isinstance(self.connection, nnx.Conv)

    def initial_state(self, batch_size: int, dtype: DTypeLike = jnp.float32) -> Float[Array, "batch past *features"]:
        """Nothing on its way: zeros. Its dtype is the one that is computed in."""
        if self.state_needs_input:
            raise ValueError(
                f"{OWNER}: expected an input to make a state for, because a convolution takes images of any size; "
                "got a batch size alone. Use state_for(x[:, 0]), or run(model, x), which does."
            )
        if self._has_product:
            features: tuple[int, ...] = (self._widths[self.per == "target"],)  # type: ignore[assignment]
        else:
            features = self.connection
        return jnp.zeros((batch_size, self.max_delay, *features), dtype)

    def state_for(
        self, x: Num[Array, "batch *features"] | jax.ShapeDtypeStruct
    ) -> Float[Array, "batch past *features"]:
        """The state for input like `x`: one time step, or its `jax.ShapeDtypeStruct`."""
        if not self.state_needs_input:
            return self.initial_state(x.shape[0])
        features = x.shape[1:]
        if self.per == "target":
            signal = jax.ShapeDtypeStruct((1, *x.shape), self.connection.kernel.dtype)
            features = jax.eval_shape(lambda x: self._product(x, bias=False), signal).shape[2:]
        return jnp.zeros((x.shape[0], self.max_delay, *features), jnp.float32)

    def __call__(
        self, x: Num[Array, "batch *features"], state: Float[Array, "batch past *features"]
    ) -> tuple[Num[Array, "batch *features_out"], Float[Array, "batch past *features"]]:
        """One time step: `(x, state) -> (out, new state)`."""
        outs, state = self.sequence(x[None], state)
        return outs[0], state

    @takes_masks
    def sequence(
        self, xs: Num[Array, "time batch *features"], state: Float[Array, "batch past *features"], how: Execution = AUTO
    ) -> tuple[Num[Array, "time batch *features_out"], Float[Array, "batch past *features"]]:
        """All of time at once: `xs` is (time, batch, *features)."""
        if how.watched(self) is not None or (how.mask is not None and not how.mask.ends):
            return super().sequence(xs, state, how)
        self._check(xs, state)
        xs = how.alive(xs)
        dtype, quiet = state.dtype, replace(how, recorder=None, tap=None)
        signal = self.signal(xs.astype(dtype), quiet)
        self._check_state(state, signal)
        seen = jnp.concatenate([jnp.moveaxis(state, 1, 0), signal])
        skips = self._skips_zeros(xs, how)
        outs = self._arriving(seen) if skips else self.current(self.weights(dtype), seen, quiet)
        granted = how.mode == "fused" and (skips or self.per != "synapse")
        how.note(self, xs, "layer", self._why(xs, skips=skips), granted=granted)
        outs = outs.astype(xs.dtype) if jnp.issubdtype(xs.dtype, jnp.floating) else outs
        return how.alive(outs), last_of_each(seen, self.max_delay, how.mask)

    def signal(self, xs: Float[Array, "time batch *features"], how: Execution = AUTO) -> Float[Array, "time batch ..."]:
        """What travels: the inputs (time, batch, *features), for "target" the currents."""
        return self._product(xs, how, bias=False) if self.per == "target" else xs

    def weights(self, dtype: DTypeLike) -> Num[Array, "..."]:
        """What weighs the lags, once per sequence: kernels (lags, in, out), taps (lags, units), or fixed steps."""
        if self.kernel == "fixed" and self.per != "synapse":
            return self.delays[...]
        taps = self._taps(dtype)
        return taps if self.per != "synapse" else taps * self.connection.kernel[...].astype(dtype)[None]

    def current(
        self, weights: Num[Array, "..."], seen: Float[Array, "past+time batch ..."], how: Execution = AUTO
    ) -> Float[Array, "time batch *features_out"]:
        """The outputs for what came in, the `max_delay` steps before the first one included."""
        if self.per == "synapse":
            return self._with_bias(self._synapses(weights, seen))
        if self.kernel == "fixed":
            outs = lagged.shifted(seen, weights, self.max_delay + 1)
        else:
            outs = lagged.filtered(seen, weights)
        if not self._has_product:
            return outs
        return self._with_bias(outs) if self.per == "target" else self._product(outs, how)

    def _skips_zeros(self, xs: jax.Array, how: Execution) -> bool:
        """Fixed delays of synapses may be delivered spike by spike."""
        if self.kernel != "fixed" or self.per != "synapse" or not isinstance(self.connection, nnx.Linear):
            return False
        shape = (xs.shape[0], self.max_delay + 1, xs.shape[1], *self.connection.kernel.shape)
        return how.mode in ("auto", "fused") and events.may_skip(*shape)

    def _arriving(self, seen: jax.Array) -> jax.Array:
        weight = self.connection.kernel[...].astype(seen.dtype)
        return self._with_bias(events.delayed(seen, weight, self.delays[...], self.max_delay + 1))

    def rounded(self) -> Delayed:
        """This layer with its delays rounded to whole steps and fixed; its weights are copies."""
        return rounded(self)

    def _fix(self) -> None:
        """Round in place."""
        if self.kernel == "fixed":
            return
        held = self._held()
        self.kernel = "fixed"
        self.delays = Constant(jnp.round(held).astype(jnp.int32))
        del self.width
        if self.spread is not None:
            del self.spread
        self.spread = None

    def _held(self) -> jax.Array:
        stored = self.delays[...]
        clipped = jax.lax.stop_gradient(Within(0.0, float(self.max_delay))(stored))
        return clipped + (stored - jax.lax.stop_gradient(stored))  # plus 0: what is clipped stays exact

    def _taps(self, dtype: DTypeLike) -> Float[Array, "lags ..."]:
        if self.kernel == "fixed":
            lags = jnp.arange(self.max_delay + 1, dtype=jnp.int32)
            return (self._over_lags(lags) == self.delays[...][None]).astype(dtype)
        away = self._over_lags(jnp.arange(self.max_delay + 1, dtype=dtype)) - self._held().astype(dtype)[None]
        width = self.width[...].astype(dtype)
        if self.kernel == "gauss":
            bell = jnp.exp(-0.5 * (away / (jnp.abs(width) + NARROWEST)) ** 2)
            return bell / (bell.sum(0, keepdims=True) + 1e-7)
        reach = 1.0 + width
        if self.spread is not None:
            spread = jax.nn.sigmoid(self.spread[...].astype(dtype))
            beside = spread[:, None] if self.per == "synapse" else spread
            reach = 1.0 + 2.0 * width * beside.reshape((1,) * (away.ndim - beside.ndim) + beside.shape)
        # The distance with slope 0 at 0, the mean of both sides; that of `jnp.abs` is 1, which is one of them.
        return jnp.maximum(0.0, reach - away * jnp.sign(away)) / reach**2

    def _over_lags(self, lags: jax.Array) -> jax.Array:
        return lags.reshape(-1, *(1,) * self.delays[...].ndim)

    def _synapses(self, kernels: jax.Array, seen: jax.Array) -> jax.Array:
        if isinstance(self.connection, nnx.Linear):
            return lagged.dense(seen, kernels, exact=self.kernel == "fixed")
        connection: nnx.Conv = without_bias(self.connection)
        graphdef, variables = nnx.split(like_conv(connection))
        steps = seen.shape[0] - self.max_delay

        @jax.checkpoint
        def of_lag(kernel: jax.Array, window: jax.Array) -> jax.Array:
            module = nnx.merge(graphdef, variables, copy=True)
            module.kernel = nnx.Param(kernel)
            return on_each_device(lambda x, module: module(x), module, window)

        def body(total: jax.Array, lag: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            window = jax.lax.dynamic_slice_in_dim(seen, self.max_delay - lag[0], steps)
            return total + of_lag(lag[1], window), None

        shape = jax.eval_shape(of_lag, kernels[0], seen[:steps])
        lags = jnp.arange(self.max_delay + 1)
        start, seen, kernels = together(jnp.zeros(shape.shape, shape.dtype), seen, kernels)
        return jax.lax.scan(body, start, (lags, kernels))[0]

    def _product(self, xs: jax.Array, how: Execution = AUTO, *, bias: bool = True) -> jax.Array:
        module = self.connection if bias else without_bias(self.connection)
        return as_layer(OWNER, module).sequence(xs, None, how)[0]

    def _with_bias(self, outs: jax.Array) -> jax.Array:
        bias = self.connection.bias
        return outs if bias is None else outs + bias[...].astype(outs.dtype).reshape((1,) * (outs.ndim - 1) + (-1,))

    def _positions_shape(self) -> tuple[int, ...]:
        if not self._has_product:
            return self.connection
        if self.per == "synapse":
            return tuple(self.connection.kernel.shape)
        return (self._widths[self.per == "target"],)  # type: ignore[return-value]

    def _why(self, xs: jax.Array, *, skips: bool) -> str:
        lags = self.max_delay + 1
        if skips:
            return f"{lags} lags, spike by spike where few entries of the input are not zero, else one convolution"
        if self.per == "synapse":
            if isinstance(self.connection, nnx.Conv):
                return f"one convolution for each of {lags} lags, over all of time"
            shape = (xs.shape[0], lags, xs.shape[1], *self.connection.kernel.shape)
            if self.kernel != "fixed" and lagged.by_frequency(*shape):
                return f"{lags} lags at once, by products of frequencies"
            return f"one convolution over time with {lags} lags"
        what = "one shifted read" if self.kernel == "fixed" else f"a weighted sum of {lags} shifted inputs"
        product = "" if not self._has_product else ", and one product over all of time"
        return what + product

    def _check(self, xs: jax.Array, state: jax.Array) -> None:
        features = (self._widths[0],) if self._has_product else self.connection
        rank = 1 + len(self.connection.kernel_size) if self.state_needs_input else len(features)
        if xs.ndim != 2 + rank or xs.shape[-len(features) :] != features:
            shape = ", ".join(("batch", *("..." for _ in range(rank > len(features))), *map(str, features)))
            raise ValueError(
                f"{OWNER}: expected input of shape ({shape}); got {xs.shape[1:]}. Change the connection, or what "
                "feeds it."
            )

    def _check_state(self, state: jax.Array, signal: jax.Array) -> None:
        expected = (signal.shape[1], self.max_delay, *signal.shape[2:])
        if getattr(state, "shape", None) != expected or not jnp.issubdtype(state.dtype, jnp.floating):
            got = f"{state.shape} {state.dtype}" if hasattr(state, "shape") else type(state).__name__
            raise ValueError(
                f"{OWNER}: expected a floating state of shape {expected}; got {got}. Make it with state_for(x[:, 0])."
            )


def rounded(model: M) -> M:
    """A copy of a network whose learned delays are rounded to whole steps and fixed: what is evaluated and exported.

    Args:
        model: a layer or a network; every `Delayed` in it, at any depth, is rounded.

    Returns:
        A network of the same structure with weights of its own.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.Delayed(2, 3, delays=[0.2, 1.7]), nn.LIF(2, rngs=nnx.Rngs(0)))
        >>> nn.rounded(net).layers[0].delays[...].tolist()
        [0, 2]
    """
    copy = nnx.clone(model)
    for layer in _all_delayed(copy):
        layer._fix()
    return copy


def set_width(model: nnx.Module, width: ArrayLike) -> None:
    """Set the width of the kernels of every `Delayed` in a network, in place; fixed delays have none.

    Args:
        model: a layer or a network.
        width: in time steps, 0 or more; 0 is the narrowest, close to a single step.

    Raises:
        ValueError: a width below 0.

    Example:
        >>> from spyx import nn
        >>> layer = nn.Delayed(2, 8, delays=4.0)
        >>> nn.set_width(layer, 1.5)
        >>> float(layer.width[...])
        1.5
    """
    width = checked_width("spyx.nn.set_width", width)
    for layer in _all_delayed(model):
        if layer.kernel != "fixed":
            layer.width.set_value(width.astype(layer.width[...].dtype))


def shrinking(epoch: Num[ArrayLike, ""], start: float, end: float = 0.23, *, epochs: float) -> Float[Array, ""]:
    """A width for `set_width` as a function of the epoch: `start (end / start)^min(epoch / epochs, 1)`.

    Args:
        epoch: counted from 0.
        start: width in epoch 0, in time steps, above 0.
        end: width from epoch `epochs` on, above 0. Default 0.23, as DCLS, whose Gaussian then has the standard
            deviation 0.5.
        epochs: how many it takes; DCLS takes a quarter of all.

    Raises:
        ValueError: an argument that is not above 0.

    Example:
        >>> [round(float(shrinking(epoch, 8.0, 0.5, epochs=4)), 2) for epoch in (0, 1, 2, 4, 9)]
        [8.0, 4.0, 2.0, 0.5, 0.5]
    """
    for name, value in (("start", start), ("end", end), ("epochs", epochs)):
        if not value > 0:
            raise ValueError(f"spyx.nn.shrinking({name}=): expected a number above 0; got {value!r}. Try 1.")
    done = jnp.minimum(jnp.asarray(epoch, jnp.float32) / epochs, 1.0)
    return start * jnp.float32(end / start) ** done


def _all_delayed(model: nnx.Module) -> list[Delayed]:
    return [module for _, module in nnx.iter_modules(model) if isinstance(module, Delayed)]


def without_bias(module: Connection) -> Connection:
    """The same connection on the same weights, without its bias."""
    if module.bias is None:
        return module
    same = nnx.merge(*nnx.split(module))
    same.bias, same.use_bias = nnx.data(None), False
    return same


def _checked_connection(connection: nnx.Linear | nnx.Conv | Shape, per: str) -> nnx.Linear | nnx.Conv | tuple[int, ...]:
    if isinstance(connection, (nnx.Linear, nnx.Conv)):
        if per == "synapse" and isinstance(connection, nnx.Linear) and has_own_product(connection, jnp.float32):
            raise ValueError(
                f"{OWNER}(connection=): expected `x kernel + bias` and no more for per='synapse'; got "
                f"{type(connection).__name__} with a product of its own. Use per='source'."
            )
        return connection
    if isinstance(connection, (int, np.integer, tuple, list)) and not isinstance(connection, bool):
        return hidden_shape_of(OWNER, connection)
    raise TypeError(
        f"{OWNER}(connection=): expected nn.Linear, nn.Conv or a shape; got {type(connection).__name__}. "
        "Put a Delayed of a shape before any other layer."
    )
