"""What a chip cannot hold, said here and not on the chip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import nir
from spyx.nir.load import as_graph
from spyx.nir.meaning import text
from spyx.nir.sizes import per_axis
from spyx.nir.targets import TARGETS, Target
from spyx.nir.validate import TIMES, Validated, validated

DENSE = ("Affine", "Linear", "Conv1d", "Conv2d")


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
    checked = validated(as_graph(graph), "spyx.nir.report")
    flat = checked.flat
    lines = []
    for name, node in flat.nodes.items():
        if not isinstance(node, (nir.Input, nir.Output)):
            lines += [f"{name}: {line}" for line in _node_lines(node, target, flat.metadata)]
    lines += _end_lines(checked, target)
    if not target.recurrence and _has_cycle(flat.edges):
        lines.append(f"the graph: {target.name} has no recurrence")
    return lines


def _node_lines(node: Any, target: Target, metadata: dict[str, Any]) -> Iterator[str]:
    kind = type(node).__name__
    if kind not in target.nodes:
        yield f"{target.name} has no {kind}"
        return
    yield from _neuron_lines(node, target, metadata)
    if kind in ("SumPool2d", "AvgPool2d", "Conv1d", "Conv2d"):
        yield from _window_lines(node, target)
    if kind in DENSE:
        if np.any(getattr(node, "bias", 0)) and not target.bias:
            yield f"{target.name} has no bias"
        bits = target.weight_bits
        if bits is not None and not _fits(np.asarray(node.weight), bits):
            yield f"{target.name} has {bits}-bit weights: quantise(weights='int{bits}') first"


def _neuron_lines(node: Any, target: Target, metadata: dict[str, Any]) -> Iterator[str]:
    chip = target.name
    for field, allowed in (("v_leak", target.v_leak), ("v_reset", target.v_reset)):
        if hasattr(node, field) and np.any(getattr(node, field)) and not allowed:
            yield f"{chip} holds {field} at 0, here it is up to {np.abs(getattr(node, field)).max():g}"
    for field in (name for name in TIMES if hasattr(node, name)):
        tau = np.asarray(getattr(node, field), np.float64)
        if np.ptp(tau) and not target.unequal_tau:
            yield f"{chip} has one {field} for all units, here they differ"
        steps = np.log2(tau / float(metadata["dt"])) if target.shifts and "dt" in metadata else np.zeros(1)
        if not np.allclose(steps, np.round(steps), atol=1e-3):
            yield f"{chip} decays by bit shifts: {field} is a power of two times dt, here 2**{steps.max():.3g}"
    if hasattr(node, "v_threshold"):
        if np.ptp(node.v_threshold) and not target.unequal_threshold:
            yield f"{chip} has one v_threshold for all units, here they differ"
        reset = str(text(node.metadata.get("reset", metadata.get("reset", "nir")))).split(" ")[0]
        if reset not in target.resets:
            yield f"{chip} resets by {' or '.join(target.resets)}, here by {reset!r}"


def _window_lines(node: Any, target: Target) -> Iterator[str]:
    pools = hasattr(node, "kernel_size")
    sides = per_axis(node.kernel_size, 2) if pools else node.weight.shape[2:]
    said, square = "x".join(map(str, sides)), len(set(sides)) == 1
    if pools and target.pools is not None and not (square and sides[0] in target.pools):
        yield f"{target.name} pools squares of {', '.join(map(str, target.pools))}, here {said}"
    if not pools and target.kernel is not None and not (square and sides[0] <= target.kernel):
        yield f"{target.name} has square kernels up to {target.kernel}, here {said}"


def _end_lines(checked: Validated, target: Target) -> Iterator[str]:
    flat = checked.flat
    taken = sum(math.prod(checked.given[name]) for name in flat.names(nir.Input))
    answered = sum(math.prod(checked.taken[name]) for name in flat.names(nir.Output))
    for word, count, limit in (("inputs", taken, target.inputs), ("outputs", answered, target.outputs)):
        if limit is not None and count > limit:
            yield f"the graph: {target.name} has {limit} {word}, here {count}"


def _fits(weight: np.ndarray, bits: int) -> bool:
    largest = float(np.abs(weight).max(initial=0))
    steps = weight / (largest / (2 ** (bits - 1) - 1)) if largest else weight
    return bool(np.allclose(steps, np.round(steps), atol=1e-3))


def _has_cycle(edges: list[tuple[str, str]]) -> bool:
    from spyx.nir.delays import instant_cycle

    return bool(instant_cycle((), edges))
