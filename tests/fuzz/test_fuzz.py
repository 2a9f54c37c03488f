"""Damaged files of every format: each is refused by name, read as it was, or (without a checksum) read otherwise.

`SPYX_FUZZ=1000 SPYX_SEED=7` changes how many and which; `python -m fuzz` is the long run.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from fuzz.cases import faults, outcomes
from fuzz.formats import formats
from spyx.data import _guarded

COUNT, SEED = int(os.environ.get("SPYX_FUZZ", "20")), int(os.environ.get("SPYX_SEED", "0"))
FORMATS = formats()


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left():
    yield
    _guarded.end()


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files(name, tmp_path):
    found = Counter(outcomes(FORMATS[name], COUNT, SEED, tmp_path))
    assert not faults(found), (f"seed {SEED}", faults(found))
    assert found["refused"] > COUNT / 20 or FORMATS[name].lenient
