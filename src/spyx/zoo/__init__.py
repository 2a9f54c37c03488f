"""Trained networks that ship with spyx, each with its encoder, its labels and a card."""

from __future__ import annotations

from spyx.zoo.encoder import FrameEncoder as FrameEncoder
from spyx.zoo.encoder import ValueEncoder as ValueEncoder
from spyx.zoo.shelf import Trained as Trained
from spyx.zoo.shelf import card as card
from spyx.zoo.shelf import load as load
from spyx.zoo.shelf import names as names

__all__ = ["FrameEncoder", "Trained", "ValueEncoder", "card", "load", "names"]
