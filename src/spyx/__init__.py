"""spyx: spiking neural networks on JAX. One pure `step` per neuron, everything else derived.

Submodules load on first use, so `import spyx` costs no more than JAX and Flax themselves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers see of the names that load on first use
    from spyx import axn, data, engine, experimental, fn, graph, nir, nn, optimize, report, testing, zoo
    from spyx.engine import compilation_cache
    from spyx.optimize import train
    from spyx.saving import load, save

__version__ = "2.0.0.dev0"

__all__ = [
    "__version__",
    "axn",
    "compilation_cache",
    "data",
    "engine",
    "experimental",
    "fn",
    "graph",
    "load",
    "nir",
    "nn",
    "optimize",
    "report",
    "save",
    "testing",
    "train",
    "zoo",
]

_FUNCTIONS = {"compilation_cache": "engine", "load": "saving", "save": "saving", "train": "optimize"}


def __getattr__(name: str) -> object:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"spyx.{_FUNCTIONS[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"spyx.{name}")
    modules = ", ".join(sorted(set(__all__) - {"__version__", *_FUNCTIONS}))
    raise AttributeError(f"module 'spyx' has no attribute {name!r}; its modules are {modules}")


def __dir__() -> list[str]:
    return sorted(__all__)
