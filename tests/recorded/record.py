"""Records what the neurons of snnTorch, SpikingJelly, Norse and Sinabs do: outputs, membranes, gradients.

Run it in an environment that has the versions of `VERSIONS`; it writes `peers.npz` beside itself. Nothing of spyx is
imported. Every case has an input (batch, time, units), spikes and membranes of that shape, the membrane being what the
library hands to its next step, and the gradients of `sum(w spikes) + sum(w_end last membrane)`.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import norse.torch as norse
import numpy as np
import sinabs.activation as sa
import sinabs.layers as sl
import snntorch as snn
import torch
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
from norse.torch.functional.reset import reset_subtract, reset_value
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron, surrogate

VERSIONS = {"torch": "2.13.0", "snntorch": "1.0.0", "spikingjelly": "2.0.0", "norse": "1.1.0", "sinabs": "3.1.3"}
BATCH, STEPS, UNITS = 3, 24, 4
RESETS = ("subtract", "zero", "none")

Record = dict[str, Any]
Parameters = dict[str, torch.nn.Parameter]


def recorded(
    seed: int, step: Callable[[Any, Any], Any], start: Any, parameters: Parameters, scale: float = 1.0, **meta: Any
) -> Record:
    """Run `step(x, state) -> (spikes, membrane, state)` over time and differentiate.

    Args:
        seed: of the input and of the loss.
        step: one step of the library's neuron.
        start: the state before the first one.
        parameters: what gradients are wanted of, by spyx's names.
        scale: of the input.
        meta: whatever tells the case apart.
    """
    draw = np.random.default_rng(seed)
    x = torch.tensor(scale * draw.normal(0.3, 1.0, (BATCH, STEPS, UNITS)), dtype=torch.float32, requires_grad=True)
    w = torch.tensor(draw.normal(size=(BATCH, STEPS, UNITS)), dtype=torch.float32)
    w_end = torch.tensor(draw.normal(size=(BATCH, UNITS)), dtype=torch.float32)
    spikes, membranes, state = [], [], start
    for t in range(STEPS):
        z, v, state = step(x[:, t], state)
        spikes.append(z)
        membranes.append(v)
    loss = (torch.stack(spikes, 1) * w).sum() + (membranes[-1] * w_end).sum()
    loss.backward()
    found: Record = {
        "x": x.detach(),
        "w": w,
        "w_end": w_end,
        "spikes": torch.stack(spikes, 1).detach(),
        "membranes": torch.stack(membranes, 1).detach(),
        "grad_x": x.grad,
    }
    for name, value in parameters.items():
        found |= {f"value_{name}": value.detach().clone(), f"grad_{name}": value.grad}
    arrays = {name: np.asarray(value) for name, value in found.items()}
    return {**arrays, "meta": np.asarray(json.dumps(meta))}


def snntorch_cases() -> Iterator[tuple[str, Record]]:
    betas, alphas = torch.tensor([0.5, 0.7, 0.85, 0.95]), torch.tensor([0.3, 0.5, 0.6, 0.4])
    for seed, reset in enumerate(RESETS):
        known = dict(
            threshold=0.8, reset_mechanism=reset, learn_threshold=True, spike_grad=snn_surrogate.fast_sigmoid(25)
        )
        zeros = torch.zeros(BATCH, UNITS)

        leaky = snn.Leaky(beta=betas.clone(), learn_beta=True, **known)

        def step(x: Any, v: Any, leaky: Any = leaky) -> Any:
            z, v = leaky(x, v)
            return z, v, v

        parameters = {"beta": leaky.beta, "threshold": leaky.threshold}
        yield f"snntorch/Leaky/{reset}", recorded(seed, step, zeros, parameters, reset=reset)

        synaptic = snn.Synaptic(alpha=alphas.clone(), beta=betas.clone(), learn_alpha=True, learn_beta=True, **known)

        def step(x: Any, s: Any, synaptic: Any = synaptic) -> Any:
            z, i, v = synaptic(x, *s)
            return z, v, (i, v)

        parameters = {"alpha": synaptic.alpha, "beta": synaptic.beta, "threshold": synaptic.threshold}
        yield f"snntorch/Synaptic/{reset}", recorded(seed + 10, step, (zeros, zeros), parameters, 0.5, reset=reset)

        torch.manual_seed(seed)
        rleaky = snn.RLeaky(beta=betas.clone(), learn_beta=True, linear_features=UNITS, **known)
        torch.nn.init.zeros_(rleaky.recurrent.bias)

        def step(x: Any, s: Any, rleaky: Any = rleaky) -> Any:
            z, v = rleaky(x, *s)
            return z, v, (z, v)

        parameters = {"beta": rleaky.beta, "threshold": rleaky.threshold, "recurrent": rleaky.recurrent.weight}
        yield f"snntorch/RLeaky/{reset}", recorded(seed + 20, step, (zeros, zeros), parameters, reset=reset)


def spikingjelly_cases() -> Iterator[tuple[str, Record]]:
    def stepper(node: Any) -> Callable[[Any, Any], Any]:
        def step(x: Any, state: Any) -> Any:
            z = node(x)
            return z, node.v, None

        return step

    seed = 100
    for v_reset in (None, 0.0):
        for detach in (False, True):
            known = dict(v_threshold=0.8, v_reset=v_reset, detach_reset=detach, surrogate_function=surrogate.ATan(2.0))
            for decay_input in (True, False):
                seed += 1
                meta = dict(hard=v_reset is not None, detach=detach, decay_input=decay_input)
                name = f"{'hard' if meta['hard'] else 'soft'}{'_detached' if detach else ''}" + (
                    "_decay_input" if decay_input else ""
                )
                scale = 2.0 if decay_input else 1.0
                node = neuron.LIFNode(tau=2.5, decay_input=decay_input, **known)
                yield f"spikingjelly/LIFNode/{name}", recorded(seed, stepper(node), None, {}, scale, tau=2.5, **meta)
                node = neuron.ParametricLIFNode(init_tau=2.5, decay_input=decay_input, **known)
                yield (
                    f"spikingjelly/ParametricLIFNode/{name}",
                    recorded(seed + 50, stepper(node), None, {"w": node.w}, scale, tau=2.5, **meta),
                )
            meta = dict(hard=v_reset is not None, detach=detach)
            node = neuron.IFNode(**known)
            name = f"{'hard' if meta['hard'] else 'soft'}{'_detached' if detach else ''}"
            yield f"spikingjelly/IFNode/{name}", recorded(seed + 90, stepper(node), None, {}, 0.7, **meta)


def norse_cases() -> Iterator[tuple[str, Record]]:
    for seed, (name, method) in enumerate({"zero": reset_value, "subtract": reset_subtract}.items()):
        p = LIFBoxParameters(
            tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.8), alpha=torch.tensor(100.0), reset_method=method
        )
        cell = norse.LIFBoxCell(p)

        def step(x: Any, state: Any, cell: Any = cell) -> Any:
            z, state = cell(x, state)
            return z, state.v, state

        start = LIFBoxFeedForwardState(v=torch.zeros(BATCH, UNITS))
        yield f"norse/LIFBoxCell/{name}", recorded(200 + seed, step, start, {}, 2.0, beta=0.8, reset=name)


def sinabs_cases() -> Iterator[tuple[str, Record]]:
    seed = 300
    for spike in ("SingleSpike", "MultiSpike"):
        resets = {"subtract": sa.MembraneSubtract(), "zero": sa.MembraneReset()}
        if spike == "MultiSpike":
            del resets["zero"]  # several spikes of one step have no meaning for a reset by 1 - z
        for reset, function in resets.items():
            for norm_input in (True, False):
                seed += 1
                layer = sl.LIF(
                    tau_mem=torch.tensor([3.0, 5.0, 8.0, 20.0]),
                    spike_fn=getattr(sa, spike),
                    reset_fn=function,
                    surrogate_grad_fn=sa.SingleExponential(),
                    train_alphas=True,
                    norm_input=norm_input,
                )

                def step(x: Any, state: Any, layer: Any = layer) -> Any:
                    z = layer(x[:, None])[:, 0]
                    return z, layer.v_mem, None

                name = f"{spike}_{reset}{'_norm_input' if norm_input else ''}"
                meta = dict(spike=spike, reset=reset, norm_input=norm_input)
                scale = 4.0 if norm_input else 1.0
                yield f"sinabs/LIF/{name}", recorded(seed, step, None, {"beta": layer.alpha_mem}, scale, **meta)


def main() -> None:
    """Write `peers.npz`."""
    found = {name: importlib.metadata.version(name).partition("+")[0] for name in VERSIONS}
    if found != VERSIONS:
        raise SystemExit(f"expected {VERSIONS}; got {found}")
    arrays = {"versions": np.asarray(json.dumps(found))}
    for cases in (snntorch_cases, spikingjelly_cases, norse_cases, sinabs_cases):
        for name, record in cases():
            print(name, f"{float(record['spikes'].mean()):.2f} spikes a step")
            arrays |= {f"{name}/{key}": value for key, value in record.items()}
    np.savez_compressed(Path(__file__).with_name("peers.npz"), **arrays)


if __name__ == "__main__":
    main()
