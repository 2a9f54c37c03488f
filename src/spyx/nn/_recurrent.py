"""Neurons that are fed back into themselves: `Recurrent`, and the integrate-and-fire family in that form."""

from __future__ import annotations

import collections
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.engine.delayed_feedback import Late
from spyx.engine.feedback import Carried, Dense
from spyx.engine.feedback import Recurrent as RecurrentStep
from spyx.engine.loop import depends
from spyx.engine.params import Params
from spyx.nn._delayed import Delayed
from spyx.nn._dynamics import PerInstance
from spyx.nn._fields import Field
from spyx.nn._integrate_and_fire import ALIF, IF, LIF, CuBaLIF
from spyx.nn._layer import Layer, Stateful, as_layer, checked_module, hashable, merged, step_shape
from spyx.nn._neuron import Neuron
from spyx.nn._parameters import UNCHANGING, draw

if TYPE_CHECKING:
    from jax.extend.core import Literal
    from jaxtyping import Array, DTypeLike, Float, PyTree

    from spyx.engine.types import StateType, Units
    from spyx.nn._layer import ByIdentity, Model

Initializer = Callable[..., jax.Array]

WEIGHT = Dense("recurrent_w")
"""The connection of a neuron that holds its weight in `recurrent_w`."""


@dataclass(frozen=True)
class Weight(Field):
    """The trainable matrix of a recurrent layer, from an initialiser."""

    def make(
        self, owner: str, name: str, value: Initializer | None, shape: tuple[int, ...], rngs: nnx.Rngs | None
    ) -> nnx.Param:
        init = nnx.initializers.truncated_normal() if value is None else value
        return nnx.Param(draw(owner, "recurrent_w", rngs, init, shape * 2))


WEIGHT_FIELD = Weight(
    None,
    "initialiser `(key, shape) -> array` of W; None is a truncated normal of std 0.01.",
    keyword=True,
    argument="recurrent_init",
)


@dataclass(frozen=True)
class ModuleConnection:
    """A module without state as a connection; its variables are the entry `via` of `p`."""

    graphdef: nnx.GraphDef | ByIdentity

    @property
    def names(self) -> tuple[str, ...]:
        return ("via",)

    def __call__(self, p: Params, sent: Units) -> Units:
        layer = self.module(p)
        current = layer(sent, None)[0]
        if current.shape != sent.shape:
            raise ValueError(
                f"spyx.nn.Recurrent(via=): expected a current of shape {sent.shape}, that of the spikes; got "
                f"{current.shape} from {layer._kind}. Change the connection, or hidden_shape."
            )
        return current.astype(sent.dtype)

    def module(self, p: Params) -> Layer:
        """The layer with its variables in `p`."""
        return merged(self.graphdef, p.via)


@dataclass(frozen=True)
class DelayedConnection:
    """A `Delayed` as a connection; the entry `via` of `p` holds its variables and, made once, its weights."""

    graphdef: nnx.GraphDef | ByIdentity

    @property
    def names(self) -> tuple[str, ...]:
        return ("via",)

    def send(self, p: Params, sent: Float[Array, "time batch *hidden"]) -> Float[Array, "time batch ..."]:
        return self.module(p).signal(sent)

    def current(self, p: Params, seen: Float[Array, "past+time batch ..."]) -> Float[Array, "time batch *hidden"]:
        return self.module(p).current(p.via["weights"], seen)

    def module(self, p: Params) -> Delayed:
        """The layer with its variables in `p`."""
        return merged(self.graphdef, p.via["variables"])  # type: ignore[return-value]


class Recurrent(Neuron):
    """A neuron fed back into itself: the current `x` becomes `x + via(z)`; the neuron's own equation stays as it is.

    `z` is the output of the same step where that follows from the state alone, as in IF, LIF, ALIF and CuBaLIF, which
    spike from the membrane before its update. Where the output depends on this step's input, `z` is the output of the
    step before; the state then has one variable more, `z`, which is 0 before the first step.

    Args:
        neuron: a local neuron.
        via: the connection from outputs to currents. None: a trainable dense weight `recurrent_w`, where
            `recurrent_w[i, j]` leads from unit i to unit j. Or any layer without state that takes and returns
            (batch, *hidden_shape): masked, convolutional, symmetric, without self-connections. Or a `Delayed`: what is
            sent then arrives its delays later than without, so at least one step after the spike it comes from.
        recurrent_init: initialiser `(key, shape) -> array` of the dense weight; None is a truncated normal of std 0.01.
        rngs: needed for the dense weight, which starts from a random draw.
        name: stored, for your own use.

    Shapes:
        x (batch, *hidden_shape) -> out (batch, *hidden_shape); state as of the neuron, with `z` where it is carried,
        and with `past` (batch, max_delay, *hidden_shape), what is on its way, where `via` is a `Delayed`.

    Raises:
        TypeError: no neuron; a connection with a state.
        ValueError: no `rngs` for the dense weight; a neuron that is recurrent already; a connection that changes shape.

    Example:
        >>> net = Recurrent(LIF(4, beta=0.9), via=nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(0)))
        >>> out, v = net(jnp.ones((2, 4)), net.initial_state(2))
        >>> v.shape
        (2, 4)

    Reference:
        The recurrent layer of Spyx (Heckel & Nowotny 2024, arXiv:2402.18994), for any neuron.
    """

    local = False

    def __init__(
        self,
        neuron: Neuron,
        via: Model | None = None,
        *,
        recurrent_init: Initializer | None = None,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(neuron, Neuron):
            raise TypeError(
                f"spyx.nn.Recurrent: expected a spyx.nn.Neuron; got {type(neuron).__name__}. Wrap the neuron alone."
            )
        if not neuron.local:
            raise ValueError(
                f"spyx.nn.Recurrent: expected a local neuron; got {type(neuron).__name__}, whose units read one "
                "another. Give the connection as via=, once."
            )
        self.neuron = neuron
        self.hidden_shape = neuron.hidden_shape
        self.activation = neuron.activation
        self.name = name
        if via is None:
            self.recurrent_w = WEIGHT_FIELD.make("spyx.nn.Recurrent", "", recurrent_init, self.hidden_shape, rngs)
        else:
            # A `Delayed` where `_delayed` says so, else any `Model`.
            self.via: Any = _checked_connection(via, self.hidden_shape)
        sent_late, spikes = _look_inside(neuron)
        self._carried = nnx.static(_carried(neuron, sent_late))
        self._ring = nnx.static(_ring(neuron, self._carried) if self._delayed else None)
        if self._delayed:
            self._affine = "never"
            return
        self._affine = "given_spikes" if neuron.affine == "always" and spikes else neuron.affine

    @property
    def step(self) -> RecurrentStep | Late:  # type: ignore[override]
        """The recurrent step, made of the neuron's own."""
        if self._delayed:
            via = DelayedConnection(hashable(nnx.split(self.via)[0]))
            return Late(RecurrentStep(self.neuron.step, via, self._carried), self._ring)  # type: ignore[arg-type]
        via = WEIGHT if self._dense else ModuleConnection(hashable(nnx.split(self._connection())[0]))
        return RecurrentStep(self.neuron.step, via, self._carried)

    @property
    def state(self) -> Mapping[str, float]:  # type: ignore[override]
        """Name and resting value of each state variable."""
        extra = [variable.outer._fields[-1] for variable in (self._carried, self._ring) if variable is not None]
        return {**self.neuron.state, **dict.fromkeys(extra, 0.0)}

    @property
    def State(self) -> Any:  # type: ignore[override]
        """The NamedTuple of several state variables."""
        last = self._ring or self._carried
        return getattr(self.neuron, "State", None) if last is None else last.outer

    @property
    def affine(self) -> Literal["always", "given_spikes", "never"]:  # type: ignore[override]
        """The trait of the neuron; where it is affine whatever it fires, the spikes that are fed back must be known."""
        return self._affine  # type: ignore[return-value]

    @property
    def _kind(self) -> str:
        return f"Recurrent({self.neuron._kind})"

    def params(self) -> Params:
        """Those of the neuron, and the connection's."""
        own = self.neuron.params()
        arrays = {name: getattr(own, name) for name in own._names}
        if self._dense:
            arrays["recurrent_w"] = self.recurrent_w[...]
        elif self._delayed:
            floats = [a for a in jax.tree.leaves(nnx.state(self.via)) if jnp.issubdtype(a.dtype, jnp.floating)]
            dtype = jnp.result_type(*floats) if floats else jnp.float32  # of a shape, fixed delays alone
            arrays["via"] = {"variables": nnx.split(self.via)[1], "weights": self.via.weights(dtype)}
        else:
            arrays["via"] = nnx.split(self._connection())[1]
        return Params(arrays, dict(own._static))

    def initial_state(self, batch_size: int, dtype: DTypeLike = jnp.float32) -> PyTree[Float[Array, "batch ..."]]:
        """The resting state of `batch_size` samples; with delays, nothing is on its way."""
        if not self._delayed:
            return super().initial_state(batch_size, dtype)
        values = [jnp.full((batch_size, *self.hidden_shape), rest, dtype) for rest in self.state.values()]
        past = jnp.zeros((batch_size, self.via.max_delay, *self.hidden_shape), dtype)
        return self.State(*values[:-1], past)

    def _check(self, shape: tuple[int, ...], state: PyTree[Float[Array, "batch ..."]]) -> None:
        if not self._delayed:
            return super()._check(shape, state)
        expected = (shape[0], self.via.max_delay, *self.hidden_shape)
        if not isinstance(state, self.State) or state[-1].shape != expected:
            got = state[-1].shape if isinstance(state, self.State) else type(state).__name__
            raise ValueError(
                f"spyx.nn.Recurrent: expected a state with past of shape {expected}; got {got}. "
                f"Make it with initial_state({shape[0]})."
            )
        return super()._check(shape, state[:-1])

    @property
    def _delayed(self) -> bool:
        return isinstance(vars(self).get("via"), Delayed)

    @property
    def _dense(self) -> bool:
        return "via" not in vars(self)

    def _connection(self) -> Layer:
        return as_layer("spyx.nn.Recurrent(via=)", self.via)


def _look_inside(neuron: Neuron) -> tuple[bool, bool]:
    """Does the output of a step depend on its input, and does the step spike?"""
    spikes: list[jax.Array] = []
    p, s = jax.eval_shape(lambda: (neuron.params().astype(jnp.float32), neuron.initial_state(1)))
    x = jax.ShapeDtypeStruct((1, *neuron.hidden_shape), jnp.float32)

    def spike(u: jax.Array) -> jax.Array:
        spikes.append(u)
        return neuron.activation(u)

    def out(x: Units, p: Params, s: PyTree[Units]) -> Units:
        return neuron.step(p.replace(spike=spike), x, s)[0]

    return depends(lambda x: out(x, *jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (p, s))), x), bool(spikes)


def _carried(neuron: Neuron, late: bool) -> Carried | None:
    if not late:
        return None
    names = tuple(neuron.state)
    return Carried(neuron.State if len(names) > 1 else None, _with_output(names))


def _ring(neuron: Neuron, carried: Carried | None) -> Carried:
    if carried is not None:
        return Carried(carried.outer, _with_past(carried.outer._fields))
    names = tuple(neuron.state)
    return Carried(neuron.State if len(names) > 1 else None, _with_past(names))


@functools.lru_cache(maxsize=256)
def _with_past(names: tuple[str, ...]) -> StateType:
    return collections.namedtuple("DelayedState", (*names, "past" if "past" not in names else "past_sent"))  # type: ignore[return-value]


@functools.lru_cache(maxsize=256)
def _with_output(names: tuple[str, ...]) -> StateType:
    """The state type of a neuron whose output is carried; one for equal names, so that equal layers are equal."""
    return collections.namedtuple("RecurrentState", (*names, "z" if "z" not in names else "z_before"))  # type: ignore[return-value]


def _checked_connection(via: Model, hidden_shape: tuple[int, ...]) -> Model:
    who = "spyx.nn.Recurrent(via=)"
    if isinstance(via, Delayed):
        found = step_shape(via, jax.ShapeDtypeStruct((1, *hidden_shape), jnp.float32)).shape[1:]
        if found != hidden_shape:
            raise ValueError(
                f"{who}: expected a current of shape {hidden_shape}, that of the spikes; got {found} from {via._kind}. "
                "Change the connection, or hidden_shape."
            )
        return via
    module = checked_module(who, via)
    layer = as_layer(who, module)
    changing = jax.tree.leaves(nnx.split(layer, UNCHANGING, ...)[2])
    if isinstance(layer, (Neuron, Stateful)) or layer.container or jax.tree.leaves(layer.initial_state(1)) or changing:
        raise TypeError(
            f"{who}: expected a layer without state that does not change itself; got {layer._kind}. "
            "For example nnx.Linear, nn.Conv, or a function of the spikes."
        )
    return module


class FedBack:
    """What makes a class the recurrent form of the neuron that it inherits from beside this."""

    local = False
    _fields: Mapping[str, Field] = MappingProxyType({"recurrent_w": WEIGHT_FIELD})

    def __init_subclass__(cls, **kwargs: object) -> None:
        base: Any = cls.__bases__[1]
        late = Carried(base.State if len(base.state) > 1 else None, _with_output(tuple(base.state)))
        of_same_step, of_step_before = (RecurrentStep(base.step, WEIGHT, carried) for carried in (None, late))

        def choose(same_step: object, step_before: object) -> PerInstance:
            """A spike after the update depends on this step's input, so that of the step before is fed back."""
            return PerInstance(same_step, lambda self: same_step if self.dynamics.spike == "before" else step_before)

        cls.step = choose(of_same_step, of_step_before)
        cls.state = choose(base.state, {**base.state, late.outer._fields[-1]: 0.0})
        cls.State = choose(base.State, late.outer)
        cls.affine = "given_spikes"
        cls.__doc__ = _documentation(cls, base)
        super().__init_subclass__(**kwargs)


def _documentation(cls: type, base: type) -> str:
    """The parent's docstring without its arguments, with the weight added and an example of its own."""
    text = re.sub(r"^Args:\n(?: {4}.*\n)+\n", "", inspect.cleandoc(base.__doc__ or ""), flags=re.MULTILINE)
    first, rest = text.split("\n\n", 1)
    before, example = rest.split("Raises:", 1)
    reference = example[example.index("Reference:") :]
    return f"""{inspect.cleandoc(cls.__doc__ or "")}

`{base.__name__}` is: {first[0].lower() + first[1:]}

{before.rstrip()}
    W, `recurrent_w`: hidden_shape + hidden_shape; `recurrent_w[i, j]` leads from unit i to unit j.

Raises:
    ValueError: no `rngs`; an input or a state of another shape.

Example:
    >>> layer = {cls.__name__}(2, recurrent_init=nnx.initializers.constant(0.5), rngs=nnx.Rngs(0))
    >>> layer.recurrent_w[...].tolist()
    [[0.5, 0.5], [0.5, 0.5]]

{reference}"""


class RIF(FedBack, IF):
    """Recurrent integrate and fire: `IF` with the current `x + z W` in the place of `x`."""


class RLIF(FedBack, LIF):
    """Recurrent leaky integrate and fire: `LIF` with the current `x + z W` in the place of `x`."""


class RALIF(FedBack, ALIF):
    """Recurrent adaptive LIF: `ALIF` with the current `x + z W` in the place of `x`."""


class RCuBaLIF(FedBack, CuBaLIF):
    """Recurrent current-based LIF: `CuBaLIF` with the current `x + z W` in the place of `x`."""
