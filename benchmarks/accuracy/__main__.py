"""`python -m benchmarks.accuracy`: run rows of the study, and make its page from what they wrote.

python -m benchmarks.accuracy list
python -m benchmarks.accuracy run nmnist-conv-lif --data FOLDER           # what is finished is not run again
python -m benchmarks.accuracy run nmnist-conv-lif --data FOLDER --seeds 2 --first 100 --runs runs/mine
python -m benchmarks.accuracy run shd-adlif --data FOLDER                 # data that were not at hand, by name alone
python -m benchmarks.accuracy page                              # docs/results from benchmarks/accuracy/results
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.accuracy import page, rows, study


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("list", "run", "collect", "page"))
    parser.add_argument("rows", nargs="*", metavar="ROW", help="by default all whose data are at hand")
    parser.add_argument("--data", type=Path, help="folder with the files of the data sets, named as in rows.toml")
    parser.add_argument("--cache", type=Path, help="where frames of recordings are stored; default ~/.cache/spyx")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="default runs/accuracy")
    parser.add_argument("--seeds", type=int, help="how many; by default what the row says")
    parser.add_argument("--first", type=int, default=0, help="the first seed; default 0")
    parser.add_argument("--results", type=Path, default=page.RESULTS, help="folder that collect and page use")
    parser.add_argument("--docs", type=Path, default=page.DOCS, help="folder that page writes")
    arguments = parser.parse_args()
    known = rows.read()
    if unknown := set(arguments.rows) - set(known):
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}. The rows are: {', '.join(known)}")
    chosen = [known[name] for name in arguments.rows or known]
    if arguments.command == "list":
        for row in chosen:
            runs = f"{len(row.runs())} runs" + (f"; not at hand: {row.data.needs}" if row.data.needs else "")
            print(f"{row.name:32} {row.data.title}: {row.model}; {runs}")
    elif arguments.command == "run":
        _run(parser, [row for row in chosen if arguments.rows or not row.data.needs], arguments)
    elif arguments.command == "collect":
        for row in chosen:
            page.collect(row, arguments.runs, arguments.results)
    else:
        page.write(known, arguments.results, arguments.docs)


def _run(parser: argparse.ArgumentParser, chosen: list[rows.Row], arguments: argparse.Namespace) -> None:
    needed = [row.name for row in chosen if row.data.file]
    if needed and arguments.data is None:
        parser.error(f"{', '.join(needed)}: read from files; name their folder with --data")
    data = None if arguments.data is None else arguments.data.resolve()
    for row in chosen:
        for seed, fold in row.runs(arguments.seeds, arguments.first):
            found = study.run(row, seed, fold, runs=arguments.runs.resolve(), data=data, cache=arguments.cache)
            print(
                f"{row.name} seed {seed} {fold}: test {found['test_best']:.4f} at the epoch that validation chose "
                f"({found['best_epoch']} of {found['epochs']}), {found['test_last']:.4f} at the last",
                flush=True,
            )


if __name__ == "__main__":
    main()
