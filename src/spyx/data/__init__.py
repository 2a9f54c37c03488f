"""Data for spiking networks: encoders, event files and frames, data sets with honest splits, caches and loaders.

Data is (batch, time, ...). Everything random takes an explicit key: `encode(data, key)`.
"""

from __future__ import annotations

from spyx.data.augment import Augment as Augment
from spyx.data.augment import chain as chain
from spyx.data.augment import drop_spikes as drop_spikes
from spyx.data.augment import flip as flip
from spyx.data.augment import jitter_events as jitter_events
from spyx.data.augment import jitter_time as jitter_time
from spyx.data.augment import mask_axis as mask_axis
from spyx.data.augment import mixup as mixup
from spyx.data.augment import shift_augment as shift_augment
from spyx.data.augment import shift_space as shift_space
from spyx.data.augment import stretch as stretch
from spyx.data.cache import Packed as Packed
from spyx.data.cache import rasterise as rasterise
from spyx.data.cochlea import Cochlea as Cochlea
from spyx.data.decode import read_events as read_events
from spyx.data.decode.source import EventFileError as EventFileError
from spyx.data.encode import Encoder as Encoder
from spyx.data.encode import RandomEncoder as RandomEncoder
from spyx.data.encode import angle_code as angle_code
from spyx.data.encode import delta_code as delta_code
from spyx.data.encode import direct_code as direct_code
from spyx.data.encode import latency_code as latency_code
from spyx.data.encode import phase_code as phase_code
from spyx.data.encode import rate_code as rate_code
from spyx.data.events import Events as Events
from spyx.data.fetch import download as download
from spyx.data.fetch import extract as extract
from spyx.data.loader import Batch as Batch
from spyx.data.loader import Loader as Loader
from spyx.data.loader import SequenceBatch as SequenceBatch
from spyx.data.raster import Frames as Frames
from spyx.data.raster import Raster as Raster
from spyx.data.raster import voxel_grid as voxel_grid
from spyx.data.recordings import Recordings as Recordings
from spyx.data.sets import load as load
from spyx.data.shuffle import State as State
from spyx.data.shuffle import shuffler as shuffler
from spyx.data.split import Dataset as Dataset
from spyx.data.split import Split as Split
from spyx.data.split import stratified as stratified

__all__ = [
    "Augment",
    "Batch",
    "Cochlea",
    "Dataset",
    "Encoder",
    "EventFileError",
    "Events",
    "Frames",
    "Loader",
    "Packed",
    "RandomEncoder",
    "Raster",
    "Recordings",
    "SequenceBatch",
    "Split",
    "State",
    "angle_code",
    "chain",
    "delta_code",
    "direct_code",
    "download",
    "drop_spikes",
    "extract",
    "flip",
    "jitter_events",
    "jitter_time",
    "latency_code",
    "load",
    "mask_axis",
    "mixup",
    "phase_code",
    "rasterise",
    "rate_code",
    "read_events",
    "shift_augment",
    "shift_space",
    "shuffler",
    "stratified",
    "voxel_grid",
]
