"""Damaged files of every format: an error that names file and byte, or events that keep every promise; nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.event_files import WRITERS, columns

from spyx.data import EventFileError
from spyx.data._decode import decode_bytes

FORMAT_OF = {"evt2": "evt", "evt3": "evt"}
NEEDS = {"hdf5": "h5py"}
WHOLE = {writer: write(columns(60)) for writer, write in WRITERS.items() if writer not in NEEDS}


def check(content: bytes, writer: str) -> bool:
    """True if the file was read; then it must hold no more events than the bytes can."""
    try:
        events = decode_bytes(content, "fuzzed", FORMAT_OF.get(writer, writer))
    except EventFileError as error:
        fault = error
    else:
        fault = None
    if fault is not None:
        assert (fault.path, bool(fault.found)) == ("fuzzed", True)
        assert 0 <= fault.offset <= len(content)
        return False
    assert 0 < len(events) <= 12 * max(len(content), 1)
    assert (np.diff(events.t) >= 0).all()
    assert set(np.unique(events.p)) <= {0, 1}
    return True


@pytest.mark.parametrize("writer", list(WHOLE))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_damage_is_refused_or_harmless(writer, data):
    content = bytearray(WHOLE[writer])
    damage = data.draw(st.sampled_from(["truncate", "flip", "header", "insert"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if damage == "truncate":
        del content[at:]
    elif damage == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            place = data.draw(st.integers(0, min(len(content), 80 if damage == "header" else len(content)) - 1))
            content[place] ^= 1 << data.draw(st.integers(0, 7))
    check(bytes(content), writer)


@pytest.mark.parametrize("writer", list(WHOLE))
def test_every_truncation_is_refused_or_ends_at_a_whole_event(writer):
    whole = WHOLE[writer]
    read = [cut for cut in range(len(whole)) if check(whole[:cut], writer)]
    # Formats without a length in the header cannot know of events that were cut off whole.
    if writer in ("npz", "npy"):
        assert not read
    else:
        assert len(read) <= 62 * 8


@pytest.mark.parametrize("writer", list(WHOLE))
def test_random_bytes_under_a_good_start(writer):
    rng = np.random.default_rng(0)
    for size in rng.integers(0, 300, 60):
        start = WHOLE[writer][: rng.integers(0, 60)]
        check(start + rng.integers(0, 256, size, dtype=np.uint8).tobytes(), writer)


def test_damaged_hdf5_is_refused():
    pytest.importorskip("h5py")
    whole = WRITERS["hdf5"](columns(60))
    rng = np.random.default_rng(1)
    for _ in range(60):
        content = bytearray(whole)
        content[int(rng.integers(0, len(content)))] ^= 1 << int(rng.integers(0, 8))
        check(bytes(content[: int(rng.integers(len(content) // 2, len(content)))]), "hdf5")
