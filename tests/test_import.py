"""`import spyx` stays as light as Flax: the cause of a slow import is what it imports, so that is what is tested."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import spyx


def packages_of(statement: str) -> set[str]:
    """The packages outside the standard library that a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport sys\nprint(chr(10).join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = {name.split(".")[0] for name in done.stdout.split()}
    return {name for name in names - sys.stdlib_module_names if not name.startswith("_")}


def test_import_spyx_loads_nothing_that_flax_does_not():
    assert packages_of("import spyx") - packages_of("import flax.nnx") == {"spyx"}


def test_the_core_modules_load_nothing_that_flax_and_optax_do_not():
    core = packages_of("from spyx import axn, fn, nn, data, optimize")
    assert core - packages_of("import flax.nnx, optax") == {"spyx"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["nir", "check", "--help"]])
def test_the_command_line_shows_its_help_without_jax(words):
    pytest.importorskip("typer")
    program = f"""
import contextlib, io, sys
from spyx.cli import main
sys.argv = ["spyx", *{words}]
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    main()
assert "spyx" in shown.getvalue()
"""
    loaded = packages_of(program)
    assert "typer" in loaded
    assert not loaded & {"jax", "jaxlib", "flax", "numpy", "optax"}


def test_version_is_the_distribution_s():
    assert spyx.__version__ == version("spyx-jax")


def test_an_unknown_submodule_is_named():
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'.*axn.*nn"):
        spyx.nonsense  # noqa: B018
