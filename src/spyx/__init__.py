"""spyx: spiking neural networks on JAX. One pure `step` per neuron, everything else derived.

Submodules load on first use, so `import spyx` costs no more than JAX and Flax themselves.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "2.0.0.dev0"

_SUBMODULES = (
    "axn",
    "data",
    "engine",
    "experimental",
    "fn",
    "graph",
    "nir",
    "nn",
    "optimize",
    "report",
    "testing",
    "zoo",
)

_ROOMS = {"compilation_cache": "spyx.engine", "load": "spyx.saving", "save": "spyx.saving", "train": "spyx.optimize"}

_FUNCTIONS = ("compilation_cache", "load", "save", "train")

__all__ = ["__version__", *_FUNCTIONS, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"spyx.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_ROOMS[name]), name)
    raise AttributeError(f"module 'spyx' has no attribute {name!r}; its modules are {', '.join(_SUBMODULES)}")


def __dir__() -> list[str]:
    return sorted(__all__)
