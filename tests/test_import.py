"""`import spyx` stays as light as Flax: the cause of a slow import is what it imports, so that is what is tested."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import spyx

pytestmark = pytest.mark.smoke

HEAVY = ("matplotlib", "sklearn", "typer", "pandas", "h5py", "nir", "numba", "equinox", "yaml", "pytest")


def imported_by(statement: str) -> set[str]:
    """Names of every module that a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport sys\nprint(chr(10).join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_spyx_loads_nothing_that_flax_does_not():
    extra = {name for name in imported_by("import spyx") - imported_by("import flax.nnx") if "spyx" not in name}
    assert not extra


def test_the_core_modules_load_no_optional_dependency():
    loaded = imported_by("from spyx import axn, fn, nn, data, optimize")
    assert "spyx.nn" in loaded
    assert not loaded & set(HEAVY)


def test_version_is_the_distribution_s():
    assert spyx.__version__ == version("spyx-jax")


def test_an_unknown_submodule_is_named():
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'.*axn.*nn"):
        spyx.nonsense  # noqa: B018
