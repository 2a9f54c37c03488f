"""The results page, its table and its pictures, made from nothing but the files that runs wrote."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rows import Row

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCS = HERE.parents[1] / "docs" / "results"
HEAD = """# Accuracy

<!-- Made by `python -m benchmarks.accuracy page` from benchmarks/accuracy/results; edit that, not this. -->

Each number is the mean over seeds and its standard deviation, at the epoch that the **validation part** chose, and
beside it at the last epoch; of equally accurate epochs, that of the lowest validation loss is taken.
No setting and no epoch was chosen by the test part, which is scored when a run is
finished. Settings were chosen on the validation parts of single runs with seed 0; those of `spoken_digits-csilif` and
`qtdb_ecg-csilif` follow such runs of other settings and were not tuned. Seeds draw other weights, orders and
augmentations; the split of a data set is one and the same. Settings and every seed's numbers are in
`benchmarks/accuracy`; `--runs` elsewhere and `--first 100` repeat a row with other seeds:

```sh
python -m benchmarks.accuracy list
python -m benchmarks.accuracy run nmnist-conv-lif --data FOLDER --first 100 --runs runs/mine
```
"""


def collect(row: Row, runs: Path, results: Path) -> int:
    """Copies what finished runs of a row wrote to one file; returns how many there are."""
    found = [json.loads(path.read_text()) for path in sorted(runs.glob(f"{row.name}/seed-*/result.json"))]
    if found:
        results.mkdir(parents=True, exist_ok=True)
        found.sort(key=lambda one: (one["seed"], one["fold"]))
        lines = ",\n".join(json.dumps(one) for one in found)
        (results / f"{row.name}.json").write_text(f"[\n{lines}\n]\n")
    return len(found)


def read(results: Path, name: str) -> list[dict[str, Any]]:
    """The runs of a row; none where it was not run."""
    path = results / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else []


def by_seed(runs: list[dict[str, Any]], what: str) -> list[float]:
    """A number for every seed: the mean over its folds. A seed that lacks folds that another has is left out."""
    folds = {run["fold"] for run in runs}
    seeds: dict[int, list[float]] = {}
    for run in runs:
        seeds.setdefault(run["seed"], []).append(run[what])
    return [statistics.fmean(values) for values in seeds.values() if len(values) == len(folds)]


def write(rows: dict[str, Row], results: Path, docs: Path) -> None:
    """The page and its picture."""
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "index.md").write_text(text(rows, results), encoding="utf-8")
    _draw(rows, results, docs / "accuracy.png")
    _draw_validation(rows, results, docs / "validation.png")


def text(rows: dict[str, Row], results: Path) -> str:
    """The page."""
    measured = {name: runs for name in rows if (runs := read(results, name))}
    parts = [HEAD, _summary(rows, measured), "![Every seed of every row, and the bars](accuracy.png)\n"]
    parts += [_costs(rows, measured), _ablations(rows, measured), _whole(measured), _absent(rows, measured)]
    parts += [_not_at_hand(rows, measured)]
    return "\n".join(part for part in parts if part)


def _summary(rows: dict[str, Row], measured: dict[str, Any]) -> str:
    head = ["data", "model", "seeds", "chosen by validation", "last epoch", "simple method", "published", "bar"]
    lines = [
        [
            row.data.title, row.model, _seeds(runs), _percent(by_seed(runs, "test_best")),
            _percent(by_seed(runs, "test_last")), row.data.simple, row.data.published, _bar(row, runs),
        ]
        for name, runs in measured.items() if (row := rows[name]).kind != "ablation"
    ]  # fmt: skip
    tests = {row.data.title: row.data.test for name, row in rows.items() if name in measured}
    listed = "\n".join(f"- {title}: {test}." for title, test in tests.items())
    return f"## Rows\n\n{_table(head, lines)}\n\nTest parts:\n\n{listed}\n"


def _costs(rows: dict[str, Row], measured: dict[str, Any]) -> str:
    head = ["row", "parameters", "spikes", "synaptic operations (ACs + MACs)", "epochs", "wall s", "CPU s"]
    lines = []
    for name, runs in measured.items():
        acs, macs = (
            statistics.fmean(run["operations"][f"Effective_{kind}"] for run in runs) for kind in ("ACs", "MACs")
        )
        whole = [run for run in runs if not run["resumed"]] or runs  # of a resumed run the last part alone is timed
        spikes = statistics.fmean(run["spikes"] for run in runs)
        wall, cpu = (statistics.fmean(run[key] for run in whole) for key in ("wall_s", "cpu_s"))
        lines.append([f"`{name}`", f"{runs[0]['parameters']:,}", f"{spikes:,.0f}", f"{acs:,.0f} + {macs:,.0f}",
                      str(runs[0]["epochs"]), f"{wall:.0f}", f"{cpu:.0f}"])  # fmt: skip
    return (
        "## Costs\n\nPer sample of the test part: spikes of hidden neurons, and synaptic operations as `spyx energy` "
        "counts them, on 64 samples. Per run: time, compilation and pictures included. The machine had two cores and "
        f"was shared with other work, so that wall time is an upper bound.\n\n{_table(head, lines)}\n"
    )


def _ablations(rows: dict[str, Row], measured: dict[str, Any]) -> str:
    chosen = [row for name, row in rows.items() if row.kind == "ablation" and name in measured and row.of in measured]
    if not chosen:
        return ""
    head = ["compared with", "what differs", "seeds", "chosen by validation", "there"]
    lines = [
        [f"`{row.of}`", row.note, _seeds(measured[row.name]), _percent(by_seed(measured[row.name], "test_best")),
         _percent(by_seed(measured[row.of], "test_best"))]
        for row in chosen
    ]  # fmt: skip
    return f"## Ablations\n\n{_table(head, lines)}\n"


def _whole(measured: dict[str, Any]) -> str:
    runs = [run for found in measured.values() for run in found]
    wall, cpu = (sum(run[key] for run in runs) / 3600 for key in ("wall_s", "cpu_s"))
    versions = "; ".join(sorted({", ".join(f"{k} {v}" for k, v in run["versions"].items()) for run in runs}))
    machines = "; ".join(sorted({run["machine"] for run in runs}))
    return (
        f"## The whole study\n\n{len(runs)} runs, {wall:.1f} hours of wall time and {cpu:.1f} hours of CPU time on "
        f"{machines}; {versions}. Probes to choose settings are not in it.\n"
    )


def _absent(rows: dict[str, Row], measured: dict[str, Any]) -> str:
    names = [f"`{name}`" for name, row in rows.items() if name not in measured and not row.data.needs]
    return "" if not names else f"## Not run yet\n\nSettings are there, results are not: {', '.join(names)}.\n"


def _not_at_hand(rows: dict[str, Row], measured: dict[str, Any]) -> str:
    """Rows that who has the data can run: what is needed and the command, and no number that looks like a result."""
    missing = [row for name, row in rows.items() if name not in measured and row.data.needs]
    if not missing:
        return ""
    head = ["data", "model", "run it with"]
    lines = [
        [row.data.title, row.model, f"`python -m benchmarks.accuracy run {row.name} --data FOLDER`"] for row in missing
    ]
    folders = {row.data.title: f"FOLDER holds {row.data.needs}. Test part: {row.data.test}" for row in missing}
    listed = "\n".join(f"- {title}: {folder}." for title, folder in folders.items())
    return (
        "## No results: data not at hand\n\n**None of these rows was trained: the data were not at hand.** Their "
        "settings, `benchmarks/accuracy/settings`, follow the papers that each file names and say where they differ. "
        "They were run on small files of the published layout, which shows that they work and nothing else.\n\n"
        f"{_table(head, lines)}\n\n{listed}\n"
    )


def _seeds(runs: list[dict[str, Any]]) -> str:
    return str(len(by_seed(runs, "test_best")))


def _bar(row: Row, runs: list[dict[str, Any]]) -> str:
    if row.data.bar is None:
        return "none"
    reached = statistics.fmean(by_seed(runs, "test_best")) >= row.data.bar
    few = "" if len(by_seed(runs, "test_best")) >= 5 else ", fewer than 5 seeds"
    return f"{100 * row.data.bar:.4g} %: {'reached' if reached else 'not reached'}{few}"


def _percent(values: list[float]) -> str:
    mean = f"{100 * statistics.fmean(values):.2f}"
    return mean + (f" \u00b1 {100 * statistics.stdev(values):.2f} %" if len(values) > 1 else " %")


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _draw(rows: dict[str, Row], results: Path, file: Path) -> None:
    from matplotlib.figure import Figure

    shown = [(row, runs) for name, row in rows.items() if row.kind != "ablation" and (runs := read(results, name))]
    figure = Figure(figsize=(8, 0.55 * len(shown) + 1.2), layout="constrained")
    axis = figure.subplots()
    labels = {"a seed", "bar"}
    for place, (row, runs) in enumerate(reversed(shown)):
        values = [100 * value for value in by_seed(runs, "test_best")]
        seed, bar = ({"label": word} if word in labels else {} for word in ("a seed", "bar"))
        axis.plot(values, [place] * len(values), "o", color="#1f6f8b", alpha=0.6, **seed)
        labels -= {"a seed"}
        if row.data.bar is not None:
            axis.plot([100 * row.data.bar] * 2, [place - 0.3, place + 0.3], color="#b3402a", linewidth=2, **bar)
            labels -= {"bar"}
    axis.set_yticks(range(len(shown)), [f"{row.data.title}: {row.model}" for row, _ in reversed(shown)], fontsize=8)
    axis.set_xlabel("test accuracy in %, at the epoch that validation chose")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="upper left", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _draw_validation(rows: dict[str, Row], results: Path, file: Path) -> None:
    """A panel for every row: validation accuracy over epochs, a line for every run, a dot where it was best."""
    from matplotlib.figure import Figure

    shown = [(name, runs) for name in rows if (runs := read(results, name))]
    wide = 3
    high = -(-len(shown) // wide)
    figure = Figure(figsize=(9, 2.1 * high), layout="constrained")
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for panel, (name, runs) in zip(panels, shown, strict=False):
        for run in runs:
            values = [100 * value for value in run["validation"]]
            (line,) = panel.plot(range(1, len(values) + 1), values, linewidth=1)
            panel.plot(run["best_epoch"], values[run["best_epoch"] - 1], "o", color=line.get_color(), markersize=3)
        low = min(min(run["validation"][len(run["validation"]) // 4 :]) for run in runs)
        panel.set_ylim(100 * low - 1, 100.5)
        panel.set_title(name, fontsize=9, loc="left")
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("validation accuracy in %", fontsize=9)
    figure.savefig(file, dpi=120)
