"""A model made of its description: classes by name, with checked arguments, and no memory until sizes are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

import jax
import numpy as np
from flax import nnx

from spyx import axn
from spyx.nn._fields import WAYS, Within
from spyx.saving.registry import KINDS, POSITIONAL, VALUES, escaped, joined, named, parameters, registry
from spyx.saving.tensors import DTYPES, Damaged

if TYPE_CHECKING:
    from spyx.data._json import Object
    from spyx.engine.types import Shapes

T = TypeVar("T")

DEEPEST, LONGEST, LARGEST = 48, 1 << 16, 1 << 53


class Builder:
    """Makes a model of a description; arrays come from `arrays`, by path."""

    def __init__(self, arrays: Mapping[str, Shapes], own: Mapping[str, object]) -> None:
        self.arrays = arrays
        self.own = own
        self._made: dict[str, object] = {}

    def module(self, found: object, path: str, depth: int = 0) -> object:
        """A module, or whatever the user gave under its name."""
        if not isinstance(found, dict) or depth > DEEPEST:
            raise Damaged(f"{path or 'the model'} that is no layer, or is nested too deeply")
        if set(found) == {"same"}:
            if not isinstance(found["same"], str) or found["same"] not in self._made:
                raise Damaged(f"{path} that repeats a layer which was not there before")
            return self._made[found["same"]]
        if set(found) == {"class", "args"}:
            cls = registry().get(found["class"]) if isinstance(found["class"], str) else None
            if cls is None:
                raise Damaged(f"{path or 'the model'} of the class {str(found['class'])[:60]!r}, which is not known")
        elif set(found) <= {"own", "args"} and isinstance(found.get("own"), str):
            cls = self._given(found["own"])
            if "args" not in found:
                return cls
            if not isinstance(cls, type) or found["args"] is None:
                raise Damaged(
                    f"your class {found['own']} at {path or 'the top'}, whose arguments no file can hold",
                    "Load it with into=, a model of the same structure.",
                )
        else:
            raise Damaged(f"{path or 'the model'} with {', '.join(map(str, found))[:80]}")
        made = self._called(cls, found["args"], path, depth)
        self._made[path] = made
        return made

    def _given(self, name: str) -> object:
        if name not in self.own:
            raise Damaged(
                f"one with {name!r}, which is not of spyx or Flax",
                f"Pass classes={{{name!r}: {name}}}, or into=, a model of the same structure.",
            )
        return self.own[name]

    def _called(self, cls: type, arguments: object, path: str, depth: int) -> object:
        takes = parameters(cls)
        if not isinstance(arguments, dict) or not set(arguments) <= set(takes):
            raise Damaged(f"{path or 'the model'} with other arguments than {cls.__name__} takes")
        given = {name: self.value(value, joined(path, name), depth + 1) for name, value in arguments.items()}
        if "rngs" in takes and "rngs" not in given:
            given["rngs"] = nnx.Rngs(0)
        layers = given.get("layers")
        children = layers if cls in POSITIONAL and isinstance(layers, list) else []
        if children is layers:
            del given["layers"]
        try:
            return cls(*children, **given)
        except Exception as error:
            raise Damaged(f"{path or 'the model'} that {cls.__name__} does not accept: {str(error)[:300]}") from error

    def value(self, found: object, path: str, depth: int) -> object:
        """An argument."""
        if found is None or isinstance(found, (bool, float)):
            return found
        if isinstance(found, int):
            if abs(found) > LARGEST:
                raise Damaged(f"{path} with the number {str(found)[:30]}")
            return found
        if isinstance(found, str):
            if len(found) > LONGEST:
                raise Damaged(f"{path} with a text of {len(found)} letters")
            return found
        if depth > DEEPEST:
            raise Damaged(f"{path} that is nested too deeply")
        if isinstance(found, list):
            return [self.value(item, f"{path}.{at}", depth + 1) for at, item in enumerate(found)]
        found = _checked(found, dict, path)
        tag = next(iter(found), "")
        if tag in ("class", "own", "same"):
            return self.module(found, path, depth + 1)
        make = getattr(self, f"_{tag}", None) if tag in TAGS and set(found) == TAGS[tag] else None
        if make is None:
            raise Damaged(f"{path} with {', '.join(map(str, found))[:80]}")
        return make(found, path, depth)

    def _at(self, found: Object, path: str, depth: int) -> object:
        outer = path.rpartition(".")[0]
        return self.value(found["is"], joined(outer, _checked(found["at"], str, path)), depth + 1)

    def _tuple(self, found: Object, path: str, depth: int) -> tuple[object, ...]:
        return tuple(_checked(self.value(_checked(found["tuple"], list, path), path, depth + 1), list, path))

    def _dict(self, found: Object, path: str, depth: int) -> dict[str, object]:
        items = _checked(found["dict"], dict, path).items()
        return {key: self.value(item, f"{path}.{escaped(key)}", depth + 1) for key, item in items}

    def _array(self, found: Object, path: str, depth: int) -> object:
        if path not in self.arrays:
            raise Damaged(f"no array {path!r}")
        return self.arrays[path]

    def _variable(self, found: Object, path: str, depth: int) -> nnx.Variable:
        kind = KINDS.get(found["variable"]) if isinstance(found["variable"], str) else None
        meta = _checked(found["meta"], dict, path)
        if kind is None or not all(isinstance(key, str) and key.isidentifier() for key in meta):
            raise Damaged(f"{path} that is no variable of a layer")
        values = {key: self.value(value, path, depth + 1) for key, value in meta.items()}
        held = values.get("constraint")
        if not (held is None or isinstance(held, Within) or held in self.own.values()):
            raise Damaged(f"{path} with a constraint that is no range")
        made = cast("Callable[..., nnx.Variable]", kind)  # whatever else is stored with it has any name
        return made(self._array(found, path, depth), **values)

    def _within(self, found: Object, path: str, depth: int) -> Within:
        held = _checked(found["within"], list, path)
        numbers = all(end is None or (type(end) in (int, float)) for end in held[:2])
        if len(held) != 3 or not numbers or held[2] not in WAYS or (None in held[:2] and held[2] in WAYS[1:3]):
            raise Damaged(f"{path} with the range {str(held)[:60]}")
        return Within(*held)

    def _surrogate(self, found: Object, path: str, depth: int) -> axn.Surrogate:
        name, options = found["surrogate"], _checked(found["options"], dict, path)
        factory = getattr(axn, name) if isinstance(name, str) and name in axn.__all__ else None
        if getattr(factory, "__wrapped__", None) is None:
            raise Damaged(f"{path} with the surrogate {str(name)[:40]!r}, which is not known")
        return _made(factory, options, path)  # type: ignore[arg-type]

    def _value(self, found: Object, path: str, depth: int) -> object:
        known = VALUES.get(found["value"]) if isinstance(found["value"], str) else None
        if known is None:
            raise Damaged(f"{path} with the value {str(found['value'])[:40]!r}, which is not known")
        fields = _checked(found["fields"], dict, path).items()
        return _made(known, {name: self.value(value, path, depth + 1) for name, value in fields}, path)

    def _dtype(self, found: Object, path: str, depth: int) -> np.dtype:
        dtype = next((known for known in DTYPES.values() if known.name == found["dtype"]), None)
        if dtype is None:
            raise Damaged(f"{path} with the dtype {str(found['dtype'])[:20]!r}")
        return dtype

    def _rngs(self, found: Object, path: str, depth: int) -> nnx.Rngs:
        names = _checked(found["rngs"], list, path)
        if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise Damaged(f"{path} with the random streams {str(names)[:60]}")
        return nnx.Rngs(**dict.fromkeys(names, 0))


TAGS = {
    "at": {"at", "is"},
    "tuple": {"tuple"},
    "dict": {"dict"},
    "array": {"array"},
    "variable": {"variable", "meta"},
    "within": {"within"},
    "surrogate": {"surrogate", "options"},
    "value": {"value", "fields"},
    "dtype": {"dtype"},
    "rngs": {"rngs"},
}
"""The forms of an argument that is no plain value, by their first word."""


def abstract(
    described: object, arrays: Mapping[str, Shapes], own: Mapping[str, object]
) -> tuple[nnx.GraphDef, nnx.State]:
    """Structure and variables of what a description makes; no memory is taken, whatever its sizes are."""
    structure: list[nnx.GraphDef] = []

    def make(arrays: Mapping[str, Shapes]) -> nnx.State:
        found, variables = nnx.split(Builder(arrays, own).module(described, ""))
        structure.append(found)
        return variables

    specs = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}
    variables = jax.eval_shape(make, specs)
    return structure[0], variables


def otherwise(described: object, value: nnx.Module, own: Mapping[str, object]) -> str:
    """Why a description does not make a module of the structure of `value`; empty where it does."""
    structure, variables = nnx.split(value)
    arrays = named(variables)
    try:
        found, made = abstract(described, arrays, own)
    except Damaged as error:
        return str(error)
    if {n: tuple(leaf.shape) for n, leaf in named(made).items()} != {
        n: tuple(leaf.shape) for n, leaf in arrays.items()
    }:
        return f"{type(value).__name__} with other arrays than its constructor makes"
    return "" if found == structure else f"{type(value).__name__} with other attributes than its constructor makes"


def _checked(value: object, kind: type[T], path: str) -> T:
    if not isinstance(value, kind):
        raise Damaged(f"{path} with a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _made(make: Callable[..., T], arguments: Mapping[str, object], path: str) -> T:
    try:
        return make(**arguments)
    except Exception as error:
        raise Damaged(f"{path} that cannot be made: {str(error)[:200]}") from error
