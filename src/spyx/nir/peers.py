"""How a NIR graph runs in other libraries: each function takes a graph, input (time, ...) and the meaning.

snnTorch and Norse do not import `LI`. Where a graph has one, their importer is kept for everything else and the readout
is their own leaky cell, so that a whole network can be compared; what that changes is said in the verdict.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import nir
from spyx.nir.meaning import AFTER_LEAK, Meaning

STEP_S = 1e-4
"""snnTorch's importer always counts time constants in this step."""


def snntorch(graph: Any, xs: np.ndarray, meaning: Meaning) -> np.ndarray:
    """The importer of snnTorch; a readout is an `snntorch.Leaky` without a reset that answers its membrane."""
    import nirtorch  # pyright: ignore[reportMissingImports]
    import snntorch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from snntorch import import_nir as importer  # pyright: ignore[reportMissingImports]

    class Readout(torch.nn.Module):
        def __init__(self, node: Any) -> None:
            super().__init__()
            decay = torch.as_tensor(1 - STEP_S / node.tau)
            self.gain = torch.as_tensor(node.r * STEP_S / node.tau)
            self.leaky = snntorch.Leaky(decay, init_hidden=True, output=True, reset_mechanism="none")

        def forward(self, x: Any) -> Any:
            return self.leaky(self.gain * x)[1]

    if not readouts(graph):
        net = importer.import_from_nir(graph)
    else:
        read = (nir.Affine, nir.Linear, nir.Conv2d, nir.Flatten, nir.AvgPool2d, nir.IF, nir.LIF, nir.CubaLIF)
        table = dict.fromkeys(read, lambda node: importer._nir_to_snntorch_module(node, init_hidden=True))
        net = nirtorch.nir_to_torch(graph, {**table, nir.LI: Readout})
    return _stepped(net, xs)


def norse(graph: Any, xs: np.ndarray, meaning: Meaning) -> np.ndarray:
    """The importer of Norse; a readout is its own `LIBoxCell`."""
    import nirtorch  # pyright: ignore[reportMissingImports]
    import norse.torch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from norse.torch.module import leaky_integrator_box as box  # pyright: ignore[reportMissingImports]
    from norse.torch.utils import import_nir as importer  # pyright: ignore[reportMissingImports]

    def cell(node: Any) -> Any:
        if not isinstance(node, nir.LI):
            return importer._import_norse_module(node, ignore_warnings=True, dt=meaning.dt)
        rates = {"tau_mem_inv": torch.as_tensor(1 / node.tau), "v_leak": torch.as_tensor(node.v_leak)}
        return box.LIBoxCell(box.LIBoxParameters(**rates), dt=meaning.dt)

    if not readouts(graph):
        net = norse.torch.from_nir(graph, ignore_warnings=True, dt=meaning.dt)
    else:
        net = nirtorch.load(graph, cell)
    return _stepped(net, xs)


def sinabs(graph: Any, xs: np.ndarray, meaning: Meaning) -> np.ndarray:
    """The importer of Sinabs, with its own reset; a decay of exp(-1/tau) and an input gain of 1 are its rule.

    It is given the tau, in steps, whose exponential decay is the one that the graph has here.
    """
    import nirtorch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from sinabs import activation  # pyright: ignore[reportMissingImports]
    from sinabs import nir as importer  # pyright: ignore[reportMissingImports]

    def layer(node: Any) -> Any:
        made = importer._import_sinabs_module(node, batch_size=1, num_timesteps=None)
        if isinstance(node, (nir.IF, nir.LIF)):
            here = meaning.at(node)
            made.spike_fn = activation.MultiSpike if here.multi_spike else activation.SingleSpike
            made.min_v_mem = None if here.v_min is None else torch.nn.Parameter(torch.tensor(here.v_min))
            kept = np.exp(-1 / node.tau) if isinstance(node, nir.LIF) else np.ones_like(node.r)
            jump = torch.as_tensor(node.v_threshold / kept if here.reset == AFTER_LEAK else node.v_threshold)
            subtracts = here.reset.startswith("subtract")
            made.reset_fn = activation.MembraneSubtract(jump) if subtracts else activation.MembraneReset()
        return made

    nodes = {name: _in_steps(name, node, meaning) for name, node in graph.nodes.items()}
    out = nirtorch.load(nir.NIRGraph(nodes, graph.edges, type_check=False), layer)(torch.from_numpy(xs))
    return (out[0] if isinstance(out, tuple) else out).detach().numpy()


def readouts(graph: Any) -> list[str]:
    """Names of the nodes that snnTorch and Norse do not import."""
    return [name for name, node in graph.nodes.items() if isinstance(node, nir.LI)]


def _stepped(net: Any, xs: np.ndarray) -> np.ndarray:
    import torch  # pyright: ignore[reportMissingImports]

    state, outs = None, []
    for x in xs:
        out, state = net(torch.from_numpy(x[None]), state)
        outs.append((out[0] if isinstance(out, tuple) else out).detach().numpy()[0])
    return np.stack(outs)


def _in_steps(name: str, node: Any, meaning: Meaning) -> Any:
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
