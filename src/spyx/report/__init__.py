"""What a network did: its activity recorded layer by layer, and plots of it and of its training."""

from __future__ import annotations

from spyx.report.plots import plot_history as plot_history
from spyx.report.plots import plot_raster as plot_raster
from spyx.report.record import Activity as Activity
from spyx.report.record import record as record

__all__ = ["Activity", "plot_history", "plot_raster", "record"]
