"""What a chip cannot hold, said here and not on the chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import nir
from spyx.nir.load import as_graph
from spyx.nir.meaning import text
from spyx.nir.validate import validated

DENSE = ("Affine", "Linear", "Conv1d", "Conv2d")


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
        weight_bits: weights are whole numbers of so many bits, times one factor per node; None for floats.

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


TARGETS = {
    "speck": Target(
        "speck",
        ("Conv2d", "SumPool2d", "Flatten", "Affine", "Linear", "IF"),
        resets=("subtract", "zero"),
        recurrence=False,
    ),
    "xylo": Target(
        "xylo", ("Affine", "Linear", "LIF", "CubaLIF"), resets=("subtract",), unequal_tau=True, unequal_threshold=True
    ),
    "loihi2": Target(
        "loihi2",
        ("Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "IF", "LIF", "CubaLIF", "LI", "CubaLI", "Delay"),
        resets=("nir", "zero"),
    ),
    "spinnaker2": Target(
        "spinnaker2",
        ("Affine", "Linear", "Conv2d", "SumPool2d", "Flatten", "IF", "LIF", "CubaLIF", "LI"),
        unequal_tau=True,
        unequal_threshold=True,
        v_leak=True,
        v_reset=True,
    ),
}
"""Chips as their toolchains for NIR describe them; a `Target` of your own says what yours can do."""


def report(graph: Any, target: str | Target) -> list[str]:
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
    flat = validated(as_graph(graph), "spyx.nir.report").flat
    lines = []
    for name, node in flat.nodes.items():
        if not isinstance(node, (nir.Input, nir.Output)):
            lines += [f"{name}: {line}" for line in _node_lines(node, target, flat.metadata)]
    if not target.recurrence and _has_cycle(flat.edges):
        lines.append(f"the graph: {target.name} has no recurrence")
    return lines


def _node_lines(node: Any, target: Target, metadata: dict[str, Any]) -> Iterator[str]:
    kind, chip = type(node).__name__, target.name
    if kind not in target.nodes and not (kind == "Delay" and "Delay" in target.nodes):
        yield f"{chip} has no {kind}"
        return
    for field, allowed in (("v_leak", target.v_leak), ("v_reset", target.v_reset)):
        if hasattr(node, field) and np.any(getattr(node, field)) and not allowed:
            yield f"{chip} holds {field} at 0, here it is up to {np.abs(getattr(node, field)).max():g}"
    for field in ("tau", "tau_mem", "tau_syn"):
        if hasattr(node, field) and np.ptp(getattr(node, field)) and not target.unequal_tau:
            yield f"{chip} has one {field} for all units, here they differ"
    if hasattr(node, "v_threshold"):
        if np.ptp(node.v_threshold) and not target.unequal_threshold:
            yield f"{chip} has one v_threshold for all units, here they differ"
        reset = str(text(node.metadata.get("reset", metadata.get("reset", "nir")))).split(" ")[0]
        if reset not in target.resets:
            yield f"{chip} resets by {' or '.join(target.resets)}, here by {reset!r}"
    if kind in DENSE:
        if np.any(getattr(node, "bias", 0)) and not target.bias:
            yield f"{chip} has no bias"
        if target.weight_bits is not None and not _fits(np.asarray(node.weight), target.weight_bits):
            yield f"{chip} has {target.weight_bits}-bit weights: quantise(weights='int{target.weight_bits}') first"


def _fits(weight: np.ndarray, bits: int) -> bool:
    largest = float(np.abs(weight).max(initial=0))
    steps = weight / (largest / (2 ** (bits - 1) - 1)) if largest else weight
    return bool(np.allclose(steps, np.round(steps), atol=1e-3))


def _has_cycle(edges: list[tuple[str, str]]) -> bool:
    from spyx.nir.delays import instant_cycle

    return bool(instant_cycle((), edges))
