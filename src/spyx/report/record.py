"""`record`: what the layers of a network did on data, as arrays or as statistics that do not grow with the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.fn.traces import TraceFunction
from spyx.nn.inside import layers_with_state, named_layers
from spyx.nn.layer import as_layer, hashable, merged
from spyx.nn.neuron import Neuron
from spyx.report.doctor import default_loss

OWNER = "spyx.report.record"
SPIKES, MEMBRANE, GRADIENT, RATES = "spikes", "membrane", "gradient", "rates"
NAMES = {"outputs": SPIKES, "v": MEMBRANE}


class Statistics(NamedTuple):
    """Numbers of one quantity of one layer, over all samples and steps that count.

    Args:
        mean: of every unit; of spikes, the share of steps in which it fires. (*features).
        std: of every unit, (*features).
        low: smallest value of every unit, (*features).
        high: largest value of every unit, (*features).
        over_time: mean over samples and units at every recorded step, (time,).

    Example:
        >>> Statistics(np.ones(2), np.zeros(2), np.ones(2), np.ones(2), np.ones(4)).mean.tolist()
        [1.0, 1.0]
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    over_time: np.ndarray


class LayerRecord(Mapping[str, Any]):
    """What was recorded of one layer: quantities by name, arrays (samples, time, units) or `Statistics`.

    Args:
        name: its path in the network and its kind, for instance "1 LIF".
        values: by quantity.

    Example:
        >>> layer = LayerRecord("1 LIF", {"spikes": np.array([[[0.0, 1.0], [0.0, 1.0]]])})
        >>> layer.rate, layer.silent, layer.spiking
        (0.5, 0.5, True)
    """

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name, self._values = name, dict(values)

    def __getitem__(self, what: str) -> Any:
        if what not in self._values:
            raise KeyError(f"{self.name}: expected one of {', '.join(self._values)}; got {what!r}. Use what=")
        return self._values[what]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = (f"{what} {getattr(value, 'shape', 'statistics')}" for what, value in self._values.items())
        return f"<{self.name}: {', '.join(shapes)}>"

    @property
    def rate(self) -> float:
        """Mean output per unit and step; of spikes, the share of steps in which a unit fires."""
        if RATES in self:
            return float(self[RATES].mean())
        found = self[SPIKES]
        return float(found.mean.mean() if isinstance(found, Statistics) else found.mean())

    @property
    def silent(self) -> float:
        """Share of the units that put out nothing at all, for any sample."""
        if RATES in self:
            return float((self[RATES] == 0).all(axis=0).mean())
        found = self[SPIKES]
        if isinstance(found, Statistics):
            return float(((found.low == 0) & (found.high == 0)).mean())
        return float((found == 0).all(axis=(0, 1)).mean())

    @property
    def spiking(self) -> bool:
        """All outputs are 0 or 1; of statistics, they lie between 0 and 1 and have the spread of 0 and 1."""
        found = self[SPIKES]
        if isinstance(found, Statistics):
            spread = np.sqrt(np.clip(found.mean * (1 - found.mean), 0, None))
            inside = bool(np.isin(found.low, (0, 1)).all() and np.isin(found.high, (0, 1)).all())
            return inside and np.allclose(found.std, spread, atol=1e-3)
        return bool(np.isin(found, (0, 1)).all())


class Recording(Mapping[str, LayerRecord]):
    """What `record` returns: a `LayerRecord` for every layer, by its path.

    Args:
        layers: by path, in the order of the network.
        steps: the time steps that were recorded.
        samples: how many samples were.

    Example:
        >>> from spyx import nn
        >>> net = nn.Sequential(nn.IF(2), nn.LI(2, beta=0.5))
        >>> found = record(net, jnp.ones((1, 4, 2)), what=("spikes", "membrane"))
        >>> found
        <0 IF: spikes (1, 4, 2), membrane (1, 4, 2)>
        <1 LI: spikes (1, 4, 2), membrane (1, 4, 2)>
        >>> found["1"]["membrane"][0, :, 0].tolist()
        [0.0, 0.0, 1.0, 1.5]
    """

    def __init__(self, layers: Mapping[str, LayerRecord], steps: np.ndarray, samples: int) -> None:
        self._layers, self.steps, self.samples = dict(layers), steps, samples

    def __getitem__(self, path: str) -> LayerRecord:
        if path not in self._layers:
            raise KeyError(f"{OWNER}: expected one of {', '.join(self._layers)}; got {path!r}. where= chooses layers.")
        return self._layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._layers.values()))


def record(
    model: Any,
    x: Any,
    *,
    what: str | tuple[str, ...] = (SPIKES,),
    where: Any = None,
    every: int = 1,
    units: int | Mapping[str, Any] | None = None,
    statistics: bool = False,
    y: Any = None,
    loss: Callable[..., Any] | None = None,
    lengths: Any = None,
    batch_size: int = 256,
) -> Recording:
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

    x: Any
    y: Any
    lengths: Any
    real: int

    def arrays(self) -> tuple[Any, ...]:
        rows = (np.arange(len(jax.tree.leaves(self.x)[0])) < self.real).astype(np.float32)
        return self.x, self.y, self.lengths, rows


@dataclass(frozen=True)
class _Spec:
    """What is recorded, as a static argument of a compiled function."""

    what: tuple[str, ...]
    paths: tuple[str, ...]
    membranes: tuple[tuple[str, str], ...]
    every: int
    units: Any
    statistics: bool
    loss: Any = None

    def with_loss(self, loss: Any) -> _Spec:
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


def _recorded_of(structure: Any, spec: _Spec, variables: Any, arrays: tuple[Any, ...]) -> dict[str, Any]:
    x, y, lengths, rows = arrays
    network = merged(structure, variables)
    network.eval()
    ends = jnp.full(len(rows), jax.tree.leaves(x)[0].shape[1]) if lengths is None else jnp.asarray(lengths)
    clock = jnp.arange(0, jax.tree.leaves(x)[0].shape[1], spec.every)
    alive = ((clock[:, None] < ends[None]) & (rows[None] > 0)).sum(1).astype(jnp.float32)

    def run(added: Any = None, tapped: tuple[str, ...] = spec.tapped(), mode: str = "auto") -> Any:
        return nn.observe(network, x, what=tapped, where=spec.paths, lengths=lengths, added=added, mode=mode)

    result: dict[str, Any] = {}
    if RATES in spec.what:
        sums = nn.observe(network, x, where=spec.paths, lengths=lengths, summed=True)[2]
        result = {f"{path}|{RATES}": {"time": sums[path][:: spec.every], "count": alive} for path in spec.paths}
    if not spec.tapped():
        return result
    seen = run()[2]
    if GRADIENT in spec.what:
        given = {} if lengths is None or not isinstance(spec.loss, TraceFunction) else {"lengths": lengths}
        zeros = {
            path: jnp.zeros(a.shape, a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else jnp.float32)
            for path in spec.paths
            if (a := seen[f"{path}.inputs"]) is not None
        }
        found = jax.grad(lambda added: spec.loss(run(added, ("outputs",), "layer")[0], y, **given))(zeros)
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


def _moments(value: jax.Array, rows: jax.Array, lengths: Any, every: int) -> dict[str, jax.Array]:
    """Sums over samples and steps that count."""
    counts = jnp.broadcast_to(rows[:, None] > 0, value.shape[:2])
    if lengths is not None:
        counts &= jnp.arange(value.shape[1])[None] * every < jnp.asarray(lengths)[:, None]
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
        self.found: dict[str, Any] = {}

    def add(self, found: dict[str, Any], part: _Part) -> None:
        if not found:
            raise ValueError(
                f"{OWNER}(what=): expected quantities of {', '.join(self.names.values())}; got {self.spec.what}. "
                "Use 'spikes', 'membrane', 'gradient', 'inputs', or a state variable of a layer."
            )
        self.samples += part.real
        self.steps = jax.tree.leaves(part.x)[0].shape[1]
        for key, value in found.items():
            value = jax.tree.map(np.asarray, value)
            path, _, name = key.rpartition("|")
            if not self.spec.statistics and name != RATES:
                self.found.setdefault(key, []).append(value[: part.real])
            elif key not in self.found:
                self.found[key] = {name: a.astype(np.float64) for name, a in value.items()}
            else:
                self.found[key] = _joined(self.found[key], value)

    def result(self) -> Recording:
        layers: dict[str, dict[str, Any]] = {path: {} for path in self.names}
        for key, value in self.found.items():
            path, _, name = key.rpartition("|")
            if name == RATES:
                shape = (-1, *(1,) * (value["time"].ndim - 1))
                layers[path][name] = value["time"] / np.maximum(value["count"], 1).reshape(shape)
            else:
                layers[path][name] = _statistics(value) if self.spec.statistics else np.concatenate(value)
        found = {path: {name: of[name] for name in self.spec.what if name in of} for path, of in layers.items()}
        made = {path: LayerRecord(self.names[path], values) for path, values in found.items() if values}
        return Recording(made, np.arange(0, self.steps, self.spec.every), self.samples)


def _joined(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    if before["time"].shape != more["time"].shape:
        raise ValueError(
            f"{OWNER}(statistics=): expected batches of one length; got {len(before['time'])} and {len(more['time'])} "
            "recorded steps. Pad them, and give lengths."
        )
    ways = {"low": np.minimum, "high": np.maximum}
    return {name: ways.get(name, np.add)(value, more[name]) for name, value in before.items()}


def _statistics(found: dict[str, Any]) -> Statistics:
    count = found["count"].sum()
    mean = found["sum"] / count
    spread = np.sqrt(np.clip(found["square"] / count - mean**2, 0, None))
    return Statistics(mean, spread, found["low"], found["high"], found["time"] / np.maximum(found["count"], 1))


def _parts(x: Any, y: Any, lengths: Any, size: int, fill: bool) -> Iterator[_Part]:
    if hasattr(x, "__array__"):
        x = np.asarray(x)
        if x.ndim < 2:
            raise ValueError(f"{OWNER}: expected input (samples, time, ...); got shape {x.shape}. Add the batch axis.")
        size = math.ceil(len(x) / max(1, math.ceil(len(x) / size)))
        for start in range(0, len(x), size or 1):
            rows = np.arange(start, start + size if fill else min(start + size, len(x))) % len(x)
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


def _chosen(layer: nn.Layer, x: Any, where: Any) -> dict[str, Any]:
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


def _membranes(layers: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((path, next(iter(inner.state))) for path, inner in layers.items() if isinstance(inner, Neuron))


def _units(units: Any, layers: Mapping[str, Any]) -> Any:
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
