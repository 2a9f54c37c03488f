"""Data for spiking networks: encoders, event files and frames, data sets with honest splits, caches and loaders.

Data is (batch, time, ...). Everything random takes an explicit key: `encode(data, key)`.
"""

from __future__ import annotations

from spyx.data._augment import Augment as Augment
from spyx.data._augment import chain as chain
from spyx.data._augment import drop_spikes as drop_spikes
from spyx.data._augment import flip as flip
from spyx.data._augment import jitter_events as jitter_events
from spyx.data._augment import jitter_time as jitter_time
from spyx.data._augment import mask_axis as mask_axis
from spyx.data._augment import mixup as mixup
from spyx.data._augment import shift_augment as shift_augment
from spyx.data._augment import shift_space as shift_space
from spyx.data._augment import stretch as stretch
from spyx.data._cache import Packed as Packed
from spyx.data._cache import rasterise as rasterise
from spyx.data._cochlea import Cochlea as Cochlea
from spyx.data._decode import read_events as read_events
from spyx.data._decode.source import EventFileError as EventFileError
from spyx.data._encode import Encoder as Encoder
from spyx.data._encode import RandomEncoder as RandomEncoder
from spyx.data._encode import angle_code as angle_code
from spyx.data._encode import delta_code as delta_code
from spyx.data._encode import direct_code as direct_code
from spyx.data._encode import latency_code as latency_code
from spyx.data._encode import phase_code as phase_code
from spyx.data._encode import rate_code as rate_code
from spyx.data._events import Events as Events
from spyx.data._fetch import download as download
from spyx.data._fetch import extract as extract
from spyx.data._loader import Batch as Batch
from spyx.data._loader import Loader as Loader
from spyx.data._loader import SequenceBatch as SequenceBatch
from spyx.data._raster import Frames as Frames
from spyx.data._raster import Raster as Raster
from spyx.data._raster import voxel_grid as voxel_grid
from spyx.data._recordings import Recordings as Recordings
from spyx.data._shuffle import State as State
from spyx.data._shuffle import shuffler as shuffler
from spyx.data._split import Dataset as Dataset
from spyx.data._split import Split as Split
from spyx.data._split import stratified as stratified
from spyx.data.sets import load as load

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
