"""`LayerHistory`: firing rates and gradients of every layer over training, on one small batch that stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.engine.masks import before_end
from spyx.fn._traces import TraceFunction
from spyx.nn._layer import as_layer, hashable, merged
from spyx.nn._layers_by_path import layers_with_state, named_layers

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num

    from spyx.nn._layer import Model
    from spyx.report.types import Alive, Labels, Lengths, Loss, Objective, Samples, Structure

    Numbers = dict[str, Float[Array, ""]]
    """`rate`, `silent` and `gradient` of a layer."""

OWNER = "spyx.report.LayerHistory"


class LayerRow(TypedDict):
    """One layer after one epoch, counted from 1; see `LayerHistory` for the numbers."""

    epoch: int
    layer: str
    rate: float
    silent: float
    gradient: float


class LayerHistory:
    """Rates and gradients per layer, measured whenever it is called, on one batch that stays the same.

    `rate` is the share of units times steps with a spike, `silent` the share of units without any spike on the batch;
    both are NaN for a layer whose outputs are no spikes. `gradient` is the L2 norm of the loss's gradient by all
    parameters of the layer, NaN for one without parameters. Dropout and BatchNorm are in evaluation mode. A step that
    is padding by `lengths` does not count.

    Args:
        loss_fn: `(model, *batch) -> loss`, or a loss of `spyx.fn` of the model's outputs, as for `spyx.optimize.fit`.
        batch: what the loss is given: `(x, y)` or `(x, y, lengths)`; x (batch, time, *features). A small one: each call
            runs it once forward, and once forward and backward.
        every: epochs between two measurements, >= 1; the last epoch is measured if it is a multiple. Default 1.

    Raises:
        ValueError: a batch without samples, or `every` below 1.

    Example:
        >>> from spyx import fn, nn
        >>> net = nn.Sequential(nn.Linear(2, 2, rngs=nnx.Rngs(0)), nn.IF(2), nn.LI(2, beta=0.5))
        >>> watch = LayerHistory(fn.integral_crossentropy(), (jnp.full((1, 4, 2), 9.0), jnp.array([1])))
        >>> watch(0, net)
        >>> [(row["epoch"], row["layer"]) for row in watch.rows]
        [(1, '0 Linear'), (1, '1 IF'), (1, '2 LI')]
        >>> watch.rows[0]["gradient"] > 0, watch.rows[1]["rate"] > 0
        (True, True)
    """

    def __init__(
        self,
        loss_fn: Loss | Objective,
        batch: tuple[Samples, Labels] | tuple[Samples, Labels, Lengths | None],
        *,
        every: int = 1,
    ) -> None:
        if not isinstance(batch, tuple) or not 2 <= len(batch) <= 3 or np.ndim(batch[0]) < 2 or not np.size(batch[0]):
            raise ValueError(
                f"{OWNER}(batch=): expected (x, y) or (x, y, lengths) with samples (batch, time, ...); "
                f"got {_described(batch)}. Pass one sample at least."
            )
        if every < 1:
            raise ValueError(f"{OWNER}(every=): expected 1 or more; got {every}. Pass 1 for every epoch.")
        self.rows: list[LayerRow] = []
        self.samples = int(np.shape(batch[0])[0])
        self.every = every
        self._loss_fn = loss_fn
        self._x, self._y = jnp.asarray(batch[0]), jnp.asarray(batch[1])
        self._lengths = None if len(batch) < 3 or batch[2] is None else jnp.asarray(batch[2])
        self._names: dict[str, str] | None = None
        self._measured = jax.jit(self._measure, static_argnums=0)

    def __call__(self, epoch: int, model: Model) -> None:
        """Measure `model` after an epoch, counted from 0, and append a row for every layer."""
        if (epoch + 1) % self.every and epoch:
            return
        layer = as_layer(OWNER, model)
        layer = layer if layer.container else nn.Sequential(layer)
        if self._names is None:
            inside = named_layers(layer, layer.state_for(self._x[:, 0]))
            self._names = {path: f"{path} {inner._kind}" for path, inner in inside.items()}
        graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
        found = jax.tree.map(float, jax.device_get(self._measured(hashable(graphdef), params, rest)))
        for path, name in self._names.items():
            if path in found:
                rate, silent, gradient = (found[path][key] for key in ("rate", "silent", "gradient"))
                self.rows.append(LayerRow(epoch=epoch + 1, layer=name, rate=rate, silent=silent, gradient=gradient))

    def _measure(self, graphdef: Structure, params: nnx.State, rest: nnx.State) -> dict[str, Numbers]:
        x, lengths = self._x, self._lengths

        def network(params: nnx.State) -> nn.Layer:
            copy = merged(graphdef, params, rest)
            copy.eval()
            return copy

        def value(params: nnx.State) -> Float[Array, ""]:
            model = network(params)
            if isinstance(self._loss_fn, TraceFunction):
                return self._loss_fn(nn.run(model, _floating(x), lengths=lengths)[0], self._y, lengths=lengths)
            return self._loss_fn(model, x, self._y, *(() if lengths is None else (lengths,)))

        model = network(params)
        state = model.state_for(x[:, 0])
        watched = layers_with_state(model, state)
        alive = None if lengths is None else before_end(lengths, x.shape[1])
        found: dict[str, Numbers] = {}
        if watched:
            _, _, seen = nn.observe(model, _floating(x), where=tuple(watched), lengths=lengths)
            found = {path: _activity(seen[path], alive) for path in watched}
        gradients = named_layers(network(jax.grad(value)(params)), state)
        for path, inner in gradients.items():
            if norm := _norm(inner):
                found.setdefault(path, _nothing())["gradient"] = norm[0]
        return found


def _activity(outs: Num[Array, "samples time *units"], alive: Alive | None) -> Numbers:
    spikes = ((outs == 0) | (outs == 1)).all()
    fired = (outs != 0).astype(jnp.float32)
    if alive is None:
        rate = fired.mean()
    else:  # outputs after the end of a sample are zero
        units = max(1, outs[0, 0].size)
        rate = fired.sum() / (jnp.maximum(alive.sum(), 1).astype(jnp.float32) * units)
    silent = (outs == 0).all((0, 1)).astype(jnp.float32).mean()
    return _nothing() | {"rate": jnp.where(spikes, rate, jnp.nan), "silent": jnp.where(spikes, silent, jnp.nan)}


def _nothing() -> Numbers:
    return {name: jnp.float32(jnp.nan) for name in ("rate", "silent", "gradient")}


def _norm(layer: nn.Layer) -> list[Float[Array, ""]]:
    """The L2 norm over all parameters of a layer, none where it has none."""
    module = getattr(layer, "module", layer)
    leaves = jax.tree.leaves(nnx.state(module, nnx.Param)) if isinstance(module, nnx.Module) else []
    squares = [
        jnp.sum(jnp.square(jnp.abs(a).astype(jnp.float32))) for a in leaves if jnp.issubdtype(a.dtype, jnp.inexact)
    ]
    return [jnp.sqrt(sum(squares[1:], squares[0]))] if squares else []


def _floating(x: Num[Array, "samples time *features"]) -> Float[Array, "samples time *features"]:
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


def _described(batch: object) -> str:
    return str([np.shape(a) for a in batch]) if isinstance(batch, tuple) else type(batch).__name__
