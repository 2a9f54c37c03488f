"""How spyx is installed: the lines that are printed, the address in one place, and the stacks that CI covers."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
INSTALL = REPOSITORY / "docs" / "how-to" / "install.md"


def test_the_address_of_the_repository_is_in_one_place():
    address = PROJECT["urls"]["Repository"]
    texts = [*PAGES, *(REPOSITORY / "src").rglob("*.py"), REPOSITORY / "mkdocs.yml"]
    assert not [path for path in texts if address in path.read_text(encoding="utf-8")]
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if "git+" in line]
    assert lines
    assert all("git+<repository address>" in line for line in lines)


def test_the_site_shows_the_address():
    path = REPOSITORY / "docs" / "_extensions" / "address.py"
    spec = importlib.util.spec_from_file_location("address", path)
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    shown = hook.on_page_markdown(INSTALL.read_text(encoding="utf-8"), page=None)
    assert f"git+{PROJECT['urls']['Repository']}" in shown
    assert "docs/_extensions/address.py" in (REPOSITORY / "mkdocs.yml").read_text()


def test_every_extra_that_is_printed_exists_and_is_on_the_page():
    known = set(PROJECT["optional-dependencies"])
    sources = [*PAGES, *(REPOSITORY / "src").rglob("*.py")]
    printed = {
        extra
        for path in sources
        for extras in re.findall(r"spyx-jax\\{0,2}\[([\w,]+)\\{0,2}\]", path.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"cli", "nir", "cpu"} <= printed <= known
    page = INSTALL.read_text(encoding="utf-8")
    assert not [extra for extra in known if f"`{extra}`" not in page]


def test_ci_covers_every_python_and_every_jax():
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    rows = jobs["suite"]["strategy"]["matrix"]["include"]
    pythons = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", name)}
    assert {row["python"] for row in rows} == pythons
    (jax,) = [line for line in PROJECT["dependencies"] if line.startswith("jax>=")]
    low, high = (int(n) for n in re.fullmatch(r"jax>=0\.(\d+),<0\.(\d+)", jax).groups())
    assert {int(row["jax"].split(".")[1]) for row in rows} == set(range(low, high))
    whole = {(row["python"], row["jax"]) for row in rows if not row["select"]}
    assert whole == {(min(pythons), f"0.{low}.2"), (max(pythons), f"0.{high - 1}.*")}
    commands = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    assert ".ci/packages" in commands
    assert (REPOSITORY / ".ci" / "packages").stat().st_mode & 0o111


def test_the_command_line_needs_what_its_extra_installs():
    """Typer brings no click of its own any more: what `spyx.cli` imports is what the extra names, or the core."""
    extra = {re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"]["cli"]}
    imported = {
        name
        for path in (REPOSITORY / "src" / "spyx" / "cli").glob("*.py")
        for name in re.findall(r"^(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert "click" not in imported
    assert {"typer", "rich"} <= imported & extra
