"""A run, or several beside each other, as one self-contained HTML file."""

from __future__ import annotations

from spyx.report._page.layer_history import LayerHistory as LayerHistory
from spyx.report._page.writer import write_page as write_page
