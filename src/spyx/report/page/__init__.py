"""A run, or several beside each other, as one self-contained HTML file."""

from __future__ import annotations

from spyx.report.page.layer_history import LayerHistory as LayerHistory
from spyx.report.page.writer import write_page as write_page
