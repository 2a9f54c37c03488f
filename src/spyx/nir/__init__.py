"""Networks in the Neuromorphic Intermediate Representation (NIR 1.0.8): read, written and checked."""

from __future__ import annotations

try:
    import nir as _nir  # noqa: F401
except ImportError as error:
    raise ImportError(
        "spyx.nir: expected the package nir; got none installed. Install it with pip install 'spyx-jax[nir]'."
    ) from error

import spyx.nir.rules  # noqa: F401
from spyx.nir.bridge import from_nir as from_nir
from spyx.nir.bridge import to_nir as to_nir
from spyx.nir.check import Check as Check
from spyx.nir.check import Difference as Difference
from spyx.nir.check import check as check
from spyx.nir.executors import Agreement as Agreement
from spyx.nir.meaning import Meaning as Meaning
from spyx.nir.neurons import NIRI as NIRI
from spyx.nir.neurons import NIRIF as NIRIF
from spyx.nir.neurons import NIRLI as NIRLI
from spyx.nir.neurons import NIRLIF as NIRLIF
from spyx.nir.neurons import NIRCubaLI as NIRCubaLI
from spyx.nir.neurons import NIRCubaLIF as NIRCubaLIF
from spyx.nir.portable import portable as portable
from spyx.nir.quantise import quantise as quantise
from spyx.nir.read import read as read
from spyx.nir.reference import simulate as simulate
from spyx.nir.report import report as report
from spyx.nir.rule import Rule as Rule
from spyx.nir.rule import Site as Site
from spyx.nir.rule import forget as forget
from spyx.nir.rule import rule as rule
from spyx.nir.targets import TARGETS as TARGETS
from spyx.nir.targets import Target as Target
from spyx.nir.time_step import suggest_dt as suggest_dt
from spyx.nir.write import write as write

__all__ = [
    "NIRI",
    "NIRIF",
    "NIRLI",
    "NIRLIF",
    "TARGETS",
    "Agreement",
    "Check",
    "Difference",
    "Meaning",
    "NIRCubaLI",
    "NIRCubaLIF",
    "Rule",
    "Site",
    "Target",
    "check",
    "forget",
    "from_nir",
    "portable",
    "quantise",
    "read",
    "report",
    "rule",
    "simulate",
    "suggest_dt",
    "to_nir",
    "write",
]
