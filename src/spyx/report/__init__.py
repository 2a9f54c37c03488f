"""What a network did and what it costs: activity, operations and energy, and plots of it and of its training."""

from __future__ import annotations

from spyx.report.activity_plots import plot_membrane as plot_membrane
from spyx.report.activity_plots import plot_raster as plot_raster
from spyx.report.activity_plots import plot_rate_over_time as plot_rate_over_time
from spyx.report.activity_plots import plot_rates as plot_rates
from spyx.report.activity_plots import plot_slope as plot_slope
from spyx.report.activity_plots import preferred_classes as preferred_classes
from spyx.report.curve_plots import plot_history as plot_history
from spyx.report.curve_plots import plot_runs as plot_runs
from spyx.report.doctor import doctor as doctor
from spyx.report.energy import MODELS as MODELS
from spyx.report.energy import CostModel as CostModel
from spyx.report.energy import Energy as Energy
from spyx.report.energy import energy as energy
from spyx.report.event_plots import animate as animate
from spyx.report.event_plots import plot_frames as plot_frames
from spyx.report.findings import Diagnosis as Diagnosis
from spyx.report.findings import Finding as Finding
from spyx.report.operations import Cost as Cost
from spyx.report.operations import LayerCost as LayerCost
from spyx.report.operations import cost as cost
from spyx.report.page import LayerHistory as LayerHistory
from spyx.report.page import write_page as write_page
from spyx.report.record import record as record
from spyx.report.recording import LayerRecord as LayerRecord
from spyx.report.recording import Recording as Recording
from spyx.report.recording import Statistics as Statistics
from spyx.report.sample_plots import Chosen as Chosen
from spyx.report.sample_plots import choose_samples as choose_samples
from spyx.report.sample_plots import plot_sample as plot_sample
from spyx.report.treatment import Change as Change
from spyx.report.treatment import Treatment as Treatment
from spyx.report.treatment import treat as treat
from spyx.report.weight_plots import plot_confusion as plot_confusion
from spyx.report.weight_plots import plot_delays as plot_delays
from spyx.report.weight_plots import plot_network as plot_network
from spyx.report.weight_plots import plot_weights as plot_weights

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
