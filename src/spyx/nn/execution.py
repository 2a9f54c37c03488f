"""Which mode a layer runs in: the request, the rule, and the record that `explain` prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from spyx.nn.kernels import obstacle

if TYPE_CHECKING:
    from spyx.nn.neuron import Neuron

MODES = ("auto", "step", "layer", "parallel", "fixed_point", "fused")
"""Names that `run(mode=)` accepts."""

PARALLEL = {
    "parallel": ("always", "one associative scan"),
    "fixed_point": ("given_spikes", "spikes guessed and solved for until none changes"),
}
"""Modes without a loop over time: the trait that makes each legal, and what it does."""

KERNEL_UPDATES = 2**15
"""Updates of state variables (time, batch, units, variables; a recurrent current is one more) from which a CPU kernel
was measured to beat the loop, forward and backward."""

KERNEL_UNITS = 720
"""Units up to which a recurrent layer gains as well, whatever its spikes: W stays in the second-level cache."""


def _worth_a_kernel(neuron: Neuron, xs: Any) -> bool:
    # On a GPU the kernels have not been measured yet, and over several devices they would gather the batch.
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    recurrent = hasattr(neuron, "recurrent_w")
    if recurrent and math.prod(neuron.hidden_shape) > KERNEL_UNITS:
        return False
    return one_cpu and math.prod(xs.shape) * (len(neuron.state) + recurrent) >= KERNEL_UPDATES


class Choice(NamedTuple):
    """One line of `explain`: which layer, the shape of its input over time, the mode and the reason."""

    layer: str
    shape: tuple[int, ...]
    mode: str
    why: str


@dataclass(frozen=True)
class Execution:
    """How a layer shall run over time; handed down from `run` through containers to neurons.

    Args:
        mode: one of `MODES`; "auto" lets the rule choose.
        record: a list that collects every `Choice`, or None.
    """

    mode: str = "auto"
    record: list[Choice] | None = None

    def choose(self, neuron: Neuron, xs: Any) -> str:
        """The engine's mode for this neuron and input, by the rule of `docs/explanation/choosing-a-mode.md`."""
        mode, why = "layer", "one loop over time with a hand-derived backward pass"
        if self.mode in PARALLEL:
            needs, how = PARALLEL[self.mode]
            if neuron.affine == needs and neuron.local:
                mode, why = self.mode, f"asked for: {how}"
            else:
                why += f"; {self.mode} needs a local neuron with affine = {needs!r}"
        if self.mode == "fused" or (self.mode == "auto" and _worth_a_kernel(neuron, xs)):
            missing = obstacle(neuron, xs)
            if missing is None:
                asked = "asked for" if self.mode == "fused" else f"at least {KERNEL_UPDATES} state updates"
                mode, why = "fused", f"{asked}: one kernel forward and one backward, generated from step"
            else:
                why += f"; no fused kernel: {missing}"
        self.note(neuron, xs, mode, why)
        return mode

    def note(self, layer: Any, xs: Any, mode: str, why: str) -> None:
        """Record a choice, if someone is listening."""
        if self.record is not None:
            self.record.append(Choice(type(layer).__name__, tuple(getattr(xs, "shape", ())), mode, why))
