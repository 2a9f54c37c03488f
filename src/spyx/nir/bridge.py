"""`from_nir` and `to_nir`: today's call signatures and those of Spyx 1.0, told apart by the second argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nir
from spyx import nn
from spyx.nir.load import load_graph
from spyx.nir.save import saved


def from_nir(
    graph: Any,
    *args: Any,
    dt: float | None = None,
    integration: str | None = None,
    reset: str | None = None,
    spike: str | None = None,
    multi_spike: bool | None = None,
    v_min: float | None = None,
    written_by: str = "auto",
    input_data: Any = None,
    return_all_states: bool = False,
    rngs: Any = None,
) -> Any:
    """A NIR graph as a `spyx.graph.Graph` that computes the same.

    NIR's equations are continuous in time; how they become steps is chosen here, and what is not chosen is what the
    file says, or else Euler, NIR's own reset and a spike within the step. All of tau, r, v_leak, v_threshold, v_reset,
    w_in and tau_syn count. A cycle without a delay gets one step, on the edge that closes it. Maps are channels-first
    in NIR and channels-last in spyx; signals that no convolution or pool touches keep their axes.

    Args:
        graph: a `nir.NIRGraph`, or the path of a .nir file.
        *args: `dt`; or, as in Spyx 1.0, `input_data` and `dt`. What is not a number is input data.
        dt: time step, in the unit of the graph's time constants; None is what the file says.
        integration: "euler" or "exponential" (exact decay, as Sinabs and Rockpool do it).
        reset: "nir" (to v_reset), "subtract" (v_threshold - v_reset) or "zero".
        spike: "post", from the updated membrane, or "pre": the same spikes one step later, as in `spyx.nn`.
        multi_spike: let a membrane of several thresholds spike several times in a step.
        v_min: lower bound of every membrane that spikes.
        written_by: "spyx1": take the gain that Spyx 1.0's author meant (it wrote r = beta). "nir": take r as it stands.
            "auto" (default) recognises such files, and warns.
        input_data: Spyx 1.0's: input (time, batch, ...) to run the model on; its `dt` is 1 unless given.
        return_all_states: Spyx 1.0's: answer the states of every step, too.
        rngs: Spyx 1.0's; nothing is drawn.

    Returns:
        The model. With input data, as Spyx 1.0 did: `(model, outputs)` or `(model, (outputs, states))`, time-major.

    Raises:
        ValueError: everything that is wrong with the graph, in one list with the names of the nodes.
        TypeError: something that is no graph.

    Example:
        >>> one = np.ones(1)
        >>> lif = nir.LIF(tau=2 * one, r=one, v_leak=0 * one, v_threshold=one / 2, v_reset=0 * one)
        >>> graph = nir.NIRGraph.from_list(nir.Linear(np.ones((1, 1))), lif)
        >>> model = from_nir(graph, dt=1.0)
        >>> nn.run(model, jnp.ones((1, 4, 1)))[0][0, :, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]

    Reference:
        Pedersen et al. 2024, Neuromorphic intermediate representation, doi:10.1038/s41467-024-52259-9.
    """
    options: dict[str, Any] = dict(
        integration=integration, reset=reset, spike=spike, multi_spike=multi_spike, v_min=v_min, written_by=written_by
    )
    if input_data is None and args and np.ndim(args[0]) > 0:
        input_data, args = args[0], args[1:]
    if args and dt is None:
        dt, args = args[0], args[1:]
    if args:
        raise TypeError(
            f"spyx.nir.from_nir: expected a graph and a time step, the rest by name; got {len(args)} more. Name them."
        )
    if input_data is None:
        return load_graph(graph, dt, **options)
    model = load_graph(graph, 1 if dt is None else dt, **options)
    return model, _run_as_spyx1(model, jnp.asarray(input_data), return_all_states)


def to_nir(
    model: Any, *args: Any, dt: float | None = None, input_shape: Any = None, output_shape: Any = None
) -> nir.NIRGraph:
    """A model as a NIR graph, with the dynamics that it has here.

    Our neurons have input gain 1, so `r = 1 / (1 - beta)` and `w_in = 1 / (1 - alpha)`; a layer that never leaks
    becomes a `nir.IF`. Recurrent layers become a neuron and a `Linear` back to it. The time step, the integration, the
    reset and the timing of spikes are written into the metadata, the raw parameters beside them.

    Args:
        model: a layer, `nn.Sequential`, `graph.Graph`, or SNNAX's `StatefulModel`.
        *args: `dt`; or, as in Spyx 1.0, the dicts `input_shape` and `output_shape`, and `dt` (there 1 unless given).
        dt: time step, in the unit that the time constants shall have.
        input_shape: shape of one sample at one step, in spyx's layout (channels last); a dict by input name when there
            are several. Only needed where the layers do not tell. From Spyx 1.0: a dict, in NIR's layout.
        output_shape: Spyx 1.0's; checked against what the model answers.

    Returns:
        A `nir.NIRGraph`; `spyx.nir.write` writes it to a file.

    Raises:
        ValueError: everything that NIR cannot say, in one list with the names of the nodes.

    Example:
        >>> graph = to_nir(nn.Sequential(nn.LIF(2, beta=0.75)), dt=1e-3)
        >>> graph.nodes["lif_0"].tau.tolist(), graph.nodes["lif_0"].r.tolist()
        ([0.004, 0.004], [4.0, 4.0])

    Reference:
        Pedersen et al. 2024, Neuromorphic intermediate representation, doi:10.1038/s41467-024-52259-9.
    """
    rest = list(args)
    old = isinstance(input_shape, Mapping) and output_shape is not None
    if rest and isinstance(rest[0], Mapping):
        old, input_shape = True, rest.pop(0)
        if rest and output_shape is None:
            output_shape = rest.pop(0)
    if rest and dt is None:
        dt = float(rest.pop(0))
    if rest:
        raise TypeError(
            f"spyx.nir.to_nir: expected a model and a time step, the rest by name; got {len(rest)} more. Name them."
        )
    if dt is None and not old:
        raise ValueError("spyx.nir.to_nir(dt=): expected a time step; got None. For example dt=1e-3, in seconds.")
    graph = saved(model, 1.0 if dt is None else dt, input_shape, nir_axes=old)
    if output_shape is not None:
        _check_output(graph, output_shape)
    return graph


def _check_output(graph: nir.NIRGraph, said: Any) -> None:
    shapes = said.values() if isinstance(said, Mapping) else [said]
    expected = sorted(tuple(int(n) for n in np.ravel(shape)) for shape in shapes)
    found = sorted(tuple(int(n) for n in node.output_type["output"]) for node in graph.outputs.values())
    if expected != found:
        raise ValueError(
            f"spyx.nir.to_nir(output_shape=): expected what the model answers, {found}; got {expected}. Leave it away."
        )


def _run_as_spyx1(model: Any, xs: Any, all_states: bool) -> Any:
    if not all_states:
        return nn.run(model, xs, time_axis=0)[0]

    def step(state: Any, x: Any) -> Any:
        out, state = model(x, state)
        return state, (out, state)

    return jax.lax.scan(step, model.initial_state(xs.shape[1]), xs)[1]
