"""What `record` returns: what was recorded of every layer, as arrays or as `Statistics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

OWNER = "spyx.report.record"
SPIKES = "spikes"
RATES: Literal["rates"] = "rates"


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

    mean: Float[np.ndarray, "*features"]
    std: Float[np.ndarray, "*features"]
    low: Float[np.ndarray, "*features"]
    high: Float[np.ndarray, "*features"]
    over_time: Float[np.ndarray, " time"]


Q = TypeVar("Q", bound="np.ndarray | Statistics", covariant=True)
"""A recorded quantity: an array, or `Statistics`."""


class LayerRecord(Mapping[str, "Q | np.ndarray"], Generic[Q]):
    """What was recorded of one layer: quantities by name, arrays (samples, time, units) or `Statistics`.

    "rates" is an array (time, *features) in both cases.

    Args:
        name: its path in the network and its kind, for instance "1 LIF".
        values: by quantity.

    Example:
        >>> layer = LayerRecord("1 LIF", {"spikes": np.array([[[0.0, 1.0], [0.0, 1.0]]])})
        >>> layer.rate, layer.silent, layer.spiking
        (0.5, 0.5, True)
    """

    def __init__(self, name: str, values: Mapping[str, Q | np.ndarray]) -> None:
        self.name, self._values = name, dict(values)

    @overload
    def __getitem__(self, what: Literal["rates"]) -> Float[np.ndarray, "time *features"]: ...

    @overload
    def __getitem__(self, what: str) -> Q: ...

    def __getitem__(self, what: str) -> Q | np.ndarray:
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


class Recording(Mapping[str, "LayerRecord[Q]"], Generic[Q]):
    """What `record` returns: a `LayerRecord` for every layer, by its path.

    Args:
        layers: by path, in the order of the network.
        steps: the time steps that were recorded.
        samples: how many samples were.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx import nn
        >>> from spyx.report import record
        >>> net = nn.Sequential(nn.IF(2), nn.LI(2, beta=0.5))
        >>> found = record(net, jnp.ones((1, 4, 2)), what=("spikes", "membrane"))
        >>> found
        <0 IF: spikes (1, 4, 2), membrane (1, 4, 2)>
        <1 LI: spikes (1, 4, 2), membrane (1, 4, 2)>
        >>> found["1"]["membrane"][0, :, 0].tolist()
        [0.0, 0.0, 1.0, 1.5]
    """

    def __init__(self, layers: Mapping[str, LayerRecord[Q]], steps: Int[np.ndarray, " time"], samples: int) -> None:
        self._layers, self.steps, self.samples = dict(layers), steps, samples

    def __getitem__(self, path: str) -> LayerRecord[Q]:
        if path not in self._layers:
            raise KeyError(f"{OWNER}: expected one of {', '.join(self._layers)}; got {path!r}. where= chooses layers.")
        return self._layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._layers.values()))
