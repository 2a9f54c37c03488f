"""Archives and caches of strangers: bombs, damage, sparse members, pipes, crafted headers, and many writers at once."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest

from spyx.data import Packed, _budget, read_events
from spyx.data._archive_or_folder import Store
from spyx.data._cache import MARK, write_packed
from spyx.data._fetch import extract

PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def tar(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def header(name: bytes, size: int, kind: bytes) -> bytes:
    """A tar header made by hand, with its checksum."""
    block = bytearray(512)
    block[: len(name)], block[124:136], block[148:156], block[156:157] = name, b"%011o\0" % size, b" " * 8, kind
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def refused(tmp_path, content: bytes, match: str, name: str = "a.tar", **options) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=match) as error:
        extract(tmp_path / name, tmp_path / "out", **options)
    assert name in str(error.value)
    assert str(error.value).count("extract:") == 1
    assert os.listdir(tmp_path) == [name]
    (tmp_path / name).unlink()


@pytest.mark.parametrize("kind", PACKERS)
def test_a_tar_bomb_is_stopped_at_the_budget(tmp_path, monkeypatch, kind):
    bomb = PACKERS[kind](tar(zeros=bytes(5_000_000)))
    refused(tmp_path, bomb, "expected at most 1000000 bytes; got 5000000", largest_bytes=1_000_000)
    # Members that are promised no content, and zeros after the end, are bytes as well.
    monkeypatch.setattr("spyx.data._fetch.SLACK", 2**16)
    hidden = PACKERS[kind](header(b"././@LongLink", 0, b"L") * 200)
    refused(tmp_path, hidden, "it unpacks to more than", largest_bytes=1000)


@pytest.mark.parametrize("kind", PACKERS)
def test_damage_at_the_very_end_of_an_archive_is_noticed(tmp_path, kind):
    whole = bytearray(PACKERS[kind](tar(a=bytes(range(256)) * 40)))
    refused(tmp_path, bytes(whole[:-3]), "expected an intact zip or tar archive")
    whole[-6] ^= 1  # a checksum, after every byte of the archive has been unpacked
    refused(tmp_path, bytes(whole), "expected an intact zip or tar archive")


def test_damage_inside_a_member_of_a_zip_archive_names_it(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("first", b"x" * 50)
        archive.writestr("second", b"y" * 50)
    refused(tmp_path, stream.getvalue().replace(b"yyy", b"yzy", 1), r"got Bad CRC-32 .* at 'second'", "a.zip")


def test_sparse_members_are_refused(tmp_path):
    old = header(b"sparse", 512, b"S") + bytes(512) + bytes(1024)
    refused(tmp_path, old, "expected plain files inside .*; got member 'sparse'")
    line = b"22 GNU.sparse.major=1\n"
    new = header(b"pax", len(line), b"x") + line.ljust(512, b"\0") + header(b"sparse", 0, b"0") + bytes(1024)
    refused(tmp_path, new, "expected plain files inside .*; got member 'sparse'")


def test_a_tar_header_that_is_quadratic_for_others_is_read_in_linear_time(tmp_path):
    text = b"9" * 2**19  # digits that a regular expression would start at again and again
    content = header(b"pax", len(text), b"x") + text + header(b"a", 0, b"0") + bytes(1024)
    began = time.process_time()
    refused(tmp_path, content, "an extended header that is damaged at byte 0")
    refused(tmp_path, header(b"pax", 2**21, b"x") + bytes(2**21), f"a header of {2**21} bytes at byte 0")
    assert time.process_time() - began < 5  # hours, with such an expression


def test_headers_of_tar_archives_are_checked(tmp_path):
    whole = tar(a=b"hello")
    refused(tmp_path, whole[:600], "cut off|without an end")
    refused(tmp_path, b"b" + whole[1:], "a header with another checksum at byte 0")
    refused(tmp_path, whole + b"more", "something follows the end of the archive")
    refused(tmp_path, header(b"a", 2**60, b"0").replace(b"%011o" % 2**60, b"77777777777"), "expected at most|checksum")


def test_members_that_a_zip_archive_swallows_are_missed(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("one", "two", "three"):
            archive.writestr(name, name)
    content = bytearray(stream.getvalue())
    end = content.rfind(b"PK\x05\x06")
    content[end + 10] = 2  # of three members, two are listed
    refused(tmp_path, bytes(content), "got 3 members where it lists 2", "a.zip")
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="3 members where it lists 2"):
        Store(tmp_path / "a.zip")


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("same", "first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("same", "second")
    refused(tmp_path, stream.getvalue(), "got a name that is there twice, 'same'", "a.zip")
    first = tar(same=b"first")
    refused(tmp_path, first[:1024] + tar(same=b"second"), "got a name that cannot be a file here .* at 'same'")


def test_folders_of_zip_archives_have_no_content(tmp_path):
    stream = io.BytesIO()
    (tmp_path / "a.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("folder")
        archive.writestr("folder/file", b"content")
    assert [file.read_bytes() for file in extract(tmp_path / "a.zip", tmp_path / "out")] == [b"content"]
    (tmp_path / "out" / "folder" / "file").unlink()
    (tmp_path / "out" / "folder").rmdir()
    (tmp_path / "out").rmdir()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("folder/", b"content")
    refused(tmp_path, stream.getvalue(), "got a folder with content, 'folder/'", "a.zip")


def test_a_budget_that_the_caller_raises_is_the_only_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_budget, "FLOOR", 1000)  # 64 MiB
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar(zeros=bytes(700_000))))
    with pytest.raises(ValueError, match="Raise largest_bytes if you trust the archive"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out")
    (file,) = extract(tmp_path / "a.tar.gz", tmp_path / "out", largest_bytes=700_000)
    assert file.stat().st_size == 700_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are those of POSIX")
def test_pipes_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="read_events: expected a regular file; got .*a.bin"):
        read_events(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="extract: expected a regular file; got .*a.bin"):
        extract(tmp_path / "a.bin", tmp_path / "out")
    with pytest.raises(ValueError, match="extract: expected a regular file"):
        extract(tmp_path, tmp_path / "out")


def crafted(fields: dict, records: bytes = b"", count: int = 1) -> bytes:
    """A cache file whose digest is right."""
    raw, table = json.dumps(fields).encode(), bytes(4 * count)
    whole = MARK + len(raw).to_bytes(4, "little") + raw + records + table
    return whole + hashlib.sha256(raw + table).digest()


@pytest.mark.parametrize(
    "shape",
    [[], [0], [2, 0, 3], [-1], [-2, -2], [2**70], [1.5], [True], ["8"], "8", 8, None, {"0": 8}, [1] * 40, [8] * 3000],
    ids=lambda shape: str(shape)[:20],
)
def test_crafted_headers_of_caches_are_refused(tmp_path, shape):
    path = tmp_path / "a.spyx"
    path.write_bytes(crafted({"version": 1, "shape": shape, "kind": "bits"}, b""))
    with pytest.raises(ValueError, match=r"Packed: expected a cache file of version 1; got .* in .*a\.spyx"):
        Packed(path)


@pytest.mark.parametrize("kind", ["object", "float64", 7, None, ["bits"]])
def test_crafted_kinds_of_caches_are_refused(tmp_path, kind):
    path = tmp_path / "a.spyx"
    path.write_bytes(crafted({"version": 1, "shape": [8], "kind": kind}, b"\0"))
    with pytest.raises(ValueError, match="a header that cannot be read"):
        Packed(path)


WRITER = """
import sys
import numpy as np
from spyx.data._cache import write_packed
for _ in range(10):
    write_packed(sys.argv[1], np.full((50, 40, 3), 1, np.uint8))
"""


def test_threads_and_processes_write_one_cache_file(tmp_path):
    path = tmp_path / "a.spyx"
    x = np.full((50, 40, 3), 1, np.uint8)
    faults = []

    def write() -> None:
        try:
            for _ in range(10):
                write_packed(path, x)
                assert np.array_equal(np.asarray(Packed(path)), x)
        except Exception as fault:
            faults.append(fault)

    other = subprocess.Popen([sys.executable, "-W", "ignore", "-c", WRITER, str(path)])
    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    assert not faults
    assert os.listdir(tmp_path) == ["a.spyx"]
    assert np.array_equal(np.asarray(Packed(path)), x)
