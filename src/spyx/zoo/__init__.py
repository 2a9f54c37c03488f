"""Trained networks that ship with spyx, each with its encoder, its labels and a card."""

from __future__ import annotations

from spyx.zoo._encoder import FrameEncoder as FrameEncoder
from spyx.zoo._encoder import ValueEncoder as ValueEncoder
from spyx.zoo._shelf import Trained as Trained
from spyx.zoo._shelf import card as card
from spyx.zoo._shelf import load as load
from spyx.zoo._shelf import names as names

__all__ = ["FrameEncoder", "Trained", "ValueEncoder", "card", "load", "names"]
