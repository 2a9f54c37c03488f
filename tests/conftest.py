"""What every test shares: strict promotion, the recorded reference vectors, and clean compilation caches."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import Phase, settings

REPOSITORY = Path(__file__).resolve().parent.parent
SMOKE = ("conformance", "test_import.py", "test_readme.py")

os.environ["SPYX_CACHE"] = "off"  # the command line would keep compiled programs in the user's folder
# Tests spend most of their time in XLA's compiler, on programs that run for a millisecond: a low level and,
# where jaxlib knows the switch, no fusion emitters take half off the suite. At level 0 some recorded bits differ.
# Set XLA_FLAGS to test as users compile, as the smoke runs of .ci/run do.
FAST = ["--xla_backend_optimization_level=1"]
FAST += ["--xla_cpu_use_fusion_emitters=false"] if jax.__version_info__ < (0, 11) else []
os.environ.setdefault("XLA_FLAGS", " ".join(FAST))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Shrinking compiles hundreds of programs before a failure is told (240 s for 6 s); in CI it is told at once, with the
# blob that `@reproduce_failure` takes, and from the same examples in every run, as Hypothesis's own profile has it.
TOLD_AT_ONCE = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
settings.register_profile("ci", settings.get_profile("ci"), phases=TOLD_AT_ONCE)
if os.environ.get("CI"):
    settings.load_profile("ci")
if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    # Test programs compile in well under the default second below which nothing is kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs on every supported stack: the conformance suite, the README's example. What slow.txt lists is slow."""
    listed = set((REPOSITORY / "tests" / "slow.txt").read_text(encoding="utf-8").split("\n"))
    for item in items:
        if item.nodeid.partition("[")[0] in listed:
            item.add_marker(pytest.mark.slow)
        if item.path.relative_to(REPOSITORY / "tests").parts[0] in SMOKE:
            item.add_marker(pytest.mark.smoke)


@pytest.fixture(autouse=True, scope="module")
def _ctrl_c_raises() -> None:
    """Whatever tests of interrupts have left before: the operating system's own answer would end the tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _clear_compilation_caches() -> Iterator[None]:
    """Give the memory of a module's compiled programs back before the next module starts."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets, which are not in the repository: SPYX_SHARED, or ``shared`` beside the repository."""
    folder = Path(os.environ.get("SPYX_SHARED") or REPOSITORY.parent / "shared")
    if not folder.is_dir():
        pytest.skip("no shared test data: set SPYX_SHARED to its folder, or place it beside the repository as 'shared'")
    return folder


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Mapping[str, np.ndarray]]:
    """Read ``tests/golden/<name>.npz`` once per session into a dict: ``golden("nn_lif_spyx10")["LIF_vector/x"]``."""
    loaded: dict[str, dict[str, np.ndarray]] = {}

    def load(name: str) -> Mapping[str, np.ndarray]:
        if name not in loaded:
            with np.load(REPOSITORY / "tests" / "golden" / f"{name}.npz", allow_pickle=False) as file:
                loaded[name] = {key: file[key] for key in file.files}
        return loaded[name]

    return load
