"""The cache: bits on disk equal frames in memory, at an eighth of the bytes, and damage is noticed."""

from __future__ import annotations

import hashlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spyx.data import Dataset, Events, Loader, Packed, Raster, Recordings, Split, rasterise
from spyx.data._cache import write_packed

SHAPE = (8, 5, 3)


def frames(count: int, dtype: type = np.uint8, high: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (count, *SHAPE)).astype(dtype)


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 2), (np.uint16, 60_000), (np.int16, 30_000)])
def test_what_was_packed_is_unpacked(tmp_path, dtype, high):
    x = frames(6, dtype, high)
    if dtype is np.int16:
        x = -x
    write_packed(tmp_path / "a.spyx", x)
    packed = Packed(tmp_path / "a.spyx")
    assert packed.shape == (6, *SHAPE)
    rows = np.array([4, 0, 4])
    got = jax.jit(packed.unpack)(jnp.asarray(packed.gather(rows)))
    assert got.dtype == jnp.float32
    assert np.array_equal(got, x[rows])
    assert np.asarray(packed).dtype == dtype
    assert np.array_equal(np.asarray(packed), x)
    assert np.array_equal(jnp.asarray(packed[1:3]), x[1:3])
    assert np.array_equal(packed[4], x[4])


def test_a_cache_of_spikes_is_an_eighth_of_its_bytes(tmp_path):
    x = np.ones((100, 20, 34, 34, 2), np.uint8)
    write_packed(tmp_path / "a.spyx", x)
    packed = Packed(tmp_path / "a.spyx")
    assert packed.gather(np.arange(100)).nbytes == x.nbytes // 8
    assert (tmp_path / "a.spyx").stat().st_size <= x.nbytes // 8 + 600


def test_the_loader_unpacks_and_pads(tmp_path):
    x = frames(5)
    write_packed(tmp_path / "a.spyx", x)
    split = Split(Packed(tmp_path / "a.spyx"), np.arange(5, dtype=np.int32))
    batches = list(Loader(split.take([4, 3, 2, 1, 0]), 3))
    assert np.array_equal(np.concatenate([b.x for b in batches])[:5], x[::-1])
    assert np.asarray(batches[1].x[2]).sum() == 0
    assert batches[1].mask.tolist() == [True, True, False]


@pytest.mark.parametrize("place", [3, 20, -10, -100])
def test_a_changed_header_or_checksum_is_noticed_on_opening(tmp_path, place):
    path = tmp_path / "a.spyx"
    write_packed(path, frames(30))
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Packed: expected a cache file of version 1; got .* Delete the file"):
        Packed(path)


def test_a_truncated_file_is_noticed_on_opening(tmp_path):
    path = tmp_path / "a.spyx"
    write_packed(path, frames(30))
    whole = path.read_bytes()
    for size in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="Packed: expected a cache file"):
            Packed(path)


def test_a_flipped_bit_in_a_sample_is_noticed_when_it_is_read(tmp_path):
    path = tmp_path / "a.spyx"
    write_packed(path, frames(4))
    start = path.read_bytes().index(b"}") + 1
    content = bytearray(path.read_bytes())
    content[start + 2 * 15 + 1] ^= 1
    path.write_bytes(content)
    packed = Packed(path)
    packed.gather(np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="Packed: expected sample 2 as it was written"):
        packed.gather(np.array([2]))


def test_a_sample_is_checked_when_it_is_first_read_and_only_then(tmp_path, monkeypatch):
    write_packed(tmp_path / "a.spyx", frames(4))
    packed, checked = Packed(tmp_path / "a.spyx"), []
    monkeypatch.setattr(zlib, "crc32", lambda record, right=zlib.crc32: checked.append(1) or right(record))
    for rows, count in (([2, 0], 2), ([0, 1, 2], 3), ([3, 3, 3], 4), ([0, 1, 2, 3], 4)):
        packed.gather(np.array(rows))
        assert len(checked) == count


def test_a_failed_write_leaves_nothing(tmp_path):
    def broken():
        yield frames(1)[0]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_packed(tmp_path / "a.spyx", broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "expected at least one sample; got none"),
        ([np.full((2,), 2, np.uint8)], "expected zeros and ones in uint8; got 2"),
        ([np.zeros(2, np.uint8), np.zeros(3, np.uint8)], r"expected samples of bits \(2,\); got bits \(3,\)"),
        ([np.zeros(2, np.float32)], "expected samples of uint8, uint16 or int16; got float32"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path, samples, message):
    with pytest.raises(ValueError, match=f"write_packed: {message}"):
        write_packed(tmp_path / "a.spyx", samples)


def dataset(reads: list[str], stamp: str = "1", units: int = 2) -> Dataset:
    def read(name: str) -> Events:
        reads.append(name)
        return Events(t=[0, int(name)], unit=[0, 1], sensor_size=(2,))

    def part(names: list[str]) -> Split:
        recordings = Recordings(names, read, stamp=stamp, sensor_size=(units,))
        return Split(recordings, np.arange(len(names), dtype=np.int32))

    return Dataset("mine", part(["1", "2", "3"]), part(["4"]), part(["5"]), 3, "me", "CC0", "by hand", (2,))


def test_recordings_are_decoded_once(tmp_path):
    reads: list[str] = []
    recipe = Raster(bin_ms=0.001, duration_ms=0.006, start="zero", binary=True)
    first = rasterise(dataset(reads), recipe, tmp_path)
    assert reads == ["1", "2", "3", "4", "5"]
    again = rasterise(dataset(reads), recipe, tmp_path)
    assert len(reads) == 5
    assert np.array_equal(first.train.x.gather(np.arange(3)), again.train.x.gather(np.arange(3)))
    got = np.asarray(again.test.x.unpack(jnp.asarray(again.test.x.gather(np.array([0])))))
    assert np.argwhere(got[0]).tolist() == [[0, 0], [5, 1]]


def test_other_files_recipes_or_versions_have_other_names(tmp_path):
    recipe = Raster(num_bins=2)
    rasterise(dataset([]), recipe, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert all(name.startswith("mine-") and name.endswith("-v1.spyx") for name in names)
    rasterise(dataset([], stamp="2"), recipe, tmp_path)
    rasterise(dataset([]), Raster(num_bins=3), tmp_path)
    assert len(list(tmp_path.iterdir())) == 9
    wider = rasterise(dataset([], units=5), recipe, tmp_path)
    assert len(list(tmp_path.iterdir())) == 12
    assert wider.train.x.shape == (3, 2, 5)


def test_rasterise_refuses_open_lengths_and_frames(tmp_path):
    with pytest.raises(ValueError, match="rasterise: expected a raster with a fixed number of frames"):
        rasterise(dataset([]), Raster(bin_ms=1), tmp_path)
    done = rasterise(dataset([]), Raster(num_bins=2), tmp_path)
    with pytest.raises(TypeError, match="rasterise: expected a data set of recordings; got Packed in mine"):
        rasterise(done, Raster(num_bins=2), tmp_path)


def test_recordings_stamp_depends_on_order_and_choice():
    recordings = dataset([]).train.x
    stamps = [recordings.stamp, recordings[np.array([1, 0, 2])].stamp, recordings[:2].stamp]
    stamps += [dataset([], stamp="2").train.x[rows].stamp for rows in (np.arange(3), slice(2))]
    assert len(set(stamps)) == 5
    assert len(stamps[0]) == len(hashlib.sha256().hexdigest())
