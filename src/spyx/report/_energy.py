"""From operations to energy: cost models by name, and a quantised network of equal shape beside every number.

An energy computed from counts is an estimate of arithmetic and memory, not a measurement of a device. Every model says
where its constants come from and what it leaves out; each constant can be replaced with `dataclasses.replace`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from spyx.report._operations import Cost

if TYPE_CHECKING:
    from collections.abc import Callable

    from spyx.data._json import Object
    from spyx.report._operations import LayerCost


@dataclass(frozen=True)
class CostModel:
    """Prices of operations, in picojoules.

    Args:
        name: of the model.
        add_pj: one addition: an AC.
        multiply_pj: one multiplication; a MAC is both.
        bits: of weights, states and operands.
        byte_pj: moving one byte to or from memory, ((bytes of memory, price), ...): one entry is a constant, between
            two the price is interpolated, and beyond the last it goes on as between the last two.
        source: where the constants come from.
        scope: what is counted.

    Example:
        >>> MODELS["lemaire2022"].price_of_byte(8192)
        2.5
        >>> from dataclasses import replace
        >>> replace(MODELS["45nm-int8"], name="my chip", add_pj=0.05).add_pj
        0.05
    """

    name: str
    add_pj: float
    multiply_pj: float
    bits: int
    byte_pj: tuple[tuple[float, float], ...]
    source: str
    scope: str

    def price_of_byte(self, memory: float) -> float:
        """Of one byte in a memory of so many bytes."""
        sizes, prices = zip(*self.byte_pj, strict=True)
        if len(sizes) > 1 and memory > sizes[-1]:
            slope = (prices[-1] - prices[-2]) / (sizes[-1] - sizes[-2])
            return prices[-1] + slope * (memory - sizes[-1])
        return float(np.interp(memory, sizes, prices))


_HOROWITZ = "Horowitz 2014, doi:10.1109/ISSCC.2014.6757323, 45 nm, 0.9 V"

MODELS = {
    model.name: model
    for model in (
        CostModel("45nm-fp32", 0.9, 3.7, 32, ((1.0, 0.0),), _HOROWITZ, "arithmetic in float32, no memory"),
        CostModel("45nm-int8", 0.03, 0.2, 8, ((1.0, 0.0),), _HOROWITZ, "arithmetic in int8, no memory"),
        CostModel(
            "45nm-fp32-memory",
            0.9,
            3.7,
            32,
            ((1.0, 24.96),),
            f"{_HOROWITZ}; memory as in SpikingJelly 2.0's simple model",
            "arithmetic in float32; every weight, state and activation from one memory of 24.96 pJ a byte",
        ),
        CostModel(
            "lemaire2022",
            0.1,
            3.1,
            32,
            ((8192.0, 2.5), (32768.0, 5.0), (1048576.0, 25.0)),
            "Lemaire et al. 2022, arXiv:2210.13107; 45 nm, int32",
            "arithmetic in int32; every weight, state and activation from an SRAM of the network's size",
        ),
    )
}
"""Cost models by name."""


class Numbers(TypedDict):
    """An `Energy` for JSON: its fields, and both totals in picojoules with their ratio."""

    model: Object
    parts: dict[str, float]
    twin: dict[str, float]
    bits: int
    rate: float
    break_even: float
    total_pj: float
    twin_total_pj: float
    ratio: float


@dataclass(frozen=True)
class Energy:
    """Estimated energy per sample, in picojoules, of a network and of its quantised twin.

    The twin is an artificial network of the same shape whose activations have `bits = ceil(log2(T + 1))` bits, as many
    values as a spike count can have: it runs once instead of T times, multiplies, and skips no zeros. Its multiplier
    costs `bits / model.bits` of the model's. A connection of a layer to itself has no such form: the twin runs it at
    every step.

    Args:
        model: the prices.
        parts: of the network, by kind: "accumulate", "multiply", "update", "weights", "states", "activations".
        twin: of the twin, by the same kinds.
        bits: of the twin's activations.
        rate: share of the products that are effective, now.
        break_even: the share at which network and twin cost the same; below 0 if updates alone cost more than the twin.

    Example:
        >>> prices = MODELS["45nm-fp32"]
        >>> found = Energy(prices, {"accumulate": 5.0}, {"multiply": 20.0}, bits=3, rate=0.1, break_even=0.4)
        >>> found.total, found.twin_total, found.as_dict()["ratio"]
        (5.0, 20.0, 0.25)

    Reference:
        Yan et al. 2024, arXiv:2409.08290, for the twin and the break-even rate.
    """

    model: CostModel
    parts: dict[str, float]
    twin: dict[str, float]
    bits: int
    rate: float
    break_even: float

    @property
    def total(self) -> float:
        """Of the network, pJ per sample."""
        return sum(self.parts.values())

    @property
    def twin_total(self) -> float:
        """Of the twin, pJ per sample."""
        return sum(self.twin.values())

    def as_dict(self) -> Numbers:
        """For JSON."""
        return {
            "model": asdict(self.model),
            "parts": dict(self.parts),
            "twin": dict(self.twin),
            "bits": self.bits,
            "rate": self.rate,
            "break_even": self.break_even,
            "total_pj": self.total,
            "twin_total_pj": self.twin_total,
            "ratio": _ratio(self.total, self.twin_total),
        }

    def __str__(self) -> str:
        ratio = _ratio(self.total, self.twin_total)
        word = "less" if ratio < 1 else "more"
        factor = 1 / ratio if 0 < ratio < 1 else ratio
        parts = ", ".join(f"{kind} {_joule(value)}" for kind, value in self.parts.items() if value)
        return "\n".join(
            [
                f"{self.model.name}: {_joule(self.total)} per sample ({parts})",
                f"  a quantised network of the same shape, {self.bits} bits: {_joule(self.twin_total)}; "
                f"{factor:.2f} times {word} for the spiking one",
                f"  effective share of the products {self.rate:.2%}; both cost the same at {self.break_even:.2%}",
                f"  {self.model.scope} ({self.model.source})",
            ]
        )


def energy(found: Cost, model: str | CostModel = "45nm-fp32") -> Energy:
    """Estimate the energy of a network from its counts, with that of its quantised twin beside it.

    Args:
        found: what `cost` counted.
        model: a name of `MODELS`, or prices of your own.

    Returns:
        An `Energy`, which prints as text.

    Raises:
        ValueError: an unknown name; a cost without a layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from spyx import nn
        >>> from spyx.report import cost
        >>> net = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.IF(3))
        >>> found = energy(cost(net, jnp.zeros((1, 7, 4)).at[0, 2, :2].set(1.0)))
        >>> round(found.parts["accumulate"], 2), found.bits
        (5.4, 3)
    """
    if isinstance(model, str):
        if model not in MODELS:
            raise ValueError(
                f"spyx.report.energy(model=): expected one of {', '.join(MODELS)}; got {model!r}. Or pass a CostModel."
            )
        model = MODELS[model]
    if not found.layers:
        raise ValueError("spyx.report.energy: expected a network with connections or neurons; got none. Check cost.")
    memory = model.bits / 8 * (found.total("parameters") + sum(map(_state_numbers(found.steps), found.layers)))
    byte, width, mac = model.price_of_byte(memory), model.bits / 8, model.add_pj + model.multiply_pj
    by_spikes = {
        "accumulate": model.add_pj * found.total("effective_acs"),
        "multiply": mac * found.total("effective_macs"),
        "weights": byte * width * found.total("effective"),
    }
    updates = sum(layer.updates * layer.variables for layer in found.layers)
    whatever = {
        "update": mac * updates,
        "states": byte * width * 2 * updates,
        "activations": byte / 8 * 2 * found.total("outputs"),
    }
    bits = max(1, math.ceil(math.log2(found.steps + 1)))
    once = sum(layer.dense if layer.recurrent else layer.dense / found.steps for layer in found.layers)
    outputs = found.total("outputs") / found.steps
    twin = {
        "multiply": (model.add_pj + model.multiply_pj * bits / model.bits) * once,
        "update": mac * outputs,
        "weights": byte * width * once,
        "activations": byte * bits / 8 * 2 * outputs,
    }
    moving, fixed, of_twin = (sum(part.values()) for part in (by_spikes, whatever, twin))
    even = found.input_rate * _ratio(of_twin - fixed, moving) if moving else 0.0
    return Energy(model, {**by_spikes, **whatever}, twin, bits, found.input_rate, even)


def _state_numbers(steps: float) -> Callable[[LayerCost], float]:
    """State variables of all units of a layer."""
    return lambda layer: layer.variables * layer.updates / steps


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf


def _joule(pj: float) -> str:
    for size, unit in ((1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if pj >= size:
            return f"{pj / size:.3g} {unit}"
    return f"{pj:.3g} pJ"
