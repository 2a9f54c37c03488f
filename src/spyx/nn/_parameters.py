"""How a neuron's constructor arguments become parameters: trainable, fixed, per unit or shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

Shape = int | np.integer | tuple[int, ...] | list[int]


class Constant(nnx.Variable):
    """An array that belongs to a layer and is never trained: `nnx.split(model, nnx.Param, ...)` leaves it behind.

    Example:
        >>> from spyx import nn
        >>> lif = nn.LIF(2, beta=0.9, threshold=jnp.array([1.0, 2.0]))
        >>> isinstance(lif.threshold, Constant), len(jax.tree.leaves(nnx.state(lif, nnx.Param)))
        (True, 1)
    """


def plain_array(path: tuple[Hashable, ...], value: object) -> bool:
    """An array that a layer stores as it is, for instance a mask: a constant, as `Constant` is."""
    return not isinstance(value, nnx.Variable)


UNCHANGING = (nnx.Param, Constant, plain_array)
"""What no call of a layer changes, as a filter of Flax: all else (statistics, keys) is carried through time."""


class Fixed:
    """Hold a parameter at a value: `LIF(128, beta=Fixed(0.9))` keeps the decay out of training.

    Args:
        value: a number (one value for the layer) or an array that broadcasts to the hidden shape.

    Example:
        >>> from spyx import nn
        >>> lif = nn.LIF(4, beta=nn.Fixed(0.9))
        >>> len(jax.tree.leaves(nnx.state(lif, nnx.Param)))
        0
    """

    def __init__(self, value: float | np.floating | np.ndarray | jax.Array | Sequence[float]) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"


ParameterLike = float | np.floating | np.ndarray | jax.Array | Sequence[float] | nnx.Variable | Fixed | None
"""What a constructor takes for a parameter: one number, an array that broadcasts to the units, a variable, or None for
the default."""


def public_name(layer: object) -> str:
    """The name that error messages begin with: `spyx.nn.LIF` for ours, the bare class name for yours."""
    package, _, module = type(layer).__module__.partition(".")
    where = f"spyx.{module.split('.')[0]}." if package == "spyx" else ""
    return where + type(layer).__name__


def hidden_shape_of(owner: str, shape: Shape) -> tuple[int, ...]:
    """`shape` (int, list or tuple) as a tuple of positive ints, or an error that names `owner`."""
    sizes = (shape,) if isinstance(shape, (int, np.integer)) and not isinstance(shape, bool) else shape
    if not isinstance(sizes, (tuple, list)) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes
    ):
        raise TypeError(
            f"{owner}(hidden_shape=): expected an int or a tuple of ints; got {shape!r}. For example (128,)."
        )
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{owner}(hidden_shape=): expected sizes of at least 1; got {shape!r}. Try (128,).")
    return tuple(int(n) for n in sizes)


def draw(
    owner: str, what: str, rngs: nnx.Rngs | None, init: Callable[..., jax.Array], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """A random initial value, or a clear error when no `rngs` was given."""
    if rngs is None:
        raise ValueError(
            f"{owner}(rngs=): expected nnx.Rngs, because {what} starts from a random draw; got None. "
            f"Pass rngs=nnx.Rngs(0), or give {what} a value."
        )
    if isinstance(rngs, (int, np.integer)):
        raise TypeError(f"{owner}(rngs=): expected nnx.Rngs; got {rngs!r}. Write nnx.Rngs({rngs}).")
    return init(rngs.params(), shape)


def parameter(
    owner: str,
    name: str,
    value: ParameterLike,
    shape: tuple[int, ...],
    *,
    constraint: Callable[[jax.Array], jax.Array] | None = None,
) -> nnx.Variable:
    """A trainable (or `Fixed`) parameter: a number is shared by the layer, an array broadcasts to the hidden shape."""
    if isinstance(value, nnx.Variable):
        return value
    kind: type[nnx.Variable] = nnx.Param
    if isinstance(value, Fixed):
        kind, value = Constant, value.value
    return kind(_per_unit(owner, name, value, shape), constraint=constraint)


def constant_of(owner: str, name: str, value: ParameterLike, shape: tuple[int, ...]) -> float | nnx.Variable:
    """A number stays a number (static); an array becomes a `Constant`; an `nnx.Variable` is taken as it is."""
    if isinstance(value, nnx.Variable):
        return value
    value = value.value if isinstance(value, Fixed) else value
    if isinstance(value, Real) and not isinstance(value, bool):
        return _finite(owner, name, float(value))
    return Constant(_per_unit(owner, name, value, shape))


def _finite(owner: str, name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{owner}({name}=): expected a finite number; got {value}. Choose another value.")
    return value


def _per_unit(owner: str, name: str, value: ParameterLike, shape: tuple[int, ...]) -> Float[Array, "..."]:
    if isinstance(value, (str, bool)) or callable(value):
        raise TypeError(f"{owner}({name}=): expected a number or an array; got {value!r}. Pass a float.")
    try:
        # Through NumPy: a Python float would give a weakly typed parameter, and a second trace after the first update.
        array = value if isinstance(value, jax.Array) else jnp.asarray(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{owner}({name}=): expected a number or an array; got {value!r}. Pass a float.") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.float32)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{owner}({name}=): expected a number or an array that broadcasts to hidden_shape {shape}; "
            f"got shape {array.shape}. One value per unit has the hidden shape."
        )
    return array


def as_rank(array: Shaped[Array, "..."], rank: int) -> Shaped[Array, "..."]:
    """Leading axes of size 1 up to `rank`, so that per-unit values meet (batch, *hidden) without rank promotion."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape) if 0 < array.ndim < rank else array
