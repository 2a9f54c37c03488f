"""Folders and zip archives look alike, and neither lets a name out of its root."""

from __future__ import annotations

import os
import zipfile

import pytest

from spyx.data import Recordings
from spyx.data._archive_or_folder import Store


@pytest.fixture(params=["folder", "archive"])
def store(request, tmp_path):
    files = {"Train/1/a.bin": b"one", "Train/2/b.bin": b"two", "Test/1/c.bin": b"three", "readme.txt": b"hello"}
    if request.param == "folder":
        for name, content in files.items():
            (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "root" / name).write_bytes(content)
        return Store(tmp_path / "root")
    with zipfile.ZipFile(tmp_path / "root.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return Store(tmp_path / "root.zip")


def test_names_are_sorted_and_filtered(store):
    assert store.names(suffix=".bin") == ["Test/1/c.bin", "Train/1/a.bin", "Train/2/b.bin"]
    assert store.names(prefix="Train/") == ["Train/1/a.bin", "Train/2/b.bin"]
    assert store.read("Train/2/b.bin") == b"two"
    assert "readme.txt" in store.label("readme.txt")


def test_stamp_follows_the_chosen_files(store):
    assert store.stamp(["readme.txt"]) != store.stamp(["Train/1/a.bin"])
    assert store.stamp(["readme.txt"]) == store.stamp(["readme.txt"])


def test_names_outside_the_folder_are_refused(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "root").mkdir()
    with pytest.raises(ValueError, match=r"Store: expected a name inside .*; got '../secret'"):
        Store(tmp_path / "root").read("../secret")


def test_damaged_archives_and_wrong_roots_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.bin", bytes(1000))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[100] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="Store: expected an intact archive; got Bad CRC"):
        Store(tmp_path / "a.zip").read("x.bin")
    with pytest.raises(ValueError, match="Store: expected a folder or a zip archive; got"):
        Store(tmp_path / "nothing")


@pytest.mark.skipif(os.name != "posix", reason="names and sparse files of POSIX")
def test_a_folder_with_odd_files(tmp_path):
    os.makedirs(os.fsencode(tmp_path) + b"/\xff")
    with open(os.fsencode(tmp_path) + b"/\xff/a.bin", "wb") as file:
        file.write(b"ab")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    os.mkfifo(tmp_path / "pipe")
    store = Store(tmp_path)
    odd, sparse = sorted(store.names(), key=len, reverse=True)
    assert store.read(odd) == b"ab"
    assert len(Recordings([odd], store.read, stamp=store.stamp([odd]), sensor_size=(2,)).stamp) == 64
    with pytest.raises(ValueError, match=r"Store: expected a file of at most .*sparse"):
        store.read(sparse)
