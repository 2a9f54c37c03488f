"""What chips can hold, each with the public document that says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What a chip can hold.

    Args:
        name: of the chip.
        nodes: names of the NIR nodes that it has.
        resets: resets that it can do.
        v_leak: a membrane may rest elsewhere than at 0.
        v_reset: a membrane may be reset to elsewhere than 0.
        unequal_tau: units of one node may differ in their time constants.
        unequal_threshold: units of one node may differ in their thresholds.
        recurrence: cycles are allowed.
        bias: weights may come with a bias.
        weight_bits: weights are whole numbers of so many bits, times one factor per node; None for floats or unknown.
        shifts: decays are bit shifts, so that tau is dt times a power of two.
        kernel: largest side of a kernel, which is square; None for any.
        pools: sides that a pool may have, which is square; None for any.
        inputs: most input channels; None for any.
        outputs: most output channels; None for any.
        source: the document that these limits come from.

    Example:
        >>> Target("mine", nodes=("Linear", "IF")).weight_bits
        8
    """

    name: str
    nodes: tuple[str, ...]
    resets: tuple[str, ...] = ("nir", "subtract", "zero")
    v_leak: bool = False
    v_reset: bool = False
    unequal_tau: bool = False
    unequal_threshold: bool = False
    recurrence: bool = True
    bias: bool = True
    weight_bits: int | None = 8
    shifts: bool = False
    kernel: int | None = None
    pools: tuple[int, ...] | None = None
    inputs: int | None = None
    outputs: int | None = None
    source: str = ""


TARGETS = {
    "speck": Target(
        "speck",
        ("Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Affine", "Linear", "IF"),
        resets=("subtract", "zero"),
        recurrence=False,
        kernel=16,
        pools=(1, 2, 4),
        source="Samna documentation, Speck 2e; Sinabs documentation, Available Operations, and its DYNAP-CNN backend",
    ),
    "xylo": Target(
        "xylo",
        ("Affine", "Linear", "LIF", "CubaLIF"),
        resets=("subtract",),
        unequal_tau=True,
        unequal_threshold=True,
        bias=False,
        shifts=True,
        inputs=16,
        outputs=8,
        source="Rockpool, devices.xylo.syns61201: mapper and XyloSim",
    ),
    "loihi2": Target(
        "loihi2",
        ("Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "IF", "LIF", "CubaLIF", "Delay"),
        resets=("nir", "zero"),
        source="Lava, lava.proc.lif.process and lava.proc.dense.process; a neuron in microcode may hold more",
    ),
    "spinnaker2": Target(
        "spinnaker2",
        ("Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "IF", "LIF", "CubaLIF"),
        unequal_tau=True,
        unequal_threshold=True,
        v_leak=True,
        v_reset=True,
        weight_bits=None,
        source="Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9: nodes that ran; no other limit is claimed",
    ),
}
"""Chips as their public toolchains describe them; a `Target` of your own says what yours can do."""
