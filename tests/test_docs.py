"""The documentation is true: it builds, it names every public name, and every example in it runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spyx

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
MODULES = sorted(module.name for module in pkgutil.walk_packages(spyx.__path__, "spyx."))


def public_modules() -> Iterator[types.ModuleType]:
    """What a user imports: `spyx.nn`, `spyx.data.sets`, ...; a package's contents page speaks for its files."""
    for name in MODULES:
        module = importlib.import_module(name)
        parent = sys.modules[name.rpartition(".")[0]]
        spoken_for = set(getattr(parent, "__all__", ())) if parent is not spyx else set()
        own = set(getattr(module, "__all__", ()))
        inside = name.startswith("spyx.engine.")  # the engine's parts serve its contents page alone
        if own and not inside and not own <= spoken_for:
            yield module


def public_names() -> Iterator[tuple[str, Any]]:
    for module in public_modules():
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def public_callables() -> Iterator[tuple[str, Any]]:
    """Public functions and classes of our own, each once, under the name it is imported by."""
    seen = set()
    for name, value in public_names():
        ours = getattr(value, "__module__", "").startswith("spyx") and not isinstance(value, types.GenericAlias)
        if ours and (inspect.isfunction(value) or inspect.isclass(value)) and id(value) not in seen:
            seen.add(id(value))
            yield name, value


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every name that the built site documents; a warning fails the build."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ", 1)[0] for line in zlib.decompress(packed).decode().splitlines()}


def test_every_public_name_is_in_the_reference(inventory: set[str]):
    missing = [name for name, _ in public_names() if name not in inventory]
    assert not missing, "add the module to docs/reference and to mkdocs.yml, or the name's docstring"


def test_every_public_callable_is_documented_with_an_example():
    def complete(value: Any) -> bool:
        record = inspect.isclass(value) and issubclass(value, tuple)  # a NamedTuple shows itself
        return bool(value.__doc__) and (record or ">>> " in value.__doc__)

    assert not [name for name, value in public_callables() if not complete(value)]


def test_every_documented_argument_exists():
    wrong = []
    for name, value in public_callables():
        arguments = re.search(r"^Args:\n((?: {4}.*\n|\n)+)", f"{inspect.getdoc(value)}\n", re.MULTILINE)
        if arguments:
            parameters = set(inspect.signature(value).parameters)
            if inspect.isclass(value):  # where a metaclass hides the signature
                parameters |= set(inspect.signature(value.__init__).parameters)
            documented = re.findall(r"^ {4}\*{0,2}(\w+(?:, \*{0,2}\w+)*)(?: \(.*?\))?:", arguments[1], re.MULTILINE)
            said = {word.strip(" *") for entry in documented for word in entry.split(",")}
            wrong += [f"{name}: {word}" for word in said - parameters]
    assert not wrong


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = {test.name: test for test in finder.find(module)}
    for public in getattr(module, "__all__", ()):
        # The finder only sees plain functions and classes: not what a decorator made of them.
        value = getattr(module, public)
        if getattr(value, "__module__", None) == name:
            for test in finder.find(value, f"{name}.{public}", module=False, globs=dict(vars(module))):
                examples.setdefault(test.name, test)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in examples.values():
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("page", sorted({*PAGES} - {*TUTORIALS}), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All ```python blocks of a page, one after the other; fragments and other libraries' code are tagged `py`."""
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "page"}
    monkeypatch.chdir(tmp_path)
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_a_notebook(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The notebook beside the page is made from it, and a kernel of its own executes all of its cells."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.syspath_prepend(DOCS)
    made = importlib.import_module("notebooks").notebook_of(page)
    assert nbformat.read(page.with_suffix(".ipynb"), as_version=4) == made, "run python docs/notebooks.py"
    for folder in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    nbclient.NotebookClient(
        made, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()


def test_every_area_lists_its_public_names():
    areas = [name for name in MODULES if name.count(".") == 1 and name.split(".")[1] in spyx.__all__]
    assert not [name for name in areas if not getattr(importlib.import_module(name), "__all__", ())]


def test_every_mode_is_explained():
    page = (DOCS / "explanation" / "choosing-a-mode.md").read_text(encoding="utf-8")
    assert not [mode for mode in spyx.nn.MODES if f'| `"{mode}"` |' not in page]


def test_every_listed_difference_has_a_test_of_its_name():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    ids = sorted(set(re.findall(r"^\| ([A-Z]\d+|NIR) \|", pages, re.MULTILINE)))
    assert len(ids) > 10
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py")]
    tests = "\n".join(re.findall(r"def (test_\w+)", "\n".join(sources)))
    untested = [name for name in ids if not re.search(rf"_{name}(?:_|$)", tests, re.MULTILINE | re.IGNORECASE)]
    assert not untested
