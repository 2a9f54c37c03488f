"""Data for spiking networks: encoders, augmentation and shuffling here; events, data sets and loaders in their modules.

Data is (batch, time, ...). Everything random takes an explicit key: `encode(data, key)`.
"""

from __future__ import annotations

from spyx.data.augment import Augment as Augment
from spyx.data.augment import shift_augment as shift_augment
from spyx.data.encode import Encoder as Encoder
from spyx.data.encode import RandomEncoder as RandomEncoder
from spyx.data.encode import angle_code as angle_code
from spyx.data.encode import delta_code as delta_code
from spyx.data.encode import direct_code as direct_code
from spyx.data.encode import latency_code as latency_code
from spyx.data.encode import phase_code as phase_code
from spyx.data.encode import rate_code as rate_code
from spyx.data.shuffle import State as State
from spyx.data.shuffle import shuffler as shuffler

__all__ = [
    "Augment",
    "Encoder",
    "RandomEncoder",
    "State",
    "angle_code",
    "delta_code",
    "direct_code",
    "latency_code",
    "phase_code",
    "rate_code",
    "shift_augment",
    "shuffler",
]
