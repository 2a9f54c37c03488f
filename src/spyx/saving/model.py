"""`save` and `load`: a model, weights and structure, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import spyx
from spyx.saving import tensors
from spyx.saving.description import Describer, Unknown
from spyx.saving.rebuild import abstract, otherwise
from spyx.saving.registry import named
from spyx.saving.tensors import Damaged

if TYPE_CHECKING:
    from os import PathLike

    from jaxtyping import Shaped

    from spyx.data._json import JSON, Object

M = TypeVar("M", bound=nnx.Module)

FORMAT, MODEL = "spyx", "spyx.model"


class Differs(ValueError):
    """The structure of a model is not that of a file; `place` is the first place where."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"spyx.load(into=): expected a model of the structure in the file; got another at {place}. "
            "Make it with the arguments of the model that was saved."
        )
        self.place = place


def save(path: str | PathLike[str], model: nnx.Module) -> None:
    """Write a model to a safetensors file: its arrays, and a description that makes it again.

    Every layer of `spyx.nn`, `spyx.graph` and `spyx.experimental` and the common ones of Flax are described by their
    names and arguments; a layer, a surrogate or a function of your own by its name alone, see `load`. The file is
    written whole or not at all, and other programs read its arrays as `layers.0.kernel` and so on.

    Args:
        path: the file; `.safetensors` is the usual ending.
        model: a layer, a `Sequential`, a `Graph`, or any Flax module.

    Raises:
        TypeError: no Flax module.
        ValueError: a model that `load` could not make again, with the place; numbers that are not finite.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from spyx import nn
        >>> path = tempfile.mkdtemp() + "/model.safetensors"
        >>> save(path, nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.LIF(4, beta=0.9)))
        >>> load(path).layers[1].beta[...].item()
        0.8999999761581421
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"spyx.save(model=): expected a Flax module; got {type(model).__name__}. Pass the model itself."
        )
    described, own = _described("spyx.save", model)
    arrays = {name: _plain(leaf) for name, leaf in named(nnx.state(model)).items()}
    odd = [name for name, array in arrays.items() if array.dtype not in tensors.NAMES]
    if odd:
        raise ValueError(
            f"spyx.save: expected numbers; got {arrays[odd[0]].dtype} in {odd[0]}. Cast it to another dtype."
        )
    problem = _not_finite(arrays, nnx.state(model))
    if problem:
        raise ValueError(f"spyx.save: expected finite numbers; got {problem}. Find out where training left them.")
    text = json.dumps(described, separators=(",", ":"))
    problem = "" if _open(described) else otherwise(described, model, own)
    if problem:
        what = _innermost(described, model, own, problem)
        raise ValueError(
            f"spyx.save: expected a model that its constructors make; got {what}. "
            "Pass what was changed to the constructor, or write a class of your own around it."
        )
    tensors.write(path, arrays, {"format": FORMAT, "spyx": spyx.__version__, MODEL: text})


@overload
def load(path: str | PathLike[str], *, classes: Mapping[str, object] | None = ..., into: M) -> M: ...


@overload
def load(path: str | PathLike[str], *, classes: Mapping[str, object] | None = ..., into: None = ...) -> Any: ...


def load(
    path: str | PathLike[str], *, classes: Mapping[str, object] | None = None, into: nnx.Module | None = None
) -> nnx.Module:
    """The model in a file that `save` wrote.

    No code of the file runs: a description names classes of spyx and Flax, which are made with checked arguments. Sizes
    are checked before memory is taken, and the contents against their SHA-256.

    Args:
        path: the file.
        classes: your own classes, functions and surrogates by the names that the file gives them.
        into: a model of the same structure, whose arrays are replaced; for classes whose arguments a file cannot hold.

    Returns:
        The model; `into` itself where it is given.

    Raises:
        ValueError: a file that is damaged or was not written by `save`; a class that is neither known nor given;
            `into` of another structure.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> from spyx import nn
        >>> class Mine(nn.IF):
        ...     pass
        >>> path = tempfile.mkdtemp() + "/model.safetensors"
        >>> save(path, nn.Sequential(Mine(3)))
        >>> type(load(path, classes={"Mine": Mine}).layers[0]).__name__
        'Mine'
    """
    who = f"spyx.load({os.path.basename(os.fspath(path))!r})"
    try:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"spyx.load: expected a file; got none at {os.fspath(path)!r}. Check the path.")
        arrays, texts = tensors.read(path)
        _check_width(arrays)
        if texts.get("format") != FORMAT or MODEL not in texts:
            raise Damaged("one without the description of a model")
        described = tensors.parsed_json(texts[MODEL])
        if into is None:
            structure, variables = abstract(described, arrays, dict(classes or {}))
        else:
            structure, variables = _same_structure(described, into)
        filled = _filled(variables, arrays)
    except Damaged as error:
        raise ValueError(f"{who}: expected a model that spyx.save wrote; got {error}. {error.advice}") from error
    except RecursionError as error:
        raise ValueError(f"{who}: expected a model that spyx.save wrote; got deep nesting. Save it again.") from error
    if into is not None:
        nnx.update(into, filled)
        return into
    return nnx.merge(structure, filled)


def _described(who: str, model: nnx.Module) -> tuple[Object, dict[str, object]]:
    describer = Describer()
    try:
        return describer.module(model, ""), describer.own
    except Unknown as error:
        raise ValueError(
            f"{who}: expected arguments that a file can hold; got something else: {error}. Write a class of your own "
            "around it, and load with classes= or into=."
        ) from error


def _same_structure(described: JSON, into: nnx.Module) -> tuple[nnx.GraphDef, nnx.State]:
    if not isinstance(into, nnx.Module):
        raise TypeError(f"spyx.load(into=): expected a Flax module; got {type(into).__name__}. Pass the model itself.")
    # Through JSON, so that both are read alike.
    here = json.loads(json.dumps(_described("spyx.load(into=)", into)[0]))
    place = _first_difference(described, here, "")
    if place is not None:
        raise Differs(place or "the top")
    return nnx.split(into)


def _check_width(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """JAX would cut numbers of 64 bits down."""
    wide = [name for name, array in arrays.items() if array.dtype.itemsize == 8]
    if wide and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise Damaged(
            f"{wide[0]} of {arrays[wide[0]].dtype}", "Set jax_enable_x64, without which JAX has no such numbers."
        )


def _filled(variables: nnx.State, arrays: dict[str, Shaped[np.ndarray, "..."]]) -> nnx.State:
    wanted = named(variables)
    lost, more = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted))
    if lost or more:
        raise Damaged(f"no array {lost[0]!r}" if lost else f"the array {more[0]!r}, which no layer has")
    problem = _not_finite(arrays, variables)
    if problem:
        raise Damaged(problem)
    leaves = [_leaf(name, leaf, arrays[name]) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(variables), leaves)


def _leaf(name: str, wanted: jax.Array | jax.ShapeDtypeStruct, array: Shaped[np.ndarray, "..."]) -> jax.Array:
    if jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
        if array.dtype != np.uint32 or array.ndim != wanted.ndim + 1:
            raise Damaged(f"{name} of {array.dtype} {array.shape}, where a random key belongs")
        try:
            key = jax.random.wrap_key_data(jnp.asarray(array))
        except (TypeError, ValueError) as error:
            raise Damaged(f"{name} of shape {array.shape}, where a random key belongs") from error
        if (key.shape, key.dtype) != (wanted.shape, wanted.dtype):
            raise Damaged(f"{name} of another kind of random key")
        return key
    floating = jnp.issubdtype(array.dtype, jnp.floating) and jnp.issubdtype(wanted.dtype, jnp.floating)
    if array.shape != tuple(wanted.shape) or not (floating or array.dtype == wanted.dtype):
        raise Damaged(f"{name} of {array.dtype} {array.shape} in the place of {wanted.dtype} {tuple(wanted.shape)}")
    return jnp.array(array)


def _plain(leaf: jax.Array) -> Shaped[np.ndarray, "..."]:
    keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if keys else leaf)


def _not_finite(arrays: Mapping[str, Shaped[np.ndarray, "..."]], variables: nnx.State) -> str:
    """The first NaN, or infinity in a parameter, in words; other arrays may hold infinities."""
    trained = set(named(nnx.filter_state(variables, nnx.Param)))
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.floating):
            wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
            wrong = ~np.isfinite(wide) if name in trained else np.isnan(wide)
            if wrong.any():
                return f"{name} with {int(wrong.sum())} of {array.size} numbers that are not finite"
    return ""


def _open(described: object) -> bool:
    """Somewhere inside is a class of the user's whose arguments are not known."""
    if isinstance(described, dict):
        return ("own" in described and described.get("args", 0) is None) or any(map(_open, described.values()))
    return isinstance(described, list) and any(map(_open, described))


def _innermost(described: Object, model: nnx.Module, own: Mapping[str, object], problem: str) -> str:
    """The problem of the innermost layer that has one."""
    for name, inner in _inside(described):
        layer = _at(model, name)
        if isinstance(layer, nnx.Module) and (found := otherwise(inner, layer, own)):
            return f"{name}: {_innermost(inner, layer, own, found)}"
    return problem


def _inside(described: Object) -> list[tuple[str, Object]]:
    found = []
    arguments = described.get("args", {})
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        inner = value.get("dict") if isinstance(value, dict) else None
        items = inner if isinstance(inner, dict) else {"": value}
        items = {str(at): item for at, item in enumerate(value)} if isinstance(value, list) else items
        found += [(f"{name}.{at}" if at else name, v) for at, v in items.items() if isinstance(v, dict) and "args" in v]
    return found


def _at(model: object, name: str) -> object:
    for word in name.split("."):
        model = model[int(word)] if word.isdigit() else getattr(model, word, None)  # type: ignore[index]
    return model


def _first_difference(one: JSON, other: JSON, path: str) -> str | None:
    if type(one) is not type(other):
        return path
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) != set(other):
            return path
        found = (_first_difference(one[k], other[k], f"{path}.{k}" if path else k) for k in one)
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return path
        found = (_first_difference(a, b, f"{path}.{at}") for at, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return None if one == other else path
    return next((place for place in found if place is not None), None)
