"""From events to frames: every event lands in exactly one bin, or is counted as cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np

from spyx.data._events import Events

POLARITIES = ("separate", "merge", "signed")
STARTS = ("zero", "first")
US_PER_MS = 1000
LATEST_US = 2**61


class Frames(NamedTuple):
    """Rasterised events.

    Args:
        x: shape (time, height, width, polarity) for a camera (no last axis if polarities are merged), (time, units)
            for spiking units. uint8 where binary, int16 where signed, uint16 counts otherwise.
        edges_us: shape (time + 1,), int64; bin k holds the events with `edges_us[k] <= t < edges_us[k + 1]`.
        cut: number of events outside the window, in no bin.

    Example:
        >>> events = Events(t=[0, 900, 1000, 2000], unit=[0, 0, 0, 0], sensor_size=(1,))
        >>> frames = Raster(bin_ms=1, duration_ms=2)(events)
        >>> frames.x.tolist(), frames.edges_us.tolist(), frames.cut
        ([[2], [1]], [0, 1000, 2000], 1)
    """

    x: np.ndarray
    edges_us: np.ndarray
    cut: int


class RasterOptions(TypedDict, total=False):
    """The arguments of a `Raster`, by name, which says what each of them is."""

    num_bins: int | None
    bin_ms: float | None
    events_per_bin: int | None
    duration_ms: float | None
    start: str
    binary: bool
    polarity: str
    downsample: int


@dataclass(frozen=True)
class Raster:
    """Cuts time into bins and puts each event into one: a recipe, called with `Events`, that returns `Frames`.

    Bins are half open, and their edges are whole microseconds computed without rounding errors. Say how to cut by
    exactly one of `num_bins`, `bin_ms` and `events_per_bin`. Without `duration_ms` the window ends just after the last
    event, so nothing is cut; with it, all recordings have equally many frames where `num_bins` or `bin_ms` is given.

    Args:
        num_bins: cut the window into this many equal bins, >= 1.
        bin_ms: width of a bin in milliseconds, a whole number of microseconds.
        events_per_bin: start a new bin after this many events, >= 1; the last bin holds the rest.
        duration_ms: length of the window, milliseconds; None ends it with the last event.
        start: "first" starts the window at the first event, "zero" at time 0 of the recording. Default "first".
        binary: True for "some event" (0 or 1), False for the number of events. Default False.
        polarity: "separate" channels for off and on, "merge" them, or "signed": on minus off. Default "separate".
        downsample: unite squares of this many pixels a side, or this many neighbouring units. Default 1.

    Raises:
        ValueError: if not exactly one way to cut is given, or a number is out of its range.

    Example:
        >>> events = Events(t=[0, 10, 20, 30], unit=[0, 1, 1, 0], sensor_size=(2,))
        >>> Raster(num_bins=2)(events).x.tolist()
        [[1, 1], [1, 1]]
    """

    num_bins: int | None = None
    bin_ms: float | None = None
    events_per_bin: int | None = None
    duration_ms: float | None = None
    start: str = "first"
    binary: bool = False
    polarity: str = "separate"
    downsample: int = 1

    def __post_init__(self) -> None:
        ways = {name: getattr(self, name) for name in ("num_bins", "bin_ms", "events_per_bin")}
        given = {name: value for name, value in ways.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"Raster: expected exactly one of {', '.join(ways)}; got {given or 'none'}. Choose one.")
        for name in ("num_bins", "events_per_bin", "downsample"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(f"Raster: expected {name} to be a whole number >= 1; got {value}.")
            if value is not None:
                object.__setattr__(self, name, int(value))
        for name in ("bin_ms", "duration_ms"):
            value = getattr(self, name)
            if value is not None and not _whole_microseconds(value):
                raise ValueError(
                    f"Raster: expected {name} to be a whole number of microseconds > 0; got {value} ms. Round it."
                )
        if self.binary and self.polarity == "signed":
            raise ValueError("Raster: expected counts where polarity='signed'; got binary=True. Drop one of the two.")
        for name, allowed in (("polarity", POLARITIES), ("start", STARTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Raster: expected {name} to be one of {allowed}; got {getattr(self, name)!r}.")

    def frame_shape(self, sensor_size: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one frame for a sensor of (width, height) or (units,)."""
        sides = tuple(-(-side // self.downsample) for side in reversed(sensor_size))
        return sides if len(sides) == 1 or self.polarity != "separate" else (*sides, 2)

    def num_frames(self) -> int | None:
        """Number of frames of every recording, or None where it depends on the recording."""
        if self.num_bins is not None:
            return self.num_bins
        if self.bin_ms is None or self.duration_ms is None:
            return None
        return -(-_us(self.duration_ms) // _us(self.bin_ms))

    def __call__(self, events: Events, sensor_size: tuple[int, ...] | None = None) -> Frames:
        """Rasterises a recording.

        Args:
            events: at least one event.
            sensor_size: (width, height) or (units,). Default: the one that `events` carries.

        Raises:
            ValueError: if there are no events, the sensor size is not known or of another rank, an address is outside
                of it, a count exceeds 65,535, or times are beyond 2**61 microseconds.
        """
        size = sensor_size or events.sensor_size
        if size is None:
            raise ValueError("Raster: expected the sensor size; got events without one. Pass sensor_size=.")
        if len(events) == 0:
            raise ValueError("Raster: expected at least one event; got none. Leave empty recordings out.")
        _check_addresses("Raster", events, size)
        bins, edges = self._bins(events.t)
        count = len(edges) - 1
        inside = (bins >= 0) & (bins < count)
        cut = int(len(bins) - np.count_nonzero(inside))
        pixel = self._pixels(events, size)
        if cut:
            bins, pixel = bins[inside], pixel[inside]
        shape = (count, *self.frame_shape(size))
        place = bins * int(np.prod(shape[1:])) + pixel
        sign = None
        if self.polarity == "signed" and events.p is not None:
            sign = (events.p if not cut else events.p[inside]).astype(np.int16) * 2 - 1
        return Frames(self._fill(place, sign, shape), edges, cut)

    def _bins(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = int(t[0]) if self.start == "first" else 0
        _check_times("Raster", t, _us(max(self.duration_ms or 0, self.bin_ms or 0)))
        if self.events_per_bin is not None:
            return self._bins_by_events(t, first)
        stop = int(t[-1]) + 1 if self.duration_ms is None else first + _us(self.duration_ms)
        if self.num_bins is None:
            width = _us(self.bin_ms or 0)
            count = max(-(-(stop - first) // width), 1)
            bins = np.floor_divide(t - first, width)
            bins[t >= stop] = count
            edges = first + width * np.arange(count + 1)
            return bins, edges if self.duration_ms is None else np.minimum(edges, stop)
        length = max(stop - first, 1)
        # Bin k starts at the first microsecond that is not before start + k * length / num_bins. With whole and rest of
        # length / num_bins apart, no product exceeds what int64 holds.
        whole, rest = divmod(length, self.num_bins)
        number = np.arange(self.num_bins + 1)
        edges = first + number * whole - (-number * rest // self.num_bins)
        return np.searchsorted(edges, t, side="right") - 1, edges

    def _bins_by_events(self, t: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        size = int(self.events_per_bin or 1)
        inside = t >= first
        if self.duration_ms is not None:
            inside &= t < first + _us(self.duration_ms)
        bins = np.where(inside, (np.cumsum(inside) - 1) // size, -1)
        starts = t[inside][::size]
        end = t[inside][-1:] + 1 if len(starts) else np.array([first, first + 1])
        return bins, np.concatenate([starts, end])

    def _pixels(self, events: Events, size: tuple[int, ...]) -> np.ndarray:
        shape = self.frame_shape(size)
        small = []
        for name in events.addresses[: len(size)]:
            small.append(getattr(events, name).astype(np.int64) // self.downsample)
        if events.p is None:
            return small[0]
        pixel = small[1] * shape[1] + small[0]
        return pixel * 2 + events.p if self.polarity == "separate" else pixel

    def _fill(self, place: np.ndarray, sign: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        if self.binary:
            frames = np.zeros(size, np.uint8)
            frames[place] = 1
            return frames.reshape(shape)
        counts = np.bincount(place, weights=sign, minlength=size)
        dtype = np.uint16 if self.polarity != "signed" else np.int16
        if np.abs(counts).max() > np.iinfo(dtype).max:
            raise ValueError(
                f"Raster: expected at most {np.iinfo(dtype).max} events in one place and bin; "
                f"got {int(np.abs(counts).max())}. Use narrower bins or binary=True."
            )
        return counts.astype(dtype).reshape(shape)


def voxel_grid(events: Events, num_bins: int, sensor_size: tuple[int, ...] | None = None) -> np.ndarray:
    """Spreads each event, +1 for on and -1 for off, linearly over the two nearest of `num_bins` moments.

    V[b, y, x] = sum_i (2 p_i - 1) max(0, 1 - |b - tau_i|), tau_i = (num_bins - 1) (t_i - t_first) / (t_last - t_first)

    Args:
        events: camera events, at least one.
        num_bins: moments, >= 1, the first at the first event and the last at the last.
        sensor_size: (width, height). Default: the one that `events` carries.

    Returns:
        float32 of shape (time, height, width); its sum is the number of on events less that of off events.

    Raises:
        ValueError: if there are no camera events, no sensor size, or `num_bins` is below 1; if an address is outside of
            the sensor, or times are beyond 2**61 microseconds.

    Example:
        >>> events = Events(t=[0, 5, 10], x=[0, 0, 0], y=[0, 0, 0], p=[1, 0, 1], sensor_size=(1, 1))
        >>> voxel_grid(events, 3).ravel().tolist()
        [1.0, -1.0, 1.0]

    Reference:
        A. Z. Zhu et al. (2019). Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion.
        doi:10.1109/CVPR.2019.00108
    """
    size = sensor_size or events.sensor_size
    if events.p is None or events.x is None or events.y is None or len(events) == 0 or size is None or num_bins < 1:
        raise ValueError(
            "voxel_grid: expected camera events, a sensor size and num_bins >= 1; got "
            f"{len(events)} events with {events.addresses}, {size} and {num_bins}."
        )
    _check_addresses("voxel_grid", events, size)
    _check_times("voxel_grid", events.t, 0)
    width, height = size
    span = max(int(events.t[-1] - events.t[0]), 1)
    tau = (events.t - events.t[0]).astype(np.float64) * (num_bins - 1) / span
    low = np.floor(tau).astype(np.int64)
    high = np.minimum(low + 1, num_bins - 1)
    part = tau - low
    sign = events.p.astype(np.float64) * 2 - 1
    pixel = events.y.astype(np.int64) * width + events.x
    grid = np.zeros(num_bins * height * width)
    for moment, weight in ((low, 1 - part), (high, part)):
        grid += np.bincount(moment * height * width + pixel, weights=sign * weight, minlength=len(grid))
    return grid.reshape(num_bins, height, width).astype(np.float32)


def _check_addresses(owner: str, events: Events, size: tuple[int, ...]) -> None:
    names = ("x", "y") if events.unit is None else ("unit",)
    if len(size) != len(names):
        expected = "(width, height) for a camera" if len(names) == 2 else "(units,) for spiking units"
        raise ValueError(f"{owner}: expected a sensor size {expected}; got {tuple(size)}. Check sensor_size.")
    for name, side in zip(names, size, strict=True):
        column = getattr(events, name)
        if int(column.max()) >= side:
            raise ValueError(f"{owner}: expected {name} in 0..{side - 1}; got {column.max()}. Check sensor_size.")


def _check_times(owner: str, t: np.ndarray, window_us: int) -> None:
    latest = max(abs(int(t[0])), abs(int(t[-1])), window_us)
    if latest > LATEST_US:
        raise ValueError(
            f"{owner}: expected times and windows of at most 2**61 microseconds; got {latest}. Check the unit of time."
        )


def _whole_microseconds(milliseconds: float) -> bool:
    microseconds = milliseconds * US_PER_MS
    return 1 <= microseconds <= LATEST_US and abs(microseconds - round(microseconds)) <= 1e-6


def _us(milliseconds: float) -> int:
    return round(milliseconds * US_PER_MS)
