"""Networks in the Neuromorphic Intermediate Representation (NIR 1.0.8): read, written and checked."""

from __future__ import annotations

try:
    import nir as _nir  # noqa: F401
except ImportError as error:
    raise ImportError(
        "spyx.nir: expected the package nir; got none installed. Install it with pip install 'spyx-jax[nir]'."
    ) from error

from spyx.nir._check import Check as Check
from spyx.nir._check import Difference as Difference
from spyx.nir._check import check as check
from spyx.nir._check import suggest_dt as suggest_dt
from spyx.nir._chips import TARGETS as TARGETS
from spyx.nir._chips import Target as Target
from spyx.nir._chips import report as report
from spyx.nir._discrete import Meaning as Meaning
from spyx.nir._io import read as read
from spyx.nir._io import write as write
from spyx.nir._libraries import Agreement as Agreement
from spyx.nir._load import from_nir as from_nir
from spyx.nir._neurons import NIRI as NIRI
from spyx.nir._neurons import NIRIF as NIRIF
from spyx.nir._neurons import NIRLI as NIRLI
from spyx.nir._neurons import NIRLIF as NIRLIF
from spyx.nir._neurons import NIRCubaLI as NIRCubaLI
from spyx.nir._neurons import NIRCubaLIF as NIRCubaLIF
from spyx.nir._reference import simulate as simulate
from spyx.nir._rewrite import portable as portable
from spyx.nir._rewrite import quantise as quantise
from spyx.nir._rules.table import Rule as Rule
from spyx.nir._rules.table import Site as Site
from spyx.nir._rules.table import forget as forget
from spyx.nir._rules.table import rule as rule
from spyx.nir._save import to_nir as to_nir

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
