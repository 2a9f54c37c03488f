"""What NIR leaves open about discrete time: the step, the integration, the reset, when a spike leaves, and delays.

NIR's time is continuous, so in discrete time every cycle needs a step somewhere. A cycle that has a `Delay` of at least
one step, or a node whose output is a step late, has it already. Otherwise the output of a neuron of the cycle arrives
one step later at the next node: the last neuron before the edge that closes the cycle, found depth-first from the
inputs in the order of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np

import nir
from spyx.graph import _schedule
from spyx.nir._flat import SPIKING, STATEFUL, Edge, Flat

RESETS = ("nir", "subtract", "zero")
AFTER_LEAK = "subtract after leak"
"""How `spyx.nn.LIF` subtracts; `to_nir` writes it at the node, and no caller can choose it."""
CHOICES = {"integration": ("euler", "exponential"), "reset": (*RESETS, AFTER_LEAK), "spike": ("post", "pre")}
TIMES = ("tau", "tau_mem", "tau_syn")

Metadata = Mapping[str, object]
"""What a graph or a node says beside its fields: numbers and texts, as whoever wrote it stored them."""


class Choices(TypedDict, total=False):
    """What a caller chooses of a `Meaning`, under its names; None, or nothing, leaves it to the file."""

    integration: str | None
    reset: str | None
    spike: str | None
    multi_spike: bool | None
    v_min: float | None


@dataclass(frozen=True)
class Meaning:
    """How a NIR graph is executed in discrete time.

    Args:
        dt: time step, in the unit of the graph's time constants; above 0.
        integration: "euler", `v' = v + dt/tau (v_leak - v + r x)`, or "exponential", the same with the leak's
            `dt/tau` replaced by `1 - exp(-dt/tau)` and the input's unchanged, as in Sinabs and Rockpool.
        reset: "nir" sets a membrane that spiked to `v_reset`; "subtract" takes `v_threshold - v_reset` off; "zero" sets
            it to 0.
        spike: "post" spikes from the updated membrane, within the step; "pre" from the membrane before the update: the
            same spikes, one step later.
        multi_spike: let a membrane of several thresholds spike several times in a step, as the Speck chip does.
        v_min: lower bound of the membrane; None for none.

    Example:
        >>> Meaning(1e-4).reset
        'nir'
    """

    dt: float
    integration: str = "euler"
    reset: str = "nir"
    spike: str = "post"
    multi_spike: bool = False
    v_min: float | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.dt, (int, float, np.number)) and np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(
                f"spyx.nir(dt=): expected a time step above 0, in the unit of tau; got {self.dt!r}. For example 1e-4."
            )
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                offered = ", ".join(choice for choice in choices if choice != AFTER_LEAK)
                raise ValueError(f"spyx.nir({name}=): expected one of {offered}; got {value!r}. Choose one.")

    def as_metadata(self) -> dict[str, str | float | bool]:
        """What `to_nir` writes into the graph."""
        known = {"dt": float(self.dt), "integration": self.integration, "reset": self.reset, "spike": self.spike}
        known |= {"multi_spike": True} if self.multi_spike else {}
        return known if self.v_min is None else {**known, "v_min": float(self.v_min)}

    def at(self, node: nir.NIRNode) -> Meaning:
        """The meaning at one node: what the node's metadata says about its reset and its spikes wins."""
        return replace(self, **_recorded(node.metadata))


def read_meaning(metadata: Metadata, dt: float | None, **chosen: Unpack[Choices]) -> Meaning:
    """The meaning of a graph: what the caller chose, else what the file says, else NIR's own equations under Euler."""
    step = _number(metadata, "dt") if dt is None and "dt" in metadata else dt
    if step is None:
        raise ValueError(
            "spyx.nir.from_nir(dt=): expected a time step, because this graph does not record one; got None. "
            "Pass dt in the unit of the graph's time constants; spyx.nir.suggest_dt(graph) proposes one."
        )
    known = {**_recorded(metadata), **{key: value for key, value in chosen.items() if value is not None}}
    return replace(Meaning(step), **known)


def meaning_at(node: nir.NIRNode, meaning: Meaning, chosen: Mapping[str, object]) -> Meaning:
    """The meaning at one node: the caller's choice, then the node's, then the graph's."""
    at = meaning.at(node)
    forced = {key: getattr(meaning, key) for key in CHOICES if chosen.get(key) is not None}
    if forced.get("reset") == "subtract" and at.reset.startswith("subtract"):
        forced.pop("reset")
    return replace(at, **forced)


def _recorded(metadata: Metadata) -> dict[str, object]:
    found: dict[str, object] = {key: text(metadata[key]) for key in CHOICES if key in metadata}
    if "v_min" in metadata:
        found["v_min"] = _number(metadata, "v_min")
    if "multi_spike" in metadata:
        found["multi_spike"] = bool(_number(metadata, "multi_spike"))
    return found


def text(value: object) -> str | None:
    """A string out of what HDF5 made of one."""
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    value = value.decode("utf8", "replace") if isinstance(value, bytes) else value
    return value if value is None or isinstance(value, str) else repr(value)


def _number(metadata: Metadata, key: str) -> float:
    value = np.asarray(metadata[key])
    if value.size != 1 or value.dtype.kind not in "fiub":
        raise ValueError(
            f"spyx.nir.from_nir: expected a number as {key} in the metadata; got {value!r}. Correct the graph."
        )
    return float(value.reshape(()))


def whole_steps(delay: float, dt: float) -> int | None:
    """A delay in time steps, or None when it is not a whole number of them."""
    steps = round(float(delay) / dt)
    return steps if abs(float(delay) / dt - steps) <= 1e-3 and steps >= 0 else None


def spiking_late(flat: Flat, local: Mapping[str, Meaning]) -> set[str]:
    """The spiking nodes whose output arrives a step later, by the meaning at each node."""
    return {name for name in flat.names(SPIKING) if local[name].spike == "pre"}


def steps_of(flat: Flat, dt: float, late: Collection[str], folded: Collection[str] = ()) -> dict[Edge, int]:
    """The time that every edge takes: delays, late outputs, and the steps without which cycles have no time."""
    taken: dict[Edge, int] = {edge: int(edge[0] in late) for edge in flat.edges if not set(folded) & set(edge)}
    for edge in taken:
        if isinstance(node := flat.nodes[edge[1]], nir.Delay):
            taken[edge] += min(whole_steps(d, dt) or 0 for d in np.ravel(node.delay))
    for edge in closing_edges(flat.names(nir.Input), taken, flat.names(STATEFUL)):
        taken[edge] += 1
    return taken


def closing_edges(starts: Sequence[str], taken: Mapping[Edge, int], neurons: Collection[str]) -> set[Edge]:
    """The edges that need an extra step; `taken` has all edges, in the order of the file, and what they take anyway."""
    closing: set[Edge] = set()
    while cycle := instant_cycle(starts, {edge: steps + (edge in closing) for edge, steps in taken.items()}):
        ring = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        closing.add(next((edge for edge in reversed(ring) if edge[0] in neurons), ring[-1]))
    return closing


def instant_cycle(starts: Sequence[str], taken: Mapping[Edge, int]) -> list[str]:
    """The first cycle along edges that take no time; empty for none."""
    return _schedule.first_cycle(starts, (_schedule.Edge(*edge) for edge, steps in taken.items() if not steps))
