"""The import arrows and the house rules, read off the source: nothing here imports spyx."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "spyx"
FILES = sorted(SOURCE.rglob("*.py"))

# area -> the areas it may import; the package root and the area itself are always allowed
BELOW_NN = {"engine", "axn", "fn"}
BELOW_TOOLS = BELOW_NN | {"nn", "graph", "data"}
TOOLS = {"nir", "optimize", "report", "testing"}
MAY_IMPORT = {
    "engine": set(),
    "axn": {"engine"},
    "fn": {"engine"},
    "data": {"engine"},
    "nn": BELOW_NN,
    "graph": BELOW_NN | {"nn"},
    **dict.fromkeys(TOOLS, BELOW_TOOLS),
    "experimental": BELOW_TOOLS | TOOLS,
    "saving": BELOW_TOOLS | TOOLS | {"experimental"},
    "zoo": {"data", "saving"},
    "cli": BELOW_TOOLS | TOOLS | {"experimental", "saving", "zoo"},
    "__init__": BELOW_TOOLS | TOOLS | {"experimental", "saving", "zoo"},
    "__main__": {"cli"},
}
CORE_DEPENDENCIES = {"jax", "flax", "optax", "numpy", "spyx"}
# What an area may import at module level beyond, or short of, the core dependencies.
OWN_DEPENDENCIES = {
    "engine": {"jax", "numpy", "spyx"},
    "data": {"jax", "numpy", "spyx"},
    "cli": CORE_DEPENDENCIES | {"typer", "rich"},
    "nir": CORE_DEPENDENCIES | {"nir"},
}
# jaxtyping loads with these alone; other files import them under TYPE_CHECKING
TYPES = {SOURCE / "engine" / "types.py", SOURCE / "optimize" / "types.py"}
MAX_LINES = 500


def area(path: Path) -> str:
    """`src/spyx/nn/_run.py` belongs to `nn`, `src/spyx/axn.py` to `axn`, `src/spyx/__init__.py` to `__init__`."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def absolute_imports(path: Path, node: ast.AST) -> Iterator[str]:
    """Dotted names that one import statement may load, relative ones resolved."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = ["spyx", *path.relative_to(SOURCE).parent.parts]
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join(base + ([node.module] if node.module else []))
        yield from (f"{module}.{alias.name}" for alias in node.names)


def all_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        yield from absolute_imports(path, node)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def module_level_imports(path: Path) -> Iterator[str]:
    """Imports that run when the module is imported: not those in functions or under TYPE_CHECKING."""
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        yield from absolute_imports(path, node)
        if is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        waiting.extend(ast.iter_child_nodes(node))


def each_file() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())


def test_there_is_something_to_check():
    assert len(FILES) > 10


@each_file()
def test_every_area_has_its_place(path: Path):
    assert area(path) in {*MAY_IMPORT, "__init__"}


@each_file()
def test_what_is_not_public_says_so(path: Path):
    """A package's page of contents is public, and what is below a private package needs no mark of its own."""
    here, *folders, _ = (*path.relative_to(SOURCE).parts, "")
    inside = [name.removesuffix(".py") for name in folders if name != "__init__.py"]
    internal = here in {"__init__.py", "__main__.py", "engine", "saving", "cli"}
    public = not inside or inside in (["types"], ["sets"]) or (here, inside[0]) == ("data", "sets")
    assert internal or public or inside[0].startswith("_"), f"{path.name} is no public module: call it _{path.name}"


@each_file()
def test_imports_follow_the_arrows(path: Path):
    here = area(path)
    used = {name.split(".")[1] for name in all_imports(path) if name.startswith("spyx.")}
    breaches = (used & MAY_IMPORT.keys()) - {here} - MAY_IMPORT.get(here, set())
    assert not breaches, f"{here} must not import {sorted(breaches)}"


@each_file()
def test_only_core_dependencies_load_with_a_module(path: Path):
    allowed = OWN_DEPENDENCIES.get(area(path), CORE_DEPENDENCIES) | sys.stdlib_module_names
    allowed |= {"jaxtyping"} if path in TYPES else set()
    names = set(module_level_imports(path))
    loaded = {name.split(".")[0] for name in names}
    assert not loaded - allowed, "import it inside the function that needs it"
    of_types = tuple(f"spyx.{area(types)}.types" for types in TYPES)
    assert path in TYPES or not {name for name in names if name.startswith(of_types)}, "import it under TYPE_CHECKING"


@each_file()
def test_engine_knows_no_flax(path: Path):
    if area(path) == "engine":
        assert not {name for name in all_imports(path) if name.split(".")[0] == "flax"}


@each_file()
def test_no_pickle(path: Path):
    assert not {name for name in all_imports(path) if name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib"}}
    keywords = [node for node in ast.walk(tree(path)) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
    assert all(isinstance(node.value, ast.Constant) and node.value.value is False for node in keywords)


@each_file()
def test_no_assert_and_no_print(path: Path):
    asserts = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]
    prints = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not asserts, "raise an error that says what was expected"
    assert not prints or area(path) == "cli"


@each_file()
def test_files_stay_short(path: Path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: one idea per file"


def test_no_path_or_host_of_one_machine_in_the_tree():
    local = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users)/\w|python[h]osted|pypi\.[o]rg")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout, so the list of tracked files is unknown")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = REPOSITORY / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            found += [f"{name}: {match}" for match in local.findall(content.decode("utf-8", "replace"))]
    assert not found
