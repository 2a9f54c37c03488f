"""Models in files: `spyx.save` and `spyx.load`."""

from __future__ import annotations

from spyx.saving.model import load as load
from spyx.saving.model import save as save

__all__ = ["load", "save"]
