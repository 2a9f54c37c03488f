"""What NIR leaves open: the time step, the integration rule, the reset, and when a spike leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

INTEGRATIONS = ("euler", "exponential")
RESETS = ("nir", "subtract", "zero")
SPIKES = ("post", "pre")
AFTER_LEAK = "subtract after leak"
"""How `spyx.nn.LIF` subtracts; written at its nodes, chosen by nobody."""

_CHOICES = {"integration": INTEGRATIONS, "reset": (*RESETS, AFTER_LEAK), "spike": SPIKES}


@dataclass(frozen=True)
class Meaning:
    """How a NIR graph is executed in discrete time.

    Args:
        dt: time step, in the unit of the graph's time constants; above 0.
        integration: "euler", `v' = v + dt/tau (v_leak - v + r x)`, or "exponential", the same with the leak's
            `dt/tau` replaced by `1 - exp(-dt/tau)` and the input's kept, as Sinabs and Rockpool do.
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
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                offered = ", ".join(choice for choice in choices if choice != AFTER_LEAK)
                raise ValueError(
                    f"spyx.nir({name}=): expected one of {offered}; got {getattr(self, name)!r}. Choose one."
                )

    def as_metadata(self) -> dict[str, Any]:
        """What `to_nir` writes into the graph."""
        known = {"dt": float(self.dt), "integration": self.integration, "reset": self.reset, "spike": self.spike}
        if self.multi_spike:
            known["multi_spike"] = True
        return known if self.v_min is None else {**known, "v_min": float(self.v_min)}

    def at(self, node: Any) -> Meaning:
        """The meaning at one node: what the node itself says about its reset and its spikes wins."""
        return replace(self, **_said(node.metadata))


def read_meaning(metadata: Mapping[str, Any], dt: float | None, **chosen: Any) -> Meaning:
    """The meaning of a graph: what the caller chose, else what the file says, else NIR's own equations under Euler."""
    step = _number(metadata, "dt") if dt is None and "dt" in metadata else dt
    if step is None:
        raise ValueError(
            "spyx.nir.from_nir(dt=): expected a time step, because this graph does not record one; got None. "
            "Pass dt in the unit of the graph's time constants; spyx.nir.suggest_dt(graph) proposes one."
        )
    return Meaning(step, **{**_said(metadata), **{key: value for key, value in chosen.items() if value is not None}})


def _said(metadata: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {key: text(metadata[key]) for key in _CHOICES if key in metadata}
    if "v_min" in metadata:
        said["v_min"] = _number(metadata, "v_min")
    if "multi_spike" in metadata:
        said["multi_spike"] = bool(_number(metadata, "multi_spike"))
    return said


def text(value: Any) -> str | None:
    """A string out of what HDF5 made of one."""
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    value = value.decode("utf8", "replace") if isinstance(value, bytes) else value
    return value if value is None or isinstance(value, str) else repr(value)


def _number(metadata: Mapping[str, Any], key: str) -> float:
    value = np.asarray(metadata[key])
    if value.size != 1 or value.dtype.kind not in "fiub":
        raise ValueError(
            f"spyx.nir.from_nir: expected a number as {key} in the metadata; got {value!r}. Mend the graph."
        )
    return float(value.reshape(()))
