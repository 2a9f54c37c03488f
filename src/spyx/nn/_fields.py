"""What a neuron declares: `decay`, `positive`, `per_unit` and `constant`, one class attribute per parameter."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from spyx.nn._parameters import constant_of, draw, parameter

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

    from spyx.nn._parameters import ParameterLike

Initializer = Callable[..., jax.Array]

if TYPE_CHECKING:
    Argument: TypeAlias = ParameterLike | Initializer | Hashable
    """What a constructor takes for a field: that of a parameter, or whatever a neuron stores as it is."""

WAYS = ("clip", "unit", "sigmoid", "exp")


@dataclass(frozen=True)
class Within:
    """A parameter held in a range: `within(stored)` is the value in use, `within.stored(value)` what is trained.

    Args:
        low: smallest value; None for no limit.
        high: largest value; None for no limit.
        by: "clip" stores the value itself; "unit" stores its place x in the range, `low + (high - low) clip(x, 0, 1)`;
            "sigmoid" stores x of `low + (high - low) sigmoid(x)`; "exp" stores the logarithm x of a rate, the value is
            `exp(-exp(x))`, clipped to the range.

    Example:
        >>> held = Within(0.5, 0.9, "sigmoid")
        >>> round(float(held(held.stored(jnp.float32(0.8)))), 4)
        0.8
    """

    low: float | None = 0.0
    high: float | None = 1.0
    by: str = "clip"

    def __call__(self, stored: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        value = stored
        if self.by == "sigmoid":
            value = self.low + (self.high - self.low) * jax.nn.sigmoid(stored)  # type: ignore[operator]
        elif self.by == "unit":
            value = self.low + (self.high - self.low) * stored  # type: ignore[operator]
        elif self.by == "exp":
            value = jnp.exp(-jnp.exp(stored))
        return jnp.clip(value, self.low, self.high)

    def stored(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The inverse, for values strictly inside the range."""
        if self.by == "exp":
            return jnp.log(-jnp.log(value))
        if self.by == "clip":
            return value
        unit = (value - self.low) / (self.high - self.low)  # type: ignore[operator]
        return unit if self.by == "unit" else jnp.log(unit) - jnp.log1p(-unit)

    def holds(self, value: Float[Array, "..."]) -> bool:
        """The value has a finite stored form."""
        if self.by in ("clip", "unit"):
            return True
        low, high = (0.0, 1.0) if self.by == "exp" else (self.low, self.high)
        return bool(jnp.all((value > low) & (value < high)))  # type: ignore[operator]


@dataclass(frozen=True)
class Field:
    """A declared argument of a neuron's constructor; `decay`, `positive`, `per_unit` and `constant` make them.

    Args:
        default: of the argument.
        doc: what the argument is, for the documentation.
        keyword: the argument is given by name only.
        start: what a parameter starts from where the argument is None, a number or an initialiser.
        within: the range of the values.
        tau: name of an argument that gives a decay as a time constant.
        argument: name of the argument, where it is not that of the attribute.
    """

    default: Argument = None
    doc: str = ""
    keyword: bool = False
    start: float | Initializer | None = None
    within: Within | None = None
    tau: str = ""
    argument: str = ""

    def make(self, owner: str, name: str, value: Any, shape: tuple[int, ...], rngs: nnx.Rngs | None) -> Argument:
        """What the attribute holds."""
        return value

    @property
    def text(self) -> str:
        """The line of the documentation."""
        return self.doc


@dataclass(frozen=True)
class Number(Field):
    """A number that is not trained unless an `nnx.Param` or a trainable field is given."""

    def make(
        self, owner: str, name: str, value: ParameterLike, shape: tuple[int, ...], rngs: nnx.Rngs | None
    ) -> float | nnx.Variable:
        return constant_of(owner, name, value, shape)

    @property
    def text(self) -> str:
        return f"{self.doc or 'a number'}; a number or a per-unit array. Default {self.default:g}."


@dataclass(frozen=True)
class Trainable(Field):
    """A trainable parameter."""

    def make(
        self, owner: str, name: str, value: ParameterLike, shape: tuple[int, ...], rngs: nnx.Rngs | None
    ) -> nnx.Variable:
        if isinstance(value, nnx.Variable):
            return value
        if value is None:
            number = isinstance(self.start, Real)
            start: Any = self.start
            value = jnp.full(shape, start, jnp.float32) if number else draw(owner, name, rngs, start, shape)
        found = parameter(owner, name, value, shape)
        if self.within is None:
            return found
        # A constructor that is traced, as by nnx.eval_shape, draws values that nobody can look at yet.
        if not isinstance(found[...], Tracer) and not self.within.holds(found[...]):
            raise ValueError(
                f"{owner}({name}=): expected values strictly between {self.within.low} and {self.within.high}, because "
                f'they are stored by="{self.within.by}"; got {found[...].tolist()}. Use by="clip".'
            )
        return type(found)(self.within.stored(found[...]), constraint=self.within)

    @property
    def text(self) -> str:
        held = "" if self.within is None else f" {_range(self.within)}"
        if isinstance(self.start, Real):
            start = f"None: one trainable value per unit, {self.start:g}."
        else:
            start = f"None: one trainable value per unit, {getattr(self.start, '__doc__', None) or 'drawn at random'}."
        kinds = (
            "A number: one trainable value. An array: trainable, broadcast to the units. `Fixed(value)`: not trained."
        )
        given = f" Default {self.default}." if self.default is not None else ""
        return f"{self.doc or 'a parameter'}{held}. {start} {kinds}{given}"


def _range(within: Within) -> str:
    if within.high is None:
        return f"at least {within.low:g}"
    return f"in [{within.low:g}, {within.high:g}]" + (f", stored by {within.by}" if within.by != "clip" else "")


def around_half(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """drawn around 0.5"""  # noqa: D403
    return nnx.initializers.truncated_normal(0.25)(key, shape) + 0.5


def between(low: float, high: float) -> Initializer:
    """Initialiser of values uniform in [low, high).

    Args:
        low: smallest value.
        high: limit of the values.

    Example:
        >>> drawn = between(2.0, 3.0)(jax.random.key(0), (5,))
        >>> bool(((drawn >= 2) & (drawn < 3)).all())
        True
    """

    def uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
        return jax.random.uniform(key, shape, jnp.float32, low, high)

    uniform.__doc__ = f"drawn from [{low:g}, {high:g})"
    return uniform


def per_unit(
    default: float | Initializer,
    *,
    low: float | None = None,
    high: float | None = None,
    by: str = "clip",
    shared: bool = False,
    keyword: bool = False,
    doc: str = "",
) -> Any:
    """Declare a trainable parameter: `gain = per_unit(1.0)` in the body of a neuron.

    The constructor gets an argument of that name. None, its default, is one trainable value per unit; a number is one
    trainable value for the layer; an array is trainable and broadcast to the units; `Fixed(value)` is not trained; an
    `nnx.Variable` is taken as it is. A declaration can also be the value of an argument, where it replaces that of the
    class: `nn.LIF(3, beta=0.9, threshold=nn.per_unit(1.0, low=0.1))` learns its thresholds.

    Args:
        default: where every unit starts, a number or an initialiser `(key, shape) -> array`.
        low: smallest value; None for no limit.
        high: largest value; None for no limit.
        by: how the range is held. "clip": the value is stored, and clipped whenever it is used. "unit": what is stored
            and trained is its place x in the range, `low + (high - low) clip(x, 0, 1)`, so that one learning rate suits
            every range. "sigmoid": x of `low + (high - low) sigmoid(x)`. "exp", for values between 0 and 1: the
            logarithm x of a rate, the value is `exp(-exp(x))`, clipped to the range.
        shared: the default is one value for the layer, and is the argument's default.
        keyword: the argument is given by name only.
        doc: what it is, for the documentation.

    Raises:
        ValueError: a range that is empty or, for "sigmoid", has no two ends; an unknown `by`.

    Example:
        >>> from spyx import nn
        >>> class Scaled(nn.Neuron):
        ...     gain = nn.per_unit(2.0, low=0.0, high=5.0)
        ...     affine = "always"
        ...     @staticmethod
        ...     def step(p, x, v):
        ...         v = 0.5 * v + p.gain * x
        ...         return v, v
        >>> Scaled(3).gain[...].tolist(), Scaled(3, gain=1.5).gain[...].tolist()
        ([2.0, 2.0, 2.0], 1.5)
    """
    return _trainable("per_unit", default, low, high, by, shared, keyword, doc)


def positive(default: float | Initializer, *, shared: bool = False, keyword: bool = False, doc: str = "") -> Any:
    """Declare a trainable parameter that is clipped at 0 from below whenever it is used; see `per_unit`.

    Args:
        default: where every unit starts, a number or an initialiser `(key, shape) -> array`.
        shared: the default is one value for the layer, and is the argument's default.
        keyword: the argument is given by name only.
        doc: what it is, for the documentation.

    Example:
        >>> from spyx import nn
        >>> lif = nn.LIF(2, beta=0.9, threshold=positive(1.0))
        >>> lif.threshold[...].tolist()
        [1.0, 1.0]
    """
    return _trainable("positive", default, 0.0, None, "clip", shared, keyword, doc)


def decay(
    default: float | Initializer | None = None,
    *,
    low: float = 0.0,
    high: float = 1.0,
    by: str = "clip",
    shared: bool = False,
    keyword: bool = False,
    tau: str = "",
    doc: str = "decay per step",
) -> Any:
    """Declare a trainable decay per time step, held in a range: `beta = decay()` in the body of a neuron.

    `per_unit` describes what the argument takes.

    Args:
        default: where every unit starts, a number or an initialiser; None is a truncated normal (mean 0.5, realised
            standard deviation 0.22, inside [0, 1]).
        low: smallest value, 0 or more.
        high: largest value, 1 or less.
        by: "clip", "unit", "sigmoid" or "exp", as in `per_unit`.
        shared: the default is one value for the layer, and is the argument's default.
        keyword: the argument is given by name only.
        tau: name of an argument that gives the decay as a time constant, `exp(-dt_ms / tau)`, with `dt_ms` beside it.
        doc: what it is, for the documentation.

    Raises:
        ValueError: a range outside [0, 1] or empty; an unknown `by`.

    Example:
        >>> from spyx import nn
        >>> lif = nn.LIF(2, beta=decay(0.9, low=0.5, high=0.99, by="sigmoid"))
        >>> [round(beta, 4) for beta in lif.params().beta.ravel().tolist()]
        [0.9, 0.9]
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"spyx.nn.decay: expected 0 <= low <= high <= 1; got low={low} and high={high}. Swap them?")
    start = around_half if default is None else default
    return _trainable("decay", start, low, high, by, shared, keyword, doc, tau)


def constant(default: float, *, keyword: bool = False, doc: str = "") -> Any:
    """Declare a number that is not trained: `threshold = constant(1.0)` in the body of a neuron.

    The constructor's argument takes a number, a per-unit array, an `nnx.Variable` (an `nnx.Param` trains), or a
    trainable declaration such as `positive(1.0)`.

    Args:
        default: of the argument.
        keyword: the argument is given by name only.
        doc: what it is, for the documentation.

    Example:
        >>> from spyx import nn
        >>> nn.IF(2).threshold, nn.IF(2, threshold=jnp.ones(2)).threshold.shape
        (1.0, (2,))
    """
    return Number(default, doc, keyword)


def _trainable(
    who: str,
    start: float | Initializer,
    low: float | None,
    high: float | None,
    by: str,
    shared: bool,
    keyword: bool,
    doc: str,
    tau: str = "",
) -> Trainable:
    if by not in WAYS:
        raise ValueError(f"spyx.nn.{who}(by=): expected one of {', '.join(WAYS)}; got {by!r}. Use 'clip'.")
    if None not in (low, high) and not low < high:  # type: ignore[operator]
        raise ValueError(f"spyx.nn.{who}: expected low < high; got low={low} and high={high}. Give a range.")
    if by in ("unit", "sigmoid") and None in (low, high):
        raise ValueError(f"spyx.nn.{who}(by={by!r}): expected low and high; got {low} and {high}. Give both.")
    within = None if by == "clip" and low is None and high is None else Within(low, high, by)
    return Trainable(start if shared else None, doc, keyword, start, within, tau)
