"""`jax.jit` whose caches are dropped when what they were made for is defined again.

What is compiled for a static argument stays in memory for as long as the jitted function does. In a notebook a cell
that defines a neuron runs again and again, and each time makes a new class of the old name. Weak references to the
class would not help: JAX and Flax register it for good. So each definition of a name has jitted functions of its own
here, and of one name those of the last `KEPT` definitions stay. A definition that is used again after it was dropped is
no earlier version of another, as when one function makes several classes: as many of that name stay from then on.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Generic, TypeVar

import jax
from jax.tree_util import PyTreeDef

from spyx.engine.params import Params

if TYPE_CHECKING:
    from spyx.engine.types import Structure

R = TypeVar("R")

Definitions = tuple[FunctionType | type, ...]
"""Functions and classes, which are compared by identity."""

Compiled = dict[object, Callable[..., object]]
"""What a `ByDefinition` made for one set of definitions."""

KEPT = 4
"""Definitions of one name whose compiled functions stay in memory."""

NAMES = 256
"""Names whose compiled functions stay in memory: enough for a process, bounded where names are numbered."""


def jit(*static: int, donate_argnums: int | tuple[int, ...] = ()) -> Callable[[Callable[..., R]], ByDefinition[R]]:
    """`jax.jit` with these positional arguments static, and its `donate_argnums`."""

    def wrap(function: Callable[..., R]) -> ByDefinition[R]:
        def new() -> Callable[..., R]:
            again = functools.wraps(function)(lambda *args: function(*args))  # JAX's caches are those of a function
            return jax.jit(again, static_argnums=static, donate_argnums=donate_argnums)

        return ByDefinition(function, new, static)

    return wrap


def cache(maxsize: int) -> Callable[[Callable[..., R]], ByDefinition[R]]:
    """`functools.lru_cache`."""
    return lambda function: ByDefinition(function, functools.partial(functools.lru_cache(maxsize), function), None)


class ByDefinition(Generic[R]):
    """A function with caches, which are those of the functions and classes inside its arguments.

    Args:
        function: it.
        new: makes it anew, without anything in its caches.
        static: which of its arguments are looked into; None for all. Beside them, parameters are.
    """

    def __init__(
        self, function: Callable[..., R], new: Callable[[], Callable[..., R]], static: tuple[int, ...] | None
    ) -> None:
        functools.update_wrapper(self, function)
        self._new, self._static = new, static

    def __call__(self, *args: object) -> R:
        return self.of(args)(*args)

    def trace(self, *args: object) -> jax.stages.Traced:
        """As that of a jitted function."""
        return self.of(args).trace(*args)  # type: ignore[attr-defined]

    def of(self, args: tuple[object, ...]) -> Callable[..., R]:
        """The function for such arguments."""
        if self._static is None:
            own = _generations.of(definitions(args))
        else:
            static = [args[i] for i in self._static]
            own = _generations.of(definitions((*static, *(a._static for a in args if type(a) is Params))))
        found = own.get(self)
        return own.setdefault(self, self._new()) if found is None else found  # type: ignore[return-value]


class Generations:
    """One dictionary per set of definitions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[Definitions, Compiled] = {}
        self._names: dict[tuple[str, ...], _Name] = {}

    def of(self, key: Definitions) -> Compiled:
        """The dictionary of these functions and classes, which are compared by identity."""
        found = self._live.get(key)
        return self._new(key) if found is None else found

    def _new(self, key: Definitions) -> Compiled:
        names = tuple(f"{part.__module__}.{part.__qualname__}" for part in key)
        with self._lock:
            if key in self._live:
                return self._live[key]
            name = self._names.setdefault(names, _Name())
            for old in name.add(key):
                del self._live[old]
            while len(self._names) > NAMES:
                for old in self._names.pop(next(iter(self._names))).keys:
                    del self._live[old]
            return self._live.setdefault(key, {})


class _Name:
    """The definitions of one name, oldest first, and how many of them stay."""

    def __init__(self) -> None:
        self.keys: list[Definitions] = []
        self._kept = KEPT
        self._dropped: list[tuple[weakref.ref[FunctionType | type], ...]] = []

    def add(self, key: Definitions) -> list[Definitions]:
        """Keep a definition; returns those that are dropped."""
        self._dropped = [old for old in self._dropped if all(part() is not None for part in old)]
        if any(all(ref() is part for ref, part in zip(old, key, strict=True)) for old in self._dropped):
            self._kept, self._dropped = len(self.keys) + len(self._dropped), []
        self.keys.append(key)
        dropped = self.keys[: -self._kept]
        self.keys = self.keys[-self._kept :]
        self._dropped += [tuple(weakref.ref(part) for part in old) for old in dropped]
        return dropped


_generations = Generations()


@functools.lru_cache(maxsize=512)
def definitions(values: tuple[object, ...]) -> Definitions:
    """The functions and classes inside static arguments, each once."""
    return tuple(dict.fromkeys(_inside(values)))


def _inside(value: object) -> Iterator[FunctionType | type]:
    if isinstance(value, (FunctionType, type)):
        yield value
    elif isinstance(value, MethodType):
        yield from _inside(value.__self__)
    elif isinstance(value, functools.partial):
        yield from _inside((value.func, *value.args, *value.keywords.values()))
    elif hasattr(value, "__wrapped__"):
        yield from _inside(value.__wrapped__)  # type: ignore[attr-defined]
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _inside(part)
    elif isinstance(value, PyTreeDef):
        tree: Structure = value  # type: ignore[assignment]
        data = tree.node_data()
        if data is not None:
            yield from _inside((*data, *tree.children()))
    elif is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from _inside(getattr(value, field.name, None))
