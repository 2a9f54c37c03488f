"""What this machine offers: every fact about devices that a plan depends on is asked for here."""

from __future__ import annotations

import os
from importlib.util import find_spec

import jax

from spyx.engine import over_devices

CACHE_BYTES = 2 * 2**20
"""Second-level cache of a CPU core, on which the sizes of chunks were measured."""


def backend() -> str:
    """The platform that runs by default: "cpu", "gpu" or "tpu"."""
    return jax.default_backend()


def one_cpu() -> bool:
    """What runs here runs on one CPU device: over several devices a CPU kernel would gather the batch."""
    return backend() == "cpu" and (jax.device_count() == 1 or over_devices.on_one_device())


NO_COMPILER = "llvmlite is not installed: pip install 'spyx-jax[cpu]'"
"""What plans say where CPU kernels cannot be compiled."""


def has_compiler() -> bool:
    """The CPU extra is installed, on a system whose C library has what kernels call."""
    return os.name == "posix" and find_spec("llvmlite") is not None
