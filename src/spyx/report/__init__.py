"""What a network did and what it costs: activity, operations and energy, and plots of it and of its training."""

from __future__ import annotations

from spyx.report.doctor import Diagnosis as Diagnosis
from spyx.report.doctor import Finding as Finding
from spyx.report.doctor import doctor as doctor
from spyx.report.energy import MODELS as MODELS
from spyx.report.energy import CostModel as CostModel
from spyx.report.energy import Energy as Energy
from spyx.report.energy import energy as energy
from spyx.report.operations import Cost as Cost
from spyx.report.operations import LayerCost as LayerCost
from spyx.report.operations import cost as cost
from spyx.report.page import LayerHistory as LayerHistory
from spyx.report.page import write_page as write_page
from spyx.report.plots import plot_history as plot_history
from spyx.report.plots import plot_raster as plot_raster
from spyx.report.record import Activity as Activity
from spyx.report.record import record as record

__all__ = [
    "MODELS",
    "Activity",
    "Cost",
    "CostModel",
    "Diagnosis",
    "Energy",
    "Finding",
    "LayerCost",
    "LayerHistory",
    "cost",
    "doctor",
    "energy",
    "plot_history",
    "plot_raster",
    "record",
    "write_page",
]
