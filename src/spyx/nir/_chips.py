"""What chips can hold, each with the public document that says so, and what a graph has that does not fit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import nir
from spyx.graph import _schedule
from spyx.nir._discrete import TIMES, Metadata, text
from spyx.nir._flat import CONVOLUTIONS, DENSE, POOLS, SPIKING, Windowed, window_of
from spyx.nir._io import as_graph
from spyx.nir._validate import Validated, validated


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


def report(graph: nir.NIRGraph | str | os.PathLike[str], target: str | Target) -> list[str]:
    """What a target cannot hold, one line each; empty when the graph fits.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        target: one of `TARGETS`, or a `Target` of your own.

    Raises:
        ValueError: an unknown target, or a graph that is not sound.

    Example:
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> report(to_nir(nn.Sequential(nn.LIF(2, beta=0.5)), dt=1e-3), "speck")
        ['lif_0: speck has no LIF']
    """
    if isinstance(target, str):
        if target not in TARGETS:
            raise ValueError(
                f"spyx.nir.report(target=): expected a Target, or one of {', '.join(TARGETS)}; got {target!r}. "
                "Make a Target."
            )
        target = TARGETS[target]
    checked = validated(as_graph(graph), "spyx.nir.report")
    flat = checked.flat
    lines = []
    for name, node in flat.nodes.items():
        if not isinstance(node, (nir.Input, nir.Output)):
            lines += [f"{name}: {line}" for line in _node_lines(node, target, flat.metadata)]
    lines += _end_lines(checked, target)
    if not target.recurrence and _schedule.first_cycle((), (_schedule.Edge(*edge) for edge in flat.edges)):
        lines.append(f"the graph: {target.name} has no recurrence")
    return lines


def _node_lines(node: nir.NIRNode, target: Target, metadata: Metadata) -> Iterator[str]:
    kind = type(node).__name__
    if kind not in target.nodes:
        yield f"{target.name} has no {kind}"
        return
    yield from _neuron_lines(node, target, metadata)
    if isinstance(node, (*POOLS, *CONVOLUTIONS)):
        yield from _window_lines(node, target)
    if isinstance(node, (*DENSE, *CONVOLUTIONS)):
        if np.any(getattr(node, "bias", 0)) and not target.bias:
            yield f"{target.name} has no bias"
        bits = target.weight_bits
        if bits is not None and not _fits(np.asarray(node.weight), bits):
            yield f"{target.name} has {bits}-bit weights: quantise(weights='int{bits}') first"


def _neuron_lines(node: nir.NIRNode, target: Target, metadata: Metadata) -> Iterator[str]:
    chip = target.name
    for field, allowed in (("v_leak", target.v_leak), ("v_reset", target.v_reset)):
        if hasattr(node, field) and np.any(getattr(node, field)) and not allowed:
            yield f"{chip} holds {field} at 0, here it is up to {np.abs(getattr(node, field)).max():g}"
    for field in (name for name in TIMES if hasattr(node, name)):
        tau = np.asarray(getattr(node, field), np.float64)
        if np.ptp(tau) and not target.unequal_tau:
            yield f"{chip} has one {field} for all units, here they differ"
        steps = np.log2(tau / float(np.asarray(metadata["dt"]))) if target.shifts and "dt" in metadata else np.zeros(1)
        if not np.allclose(steps, np.round(steps), atol=1e-3):
            yield f"{chip} decays by bit shifts: {field} is a power of two times dt, here 2**{steps.max():.3g}"
    if isinstance(node, SPIKING):
        if np.ptp(node.v_threshold) and not target.unequal_threshold:
            yield f"{chip} has one v_threshold for all units, here they differ"
        reset = str(text(node.metadata.get("reset", metadata.get("reset", "nir")))).split(" ")[0]
        if reset not in target.resets:
            yield f"{chip} resets by {' or '.join(target.resets)}, here by {reset!r}"


def _window_lines(node: Windowed, target: Target) -> Iterator[str]:
    pools, sides = isinstance(node, POOLS), window_of(node).kernel
    shown, square = "x".join(map(str, sides)), len(set(sides)) == 1
    if pools and target.pools is not None and not (square and sides[0] in target.pools):
        yield f"{target.name} pools squares of {', '.join(map(str, target.pools))}, here {shown}"
    if not pools and target.kernel is not None and not (square and sides[0] <= target.kernel):
        yield f"{target.name} has square kernels up to {target.kernel}, here {shown}"


def _end_lines(checked: Validated, target: Target) -> Iterator[str]:
    flat = checked.flat
    taken = sum(math.prod(checked.given[name]) for name in flat.names(nir.Input))
    given = sum(math.prod(checked.taken[name]) for name in flat.names(nir.Output))
    for word, count, limit in (("inputs", taken, target.inputs), ("outputs", given, target.outputs)):
        if limit is not None and count > limit:
            yield f"the graph: {target.name} has {limit} {word}, here {count}"


def _fits(weight: np.ndarray, bits: int) -> bool:
    largest = float(np.abs(weight).max(initial=0))
    steps = weight / (largest / (2 ** (bits - 1) - 1)) if largest else weight
    return bool(np.allclose(steps, np.round(steps), atol=1e-3))
