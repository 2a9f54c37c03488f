"""`stepper`: one time step at a time on NumPy arrays, for streams: robots, event cameras, reinforcement learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.engine import device
from spyx.engine.jit_cache import cache
from spyx.engine.kernels import stepper_kernel
from spyx.engine.kernels.lane_program import Unsupported
from spyx.engine.plan import Plan
from spyx.nn._layer import Layer, Stateless, _token, as_layer, step_shape
from spyx.nn._linear_and_conv import Product, has_own_product
from spyx.nn._neuron import Neuron
from spyx.nn._parameters import UNCHANGING
from spyx.nn._run import Explanation
from spyx.nn._sequential import Flatten, Sequential

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Integer, Num, PyTree

    from spyx.engine.types import Data, Input, Leaves, Output, State, Structure
    from spyx.nn._layer import Model

WHO = "spyx.nn.stepper"
SPIKES = (np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.bool_))
"""What a native step reads."""


def stepper(model: Model, batch_size: int = 1, *, check_finite: bool = False) -> Stepper:
    """A compiled step that holds the state of a model: `out[t] = step(x[t])` on NumPy arrays, as `run` computes it.

    A chain of `Linear`, `Flatten` and neurons, recurrent ones with a dense weight included, is one native call on
    buffers that are allocated once (extra `cpu`): a product adds the rows of its kernel that active inputs name, and a
    neuron is a kernel generated from its `step`. Everything else is one jitted step of JAX; `plan` says which, and why.

    The numbers are those of `run` up to the order of sums: membranes agree to about 1e-6 of their size, so that a spike
    can only differ where a membrane is that close to the threshold. In a native step, a zero times a weight that is not
    finite counts as zero.

    Args:
        model: as for `run`. Its parameters are copied; `update` copies them again.
        batch_size: samples in every step; default 1.
        check_finite: refuse an input that holds NaN, at every step. Default False: NaN spreads through the state.

    Returns:
        A `Stepper`: call it once per time step.

    Raises:
        TypeError: as `run`.
        ValueError: a batch size below 1; layers that do not fit; a layer that needs all of time in one call.

    Example:
        >>> from spyx import nn
        >>> step = nn.stepper(nn.Sequential(nn.Linear(3, 2, rngs=nnx.Rngs(0)), nn.LIF(2, beta=0.9)))
        >>> step(np.array([[0.0, 1.0, 0.0]], np.float32)).shape
        (1, 2)
        >>> step.events([1]).shape
        (1, 2)
    """
    return Stepper(model, batch_size, check_finite=check_finite)


class Stepper:
    """What `stepper` returns: call it with the input of one time step, and it returns the output of that step.

    One stepper is one stream: it is not meant for two threads at once. A native step releases Python's global lock, so
    that steppers in several threads run side by side.

    Args:
        model: as for `stepper`.
        batch_size: as for `stepper`.
        check_finite: as for `stepper`.

    Shapes:
        x (batch, *features) -> out (batch, *features').

    Example:
        >>> from spyx import nn
        >>> step = Stepper(nn.LI(2, beta=0.5))
        >>> x = np.ones((1, 2), np.float32)
        >>> [step(x)[0, 0].item() for _ in range(3)]
        [1.0, 1.5, 1.75]
        >>> step.state.tolist()
        [[1.75, 1.75]]
        >>> step.reset()
        >>> step.plan
        LI  (1, 1, 2)  fused  one native step: a kernel generated from step
    """

    def __init__(self, model: Model, batch_size: int = 1, *, check_finite: bool = False) -> None:
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"{WHO}(batch_size=): expected at least 1 sample; got {batch_size!r}. Pass an int.")
        self._model, self._batch, self._check_finite = model, int(batch_size), check_finite
        self._step = _made(model, self._batch)

    @property
    def plan(self) -> Explanation:
        """What runs, a `Plan` per layer: mode "fused" for the native step, "step" for JAX's, and why."""
        return self._step.plan

    def __call__(
        self, x: PyTree[Num[ArrayLike, "batch ..."]], *, out: np.ndarray | None = None
    ) -> PyTree[Num[np.ndarray, "batch ..."]]:
        """One time step.

        Args:
            x: (batch, *features): float32, uint8 or bool.
            out: array that the output is written to and that is returned; None (default) returns a new one.

        Raises:
            TypeError: an array of another dtype.
            ValueError: an array of another shape; NaN where `check_finite` looks for it.
        """
        if self._check_finite:
            _refuse_nan(x)
        if out is not None:
            _check_out(out, self._step.out)
        return _given(self._step.dense(x), out)

    def events(
        self, indices: Sequence[int] | Integer[np.ndarray, " active"], *, out: np.ndarray | None = None
    ) -> PyTree[Num[np.ndarray, "1 ..."]]:
        """One time step on an input that is 1 at `indices` and 0 elsewhere, for a batch of 1.

        Args:
            indices: 1-D array of integers, every active input once. Several axes of features count row by row.
            out: as for a call.

        Raises:
            TypeError: indices that are no integers.
            ValueError: an index out of range or given twice; a batch of more than 1. Then no step was made.
        """
        if self._batch != 1:
            raise ValueError(f"{WHO}.events: expected a batch of 1; got one of {self._batch}. Call it with an array.")
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.dtype.kind not in "iu" and indices.size):
            raise TypeError(
                f"{WHO}.events: expected a 1-D array of integers; got {indices.dtype} of shape {indices.shape}. "
                "Call the stepper itself with spikes, or pass np.flatnonzero(spikes)."
            )
        if out is not None:
            _check_out(out, self._step.out)
        return _given(self._step.events(indices), out)

    @property
    def state(self) -> State | None:
        """The state after the last step, as `run` takes and returns it: a copy, in NumPy arrays.

        Assign such a state to go on from it; to assign None is `reset`. It is None before the first step of a model
        whose state depends on the shape of its input.
        """
        return jax.tree.map(_as_numpy, self._step.state)

    @state.setter
    def state(self, state: State | None) -> None:
        if state is None:
            self.reset()
        else:
            self._step.accept(state)

    def reset(self) -> None:
        """Back to the state before the first step."""
        self._step.reset()

    def update(self, model: Model | None = None) -> None:
        """Copy the parameters again, after a training step for example; the state stays.

        Args:
            model: a model with the same state; None (default) is the one that the stepper was made of.

        Raises:
            ValueError: a model with another state.
        """
        model = self._model if model is None else model
        step, state = _made(model, self._batch), self.state
        if state is not None:
            step.accept(state)
        if isinstance(step, _Jitted) and isinstance(self._step, _Jitted):
            step.learn(self._step)
        self._model, self._step = model, step


class _Native:
    """A chain as one native call."""

    def __init__(
        self,
        layer: Layer,
        shape: tuple[int, ...],
        stages: list[stepper_kernel.Product | stepper_kernel.Lanes],
        plan: Explanation,
        flat: bool,
    ) -> None:
        out = step_shape(layer, jax.ShapeDtypeStruct(shape, jnp.float32))  # refuses layers that do not fit
        self.plan, self._shape, self._flat = plan, shape, flat
        self._chain = stepper_kernel.Chain(shape, stages)
        self._x, self.out = self._chain.x.reshape(shape), self._chain.y.reshape(out.shape)
        leaves, self._tree = jax.tree.flatten(layer.initial_state(shape[0]))
        self._rest = [np.array(leaf) for leaf in leaves]

    def dense(self, x: Data) -> np.ndarray:
        x = np.asarray(x)
        if x.shape != self._shape:
            if not self._flat or x.shape[:1] != self._shape[:1] or x.size != self._x.size:
                raise _wrong_shape(x, self._shape)
            x = x.reshape(self._shape)
        if x.dtype not in SPIKES:
            raise _wrong_dtype(x)
        self._x[...] = x
        self._chain.advance()
        return self.out

    def events(self, indices: np.ndarray) -> np.ndarray:
        if indices.size > self._x.size or not self._chain.advance_by_events(indices):
            raise _wrong_indices(indices, self._x.size)
        return self.out

    @property
    def state(self) -> State:
        return jax.tree.unflatten(self._tree, self._chain.states)

    def accept(self, state: State) -> None:
        for mine, given in zip(self._chain.states, _checked_state(state, self.state), strict=True):
            mine[...] = given

    def reset(self) -> None:
        for mine, rest in zip(self._chain.states, self._rest, strict=True):
            mine[...] = rest


class _Jitted:
    """A model of whatever layers as one jitted step of JAX."""

    def __init__(self, layer: Layer, batch: int, features: tuple[int, ...] | None, plan: Explanation) -> None:
        if any(isinstance(module, Layer) and module.whole_time for _, module in nnx.iter_modules(layer)):
            raise ValueError(
                f"{WHO}: expected a model that runs step by step; got a layer that needs all of time in one call. "
                "Use spyx.nn.run."
            )
        self.plan, self._layer, self._batch, self._features = plan, layer, batch, features
        self.out: Output | None = None
        graphdef, weights, changing = nnx.split(layer, UNCHANGING, ...)
        self._weights, of_weights = jax.tree.flatten(jax.tree.map(_copied, weights))
        self._changing, of_changing = jax.tree.flatten(jax.tree.map(_copied, changing))
        self._step = _jitted(graphdef, of_weights, of_changing, _token(layer))
        self.reset()

    def dense(self, x: Data) -> Output:
        x = jax.tree.map(np.asarray, x)
        for leaf in jax.tree.leaves(x):
            if leaf.shape[:1] != (self._batch,):
                raise _wrong_shape(leaf, (self._batch, "*features"))
            if leaf.dtype != jax.dtypes.canonicalize_dtype(leaf.dtype):
                raise _wrong_dtype(leaf)
        if self.state is None:
            self.state = jax.tree.map(_copied, self._layer.state_for(x))
        self.out, self.state, self._changing = self._step(self._weights, self._changing, self.state, x)
        self._features = getattr(x, "shape", (self._batch,))[1:]
        return self.out

    def events(self, indices: np.ndarray) -> Output:
        if self._features is None:
            raise ValueError(
                f"{WHO}.events: expected a model whose first layer tells the shape of its input; got another one. "
                "Call the stepper with an array first."
            )
        x = np.zeros(math.prod(self._features), np.float32)
        if indices.size:
            if indices.min() < 0 or indices.max() >= x.size or np.unique(indices).size < indices.size:
                raise _wrong_indices(indices, x.size)
            x[indices] = 1
        return self.dense(x.reshape(1, *self._features))

    def accept(self, state: State) -> None:
        leaves, tree = jax.tree.flatten(state)
        if self.state is not None:
            leaves, tree = _checked_state(state, self.state), jax.tree.structure(self.state)
        self.state = jax.tree.unflatten(tree, map(_copied, leaves))

    def learn(self, before: _Jitted) -> None:
        """The shapes that steps have told so far."""
        self.out, self._features = before.out, before._features

    def reset(self) -> None:
        at_rest = None if self._layer.state_needs_input else self._layer.initial_state(self._batch)
        self.state = jax.tree.map(_copied, at_rest)


@cache(64)
def _jitted(
    graphdef: nnx.GraphDef, of_weights: Structure, of_changing: Structure, token: object
) -> Callable[[Leaves, Leaves, State, Input], tuple[Output, State, Leaves]]:
    """`(weights, changing, state, x) -> (out, state', changing')`, one for equal networks; variables are flat lists."""

    @partial(jax.jit, donate_argnums=(1, 2))
    def step(weights: Leaves, changing: Leaves, state: State, x: Input) -> tuple[Output, State, Leaves]:
        variables = jax.tree.unflatten(of_weights, weights), jax.tree.unflatten(of_changing, changing)
        layer: Layer = nnx.merge(graphdef, *variables, copy=True)
        out, state = layer(x, state)
        return out, state, jax.tree.leaves(nnx.split(layer, UNCHANGING, ...)[2])

    return step


def _made(model: Model, batch: int) -> _Native | _Jitted:
    """The decision between the two, and its plan."""
    layer = as_layer(WHO, model)
    if isinstance(layer, Stateless):
        raise TypeError(
            f"{WHO}: expected a model with initial_state(batch_size); got {layer._kind}. "
            "Wrap layers without state in spyx.nn.Sequential(...)."
        )
    layers = list(_layers(layer))
    features = _features([inner for _, inner in layers])
    reason = None if device.has_compiler() else device.NO_COMPILER
    if reason is None and features is not None:
        try:
            stages, plan = _stages(layers, (batch, *features))
            return _Native(layer, (batch, *features), stages, plan, _is_flatten(layers[0][1]))
        except Unsupported as found:
            reason = str(found)
    reason = reason or f"{_named(*layers[0])} has no kernel for one step"
    why = f"one jitted step of JAX: {reason}"
    plan = Explanation(Plan(inner._kind, (1, batch), "step", why) for _, inner in layers)
    return _Jitted(layer, batch, features, plan)


def _layers(layer: Layer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """The layers of a chain with their paths, those of chains inside it included; what is no chain is one layer."""
    if type(layer).__call__ is not Sequential.__call__:
        yield path, layer
        return
    for index, inner in enumerate(layer.layers):  # type: ignore[attr-defined]
        yield from _layers(as_layer(WHO, inner), (*path, str(index)))


def _features(layers: list[Layer]) -> tuple[int, ...] | None:
    """The shape of one sample of the input, as far as the first layer tells it."""
    first = next((layer for layer in layers if not _is_flatten(layer)), None)
    if isinstance(first, Neuron):
        return first.hidden_shape
    if isinstance(first, Product) and isinstance(first.module, nnx.Linear):
        return (first.module.in_features,)
    return None


def _is_flatten(layer: Layer) -> bool:
    return isinstance(layer, Stateless) and type(layer.module) is Flatten


def _stages(
    layers: list[tuple[tuple[str, ...], Layer]], shape: tuple[int, ...]
) -> tuple[list[stepper_kernel.Product | stepper_kernel.Lanes], Explanation]:
    """What the native step does, and its plan, for input of this shape.

    Raises:
        Unsupported: a layer that it cannot do.
    """
    stages, plan = [], Explanation()
    for path, layer in layers:
        try:
            stage, what = _stage(layer, shape[0])
        except Unsupported as reason:
            raise Unsupported(f"{_named(path, layer)} has no kernel for one step, {reason}") from reason
        plan.append(Plan(layer._kind, (1, *shape), "fused", f"one native step: {what}"))
        if isinstance(stage, stepper_kernel.Product):
            shape = (*shape[:-1], stage.weight.shape[1])
        elif stage is None:
            shape = (shape[0], math.prod(shape[1:]))
        stages += [] if stage is None else [stage]
    return stages, plan


def _stage(layer: Layer, batch: int) -> tuple[stepper_kernel.Product | stepper_kernel.Lanes | None, str]:
    if isinstance(layer, Product) and isinstance(layer.module, nnx.Linear):
        module = layer.module
        if has_own_product(module, jnp.float32):
            raise Unsupported("which has a __call__, a dtype or a product of its own")
        bias = None if module.bias is None else np.asarray(module.bias[...], np.float32)
        return stepper_kernel.Product(
            np.asarray(module.kernel[...]), bias
        ), "adds the rows of its kernel that spikes name"
    if _is_flatten(layer):
        return None, "nothing to do, samples are flat in memory"
    if not isinstance(layer, Neuron) or type(layer).__call__ is not Neuron.__call__:
        raise Unsupported("which only Linear, Flatten and neurons have")
    s = layer.initial_state(batch)
    p, x = layer.params().astype(jnp.float32), jax.ShapeDtypeStruct((batch, *layer.hidden_shape), jnp.float32)
    step = layer._checked_step(p, jax.ShapeDtypeStruct((1, *x.shape), x.dtype), s, x.dtype)
    return stepper_kernel.lanes(step, p, x, s), "a kernel generated from step"


def _named(path: tuple[str, ...], layer: Layer) -> str:
    return f"layer {'.'.join(path)} ({layer._kind})" if path else layer._kind


def _given(found: Output, out: np.ndarray | None) -> PyTree[np.ndarray]:
    """The output in an array of the caller's own."""
    if out is None:
        return found.copy() if type(found) is np.ndarray else jax.tree.map(np.array, found)
    np.copyto(out, found)
    return out


def _as_numpy(leaf: Array | np.ndarray) -> Array | np.ndarray:
    return leaf.copy() if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.array(leaf)


def _copied(leaf: ArrayLike) -> Array:
    """A copy of JAX's own: buffers are given away in every step."""
    return leaf.copy() if isinstance(leaf, jax.Array) else jnp.array(leaf)


def _checked_state(state: State, like: State) -> Leaves:
    """Its leaves."""
    leaves, structure = jax.tree.flatten(state)
    if structure != jax.tree.structure(like):
        raise ValueError(
            f"{WHO}.state: expected a state of this model, {jax.tree.structure(like)}; got {structure}. "
            "Take the one that spyx.nn.run or the stepper returned."
        )
    for given, mine in zip(leaves, jax.tree.leaves(like), strict=True):
        got = (getattr(given, "shape", None), getattr(given, "dtype", type(given).__name__))
        if got != (mine.shape, mine.dtype):
            raise ValueError(
                f"{WHO}.state: expected an array of shape {mine.shape} and dtype {mine.dtype}; got {got[0]} and "
                f"{got[1]}. Take the state of a run with the same batch."
            )
    return leaves


def _check_out(out: np.ndarray, like: np.ndarray | Output | None) -> None:
    """`like` is None before the first step of a model that is not native."""
    if not isinstance(out, np.ndarray) or (like is not None and (out.shape, out.dtype) != (like.shape, like.dtype)):
        expected = "a NumPy array" if like is None else f"a NumPy array of shape {like.shape} and dtype {like.dtype}"
        got = f"{out.shape} and {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"{WHO}(out=): expected {expected}; got {got}. Take one that the stepper returned.")


def _refuse_nan(x: Data) -> None:
    for leaf in map(np.asarray, jax.tree.leaves(x)):
        if leaf.dtype.kind == "f" and (count := int(np.isnan(leaf).sum())):
            raise ValueError(
                f"{WHO}(check_finite=): expected input without NaN; got {count} of {leaf.size} values NaN. "
                "Drop or fill the missing values first."
            )


def _wrong_shape(x: np.ndarray, expected: tuple[int | str, ...]) -> ValueError:
    return ValueError(
        f"{WHO}: expected the input of one step, ({', '.join(map(str, expected))}); got shape {x.shape}. "
        "Add the batch axis with x[None], or give batch_size= another value."
    )


def _wrong_dtype(x: np.ndarray) -> TypeError:
    return TypeError(
        f"{WHO}: expected input of dtype float32, uint8 or bool; got {x.dtype}. Write x.astype(np.float32)."
    )


def _wrong_indices(indices: np.ndarray, size: int) -> ValueError:
    outside = indices[(indices < 0) | (indices >= size)]
    if outside.size:
        return ValueError(
            f"{WHO}.events: expected indices from 0 to {size - 1}; got {outside[0]}. Count the features row by row."
        )
    values, counts = np.unique(indices, return_counts=True)
    return ValueError(
        f"{WHO}.events: expected every active input once; got {values[np.argmax(counts)]} {counts.max()} times. "
        "Use np.unique(indices)."
    )
