"""The rules of the house, one file per family of nodes."""

from __future__ import annotations

from spyx.nir.rule import RULES
from spyx.nir.rules import convolution, dense, exact, flatten, neurons, pooling

RULES.extend(rule for family in (dense, convolution, pooling, flatten, exact, neurons) for rule in family.RULES)
