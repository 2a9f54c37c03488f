"""The README keeps its word: its example runs, and its commands are the ones that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_is_short():
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(example.splitlines()) <= 15
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(example, "README.md", "exec"), namespace)
    assert float(namespace["score"]) > 0.9


def test_both_commands_fit_on_a_line_and_use_what_exists():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in commands:
        assert (REPOSITORY / "constraints.txt").is_file()
        assert "-c constraints.txt" in command
        assert re.findall(r"\[(\w+)\]", command)[0] in extras
    assert commands[0].endswith("spyx train")
    assert "pytest" in commands[1]


def test_links_lead_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert targets
    assert not [target for target in targets if not (REPOSITORY / target).exists()]
