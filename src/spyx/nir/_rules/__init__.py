"""The built-in rules, one file per family of nodes."""

from __future__ import annotations

from spyx.nir._rules import nir_nodes, spyx_neurons, table, weights

table.RULES.extend(rule for family in (weights, nir_nodes, spyx_neurons) for rule in family.RULES)
