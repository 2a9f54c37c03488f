"""Other libraries that run NIR graphs: what each answers to the same input, next to the reference."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import nir
from spyx.nir import peers
from spyx.nir.meaning import Meaning


@dataclass(frozen=True)
class Agreement:
    """What one executor makes of a graph.

    Args:
        executor: its name.
        verdict: "agrees", "one step early", "one step late", "differs" or "refuses".
        detail: the number of different answers, or the reason that it gave.

    Example:
        >>> Agreement("Norse", "agrees", "800 answers").verdict
        'agrees'
    """

    executor: str
    verdict: str
    detail: str


EXECUTORS: dict[str, tuple[str, Callable[[Any, np.ndarray, Meaning], np.ndarray]]] = {
    "snnTorch": ("snntorch", peers.snntorch),
    "Norse": ("norse", peers.norse),
    "Sinabs": ("sinabs", peers.sinabs),
}
"""Name, the package that must be there, and how a graph runs in it."""

WITHOUT_LI = ("snnTorch", "Norse")
"""Importers that know no `LI`: a readout is given to them as their own leaky cell."""


def installed() -> list[str]:
    """Names of the executors whose package is there."""
    return [name for name, (package, _) in EXECUTORS.items() if importlib.util.find_spec(package) is not None]


def agreements(
    graph: Any, inputs: dict[str, np.ndarray], expected: Any, meaning: Meaning, local: Mapping[str, Meaning]
) -> list[Agreement]:
    """Every installed executor on the same input; a library that fails is a finding, not an error.

    Args:
        graph: what is executed.
        inputs: (time, ...) by name.
        expected: what the reference answers, by name.
        meaning: of the graph.
        local: of every node that has its own.
    """
    outputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    found = []
    for name in installed():
        if len(inputs) != 1 or len(outputs) != 1:
            found.append(Agreement(name, "refuses", "several inputs or outputs"))
            continue
        try:
            # Both report to standard output and by warnings what they do to a graph.
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                got = EXECUTORS[name][1](_single(graph, local), next(iter(inputs.values())), meaning)
            one = _verdict(name, expected[outputs[0]], np.asarray(got, np.float64))
            given = name in WITHOUT_LI and peers.readouts(graph)
            found.append(replace(one, detail=f"{one.detail}, LI as its own leaky cell") if given else one)
        except Exception as error:  # whatever another library raises
            reason = (str(error).splitlines() or [""])[0][:160]
            found.append(Agreement(name, "refuses", f"{type(error).__name__}: {reason}"))
    return found


def _verdict(name: str, expected: np.ndarray, got: np.ndarray) -> Agreement:
    if got.shape != expected.shape:
        return Agreement(name, "differs", f"answers the shape {got.shape}, not {expected.shape}")

    def wrong(a: np.ndarray, b: np.ndarray) -> int:
        return int((~np.isclose(a, b, rtol=1e-3, atol=1e-4 * (1 + np.abs(a).max(initial=0)))).sum())

    for verdict, a, b in (
        ("agrees", expected, got),
        ("one step early", expected[1:], got[:-1]),
        ("one step late", expected[:-1], got[1:]),
    ):
        if not wrong(a, b):
            return Agreement(name, verdict, f"{expected.size} answers")
    return Agreement(name, "differs", f"{wrong(expected, got)} of {expected.size} answers")


def _single(graph: Any, local: Mapping[str, Meaning]) -> Any:
    """The graph in float32, because torch does not mix precisions; metadata says how each node resets, and no more."""
    nodes = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            nodes[name] = _single(node, {})
            continue
        values = node.to_dict()
        values.pop("metadata", None)
        values = {
            k: v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype == np.float64 else v
            for k, v in values.items()
        }
        nodes[name] = nir.dict2NIRNode(values)
        if name in local and hasattr(node, "v_threshold"):
            nodes[name].metadata = local[name].as_metadata()
    return nir.NIRGraph(nodes, list(graph.edges), type_check=False)
