"""Other libraries that run NIR graphs: what each gives for the same input, next to the reference.

snnTorch and Norse do not import `LI`. Where a graph has one, their importer takes everything else and the readout is
their own leaky cell, so that a whole network can be compared; the verdict says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

import nir
from spyx.nir._discrete import AFTER_LEAK, Meaning

if TYPE_CHECKING:
    import torch  # pyright: ignore[reportMissingImports]

Signals = Mapping[str, np.ndarray]
"""Name of a node to its output, (time, *shape) in NIR's layout."""
STEP_S = 1e-4
"""snnTorch's importer always counts time constants in this step."""


def snntorch(graph: nir.NIRGraph, xs: np.ndarray, meaning: Meaning) -> np.ndarray:
    """The importer of snnTorch; a readout is an `snntorch.Leaky` without a reset that returns its membrane."""
    import nirtorch  # pyright: ignore[reportMissingImports]
    import snntorch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from snntorch import import_nir as importer  # pyright: ignore[reportMissingImports]

    class Readout(torch.nn.Module):
        def __init__(self, node: nir.LI) -> None:
            super().__init__()
            decay = torch.as_tensor(1 - STEP_S / node.tau)
            self.gain = torch.as_tensor(node.r * STEP_S / node.tau)
            self.leaky = snntorch.Leaky(decay, init_hidden=True, output=True, reset_mechanism="none")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.leaky(self.gain * x)[1]

    if not readouts(graph):
        net = importer.import_from_nir(graph)
    else:
        read = (nir.Affine, nir.Linear, nir.Conv2d, nir.Flatten, nir.AvgPool2d, nir.IF, nir.LIF, nir.CubaLIF)
        table = dict.fromkeys(read, lambda node: importer._nir_to_snntorch_module(node, init_hidden=True))
        net = nirtorch.nir_to_torch(graph, {**table, nir.LI: Readout})
    return _stepped(net, xs)


def norse(graph: nir.NIRGraph, xs: np.ndarray, meaning: Meaning) -> np.ndarray:
    """The importer of Norse; a readout is its own `LIBoxCell`."""
    import nirtorch  # pyright: ignore[reportMissingImports]
    import norse.torch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from norse.torch.module import leaky_integrator_box as box  # pyright: ignore[reportMissingImports]
    from norse.torch.utils import import_nir as importer  # pyright: ignore[reportMissingImports]

    def cell(node: nir.NIRNode) -> torch.nn.Module:
        if not isinstance(node, nir.LI):
            return importer._import_norse_module(node, ignore_warnings=True, dt=meaning.dt)
        rates = {"tau_mem_inv": torch.as_tensor(1 / node.tau), "v_leak": torch.as_tensor(node.v_leak)}
        return box.LIBoxCell(box.LIBoxParameters(**rates), dt=meaning.dt)

    if not readouts(graph):
        net = norse.torch.from_nir(graph, ignore_warnings=True, dt=meaning.dt)
    else:
        net = nirtorch.load(graph, cell)
    return _stepped(net, xs)


def sinabs(graph: nir.NIRGraph, xs: np.ndarray, meaning: Meaning) -> np.ndarray:
    """The importer of Sinabs, with its own reset; a decay of exp(-1/tau) and an input gain of 1 are its rule.

    It is given the tau, in steps, whose exponential decay is the one that the graph has here.
    """
    import nirtorch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from sinabs import activation  # pyright: ignore[reportMissingImports]
    from sinabs import nir as importer  # pyright: ignore[reportMissingImports]

    def layer(node: nir.NIRNode) -> torch.nn.Module:
        made = importer._import_sinabs_module(node, batch_size=1, num_timesteps=None)
        if isinstance(node, (nir.IF, nir.LIF)):
            here = meaning.at(node)
            made.spike_fn = activation.MultiSpike if here.multi_spike else activation.SingleSpike
            made.min_v_mem = None if here.v_min is None else torch.nn.Parameter(torch.tensor(here.v_min))
            remaining = np.exp(-1 / node.tau) if isinstance(node, nir.LIF) else np.ones_like(node.r)
            jump = torch.as_tensor(node.v_threshold / remaining if here.reset == AFTER_LEAK else node.v_threshold)
            subtracts = here.reset.startswith("subtract")
            made.reset_fn = activation.MembraneSubtract(jump) if subtracts else activation.MembraneReset()
        return made

    nodes = {name: _in_steps(name, node, meaning) for name, node in graph.nodes.items()}
    out = nirtorch.load(nir.NIRGraph(nodes, graph.edges, type_check=False), layer)(torch.from_numpy(xs))
    return (out[0] if isinstance(out, tuple) else out).detach().numpy()


def readouts(graph: nir.NIRGraph) -> list[str]:
    """Names of the nodes that snnTorch and Norse do not import."""
    return [name for name, node in graph.nodes.items() if isinstance(node, nir.LI)]


def _stepped(net: torch.nn.Module, xs: np.ndarray) -> np.ndarray:
    import torch  # pyright: ignore[reportMissingImports]

    state, outs = None, []
    for x in xs:
        out, state = net(torch.from_numpy(x[None]), state)
        outs.append((out[0] if isinstance(out, tuple) else out).detach().numpy()[0])
    return np.stack(outs)


def _in_steps(name: str, node: nir.NIRNode, meaning: Meaning) -> nir.NIRNode:
    """The node with tau in steps and its gain of 1 written as r = 1; refuses what Sinabs' importer would overlook."""
    if isinstance(node, (nir.CubaLIF, nir.CubaLI, nir.I, nir.Threshold, nir.Delay, nir.Scale, nir.AvgPool2d)):
        raise ValueError(f"its importer drops {name}, a {type(node).__name__}")
    if not isinstance(node, (nir.IF, nir.LI, nir.LIF)):
        return node
    dt, tau = meaning.dt, getattr(node, "tau", 1.0)
    gain = node.r * dt / tau
    if not np.allclose(gain, 1):
        raise ValueError(f"the input gain of {name} is up to {gain.max():g}; its importer always takes 1")
    if meaning.at(node).reset == "nir" and np.any(getattr(node, "v_reset", 0)):
        raise ValueError(f"v_reset of {name} is not 0; its importer overlooks it")
    values = {**node.to_dict(), "r": np.ones_like(node.r)}
    if "tau" in values:
        decay = 1 - dt / tau if meaning.integration == "euler" else np.exp(-dt / tau)
        values["tau"] = (-1 / np.log(decay)).astype(np.float32)
    return nir.dict2NIRNode(values)


@dataclass(frozen=True)
class Agreement:
    """What one executor makes of a graph.

    Args:
        executor: its name.
        verdict: "agrees", "one step early", "one step late", "differs" or "refuses".
        detail: the number of values that were compared or differ, or the reason that it gave.

    Example:
        >>> Agreement("Norse", "agrees", "800 values").verdict
        'agrees'
    """

    executor: str
    verdict: str
    detail: str


EXECUTORS: dict[str, tuple[str, Callable[[nir.NIRGraph, np.ndarray, Meaning], np.ndarray]]] = {
    "snnTorch": ("snntorch", snntorch),
    "Norse": ("norse", norse),
    "Sinabs": ("sinabs", sinabs),
}
"""Name, the package that must be there, and how a graph runs in it: input (time, ...) to output (time, ...)."""
WITHOUT_LI = ("snnTorch", "Norse")
"""Importers that know no `LI`: their own leaky cell is the readout."""


def installed() -> list[str]:
    """Names of the executors whose package is there."""
    return [name for name, (package, _) in EXECUTORS.items() if importlib.util.find_spec(package) is not None]


def agreements(
    graph: nir.NIRGraph, inputs: Signals, expected: Signals, meaning: Meaning, local: Mapping[str, Meaning]
) -> list[Agreement]:
    """Every installed executor on the input of the reference; a library that fails is a finding, not an error."""
    outputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    found = []
    for name in installed():
        if len(inputs) != 1 or len(outputs) != 1:
            found.append(Agreement(name, "refuses", "several inputs or outputs"))
            continue
        try:
            # They report to standard output and by warnings what they do to a graph.
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                got = EXECUTORS[name][1](_in_float32(graph, local), next(iter(inputs.values())), meaning)
            one = _verdict(name, expected[outputs[0]], np.asarray(got, np.float64))
            own = name in WITHOUT_LI and readouts(graph)
            found.append(replace(one, detail=f"{one.detail}, LI as its own leaky cell") if own else one)
        except Exception as error:  # whatever another library raises
            reason = (str(error).splitlines() or [""])[0][:160]
            found.append(Agreement(name, "refuses", f"{type(error).__name__}: {reason}"))
    return found


def _verdict(name: str, expected: np.ndarray, got: np.ndarray) -> Agreement:
    if got.shape != expected.shape:
        return Agreement(name, "differs", f"returns the shape {got.shape}, not {expected.shape}")

    def wrong(a: np.ndarray, b: np.ndarray) -> int:
        return int((~np.isclose(a, b, rtol=1e-3, atol=1e-4 * (1 + np.abs(a).max(initial=0)))).sum())

    for verdict, a, b in (
        ("agrees", expected, got),
        ("one step early", expected[1:], got[:-1]),
        ("one step late", expected[:-1], got[1:]),
    ):
        if not wrong(a, b):
            return Agreement(name, verdict, f"{expected.size} values")
    return Agreement(name, "differs", f"{wrong(expected, got)} of {expected.size} values")


def _in_float32(graph: nir.NIRGraph, local: Mapping[str, Meaning]) -> nir.NIRGraph:
    """The graph in float32, because torch does not mix precisions; metadata says how each node resets, and no more."""
    nodes: dict[str, nir.NIRNode] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            nodes[name] = _in_float32(node, {})
            continue
        values = {key: value for key, value in node.to_dict().items() if key != "metadata"}
        for key, value in values.items():
            if isinstance(value, np.ndarray) and value.dtype == np.float64:
                values[key] = value.astype(np.float32)
        nodes[name] = nir.dict2NIRNode(values)
        if name in local and hasattr(node, "v_threshold"):
            nodes[name].metadata = local[name].as_metadata()
    return nir.NIRGraph(nodes, list(graph.edges), type_check=False)
