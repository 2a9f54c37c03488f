"""`Neuron`: the one description of a neuron. A subclass gives parameters, a resting state and one pure step."""

from __future__ import annotations

import collections
import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

from spyx.axn import superspike
from spyx.engine import plan
from spyx.engine.derivative import together
from spyx.engine.params import Params
from spyx.nn import _constructor, _traits
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._fields import Field, Within
from spyx.nn._layer import Layer
from spyx.nn._parameters import Shape, as_rank, hidden_shape_of, public_name

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Float, Num, PyTree

    from spyx.engine.types import StateType, Step, Tree, Units

RESERVED = ("spike",)
"""Names in `p` that are not the neuron's to give."""


class Neuron(Layer):
    """Base of every neuron: write `state`, parameters and `step`, and it runs in every mode.

    `step(p, x, s) -> (out, s')` is one time step for a batch: `x` is (batch, *hidden_shape), `s` is the bare array
    when the state has one variable and `State(...)` (a NamedTuple) when it has several, `p` holds every declared
    parameter, and every number, parameter and function that a constructor stored on `self`. `p.spike` is the
    activation. Write the new state of several variables as `s._replace(v=...)`. `spyx.nn.Recurrent(neuron)` feeds a
    neuron back into itself.

    A parameter is declared as a class attribute, and becomes an argument of the constructor, in order, between
    `hidden_shape` and `activation`: `beta = decay()`, `gain = positive(1.0)` and `bias = per_unit(0.0)` train,
    `threshold = constant(1.0)` and the annotated `a: float = 0.02` do not. The `Args` of the docstring are written for
    you. A class may have a constructor of its own, which passes the values of its fields on by name.

    Class attributes:
        state: name of each state variable and its resting value.
        affine: is the new state affine in the old one? "always", "given_spikes" (only once the spikes are known) or
            "never". Decides which parallel modes are legal; `spyx.testing.check_neuron` proves it.
        local: no unit reads another unit's state (no recurrent weights).
        clipped: names of undeclared parameters that are clipped to [0, 1], whatever variable holds them.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        activation: a `spyx.axn` surrogate; None is `superspike()`.
        rngs: needed when a field starts from a random draw.
        name: stored, for your own use.
        values: of the fields, by name; those that are left out take their default.

    Shapes:
        x (batch, *hidden_shape) -> out (batch, *hidden_shape). `hidden_shape` may have any rank, so that a neuron
        sits on a feature map as well as on a dense layer.

    Raises:
        TypeError: `hidden_shape` is not made of ints, or `activation` is not callable; an unknown argument.
        ValueError: a size below 1; an input or a state of another shape.

    Example:
        >>> from spyx import nn
        >>> class Leaky(nn.Neuron):
        ...     state = dict(v=0.0)
        ...     affine = "given_spikes"
        ...     beta = nn.decay(default=0.9)
        ...     @staticmethod
        ...     def step(p, x, v):
        ...         z = p.spike(v - 1.0)
        ...         return z, p.beta * v + x - z
        >>> layer = Leaky(3)
        >>> out, v = layer(jnp.ones((2, 3)), layer.initial_state(2))
        >>> v.shape
        (2, 3)
    """

    state: ClassVar[Mapping[str, float]] = MappingProxyType({"v": 0.0})
    affine: ClassVar[Literal["always", "given_spikes", "never"]] = "never"
    local: ClassVar[bool] = True
    clipped: ClassVar[tuple[str, ...]] = ()
    State: ClassVar[StateType]
    hidden_shape: tuple[int, ...]
    activation: Callable[..., Array]
    name: str | None
    _fields: ClassVar[Mapping[str, Field]] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = tuple(cls.state) if isinstance(cls.state, Mapping) else ()
        if names and names != getattr(getattr(cls, "State", None), "_fields", None):
            state = collections.namedtuple("State", names, module=cls.__module__)
            state.__name__ = f"{cls.__name__}State"  # a class of `type(name, ...)` may have any name
            state.__qualname__ = f"{cls.__qualname__}.State"
            cls.State = state  # type: ignore[assignment]
        _construct(cls)

    if TYPE_CHECKING:  # what a subclass takes follows from its fields, which no type checker reads

        def __init__(self, hidden_shape: Shape, *args: object, **kwargs: object) -> None: ...

    else:

        def __init__(self, hidden_shape, activation=None, *, rngs=None, name=None, **values) -> None:
            _check_class(type(self))
            self.hidden_shape = hidden_shape_of(public_name(self), hidden_shape)
            self.activation = superspike() if activation is None else activation
            self.name = name
            if not callable(self.activation):
                raise TypeError(
                    f"{public_name(self)}(activation=): expected a surrogate from spyx.axn; "
                    f"got {activation!r}. For example spyx.axn.superspike()."
                )
            _constructor.fill(self, self._fields, values, rngs)

    @staticmethod
    def step(p: Params, x: Units, s: PyTree[Units], /) -> tuple[Units, PyTree[Units]]:
        """One time step: `(out, new state)` from the parameters, this step's input and the state before it."""
        raise NotImplementedError("spyx.nn.Neuron: write `step(p, x, s) -> (out, new_state)` in your subclass.")

    def params(self) -> Params:
        """What `step` sees as `p`. Constraints apply here: once per sequence, not once per time step."""
        arrays: dict[str, Array] = {}
        static: dict[str, Hashable] = {"spike": self.activation}
        rank = 1 + len(self.hidden_shape)
        for name, value in vars(self).items():
            if name.startswith("_"):
                continue
            if name in RESERVED:
                raise ValueError(
                    f"{public_name(self)}.{name}: expected another name; got one that p has already: p.spike is the "
                    "activation. Rename the attribute, or pass it as activation=."
                )
            if isinstance(value, nnx.Variable):
                constraint = self.constraint_of(name, value)
                array = value[...]
                arrays[name] = as_rank(constraint(array) if constraint else array, rank)
            elif isinstance(value, (jax.Array, np.ndarray)):
                arrays[name] = as_rank(jnp.asarray(value), rank)
            elif name not in ("activation", "name") and not isinstance(value, nnx.Pytree):
                static[name] = self._static(name, value)
        p = Params(arrays, static)
        derived = {name: as_rank(jnp.asarray(value), rank) for name, value in self.derive(p).items()}
        return Params({**arrays, **derived}, static) if derived else p

    @staticmethod
    def derive(p: Params) -> dict[str, Array]:
        """What a step reads beside the parameters and follows from them: computed once per sequence, not per step."""
        return {}

    def constraint_of(self, name: str, variable: nnx.Variable) -> Callable[[jax.Array], jax.Array] | None:
        """What `params` does to the stored value of a parameter, a `Within` as a rule; None for nothing."""
        own = Within() if name in self.clipped else self._range_of(name)
        return variable.get_metadata().get("constraint", own)

    def _range_of(self, name: str) -> Within | None:
        """The limits of a declared parameter that holds a variable from elsewhere, which stores the value itself."""
        within = self._fields[name].within if name in self._fields else None
        return None if within is None else replace(within, by="clip")

    def _static(self, name: str, value: Hashable) -> Hashable:
        try:
            hash(value)
        except TypeError as error:
            raise TypeError(
                f"{public_name(self)}.{name}: expected a number, an array, a function or an nnx.Param; "
                f"got {type(value).__name__}. Store sequences as tuples or arrays."
            ) from error
        return value

    def initial_state(self, batch_size: int, dtype: DTypeLike = jnp.float32) -> PyTree[Units]:
        """The resting state of `batch_size` samples. Its dtype is the one `step` computes in.

        Args:
            batch_size: number of samples, 0 or more.
            dtype: dtype of the state; keep float32 when inputs are bfloat16 or float16.
        """
        values = [jnp.full((batch_size, *self.hidden_shape), rest, dtype) for rest in self.state.values()]
        return values[0] if len(values) == 1 else self.State(*values)

    def __call__(self, x: Num[Array, "batch *hidden"], state: PyTree[Units]) -> tuple[Units, PyTree[Units]]:
        """One time step: `(x, state) -> (out, new state)`; the output has the dtype of a floating `x`."""
        self._check(x.shape, state)
        dtype = compute_dtype(state)
        out, state = self.step(self.params().astype(dtype), x.astype(dtype), state)
        return like(out, x), state

    @takes_masks
    def sequence(
        self, xs: Num[Array, "time batch *hidden"], state: PyTree[Units], how: Execution = AUTO
    ) -> tuple[Float[Array, "time batch *hidden"], PyTree[Units]]:
        """All of time at once: `xs` (time, batch, *hidden_shape) -> outputs of that layout and the last state."""
        self._check(xs.shape[1:], state)
        dtype = compute_dtype(state)
        alive = () if how.mask is None else (how.mask.alive,)
        p, inputs, state, alive = together(self.params().astype(dtype), xs, state, alive)
        narrow = how.mode in ("auto", "fused") and jnp.issubdtype(xs.dtype, jnp.floating)
        inputs = inputs if narrow else inputs.astype(dtype)
        step = self._checked_step(p, inputs, state, dtype)
        watched = how.watched(self)
        step = step if watched is None else Watched(step)
        self._verify(how.mode)
        ends = None if how.mask is None else how.mask.ends
        chosen = plan.neuron(
            how.mode, self._kind, step, p, inputs, state, affine=self.affine, local=self.local, ends=ends
        )
        how.add(chosen)
        inputs = inputs if chosen.mode == "fused" else inputs.astype(dtype)
        outs, end = chosen.run(p, inputs, state, *alive)  # type: ignore[misc]
        if watched is not None:
            outs, states = outs
            how.states(states._asdict() if len(self.state) > 1 else {next(iter(self.state)): states})
        return like(outs, xs), end

    def _verify(self, mode: str) -> None:
        """A mode that stands on a trait proves the trait first, once for every class."""
        trait = plan.PARALLEL[mode][0] if mode in plan.PARALLEL else None
        if trait is not None and self.affine == trait and self.local:
            _traits.verify(self)

    def _checked_step(
        self,
        p: Params,
        xs: Num[Array, "time batch *hidden"] | jax.ShapeDtypeStruct,
        state: PyTree[Units],
        dtype: np.dtype,
    ) -> Step:
        """The step, after one abstract call of it: what it returns must be an output and the new state."""
        x = jax.ShapeDtypeStruct(xs.shape[1:], dtype)
        who = f"{public_name(self)}.step"
        try:
            jaxpr, returned = jax.make_jaxpr(self.step, return_shape=True)(p, x, state)
        except AttributeError as error:
            fields = ", ".join(self.state)
            raise AttributeError(
                f"{who}: expected a step of the state variable(s) {fields}, the bare array s for one, s.name for "
                f"several; got this from it: {error}. Declare them: state = dict({fields}=0.0, ...)."
            ) from error
        if any(isinstance(c, Tracer) for c in jaxpr.consts):
            raise ValueError(
                f"{who}: expected a function of (p, x, s) alone; got one that closes over a traced array, whose "
                "gradient would be lost. Store the array on self and read it from p."
            )
        if not isinstance(returned, tuple) or len(returned) != 2 or hasattr(returned, "_fields"):
            raise TypeError(
                f"{who}: expected (out, new state); got {_kind_of(returned)}. Return two values: z, s._replace(v=v)."
            )
        before, after = jax.tree.structure(state), jax.tree.structure(returned[1])
        if before != after:
            raise TypeError(
                f"{who}: expected the new state as {_kind_of(state)}, as it came in; got {_kind_of(returned[1])}. "
                "Return s._replace(...), or State(...) of the class that declares the state."
            )
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(returned[1]), strict=True):
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                raise TypeError(
                    f"{who}: expected state variables of shape and dtype {old.shape} {old.dtype}, as they came in; got "
                    f"{new.shape} {new.dtype}. Keep shapes, and compute in the dtype of the state."
                )
        return self.step

    def _check(self, shape: tuple[int, ...], state: PyTree[Units]) -> None:
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


@dataclass(frozen=True)
class Watched:
    """A step whose outputs are its own and the state after it."""

    step: Step

    def __call__(self, p: Params, x: Units, s: PyTree[Units]) -> tuple[tuple[Units, PyTree[Units]], PyTree[Units]]:
        out, after = self.step(p, x, s)
        return (out, after), after


def compute_dtype(state: PyTree[Units]) -> np.dtype:
    """The dtype that a step computes in: that of the first floating state variable."""
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(state))
    return next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), jnp.float32)


def like(out: Float[Array, "*shape"], x: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The output in the dtype of a floating input."""
    return out.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else out


def _construct(cls: type[Neuron]) -> None:
    """Make constructor, signature and documentation of a subclass from its fields."""
    cls._fields = MappingProxyType(_constructor.declared(cls, Neuron))
    if cls._fields and "__init__" not in vars(cls) and (cls.__init__ is Neuron.__init__ or _is_derived(cls)):
        cls.__init__ = _constructor.constructor(cls._fields, Neuron)
    takes = inspect.signature(cls.__init__)
    cls.__signature__ = takes.replace(parameters=list(takes.parameters.values())[1:])  # type: ignore[attr-defined]
    if "__doc__" in vars(cls) and cls.__doc__ and _is_derived(cls):
        cls.__doc__ = _constructor.documentation(cls.__doc__, cls._fields)


def _is_derived(cls: type[Neuron]) -> bool:
    return getattr(cls.__init__, "derived", False)


def _check_class(cls: type[Neuron]) -> None:
    """What a subclass declares, checked when it is used."""
    step = inspect.getattr_static(cls, "step")
    if inspect.isfunction(step) or isinstance(step, classmethod):
        raise TypeError(
            f"{cls.__name__}.step: expected a static method step(p, x, s); got a method of an instance, whose "
            "attributes would be constants of the compiled loop. Write @staticmethod above it, and read parameters "
            "from p."
        )
    declared = cls.state
    if not isinstance(declared, (Mapping, property)) or (isinstance(declared, Mapping) and not declared):
        raise TypeError(
            f"{cls.__name__}.state: expected a dict of variable name to resting value; got {declared!r}. "
            "For example state = dict(v=0.0)."
        )


def _kind_of(value: Tree) -> str:
    """A returned value in words."""
    if hasattr(value, "_fields"):
        return f"{type(value).__name__}({', '.join(value._fields)})"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "one array" if hasattr(value, "shape") else type(value).__name__
