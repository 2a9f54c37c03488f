"""`check`: is a graph sound, what does it say, and do two independent executions of it agree?"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

import nir
from spyx import nn
from spyx.graph import Graph
from spyx.nir.executors import Agreement, agreements
from spyx.nir.load import as_graph, axes_of, built, meaning_at, spiking_late, steps_of
from spyx.nir.meaning import Meaning, read_meaning
from spyx.nir.neurons import NIRNeuron
from spyx.nir.reference import order_of_execution, simulate
from spyx.nir.sizes import PER_UNIT
from spyx.nir.spyx1 import mended
from spyx.nir.validate import Validated, validated

MOST_VALUES = 2**30


@dataclass(frozen=True)
class Difference:
    """Where two executions part: the first step, and the first node in the order of the graph.

    Args:
        node: name.
        step: time step.
        expected: what the reference answered there.
        got: what spyx answered there.

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
        agreements: what other executors say.
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
    graph: Any, dt: float | None = None, *, steps: int = 100, seed: int = 0, others: bool = True, **chosen: Any
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
        raise ValueError(f"spyx.nir.check(steps=): expected at least 1; got {steps}. Leave it away for 100.")
    graph = mended(as_graph(graph), dt, "auto")
    checked = validated(graph, "spyx.nir.check")
    meaning = read_meaning(graph.metadata, dt, **chosen)
    sure = {name for name, value in chosen.items() if value is not None}
    model = built(checked, meaning, sure)
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
    expected = simulate(graph, inputs, dt, **chosen)
    got = run_all(model, checked, inputs, meaning, sure)
    local = {name: meaning_at(node, meaning, sure) for name, node in checked.flat.nodes.items()}
    found = agreements(graph, inputs, expected, meaning, local) if others else []
    return Check(meaning, table(checked, meaning.dt), first_difference(expected, got), len(got), found, model)


def run_all(
    model: Graph, checked: Validated, inputs: dict[str, np.ndarray], meaning: Meaning, sure: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """What every node of the model answers, as it arrives at the next, in NIR's layout, (time, *shape)."""
    flat = checked.flat
    axes = axes_of(checked)
    local = {name: meaning_at(node, meaning, sure) for name, node in flat.nodes.items()}
    late = {name for name in spiking_late(flat, local) if isinstance(model.nodes.get(name), NIRNeuron)}
    taps = {f"answer of {name}": name for name in model.nodes if name in flat.nodes}
    shapes = {name: axes.given[name].spyx_shape(checked.given[name]) for name in inputs}
    probe = Graph(
        dict(model.nodes),
        [*model.edges, *((name, tap, int(name in late)) for tap, name in taps.items())],
        merge="sum",
        inputs=model.inputs,
        outputs=(*model.outputs, *taps),
        input_shape=shapes if len(shapes) > 1 else next(iter(shapes.values())),
    )
    xs = {n: np.stack([axes.given[n].to_spyx(step) for step in x])[None] for n, x in inputs.items()}
    outs, _ = nn.run(probe, xs if len(xs) > 1 else next(iter(xs.values())))
    answers: dict[str, np.ndarray] = {}
    for key, value in outs.items() if isinstance(outs, dict) else [(probe.outputs[0], outs)]:
        name = str(taps.get(key, key))
        answers[name] = np.stack([axes.given[name].to_nir(step) for step in np.asarray(value[0])])
    return answers


def first_difference(expected: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> Difference | None:
    """The earliest step, and there the earliest node, at which answers differ by more than rounding."""
    found: list[tuple[int, int, Difference]] = []
    for place, name in enumerate(name for name in expected if name in got):
        a, b = expected[name], got[name]
        scale = 1 + np.abs(a).max(initial=0)
        wrong = ~np.isclose(a, b, rtol=1e-4, atol=1e-4 * scale)
        if wrong.any():
            where = tuple(np.argwhere(wrong)[0])
            found.append((int(where[0]), place, Difference(name, int(where[0]), float(a[where]), float(b[where]))))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


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


def _parameters(node: Any) -> str:
    names = PER_UNIT.get(type(node)) or tuple(
        n for n in ("weight", "bias", "stride", "padding", "dilation", "groups", "kernel_size") if hasattr(node, n)
    )
    return ", ".join(f"{name} {_range(getattr(node, name))}" for name in names)


def _range(value: Any) -> str:
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    low, high = array.min(), array.max()
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
