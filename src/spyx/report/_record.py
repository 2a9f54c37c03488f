"""`record`: what the layers of a network did on data, as arrays or as statistics that do not grow with the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.engine.masks import before_end
from spyx.nn._layer import as_layer, hashable, merged
from spyx.nn._layers_by_path import layers_with_state, named_layers
from spyx.nn._neuron import Neuron
from spyx.report._doctor import default_loss
from spyx.report._probe import lengths_for
from spyx.report._recording import OWNER, RATES, SPIKES, LayerRecord, Recording, Statistics

if TYPE_CHECKING:
    from collections.abc import Collection

    from jaxtyping import Array, Float, Int, Integer, PyTree, Shaped
    from numpy.typing import ArrayLike

    from spyx.engine.types import Outputs, State
    from spyx.nn._layer import Model
    from spyx.report.types import Labels, Layers, Lengths, Loss, Part, Samples, Seen, Structure

    Where = Collection[str] | Callable[[str, nn.Layer], object]
    """Paths of layers, one or several; or a function `(path, layer) -> bool`."""

    Units = tuple[tuple[str, tuple[int, ...]], ...]
    """Of layers, by path: indices into the flattened units."""

    Sums = dict[str, Float[np.ndarray, "..."]]
    """Sums and extremes over the samples so far, by name."""

    Arrays = tuple[
        PyTree[Shaped[ArrayLike, "samples time ..."]],
        Shaped[Array, "samples *time"] | None,
        Int[Array, " samples"] | None,
        Float[Array, " samples"],
    ]
    """Those of a `_Part`."""

    Found = dict[str, Shaped[Array, "samples time ..."] | dict[str, Float[Array, "..."]]]
    """What one batch gave, by `path|quantity`: arrays, or sums."""

MEMBRANE, GRADIENT = "membrane", "gradient"
NAMES = {"outputs": SPIKES, "v": MEMBRANE}


@overload
def record(
    model: Model,
    x: Samples | Iterable[Part],
    *,
    what: str | tuple[str, ...] = ...,
    where: Where | None = ...,
    every: int = ...,
    units: int | Mapping[str, Integer[ArrayLike, " units"]] | None = ...,
    statistics: Literal[False] = ...,
    y: Labels | None = ...,
    loss: Loss | None = ...,
    lengths: Lengths | None = ...,
    batch_size: int = ...,
) -> Recording[np.ndarray]: ...


@overload
def record(
    model: Model,
    x: Samples | Iterable[Part],
    *,
    what: str | tuple[str, ...] = ...,
    where: Where | None = ...,
    every: int = ...,
    units: int | Mapping[str, Integer[ArrayLike, " units"]] | None = ...,
    statistics: Literal[True],
    y: Labels | None = ...,
    loss: Loss | None = ...,
    lengths: Lengths | None = ...,
    batch_size: int = ...,
) -> Recording[Statistics]: ...


@overload
def record(
    model: Model,
    x: Samples | Iterable[Part],
    *,
    what: str | tuple[str, ...] = ...,
    where: Where | None = ...,
    every: int = ...,
    units: int | Mapping[str, Integer[ArrayLike, " units"]] | None = ...,
    statistics: bool,
    y: Labels | None = ...,
    loss: Loss | None = ...,
    lengths: Lengths | None = ...,
    batch_size: int = ...,
) -> Recording[np.ndarray | Statistics]: ...


def record(
    model: Model,
    x: Samples | Iterable[Part],
    *,
    what: str | tuple[str, ...] = (SPIKES,),
    where: Where | None = None,
    every: int = 1,
    units: int | Mapping[str, Integer[ArrayLike, " units"]] | None = None,
    statistics: bool = False,
    y: Labels | None = None,
    loss: Loss | None = None,
    lengths: Lengths | None = None,
    batch_size: int = 256,
) -> Recording[np.ndarray] | Recording[Statistics] | Recording[np.ndarray | Statistics]:
    """Run a network and record what its layers did; the network is not changed, and runs in evaluation mode.

    The recording is as large as is asked for: `every` n-th step, some `units`, or `statistics` alone, whose size does
    not depend on the number of samples. Data are taken in batches, so that a whole data set streams through.

    Args:
        model: any container: a `spyx.nn.Sequential`, a graph, nested ones.
        x: input (samples, time, *features); or an iterable of such arrays, of pairs `(x, y)`, or of the batches of a
            `spyx.data.Loader`.
        what: "spikes", the outputs; "rates", their mean over samples, (time, *features), for hardly any cost;
            "membrane", the first state variable; "gradient", the derivative of a sample's loss by the input of the
            layer at every step, if the loss is a mean over samples; "inputs"; or names of state variables. Default the
            outputs.
        where: paths of layers, or a function `(path, layer) -> bool`; None (default) is every layer with a state.
        every: record every n-th step, from the first on. Default 1.
        units: how many units of each layer, evenly spaced; or, by path, indices into its flattened units. None
            (default) is all.
        statistics: record `Statistics` in place of arrays, on all units and the steps of `every`.
        y: labels (samples,) or (samples, time), for the gradient.
        loss: `(traces, targets) -> loss`, for the gradient; None is `spyx.fn.integral_crossentropy()`.
        lengths: (samples,) steps of each sample that count, as for `spyx.nn.run`; only for one array.
        batch_size: samples that run at once.

    Returns:
        A `Recording`: `recording[path][quantity]`.

    Shapes:
        arrays (samples, time, *features) as NumPy, time shorter with `every`; with `units`, (samples, time, units).
        "rates" (time, *features).

    Raises:
        TypeError: a model that is no container of layers.
        ValueError: an argument out of its range; a gradient without labels; a name that no layer has.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.IF(2, threshold=1.0), nn.LI(2, beta=0.5))
        >>> found = record(net, jnp.ones((1, 4, 2)))
        >>> [(layer.name, layer.spiking, layer.rate) for layer in found.values()]
        [('0 IF', True, 0.5), ('1 LI', False, 0.625)]
        >>> record(net, jnp.ones((9, 4, 2)), statistics=True, every=2)["0"]["spikes"].over_time.tolist()
        [0.0, 1.0]
    """
    layer = as_layer(OWNER, model) if callable(model) and not isinstance(model, type) else model
    if not isinstance(layer, nn.Layer) or not layer.container:
        raise TypeError(
            f"{OWNER}: expected a container of layers; got {type(model).__name__}. Put it in a spyx.nn.Sequential."
        )
    wanted = tuple(dict.fromkeys(NAMES.get(name, name) for name in ((what,) if isinstance(what, str) else what)))
    for name, value in (("every", every), ("batch_size", batch_size)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{OWNER}({name}=): expected a whole number, 1 or more; got {value!r}. Use {name}=1.")
    parts = _parts(x, y, lengths, batch_size, fill=RATES not in wanted)
    first = next(parts, None)
    if first is None:
        raise ValueError(f"{OWNER}: expected samples; got none. Pass one at least.")
    if GRADIENT in wanted and first.y is None:
        raise ValueError(f"{OWNER}(what='gradient'): expected labels; got none. Pass y=.")
    layer_of = _chosen(layer, first.x, where)
    spec = _Spec(wanted, tuple(layer_of), _membranes(layer_of), int(every), _units(units, layer_of), statistics)
    spec = spec.with_loss(loss or default_loss(per_step=first.y is not None and np.ndim(first.y) == 2))
    graphdef, variables = nnx.split(layer)
    gathered = _Gathered(spec, {path: f"{path} {inner._kind}" for path, inner in layer_of.items()})
    structure = hashable(graphdef)
    for part in _chain(first, parts):
        gathered.add(_recorded(structure, spec, variables, part.arrays()), part)
    return gathered.result()


class _Part(NamedTuple):
    """A batch: the last one of an array is filled up, so that one compilation serves all."""

    x: PyTree[Shaped[ArrayLike, "samples time ..."]]
    y: Labels | None
    lengths: Lengths | None
    real: int

    def arrays(self) -> tuple[PyTree[Shaped[ArrayLike, "samples time ..."]], Labels | None, Lengths | None, np.ndarray]:
        """Input, labels, lengths, and which rows are samples: 1, or 0 for those that fill the batch up."""
        rows = (np.arange(len(jax.tree.leaves(self.x)[0])) < self.real).astype(np.float32)
        return self.x, self.y, self.lengths, rows


@dataclass(frozen=True)
class _Spec:
    """What is recorded, as a static argument of a compiled function."""

    what: tuple[str, ...]
    paths: tuple[str, ...]
    membranes: tuple[tuple[str, str], ...]
    every: int
    units: Units | None
    statistics: bool
    loss: Loss | None = None

    def with_loss(self, loss: Loss) -> _Spec:
        return self if GRADIENT not in self.what else _Spec(**{**vars(self), "loss": loss})

    def tapped(self) -> tuple[str, ...]:
        names = {
            SPIKES: ("outputs",),
            RATES: (),
            MEMBRANE: tuple(name for _, name in self.membranes),
            GRADIENT: ("inputs",),
        }
        return tuple(dict.fromkeys(n for name in self.what for n in names.get(name, (name,))))

    def keys(self, path: str) -> Iterator[tuple[str, str]]:
        """Each quantity of a layer and what `observe` calls it."""
        for name in self.what:
            if name == SPIKES:
                yield name, path
            elif name == RATES:
                continue
            elif name == MEMBRANE:
                yield from ((name, f"{path}.{variable}") for at, variable in self.membranes if at == path)
            else:
                yield name, f"{path}.{name}"


def _recorded_of(structure: Structure, spec: _Spec, variables: nnx.State, arrays: Arrays) -> Found:
    x, y, lengths, rows = arrays
    network = merged(structure, variables)
    network.eval()
    steps = -(-jax.tree.leaves(x)[0].shape[1] // spec.every)
    counts = jnp.broadcast_to(rows[:, None] > 0, (len(rows), steps))
    if lengths is not None:
        counts &= before_end(lengths, steps, every=spec.every)
    alive = counts.sum(0).astype(jnp.float32)

    def run(
        added: Mapping[str, Array] | None = None, tapped: tuple[str, ...] = spec.tapped(), mode: str = "auto"
    ) -> tuple[Outputs, State, Seen]:
        return nn.observe(network, x, what=tapped, where=spec.paths, lengths=lengths, added=added, mode=mode)

    result: Found = {}
    if RATES in spec.what:
        sums = nn.observe(network, x, where=spec.paths, lengths=lengths, summed=True)[2]
        result = {f"{path}|{RATES}": {"time": sums[path][:: spec.every], "count": alive} for path in spec.paths}
    if not spec.tapped():
        return result
    seen = run()[2]
    if spec.loss is not None:
        loss, given = spec.loss, lengths_for(spec.loss, lengths)
        zeros = {
            path: jnp.zeros(a.shape, a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else jnp.float32)
            for path in spec.paths
            if (a := seen[f"{path}.inputs"]) is not None
        }
        found = jax.grad(lambda added: loss(run(added, ("outputs",), "layer")[0], y, **given))(zeros)
        seen = seen | {f"{path}.{GRADIENT}": value * len(rows) for path, value in found.items()}
    picked = dict(spec.units or ())
    for path in spec.paths:
        for name, key in spec.keys(path):
            if key not in seen:
                continue
            value = seen[key][:, :: spec.every]
            if path in picked:
                value = value.reshape(*value.shape[:2], -1)[..., np.asarray(picked[path])]
            result[f"{path}|{name}"] = _moments(value, rows, lengths, spec.every) if spec.statistics else value
    return result


_recorded = jax.jit(_recorded_of, static_argnums=(0, 1))


def _moments(
    value: Shaped[Array, "samples time ..."],
    rows: Float[Array, " samples"],
    lengths: Int[Array, " samples"] | None,
    every: int,
) -> dict[str, Float[Array, "..."]]:
    """Sums over samples and steps that count."""
    counts = jnp.broadcast_to(rows[:, None] > 0, value.shape[:2])
    if lengths is not None:
        counts &= before_end(lengths, value.shape[1], every=every)
    shaped = counts.reshape(*counts.shape, *(1,) * (value.ndim - 2))
    value = value.astype(jnp.float32)
    kept = jnp.where(shaped, value, 0)
    return {
        "sum": kept.sum((0, 1)),
        "square": (kept * kept).sum((0, 1)),
        "low": jnp.where(shaped, value, jnp.inf).min((0, 1)),
        "high": jnp.where(shaped, value, -jnp.inf).max((0, 1)),
        "time": kept.sum(0).reshape(value.shape[1], -1).mean(-1),
        "count": counts.sum(0).astype(jnp.float32),
    }


class _Gathered:
    """The batches so far."""

    def __init__(self, spec: _Spec, names: dict[str, str]) -> None:
        self.spec, self.names, self.samples, self.steps = spec, names, 0, 0
        self.parts: dict[str, list[Shaped[np.ndarray, "samples time ..."]]] = {}
        self.sums: dict[str, Sums] = {}

    def add(self, found: Found, part: _Part) -> None:
        if not found:
            raise ValueError(
                f"{OWNER}(what=): expected quantities of {', '.join(self.names.values())}; got {self.spec.what}. "
                "Use 'spikes', 'membrane', 'gradient', 'inputs', or a state variable of a layer."
            )
        self.samples += part.real
        self.steps = jax.tree.leaves(part.x)[0].shape[1]
        for key, value in found.items():
            if not isinstance(value, dict):
                self.parts.setdefault(key, []).append(np.asarray(value)[: part.real])
                continue
            sums = {name: np.asarray(a) for name, a in value.items()}
            if key in self.sums:
                self.sums[key] = _joined(self.sums[key], sums)
            else:
                self.sums[key] = {name: a.astype(np.float64) for name, a in sums.items()}

    def result(self) -> Recording:
        layers: dict[str, dict[str, np.ndarray | Statistics]] = {path: {} for path in self.names}
        for key, parts in self.parts.items():
            path, _, name = key.rpartition("|")
            layers[path][name] = np.concatenate(parts)
        for key, sums in self.sums.items():
            path, _, name = key.rpartition("|")
            if name == RATES:
                shape = (-1, *(1,) * (sums["time"].ndim - 1))
                layers[path][name] = sums["time"] / np.maximum(sums["count"], 1).reshape(shape)
            else:
                layers[path][name] = _statistics(sums)
        found = {path: {name: of[name] for name in self.spec.what if name in of} for path, of in layers.items()}
        made = {path: LayerRecord(self.names[path], values) for path, values in found.items() if values}
        return Recording(made, np.arange(0, self.steps, self.spec.every), self.samples)


def _joined(before: Sums, more: Sums) -> Sums:
    if before["time"].shape != more["time"].shape:
        raise ValueError(
            f"{OWNER}(statistics=): expected batches of one length; got {len(before['time'])} and {len(more['time'])} "
            "recorded steps. Pad them, and give lengths."
        )
    ways = {"low": np.minimum, "high": np.maximum}
    return {name: ways.get(name, np.add)(value, more[name]) for name, value in before.items()}


def _statistics(found: Sums) -> Statistics:
    count = found["count"].sum()
    mean = found["sum"] / count
    spread = np.sqrt(np.clip(found["square"] / count - mean**2, 0, None))
    return Statistics(mean, spread, found["low"], found["high"], found["time"] / np.maximum(found["count"], 1))


def _parts(
    x: Samples | Iterable[Part], y: Labels | None, lengths: Lengths | None, size: int, fill: bool
) -> Iterator[_Part]:
    if hasattr(x, "__array__"):
        x = np.asarray(x)
        if x.ndim < 2:
            raise ValueError(f"{OWNER}: expected input (samples, time, ...); got shape {x.shape}. Add the batch axis.")
        size = math.ceil(len(x) / max(1, math.ceil(len(x) / size)))
        for start in range(0, len(x), size or 1):
            rows: slice | Int[np.ndarray, " samples"] = slice(start, start + size)  # of an array this is no copy
            if fill and start + size > len(x):
                rows = np.arange(start, start + size) % len(x)
            labels, ends = (None if a is None else np.asarray(a)[rows] for a in (y, lengths))
            yield _Part(x[rows], labels, ends, min(size, len(x) - start))
        return
    if not isinstance(x, Iterable):
        raise TypeError(f"{OWNER}: expected an array or an iterable of arrays; got {type(x).__name__}. Pass x[None].")
    for batch in x:
        if isinstance(batch, tuple):
            inputs, targets, ends = batch[0], batch[1] if len(batch) > 1 else None, getattr(batch, "lengths", None)
            if (mask := getattr(batch, "mask", None)) is not None and not np.asarray(mask).all():
                rows = np.asarray(mask)
                inputs = np.asarray(inputs)[rows]
                targets, ends = (None if a is None else np.asarray(a)[rows] for a in (targets, ends))
            yield _Part(inputs, targets, ends, len(inputs))
        else:
            yield _Part(batch, None, None, len(batch))


def _chain(first: _Part, rest: Iterator[_Part]) -> Iterator[_Part]:
    yield first
    yield from rest


def _chosen(
    layer: nn.Layer, x: PyTree[Shaped[ArrayLike, "samples time ..."]], where: Where | None
) -> dict[str, nn.Layer]:
    """The layers that are recorded, by path: those that were asked for, or all with a state."""
    state = layer.state_for(jax.tree.map(lambda a: jnp.asarray(a)[:, 0], x))
    layers = named_layers(layer, state)
    if where is None:
        stateful = layers_with_state(layer, state)
        return {path: inner for path, inner in layers.items() if path in stateful}
    if callable(where):
        found = {path: inner for path, inner in layers.items() if where(path, inner)}
    else:
        found = {path: layers[path] for path in ((where,) if isinstance(where, str) else where) if path in layers}
    missing = [] if callable(where) else [p for p in ((where,) if isinstance(where, str) else where) if p not in layers]
    if missing or not found:
        raise ValueError(
            f"{OWNER}(where=): expected layers of the network, {', '.join(layers)}; got {missing or where}. "
            "Name some of them."
        )
    return found


def _membranes(layers: Layers) -> tuple[tuple[str, str], ...]:
    return tuple((path, next(iter(inner.state))) for path, inner in layers.items() if isinstance(inner, Neuron))


def _units(units: int | Mapping[str, Integer[ArrayLike, " units"]] | None, layers: Layers) -> Units | None:
    if units is None:
        return None
    if isinstance(units, Mapping):
        if unknown := [path for path in units if path not in layers]:
            raise ValueError(f"{OWNER}(units=): expected paths of {', '.join(layers)}; got {unknown}. Name layers.")
        return tuple((path, tuple(int(n) for n in np.ravel(chosen))) for path, chosen in units.items())
    if isinstance(units, bool) or not isinstance(units, (int, np.integer)) or units < 1:
        raise ValueError(f"{OWNER}(units=): expected a number of units or indices by path; got {units!r}. Try 16.")
    sizes = {path: math.prod(inner.hidden_shape) for path, inner in layers.items() if isinstance(inner, Neuron)}
    return tuple(
        (path, tuple(np.unique(np.linspace(0, size - 1, min(units, size)).round().astype(int)).tolist()))
        for path, size in sizes.items()
    )
