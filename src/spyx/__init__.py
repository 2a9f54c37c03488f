"""spyx: spiking neural networks on JAX. One pure `step` per neuron, everything else derived.

Submodules load on first use, so `import spyx` costs no more than JAX and Flax themselves.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "2.0.0.dev0"

_SUBMODULES = ("axn", "data", "engine", "experimental", "fn", "graph", "nir", "nn", "optimize", "report", "testing")

__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"spyx.{name}")
    raise AttributeError(f"module 'spyx' has no attribute {name!r}; its modules are {', '.join(_SUBMODULES)}")


def __dir__() -> list[str]:
    return sorted(__all__)
