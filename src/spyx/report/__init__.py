"""What a network did and what it costs: activity, operations and energy, and plots of it and of its training."""

from __future__ import annotations

from spyx.report._activity_plots import plot_membrane as plot_membrane
from spyx.report._activity_plots import plot_raster as plot_raster
from spyx.report._activity_plots import plot_rate_over_time as plot_rate_over_time
from spyx.report._activity_plots import plot_rates as plot_rates
from spyx.report._activity_plots import plot_slope as plot_slope
from spyx.report._activity_plots import preferred_classes as preferred_classes
from spyx.report._curve_plots import plot_history as plot_history
from spyx.report._curve_plots import plot_runs as plot_runs
from spyx.report._doctor import doctor as doctor
from spyx.report._energy import MODELS as MODELS
from spyx.report._energy import CostModel as CostModel
from spyx.report._energy import Energy as Energy
from spyx.report._energy import energy as energy
from spyx.report._event_plots import animate as animate
from spyx.report._event_plots import plot_frames as plot_frames
from spyx.report._findings import Diagnosis as Diagnosis
from spyx.report._findings import Finding as Finding
from spyx.report._operations import Cost as Cost
from spyx.report._operations import LayerCost as LayerCost
from spyx.report._operations import cost as cost
from spyx.report._page import LayerHistory as LayerHistory
from spyx.report._page import write_page as write_page
from spyx.report._record import record as record
from spyx.report._recording import LayerRecord as LayerRecord
from spyx.report._recording import Recording as Recording
from spyx.report._recording import Statistics as Statistics
from spyx.report._sample_plots import Chosen as Chosen
from spyx.report._sample_plots import choose_samples as choose_samples
from spyx.report._sample_plots import plot_sample as plot_sample
from spyx.report._treatment import Change as Change
from spyx.report._treatment import Treatment as Treatment
from spyx.report._treatment import treat as treat
from spyx.report._weight_plots import plot_confusion as plot_confusion
from spyx.report._weight_plots import plot_delays as plot_delays
from spyx.report._weight_plots import plot_network as plot_network
from spyx.report._weight_plots import plot_weights as plot_weights

__all__ = [
    "Change",
    "Chosen",
    "Cost",
    "CostModel",
    "Diagnosis",
    "Energy",
    "Finding",
    "LayerCost",
    "LayerHistory",
    "LayerRecord",
    "MODELS",
    "Recording",
    "Statistics",
    "Treatment",
    "animate",
    "choose_samples",
    "cost",
    "doctor",
    "energy",
    "plot_confusion",
    "plot_delays",
    "plot_frames",
    "plot_history",
    "plot_membrane",
    "plot_network",
    "plot_raster",
    "plot_rate_over_time",
    "plot_rates",
    "plot_runs",
    "plot_sample",
    "plot_slope",
    "plot_weights",
    "preferred_classes",
    "record",
    "treat",
    "write_page",
]
