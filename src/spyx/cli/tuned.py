"""Settings of data sets that need others than the defaults; chosen on their validation parts alone."""

from __future__ import annotations

TUNED: dict[str, dict[str, object]] = {
    "braille": {"encoder": "direct", "neuron": "CSiLIF", "hidden": (128,)},
    "yinyang": {"encoder": "direct", "epochs": 60, "batch_size": 64},
}
"""By the name of the data set; files and the command line win."""
