"""`python -m benchmarks`: ours and every installed peer, side by side.

python -m benchmarks setup                          # environments of the peers, once
python -m benchmarks                                # W1-W4, training and inference
python -m benchmarks --only ours,spyx1 --workloads W1,W3 --samples 7 --train
python -m benchmarks --only ours,spyx1 --ours mode=step --ours mode=auto,epoch=8
python -m benchmarks --only ours,spyx1 --workloads W1 --neuron cubalif
python -m benchmarks --workloads W5 --train         # scaling in time steps and in width
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from typing import Any

from benchmarks.environments import MISSING, OWN, PEERS, setup
from benchmarks.report import FLOORS, LEGEND, draw, table
from benchmarks.side_by_side import Contender, Result, as_json, machine, measure
from benchmarks.workloads import DEFAULT, NEURONS, WORKLOADS, named

KINDS = ("train", "infer")


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=("run", "setup"), default="run")
    parser.add_argument("--only", type=_names, metavar="A,B", help=f"among ours, {', '.join(PEERS)}")
    parser.add_argument("--workloads", type=_names, default=list(DEFAULT), metavar="W1,W5", help=", ".join(WORKLOADS))
    parser.add_argument("--samples", type=int, default=7, help="per library and workload; default 7")
    parser.add_argument("--train", action="store_true", help="training only")
    parser.add_argument("--infer", action="store_true", help="inference only")
    parser.add_argument("--neuron", choices=NEURONS, default="lif", help="in the place of LIF")
    parser.add_argument(
        "--ours", type=_options, action="append", default=[], metavar="K=V,K=V", help="one more of ours"
    )
    parser.add_argument("--peer", action="append", default=[], metavar="NAME:K=V", help="one more of a peer")
    parser.add_argument("--no-floors", action="store_true", help="leave the roofline out")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the JSON, table, picture")
    parser.add_argument("--note", default="", help="a remark for the table, such as: busy machine")
    arguments = parser.parse_args()
    chosen = arguments.only or ["ours", *PEERS, *MISSING]
    if unknown := set(chosen) - {*OWN, *PEERS, *MISSING}:
        parser.error(f"unknown libraries: {', '.join(sorted(unknown))}")
    if arguments.command == "setup":
        setup([peer for peer in chosen if peer in PEERS])
        return

    kinds = [kind for kind in KINDS if getattr(arguments, kind)] or list(KINDS)
    where = machine()
    workloads = named(arguments.workloads, arguments.neuron)
    results: list[Result] = []
    for part in measure(_contenders(chosen, arguments), workloads, kinds, arguments.samples, _say):
        results += part
        text = table(results, where, arguments.note)
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(as_json(results, where, arguments.note))
        (arguments.out / "results.md").write_text(f"{text}\n{LEGEND}\n")
        draw(results, arguments.out / "results.png", arguments.note)
    print(f"{text}\n{LEGEND}\n\nWritten to {arguments.out}.")


def _contenders(chosen: list[str], arguments: argparse.Namespace) -> list[Contender]:
    found = [Contender(name, name) for name in chosen]
    variants = [("ours", options) for options in arguments.ours]
    variants += [(name, _options(text)) for name, _, text in (peer.partition(":") for peer in arguments.peer)]
    for library, options in variants:
        label = ",".join(f"{key}={value}" for key, value in options.items())
        found.append(Contender(f"{library}[{label}]", library, options))
    if not arguments.no_floors:
        found += [Contender(name, "roofline", {"of": name.removeprefix("floor: ")}) for name in FLOORS]
    return found


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _options(text: str) -> dict[str, Any]:
    """`mode=step,chunk=64` -> {"mode": "step", "chunk": 64}."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {key: _value(value) for key, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
