"""The table and the picture of a run."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.side_by_side import Result

FLOORS = ("floor: products", "floor: bytes")
COLUMNS = ("ms", "fastest", "CPU ms", "x ours", "x Spyx 1.0", "first call s", "peak MiB", "step MiB", "loss")


def table(results: list[Result], where: dict[str, Any], note: str) -> str:
    """Markdown: one table per workload and kind, fastest first; a ratio above 1 is slower than the reference."""
    parts = [
        f"{where['cpu']}, {where['cores']} cores, load {where['load_average']:.1f}, {where['date']}. {note}".strip()
    ]
    for (workload, kind), group in _grouped(results).items():
        rows = [["library", *COLUMNS], ["---", *["---:"] * len(COLUMNS)]]
        references = [_median_s(group, "ours"), _median_s(group, "spyx1")]
        measured = [result for result in group if result.samples_s]
        for result in sorted(measured, key=lambda result: median(result.samples_s)):
            seconds = median(result.samples_s)
            ratios = [None if reference is None else seconds / reference for reference in references]
            numbers = [1e3 * seconds, 1e3 * min(result.samples_s), 1e3 * median(result.cpu_s), *ratios]
            floor = result.name in FLOORS
            # The allocator under XLA may keep what a step needs, and the step then seems to need nothing.
            step_mib = result.step_mib if result.compiled_mib is None else result.compiled_mib
            numbers += [None] * 4 if floor else [result.first_s, result.peak_mib, step_mib, result.loss]
            rows.append([result.name, *map(_number, numbers)])
        lines = [f"| {' | '.join(row)} |" for row in rows]
        absent = [f"- {result.name}: {result.missing}" for result in group if not result.samples_s]
        parts.append("\n".join([f"### {workload}, {kind}", "", *lines, *([""] if absent else []), *absent]))
    versions = {name: version for result in results for name, version in result.versions.items()}
    parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".")
    return "\n\n".join(parts) + "\n"


LEGEND = """ms: median of the samples; fastest: the best of them; CPU: of all cores, which a busy machine changes less
(threads that wait spinning count too). A ratio above 1 is slower than the reference.
First call: trace, compile and run. Peak: high-water mark of the process, libraries and compiler included; step:
scratch memory of one step, XLA's own figure where there is one, else measured. The floors are the same matrix
products, or the least bytes, and nothing else."""


def draw(results: list[Result], file: Path, note: str) -> None:
    """Bars per workload, train above infer, on an axis from zero; lines for the floors."""
    from matplotlib.figure import Figure

    groups = _grouped(results)
    kinds = list(dict.fromkeys(kind for _, kind in groups))
    workloads = list(dict.fromkeys(workload for workload, _ in groups))
    tallest = max(len({result.name for result in group} - {*FLOORS}) for group in groups.values())
    width = max(6.0, 4.2 * len(workloads))
    figure = Figure(figsize=(width, (0.36 * tallest + 1.4) * len(kinds)), layout="constrained")
    axes = figure.subplots(len(kinds), len(workloads), squeeze=False)
    for (workload, kind), group in groups.items():
        _bars(axes[kinds.index(kind)][workloads.index(workload)], group, f"{workload}, {kind}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    title = f"Milliseconds per step, median; shorter is better.\n{note}".strip()
    figure.suptitle(textwrap.fill(title, int(13 * width), replace_whitespace=False), fontsize=11)
    figure.savefig(file, dpi=120)


def _bars(axis: Any, group: list[Result], title: str) -> None:
    bars = sorted(
        (result for result in group if result.samples_s and result.name not in FLOORS),
        key=lambda result: -median(result.samples_s),
    )
    times = [1e3 * median(result.samples_s) for result in bars]
    colours = ["#1f6f8b" if result.name.startswith("ours") else "#c4c9cc" for result in bars]
    drawn = axis.barh([result.name for result in bars], times, color=colours, height=0.7)
    box = dict(facecolor="white", edgecolor="none", pad=0.6, alpha=0.85)
    axis.bar_label(drawn, [_number(value) for value in times], padding=4, fontsize=8, bbox=box, zorder=3)
    for name, style in zip(FLOORS, ("--", ":"), strict=True):
        if (seconds := _median_s(group, name)) is not None:
            axis.axvline(1e3 * seconds, color="#b3402a", linestyle=style, linewidth=1.4, label=name)
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlim(0, 1.18 * max(times, default=1.0))
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _grouped(results: list[Result]) -> dict[tuple[str, str], list[Result]]:
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.workload, result.kind), []).append(result)
    return groups


def _median_s(group: list[Result], name: str) -> float | None:
    return next((median(result.samples_s) for result in group if result.name == name and result.samples_s), None)


def _number(value: float | None) -> str:
    """Three digits, or all of an integer part."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
