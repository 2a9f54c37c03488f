"""What `spyx nir check` finds and prints, and the questions that `spyx nir run` and `quantise` ask of a graph."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

import numpy as np
from rich.console import Console
from rich.table import Table

import spyx.nir as bridge
from spyx.cli.errors import UserError, refuse_nan
from spyx.cli.nir_words import in_options, refuse, warn, worded
from spyx.cli.text import lines, safe
from spyx.graph import Graph
from spyx.nir._check import PART, TimeConstant, suggested, table, time_constants
from spyx.nir._discrete import Meaning, read_meaning
from spyx.nir._libraries import EXECUTORS, installed
from spyx.nir._load import built
from spyx.nir._spyx1 import as_meant
from spyx.nir._validate import Validated, validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Num

    import nir
    from spyx.data._json import Object


class Chosen(TypedDict, total=False):
    """What a file may leave open, as the options name it; None is what the file says."""

    integration: str | None
    reset: str | None
    spike: str | None


@dataclass(frozen=True)
class Examined:
    """All that `spyx nir check` prints. Without a time step nothing was run: `meaning` and `compared` are None."""

    file: Path
    steps: int
    table: list[tuple[str, str, str, str]]
    times: list[TimeConstant]
    model: Graph
    suggested: float | None
    meaning: Meaning | None
    compared: int | None
    difference: bridge.Difference | None
    agreements: list[bridge.Agreement]
    target: str | None
    limits: list[str]
    unchecked: list[str]

    def as_json(self) -> Object:
        """The same for a program."""
        parting = self.difference
        how = self.meaning
        return {
            "file": str(self.file),
            "dt": how and how.dt,
            "suggested_dt": self.suggested,
            "integration": how and how.integration,
            "reset": how and how.reset,
            "spike": how and how.spike,
            "nodes": [dict(zip(("name", "type", "shape", "parameters"), row, strict=True)) for row in self.table],
            "time_constants": [one._asdict() for one in self.times],
            "steps": self.steps if how else 0,
            "compared": self.compared or 0,
            "difference": parting and vars(parting),
            "libraries": [vars(one) for one in self.agreements],
            "target": self.target,
            "target_limits": self.limits,
            "not_checked": self.unchecked,
        }


def examine(file: Path, dt: float | None, *, steps: int, target: str | None, **chosen: Unpack[Chosen]) -> Examined:
    """Validate a graph, and run it where a time step is known."""
    graph = worded(file, lambda: bridge.read(file))
    limits = worded(file, lambda: bridge.report(graph, target)) if target else []
    unchecked = []
    if target and bridge.TARGETS[target].shifts and "dt" not in graph.metadata:
        unchecked.append(f"whether decays are bit shifts of {target}: the file records no time step")
    if target:
        unchecked.append(f"whether {target} has room for so many units and connections")
    known = dt is not None or "dt" in graph.metadata
    plain, checked = worded(file, lambda: _validated(graph, dt, quiet=known))
    step = suggested(checked.flat)
    if not known:
        # Only a delay could tell the difference, and the suggested step suits it.
        meaning = worded(file, lambda: read_meaning(plain.metadata, step or 1.0, **chosen))
        model = worded(file, lambda: built(checked, meaning, chosen))
        unchecked += [
            "what the graph does: without a time step nothing was run",
            "agreement of spyx with the reference, and of " + ", ".join(EXECUTORS),
        ]
        rows, compared, parting, agreements, how = table(checked, meaning.dt), None, None, [], None
    else:
        found = worded(file, lambda: bridge.check(graph, dt, steps=steps, **chosen))
        rows, model, how = found.table, found.model, found.meaning
        compared, parting, agreements = found.compared, found.difference, found.agreements
        unchecked.append(f"other inputs than {steps} steps of random spikes, one sample")
        missing = [name for name in EXECUTORS if name not in installed()]
        if missing:
            unchecked.append(f"agreement with {', '.join(missing)}: not installed")
        if how.integration == "euler" and dt is not None and plain is graph:
            coarse = _coarse(checked, dt, graph.metadata)
            if coarse:
                warn(f"{file}: {coarse}")
    names = [name for name, *_ in rows]
    times = sorted(time_constants(checked.flat), key=lambda one: names.index(one.node))
    return Examined(
        file, steps, rows, times, model, step, how, compared, parting, agreements, target, limits, unchecked
    )


def _validated(graph: nir.NIRGraph, dt: float | None, quiet: bool = True) -> tuple[nir.NIRGraph, Validated]:
    """The graph as its author meant it, and checked; quiet where another reading of it gives the warnings.

    A graph that Spyx 1.0 wrote is another one then: its time constants were made of the step, which suits them.
    """
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", UserWarning)
        plain = as_meant(graph, dt)
    return plain, validated(plain, "spyx.nir.check")


def show(found: Examined, console: Console, drawn: Path | None) -> None:
    """Print it for a person."""
    nodes = Table("node", "type", "shape", "parameters")
    for row in found.table:
        nodes.add_row(*map(safe, row))
    console.print(nodes)
    console.print(lines(str(found.model)), markup=False, highlight=False)
    if drawn is not None:
        console.print(f"drawn to {safe(drawn)}")
    how = found.meaning
    if found.times:
        console.print(_times(found.times, how))
    if how is not None:
        console.print(f"dt {how.dt:g}, {how.integration}, reset {how.reset}, spike {how.spike}")
    for line in found.limits:
        console.print(f"[yellow]{safe(found.target)}[/]: {safe(in_options(line, found.file))}")
    if found.agreements:
        others = Table("library", "verdict", "what it gave")
        for one in found.agreements:
            others.add_row(one.executor, one.verdict, safe(one.detail))
        console.print(others)
        if how and (how.reset, how.spike) != ("nir", "post") and any(o.verdict == "differs" for o in found.agreements):
            console.print("Most libraries know only NIR's own reset and spikes: compare with --reset nir --spike post.")
    parting = found.difference
    if parting is not None:
        console.print(
            f"[bold red]spyx and the reference part[/] at step {parting.step}, node {safe(repr(parting.node))}: "
            f"{parting.expected:.6g} expected, {parting.got:.6g} got"
        )
    elif how is not None:
        console.print(f"[bold green]spyx agrees with the reference[/] at {found.compared} nodes, {found.steps} steps")
    else:
        console.print(f"[bold yellow]no time step[/]: the file records none. {_advice(found)}")
    for line in found.unchecked:
        console.print(f"[dim]not checked:[/] {safe(line)}", highlight=False)


def _times(times: list[TimeConstant], how: Meaning | None) -> Table:
    shown = Table("node", "time constant", "smallest", "largest", *(["smallest, in steps"] if how else []))
    for one in times:
        steps = [f"{one.smallest / how.dt:.4g}"] if how else []
        shown.add_row(safe(one.node), one.name, f"{one.smallest:.4g}", f"{one.largest:.4g}", *steps)
    return shown


def _advice(found: Examined) -> str:
    if found.suggested is None:
        return "Nothing in the graph tells one: give --dt X."
    if not found.times:
        return f"Nothing decays; --dt {found.suggested:g} suits its integrators and delays."
    return (
        f"Give the one that the network was trained with; if nobody knows it, --dt {found.suggested:g} is at most "
        f"1/{PART} of the smallest time constant."
    )


def check_step(file: Path, graph: nir.NIRGraph, dt: float | None, integration: str | None, force: bool) -> float:
    """The time step of `spyx nir run`; a step of Euler's that its time constants do not stand is refused."""
    if dt is None and "dt" not in graph.metadata:
        step = bridge.suggest_dt(graph)
        hint = "Give --dt X." if step is None else f"For example --dt {step:g}."
        raise UserError(f"--dt: expected a time step, because {file} records none. {hint}")
    how = read_meaning(graph.metadata, dt, integration=integration)
    if dt is not None and how.integration == "euler":
        plain, checked = _validated(graph, dt)
        coarse = _coarse(checked, dt, graph.metadata) if plain is graph else ""
        if coarse and dt >= min(one.smallest for one in time_constants(checked.flat)):
            refuse(coarse, force)
        elif coarse:
            warn(coarse)
    return how.dt


def _coarse(checked: Validated, dt: float, metadata: Mapping[str, object]) -> str:
    """Why Euler's steps are too coarse; empty where they are not, or where the file was written with that step."""
    times = time_constants(checked.flat)
    if not times or ("dt" in metadata and dt == read_meaning(metadata, None).dt):
        return ""
    least = min(times, key=lambda one: one.smallest)
    if dt <= least.smallest / PART * (1 + 1e-6):
        return ""
    return (
        f"--dt: expected at most 1/{PART} of the smallest time constant, for exact Euler steps; got {dt:g}, and "
        f"{least.name} of node {least.node!r} is {least.smallest:g}. Take a smaller step, or the one that the network "
        "was trained with."
    )


class Place(NamedTuple):
    """The first place, in time, where two outputs differ, and how many values differ in all."""

    step: int
    sample: int
    unit: tuple[int, ...]
    expected: float
    got: float
    values: int


def first_place(
    expected: Num[np.ndarray, "samples time ..."], got: Num[np.ndarray, "samples time ..."]
) -> Place | None:
    """Where an output is not the expected one, by more than rounding: 1e-4 of the largest value expected.

    Raises:
        UserError: another shape, or NaN in what is expected.
    """
    if expected.shape != got.shape:
        raise UserError(f"--expect: expected the shape of the output, {got.shape}; got {expected.shape}.")
    refuse_nan("--expect", expected)
    expected = expected.astype(np.float64)
    wrong = ~np.isclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(initial=0))
    if not wrong.any():
        return None
    step, sample, *unit = (int(n) for n in np.argwhere(np.moveaxis(wrong, 1, 0))[0])
    place = (sample, step, *unit)
    return Place(step, sample, tuple(unit), float(expected[place]), float(got[place]), int(wrong.sum()))


def changes(before: nir.NIRGraph, after: nir.NIRGraph, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Node, array, largest value and largest change of everything that quantising changed."""
    import nir

    rows = []
    for name, node in before.nodes.items():
        other = after.nodes[name]
        if isinstance(node, nir.NIRGraph) and isinstance(other, nir.NIRGraph):
            rows += changes(node, other, f"{prefix}{name}.")
            continue
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
                change = float(np.abs(np.asarray(getattr(other, field), np.float64) - value).max())
                if change:
                    rows.append((f"{prefix}{name}", field, f"{np.abs(value).max():.4g}", f"{change:.2g}"))
    return rows
