"""The whole product: `python -m tests.differential`, from the repository.

It prints every case that fails, and the counts at the end. It takes about two hours on one core; `--shard` shares it
out. Groups come in a shuffled order that is always the same, so that a run cut short has seen some of everything.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from differential.cases import STARTS, groups, programs  # noqa: E402
from differential.check import failures, legal  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--shard", default="1/1", help="the K-th of N parts")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--share", type=float, default=1.0, help="of the programs of every group, drawn at random")
    arguments = parser.parse_args()
    draw = random.Random(0)
    part, parts = map(int, arguments.shard.split("/"))
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    begin, ran, failed, left = time.time(), 0, 0, 0
    illegal: set[str] = set()
    for number, group in enumerate(draw.sample(groups(), len(groups()))):
        if number % parts != part - 1:
            continue
        for program in programs(group):
            if arguments.only not in f"{'/'.join(program.group)}/{program.mode}/{program.transformation}":
                continue
            if draw.random() >= arguments.share:
                continue
            if time.time() - begin > 60 * arguments.minutes:
                left += len(STARTS)
                continue
            if not legal(program):
                illegal.add(f"{'/'.join(group)}/{program.mode}, {program.transformation}")
            else:
                wrong = failures(program)
                ran, failed = ran + len(STARTS), failed + len(wrong)
                for line in wrong:
                    print(line, flush=True)
        if time.time() - begin <= 60 * arguments.minutes:
            print(f"# {'/'.join(group)}: {ran} cases, {failed} failed, {time.time() - begin:.0f} s", flush=True)
        jax.clear_caches()
    print(f"{ran} cases ran, {failed} failed; {left} left for want of time; programs of no legal mode: {len(illegal)}")
    for line in sorted(illegal):
        print(f"  not legal: {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
