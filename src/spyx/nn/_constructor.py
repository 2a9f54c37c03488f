"""What follows from a neuron's fields: its constructor, the signature of it, and the `Args` of its documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from spyx.nn._fields import Field, Number
from spyx.nn._parameters import Fixed, public_name

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array

    from spyx.nn._neuron import Neuron
    from spyx.nn._parameters import ParameterLike

Fields = Mapping[str, Field]


def declared(cls: type, base: type) -> dict[str, Field]:
    """Every field of a class, those of its parents first: declarations, and annotated attributes with a default."""
    found: dict[str, Field] = {}
    for parent in reversed(cls.__mro__[1:]):
        found.update(vars(parent).get("_fields", {}))
    kinds = inspect.get_annotations(cls)
    for name, value in vars(cls).items():
        if isinstance(value, Field):
            found[name] = value
        elif name in found:  # a parent's field with another default
            found[name] = replace(found[name], default=value)
        elif name in kinds and not (name.startswith("_") or hasattr(base, name) or "ClassVar" in str(kinds[name])):
            number = isinstance(value, float) or kinds[name] in (float, "float")
            found[name] = Number(value) if number else Field(value, "stored as it is")
    return found


def signature(fields: Fields) -> inspect.Signature:
    """That of the constructor: shape, fields, activation, then what is given by name."""
    place, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    kinds = {name: by_name if field.keyword else place for name, field in fields.items()}
    arguments = [inspect.Parameter(f.argument or n, kinds[n], default=f.default) for n, f in fields.items()]
    taus = [field.tau for field in fields.values() if field.tau]
    taus += ["dt_ms"] if taus and "dt_ms" not in fields else []
    return inspect.Signature(
        [
            inspect.Parameter("hidden_shape", place),
            *(a for a in arguments if a.kind is place),
            inspect.Parameter("activation", place, default=None),
            *(a for a in arguments if a.kind is by_name),
            *(inspect.Parameter(name, by_name, default=None) for name in taus),
            *(inspect.Parameter(name, by_name, default=None) for name in ("rngs", "name")),
        ]
    )


def constructor(fields: Fields, base: type) -> Callable[..., None]:
    """An `__init__` that takes the fields as arguments."""
    takes = signature(fields)

    def __init__(self: object, *args: object, **kwargs: object) -> None:
        try:
            given = takes.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"{public_name(self)}: expected the arguments {takes}; got others: {error}. Correct the call."
            ) from error
        base.__init__(self, **given.arguments)

    __init__.derived = True  # type: ignore[attr-defined]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = takes.replace(parameters=[own, *takes.parameters.values()])  # type: ignore[attr-defined]
    return __init__


def fill(neuron: Neuron, fields: Fields, given: dict[str, Any], rngs: nnx.Rngs | None) -> None:
    """Set every field of a neuron from the arguments of its constructor."""
    owner = public_name(neuron)
    # A neuron may declare the length of its step; then it is a field like any other, and that of its time constants.
    own_step = fields["dt_ms"].default if "dt_ms" in fields else None
    dt_ms = given.pop("dt_ms", None) if own_step is None else given.get("dt_ms", own_step)
    taus = {name: given.pop(field.tau, None) for name, field in fields.items() if field.tau}
    if own_step is None and dt_ms is not None and all(tau is None for tau in taus.values()):
        raise ValueError(f"{owner}(dt_ms=): expected a time constant beside it; got none. Give one, or leave it out.")
    for name, field in fields.items():
        argument = field.argument or name
        value = given.pop(argument, field.default)
        if taus.get(name) is not None:
            value = _from_tau(owner, field.tau, argument, value, taus[name], dt_ms)
        if isinstance(value, Field):
            field, value = value, value.default
        setattr(neuron, name, field.make(owner, argument, value, neuron.hidden_shape, rngs))
    if given:
        raise TypeError(f"{owner}: expected arguments of its fields ({', '.join(fields)}); got {', '.join(given)}.")


def _from_tau(
    owner: str, tau_name: str, name: str, value: ParameterLike, tau: ParameterLike, dt_ms: float | None
) -> Fixed | Array:
    """The decay per step of a time constant in milliseconds."""
    if value is not None:
        raise ValueError(f"{owner}({tau_name}=): expected it alone; got {name}={value!r} beside it. Give one of them.")
    array = jnp.asarray(tau.value if isinstance(tau, Fixed) else tau, jnp.float32)
    if not isinstance(dt_ms, Real) or not float(dt_ms) > 0 or not bool(jnp.all(array > 0)):
        raise ValueError(
            f"{owner}({tau_name}=): expected times above 0, and the length of a step beside them; got {tau!r} with "
            f"dt_ms={dt_ms!r}. For example {tau_name}=20.0, dt_ms=1.0."
        )
    found = jnp.exp(-jnp.float32(float(dt_ms)) / array)
    return Fixed(found) if isinstance(tau, Fixed) else found


def documentation(text: str, fields: Fields) -> str:
    """The docstring of a class with its `Args` section, made of the fields."""
    text = inspect.cleandoc(text)
    at = re.search(r"^(Shapes|Raises|Example|Reference):$", text, re.MULTILINE)
    if at is None or re.search(r"^Args:$", text, re.MULTILINE):
        return text
    drawn = [f"`{name}`" for name, field in fields.items() if field.default is None and callable(field.start)]
    if any(field.argument for field in fields.values()):
        rngs = "needed, a weight starts from a random draw."
    elif drawn:
        rngs = f"needed when {' or '.join(drawn)} is None."
    else:
        rngs = "unused, accepted for uniformity."
    lines = {
        "hidden_shape": "shape of one sample's units; int, list or tuple.",
        "activation": "surrogate; None is `superspike()`.",
        "dt_ms": "length of a time step in ms, beside a time constant.",
        "rngs": rngs,
        "name": "stored, for your own use.",
        **{field.argument or name: field.text for name, field in fields.items()},
        **{
            f.tau: f"time constant in ms in place of `{n}`, which is `exp(-dt_ms / {f.tau})`."
            for n, f in fields.items()
        },
    }
    block = "Args:\n" + "".join(f"    {name}: {lines[name]}\n" for name in signature(fields).parameters)
    return f"{text[: at.start()]}{block}\n{text[at.start() :]}"
