"""`check`: is a graph sound, what does it hold, do two independent executions agree? And which time step suits it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple, Unpack

import numpy as np

import nir
from spyx import nn
from spyx.graph import Graph
from spyx.nir._discrete import TIMES, Choices, Meaning, meaning_at, read_meaning, spiking_late, steps_of, whole_steps
from spyx.nir._flat import PER_UNIT, Flat
from spyx.nir._io import as_graph
from spyx.nir._libraries import Agreement, Signals, agreements
from spyx.nir._load import axes_of, built, input_shapes
from spyx.nir._neurons import NIRNeuron
from spyx.nir._reference import order_of_execution, simulate
from spyx.nir._spyx1 import as_meant
from spyx.nir._validate import Validated, validated

MOST_VALUES = 2**30
PART = 10
"""Euler steps are at most this part of the smallest time constant: the leak of a step is then within 5 % of the exact
one."""
FINEST = 1e-4
"""A delay makes the suggested step smaller by this factor at most."""


@dataclass(frozen=True)
class Difference:
    """Where two executions part: the first step, and the first node in the order of the graph.

    Args:
        node: name.
        step: time step.
        expected: the output of the reference there.
        got: the output of spyx there.

    Example:
        >>> Difference("lif", 3, expected=1.0, got=0.0).step
        3
    """

    node: str
    step: int
    expected: float
    got: float


@dataclass(frozen=True)
class Check:
    """What `check` found.

    Args:
        meaning: how the graph was executed.
        table: one row per node: name, type, shapes, parameters.
        difference: where spyx and the reference part; None when they agree.
        compared: number of nodes that were compared.
        agreements: what other executors give.
        model: the graph in spyx.

    Example:
        >>> from spyx.nir import to_nir
        >>> found = check(to_nir(nn.Sequential(nn.LI(2, beta=0.5)), dt=1e-3), others=False)
        >>> found.meaning.dt, found.compared
        (0.001, 2)
    """

    meaning: Meaning
    table: list[tuple[str, str, str, str]]
    difference: Difference | None
    compared: int
    agreements: list[Agreement]
    model: Graph


def check(
    graph: nir.NIRGraph | str | os.PathLike[str],
    dt: float | None = None,
    *,
    steps: int = 100,
    seed: int = 0,
    others: bool = True,
    **chosen: Unpack[Choices],
) -> Check:
    """Validate a graph, run it in float64 NumPy and in spyx on random spikes, and say where they first differ.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        dt: time step; None is what the file says.
        steps: time steps of the trial.
        seed: of the random input, which spikes with probability 0.3.
        others: also run the executors of snnTorch, Norse and Sinabs, where they are installed.
        **chosen: integration, reset and spike, as for `from_nir`.

    Returns:
        A `Check`.

    Raises:
        ValueError: everything that is wrong with the graph.

    Example:
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> check(to_nir(nn.Sequential(nn.LIF(2, beta=0.5)), dt=1e-3), others=False).difference is None
        True
    """
    if steps < 1:
        raise ValueError(f"spyx.nir.check(steps=): expected at least 1; got {steps}. Leave it out for 100.")
    graph = as_meant(as_graph(graph), dt)
    checked = validated(graph, "spyx.nir.check")
    meaning = read_meaning(graph.metadata, dt, **chosen)
    model = built(checked, meaning, chosen)
    values = steps * sum(math.prod(shape) for shape in (*checked.given.values(), *checked.taken.values()))
    if values > MOST_VALUES:
        raise ValueError(
            f"spyx.nir.check(steps=): expected a trial of at most {MOST_VALUES} values; got {values} in {steps} steps. "
            "Take fewer steps."
        )
    rng = np.random.default_rng(seed)
    inputs = {
        name: (rng.random((steps, *checked.given[name])) < 0.3).astype(np.float32)
        for name in checked.flat.names(nir.Input)
    }
    local = {name: meaning_at(node, meaning, chosen) for name, node in checked.flat.nodes.items()}
    expected = simulate(graph, inputs, dt, **chosen)
    got = _outputs(model, checked, inputs, spiking_late(checked.flat, local))
    found = agreements(graph, inputs, expected, meaning, local) if others else []
    return Check(meaning, table(checked, meaning.dt), first_difference(expected, got), len(got), found, model)


def _outputs(model: Graph, checked: Validated, inputs: Signals, late: set[str]) -> Signals:
    """The output of every node of the model, as it arrives at the next."""
    axes = axes_of(checked)
    taps = {f"output of {name}": name for name in model.nodes if name in checked.flat.nodes}
    delays = {name: int(name in late and isinstance(model.nodes[name], NIRNeuron)) for name in taps.values()}
    probe = Graph(
        dict(model.nodes),
        [*model.edges, *((name, tap, delays[name]) for tap, name in taps.items())],
        merge="sum",
        inputs=model.inputs,
        outputs=(*model.outputs, *taps),
        input_shape=input_shapes(checked, axes),
    )
    xs = {n: np.stack([axes.given[n].to_spyx(step) for step in x])[None] for n, x in inputs.items()}
    outs, _ = nn.run(probe, xs if len(xs) > 1 else next(iter(xs.values())))
    found: dict[str, np.ndarray] = {}
    for key, value in outs.items() if isinstance(outs, dict) else [(probe.outputs[0], outs)]:
        name = str(taps.get(key, key))
        found[name] = np.stack([axes.given[name].to_nir(step) for step in np.asarray(value[0])])
    return found


def first_difference(expected: Signals, got: Signals) -> Difference | None:
    """The earliest step, and there the earliest node, at which outputs differ by more than rounding."""
    found: list[Difference] = []
    for name in (name for name in expected if name in got):
        a, b = expected[name], got[name]
        wrong = ~np.isclose(a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(a).max(initial=0)))
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            found.append(Difference(name, int(place[0]), float(a[place]), float(b[place])))
    return min(found, key=lambda one: one.step, default=None)


def table(checked: Validated, dt: float) -> list[tuple[str, str, str, str]]:
    """Name, type, shapes and parameters of every node, in the order of execution."""
    rows = []
    for name in (*checked.flat.names(nir.Input), *order_of_execution(checked.flat, steps_of(checked.flat, dt, ()))):
        node = checked.flat.nodes[name]
        shapes = " → ".join(
            dict.fromkeys(
                "×".join(map(str, s.get(name, ()))) or "1" for s in (checked.taken, checked.given) if name in s
            )
        )
        rows.append((name, type(node).__name__, shapes, _parameters(node)))
    return rows


def _parameters(node: nir.NIRNode) -> str:
    names = PER_UNIT.get(type(node)) or tuple(
        n for n in ("weight", "bias", "stride", "padding", "dilation", "groups", "kernel_size") if hasattr(node, n)
    )
    return ", ".join(f"{name} {_range(getattr(node, name))}" for name in names)


def _range(value: str | float | np.ndarray) -> str:
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    low, high = array.min(), array.max()
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"


class TimeConstant(NamedTuple):
    """One time constant of a node: its smallest and its largest value over the units."""

    node: str
    name: str
    smallest: float
    largest: float


def time_constants(flat: Flat) -> list[TimeConstant]:
    """Every time constant of the graph, node by node."""
    return [
        TimeConstant(name, field, float(np.min(getattr(node, field))), float(np.max(getattr(node, field))))
        for name, node in flat.nodes.items()
        for field in TIMES
        if hasattr(node, field)
    ]


def suggest_dt(graph: nir.NIRGraph | str | os.PathLike[str]) -> float | None:
    """A time step for a graph that records none: a tenth of its smallest time constant, or less.

    It is 1, 2 or 5 times a power of ten, and every `Delay` is a whole number of such steps. A graph without time
    constants gets the step with which an input of 1 adds 1 to its integrators, `1 / r`, where they share one r.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.

    Returns:
        The step in the unit of the graph's time constants; None where nothing tells one.

    Raises:
        ValueError: a graph that is not sound.

    Example:
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> suggest_dt(to_nir(nn.Sequential(nn.LIF(2, beta=0.9)), dt=1e-3))  # tau is 0.01
        0.001
    """
    return suggested(validated(as_graph(graph), "spyx.nir.suggest_dt").flat)


def suggested(flat: Flat) -> float | None:
    """As `suggest_dt`, for a graph that passed its checks."""
    found = time_constants(flat)
    delays = [float(d) for node in flat.of(nir.Delay).values() for d in np.ravel(node.delay) if d > 0]
    if found:
        most = min(one.smallest for one in found) / PART
    elif delays:
        most = min(delays)
    else:
        r = [np.ravel(node.r) for node in flat.nodes.values() if isinstance(node, (nir.I, nir.IF))]
        values = np.unique(np.concatenate(r)) if r else np.zeros(0)
        return float(1 / values[0]) if len(values) == 1 and values[0] > 0 else None
    most *= 1 + 1e-6  # files hold float32, where 0.01 is a little less
    for exponent in range(math.floor(math.log10(most)), math.floor(math.log10(most * FINEST)), -1):
        for digit in (5, 2, 1):
            step = float(f"{digit}e{exponent}")
            if 0 < step <= most and all(whole_steps(delay, step) is not None for delay in delays):
                return step
    return None
