"""Encoders by name: what turns a sample of a data set into the input of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx import data

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num
    from numpy.typing import ArrayLike

STATIC = ("latency", "rate", "phase", "direct")
SERIES = ("delta", "direct")
DELTA_THRESHOLD = 0.1


@dataclass(frozen=True)
class ValueEncoder:
    """Values as spikes or currents over time, flat: `(batch, features)` or `(batch, time, features)`.

    Args:
        name: latency, rate, phase or direct for values without time; delta or direct for signals; none for spikes.
        steps: time steps for values without time.
        series: the values have a time axis.
        threshold: of "delta": the change that makes a spike. Default 0.1.

    Shapes:
        (batch, features), or (batch, time, *features) where `series` -> (batch, time, features).

    Raises:
        ValueError: an unknown name, or one that does not fit values with or without time.

    Example:
        >>> ValueEncoder("direct", steps=3, series=False)(jnp.ones((2, 4))).shape
        (2, 3, 4)
    """

    name: str
    steps: int
    series: bool
    threshold: float = DELTA_THRESHOLD

    def __post_init__(self) -> None:
        able = ("none", *SERIES) if self.series else STATIC
        if self.name not in able:
            raise ValueError(f"spyx.zoo.ValueEncoder(name=): expected one of {', '.join(able)}; got {self.name!r}.")

    def __call__(
        self, x: Num[ArrayLike, "batch *time_features"], key: jax.Array | None = None
    ) -> Num[Array, "batch time features"]:
        """Encode; `key` is needed for "rate" alone.

        Raises:
            ValueError: values with a time axis where none is expected, or without one; no key for "rate".
        """
        if not self.series and self.name != "none" and np.ndim(x) != 2:
            raise ValueError(
                f"spyx.zoo.ValueEncoder: expected values (batch, features); got shape {np.shape(x)}. "
                "Flatten a sample, and add an axis for the batch."
            )
        if self.series and np.ndim(x) < 3:
            raise ValueError(
                f"spyx.zoo.ValueEncoder: expected signals (batch, time, features); got shape {np.shape(x)}. "
                "Add an axis for the batch."
            )
        found = self.code(jnp.asarray(x), key)
        return found.reshape(*found.shape[:2], -1)

    def code(
        self, x: Num[Array, "batch *time_features"], key: jax.Array | None = None
    ) -> Num[Array, "batch time *features"]:
        """As the call, with the features in the shape that they have."""
        if self.name == "none" or (self.series and self.name == "direct"):
            return x
        if self.name == "delta":
            return data.delta_code(self.threshold)(x)
        if self.name == "rate":
            if key is None:
                raise ValueError("spyx.zoo.ValueEncoder: expected a key for the rate code; got None. Pass key=.")
            return data.rate_code(self.steps)(x, key)
        if self.name == "phase":
            return data.phase_code(self.steps, num_phases=min(8, self.steps))(x)
        return (data.latency_code if self.name == "latency" else data.direct_code)(self.steps)(x)


@dataclass(frozen=True)
class FrameEncoder:
    """Recordings of events as frames, flat.

    Args:
        raster: how events become frames.
        sensor_size: (width, height) or (units,).

    Shapes:
        one recording, `spyx.data.Events` -> (1, time, features).

    Example:
        >>> events = data.Events(t=[10, 2500], unit=[0, 1], sensor_size=(2,))
        >>> FrameEncoder(data.Raster(bin_ms=1, duration_ms=3, start="zero"), (2,))(events)[0].T.tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """

    raster: data.Raster
    sensor_size: tuple[int, ...]

    def __call__(self, events: data.Events) -> Float[Array, "1 time features"]:
        """Encode one recording."""
        frames = np.asarray(self.raster(events, self.sensor_size).x, np.float32)
        return jnp.asarray(frames.reshape(1, frames.shape[0], math.prod(frames.shape[1:])))
