"""Which tests are slow: `python tests/slow.py report.xml` writes slow.txt, from `pytest --junitxml=report.xml`.

`pytest -m "not slow"` leaves out every test function one of whose cases took longer than `SECONDS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

SECONDS = 0.15
LIST = Path(__file__).with_name("slow.txt")


def function_of(module: str, name: str) -> str:
    """`tests/nn/test_run.py::test_one` of `tests.nn.test_run` and `test_one[3]`."""
    return f"{module.replace('.', '/')}.py::{name.partition('[')[0]}"


def main(report: str) -> None:
    """Write the list."""
    cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 - pytest wrote it
    slow = {function_of(c.get("classname", ""), c.get("name", "")) for c in cases if float(c.get("time", 0)) > SECONDS}
    LIST.write_text("\n".join(sorted(slow)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
