"""One type for every event recording: sorted columns with microsecond times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_COORDINATE = 2**16 - 1


@dataclass(frozen=True, eq=False)
class Events:
    """A recording: from an event camera (`t`, `x`, `y`, `p`) or from numbered spiking units (`t`, `unit`).

    Args:
        t: times in microseconds, int64, ascending, shape (events,).
        x: columns, uint16, 0 at the left.
        y: rows, uint16, 0 at the top unless the format's page says otherwise.
        p: polarities, uint8: 0 for darker (off), 1 for brighter (on).
        unit: unit numbers, int32, >= 0, instead of x, y and p.
        sensor_size: (width, height) of the camera or (units,); None where it is not known.

    Raises:
        TypeError: if a column does not hold whole numbers, or both kinds of columns are given.
        ValueError: if columns differ in length, times go backwards, or an address is outside the sensor.

    Example:
        >>> events = Events(t=[10, 20], x=[3, 0], y=[1, 2], p=[1, 0], sensor_size=(4, 4))
        >>> len(events), events.between(15, 30).x.tolist()
        (2, [0])
    """

    t: np.ndarray
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    p: np.ndarray | None = None
    unit: np.ndarray | None = None
    sensor_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        camera = [column is not None for column in (self.x, self.y, self.p)]
        if any(camera) == (self.unit is not None) or any(camera) != all(camera):
            raise TypeError(
                "Events: expected either x, y and p, or unit; got "
                f"{[name for name in ('x', 'y', 'p', 'unit') if getattr(self, name) is not None]}. "
                "Give one kind of address in full."
            )
        limits = {"t": (np.int64, None), "unit": (np.int32, 2**31 - 1), "p": (np.uint8, 1)}
        for name in ("t", *self.addresses):
            dtype, highest = limits.get(name, (np.uint16, MAX_COORDINATE))
            object.__setattr__(
                self, name, _column(name, getattr(self, name), dtype, highest, len(np.atleast_1d(self.t)))
            )
        if self.sensor_size is not None:
            object.__setattr__(self, "sensor_size", tuple(int(n) for n in self.sensor_size))
        found = first_fault(self.t, {name: getattr(self, name) for name in self.addresses}, self.sensor_size)
        if found is not None:
            index, expected, got = found
            raise ValueError(f"Events: expected {expected}; got {got} at event {index}. Sort or crop them first.")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Names of the address columns: ("unit",) or ("x", "y", "p")."""
        return ("unit",) if self.unit is not None else ("x", "y", "p")

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, rows: slice | np.ndarray) -> Events:
        """Returns a part of the recording, as a slice, a mask or ascending indices."""
        columns = {name: getattr(self, name)[rows] for name in ("t", *self.addresses)}
        return Events(**columns, sensor_size=self.sensor_size)

    def between(self, start_us: int, stop_us: int) -> Events:
        """Returns the events with `start_us <= t < stop_us`."""
        first, last = np.searchsorted(self.t, [start_us, stop_us], side="left")
        return self[first:last]


def first_fault(
    t: np.ndarray, addresses: dict[str, np.ndarray], sensor_size: tuple[int, ...] | None
) -> tuple[int, str, str] | None:
    """Finds the first event that breaks the order of time or leaves the sensor: (index, expected, got) or None."""
    faults = []
    backwards = t[1:] < t[:-1]
    if backwards.any():
        at = int(np.argmax(backwards)) + 1
        faults.append((at, "times in ascending order", f"t = {t[at]} after {t[at - 1]}"))
    if sensor_size is not None:
        for name, size in zip(addresses, sensor_size, strict=False):
            if len(t) and int(addresses[name].max()) >= size:
                at = int(np.argmax(addresses[name] >= size))
                faults.append((at, f"{name} in 0..{size - 1}", f"{name} = {addresses[name][at]}"))
    return min(faults, default=None)


def _column(name: str, values: object, dtype: type, highest: int | None, length: int) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim != 1 or len(column) != length:
        raise ValueError(
            f"Events: expected {name} of shape ({length},), as t has; got {column.shape}. Give one value an event."
        )
    low = np.iinfo(np.int64).min if name == "t" else 0
    top = np.iinfo(np.int64).max if highest is None else highest
    if column.dtype == dtype and (np.iinfo(dtype).min, np.iinfo(dtype).max) == (low, top):
        return column
    if column.size and column.dtype.kind not in "iub":
        raise TypeError(
            f"Events: expected whole numbers in {name}; got {column.dtype}. Times are in microseconds: round first."
        )
    if column.size and (int(column.min()) < low or int(column.max()) > top):
        raise ValueError(f"Events: expected {name} in {low}..{top}; got {column.min()}..{column.max()}. Check it.")
    return column.astype(dtype, copy=False)
