"""A model as plain data: the classes of its layers by name, and the arguments that make them again.

Arguments are read back from the attributes that a constructor stored, by the names of its parameters.
"""

from __future__ import annotations

import dataclasses
import types
from typing import TYPE_CHECKING

import jax
import numpy as np
from flax import nnx

from spyx import axn
from spyx.nn._fields import Within
from spyx.saving.rebuild import otherwise
from spyx.saving.registry import KINDS, TELL, VALUES, Elsewhere, escaped, joined, names, parameters
from spyx.saving.tensors import DTYPES

if TYPE_CHECKING:
    from spyx.data._json import JSON, Object


class Unknown(ValueError):
    """Something that has no description."""


class Describer:
    """One description; afterwards `own` holds the classes of the user that are part of it."""

    def __init__(self) -> None:
        self.own: dict[str, object] = {}
        self._seen: dict[int, str] = {}

    def module(self, value: nnx.Module, path: str) -> Object:
        """A module by its class and arguments."""
        if id(value) in self._seen:
            return {"same": self._seen[id(value)]}
        self._seen[id(value)] = path
        name = names().get(type(value))
        if name is not None:
            return {"class": name, "args": self._arguments(value, path)}
        word = self._owned(type(value).__name__, type(value), path)
        try:
            described = {"own": word, "args": self._arguments(value, path)}
            if otherwise(described, value, self.own):
                raise Unknown("its constructor makes something else")
        except Unknown:
            return {"own": word, "args": None}
        return described

    def _arguments(self, value: nnx.Module, path: str) -> Object:
        cls = type(value)
        told = TELL[cls](value) if cls in TELL else {}
        held = vars(value)
        found: Object = {}
        for name, parameter in parameters(cls).items():
            if name == "rngs":
                if held.get("rngs", 0) is None:
                    found[name] = None
                continue
            if name not in told and name not in held:
                if parameter.default is parameter.empty:
                    raise Unknown(f"{path or 'the model'}: {cls.__name__} does not store its argument {name}")
                continue
            given = told.get(name, held.get(name))
            if _is_default(given, parameter.default) or _is_library_function(given):
                continue
            if isinstance(given, Elsewhere):
                found[name] = {"at": given.place, "is": self.value(given.value, joined(path, given.place))}
            else:
                found[name] = self.value(given, joined(path, name))
        return found

    def value(self, value: object, path: str) -> JSON:
        """An argument."""
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, (int, float)) and type(value) in (int, float):  # not those of NumPy
            return value
        if isinstance(value, np.integer):
            return int(value)
        if isinstance(value, nnx.Variable):
            kind = next((name for name, known in KINDS.items() if type(value) is known), None)
            if kind is None:
                raise Unknown(f"{path} is a {type(value).__name__}")
            meta = {key: self.value(entry, path) for key, entry in value.get_metadata().items()}
            return {"variable": kind, "meta": meta}
        if isinstance(value, (jax.Array, np.ndarray)):
            return {"array": True}
        if isinstance(value, nnx.Rngs):
            return {"rngs": sorted(name for name in vars(value) if not name.startswith("_"))}
        if isinstance(value, nnx.Module):
            return self.module(value, path)
        if isinstance(value, tuple):
            return {"tuple": [self.value(item, f"{path}.{at}") for at, item in enumerate(value)]}
        if isinstance(value, list):
            return [self.value(item, f"{path}.{at}") for at, item in enumerate(value)]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self.value(item, f"{path}.{escaped(key)}") for key, item in value.items()}}
        return self._named(value, path)

    def _named(self, value: object, path: str) -> JSON:
        if isinstance(value, Within):
            return {"within": [value.low, value.high, value.by]}
        if isinstance(value, axn.Surrogate):
            name = next(
                (n for n in axn.__all__ if value.factory is not None and getattr(axn, n) is value.factory), None
            )
            if name is not None and value.factory(**dict(value.options)) == value:  # type: ignore[misc]
                return {"surrogate": name, "options": dict(value.options)}
            return {"own": self._owned(getattr(value.slope_fn, "__name__", "surrogate"), value, path)}
        for name, known in VALUES.items():
            if type(value) is known:
                fields = [field.name for field in dataclasses.fields(value)]  # type: ignore[arg-type]
                return {"value": name, "fields": {f: self.value(getattr(value, f), path) for f in fields}}
        dtype = _dtype(value)
        if dtype is not None:
            return {"dtype": dtype.name}
        if callable(value) and not isinstance(value, type):
            return {"own": self._owned(getattr(value, "__name__", type(value).__name__), value, path)}
        raise Unknown(f"{path} is {type(value).__name__} {str(value)[:40]!r}")

    def _owned(self, name: str, value: object, path: str) -> str:
        if self.own.setdefault(name, value) != value:
            raise Unknown(f"{path}: another thing is called {name} in this model, too")
        return name


def _dtype(value: object) -> np.dtype | None:
    try:
        given = value if isinstance(value, (type, np.dtype)) else getattr(value, "dtype", None)
        dtype = None if given is None else np.dtype(given)
    except TypeError:
        return None
    return dtype if dtype in DTYPES.values() else None


def _is_default(value: object, default: object) -> bool:
    plain = value is None or isinstance(value, (bool, int, float, str, tuple))
    return value is default or plain and type(value) is type(default) and bool(value == default)


def _is_library_function(value: object) -> bool:
    """The product of a layer and the like: a constructor chooses it, and what is made is compared with what was."""
    where = (getattr(value, "__module__", None) or "").partition(".")[0]
    return isinstance(value, (types.FunctionType, types.BuiltinFunctionType)) and where in ("jax", "flax", "spyx")
