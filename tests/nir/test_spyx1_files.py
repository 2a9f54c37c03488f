"""Files that Spyx 1.0 really wrote (spyx1_files/make.py): ours answers what its own run answered, spike for spike."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spyx import nn

pytest.importorskip("nir")
from spyx.nir import check, from_nir  # noqa: E402

ARCHIVE = Path(__file__).parent / "spyx1_files" / "spyx1.zip"
with zipfile.ZipFile(ARCHIVE) as archive:
    NAMES = [Path(name).stem for name in archive.namelist() if name.endswith(".nir")]


@pytest.fixture
def network(request, tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        (tmp_path / f"{request.param}.nir").write_bytes(archive.read(f"{request.param}.nir"))
        with np.load(io.BytesIO(archive.read(f"{request.param}.npz")), allow_pickle=False) as file:
            return tmp_path / f"{request.param}.nir", file["x"].astype(np.float32), file["y"]


@pytest.mark.parametrize("network", NAMES, indirect=True)
def test_NIR_files_of_spyx1_spike_as_they_did_there(network):
    path, x, y = network
    with pytest.warns(UserWarning, match=r"Spyx 1.0 wrote this graph \(r = beta\)"):
        model = from_nir(path, 1e-3 if path.stem == "only without reset" else None)
    assert 0.1 < y.mean() < 0.9
    np.testing.assert_array_equal(nn.run(model, x, time_axis=0)[0], y)


@pytest.mark.parametrize("network", ["flattened to recurrence", "uneven pool"], indirect=True)
@pytest.mark.filterwarnings("ignore:spyx.nir.from_nir. Spyx 1.0 wrote this graph")
def test_the_reference_reads_them_alike(network):
    assert check(network[0], others=False, steps=20).difference is None


@pytest.mark.parametrize("network", ["integrators"], indirect=True)
def test_the_time_step_of_a_call_changes_nothing(network):
    path, x, y = network
    with pytest.warns(UserWarning, match="Spyx 1.0"):
        _, outs = from_nir(path, x, 1e-3)
    np.testing.assert_array_equal(outs, y)


@pytest.mark.parametrize("network", ["only without reset"], indirect=True)
@pytest.mark.filterwarnings("ignore:spyx.nir.from_nir. Spyx 1.0 wrote this graph")
def test_a_file_that_does_not_tell_its_time_step_asks_for_it(network):
    with pytest.raises(ValueError, match="because the tau of a PSU_LIF does not tell it"):
        from_nir(network[0])
