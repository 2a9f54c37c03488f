"""`spyx data`: list, info and fetch; files come from a folder on this machine."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest

from cli.conftest import spyx
from spyx import data
from spyx.data.sets import NAMES, shd


def test_list_and_info():
    lines = spyx("data", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert "fetched" in lines[NAMES.index("shd")]
    shown = spyx("data", "info", "SHD").stdout
    assert "md5:f3252aeb598ac776c1b526422d90eecb" in shown
    assert "CC BY 4.0" in shown
    assert json.loads(spyx("data", "info", "braille", "--json").stdout)["options"]["root"] == "needed"
    assert "Did you mean digits?" in spyx("data", "info", "digit").stderr
    assert "needs no files" in spyx("data", "fetch", "digits", "x").stderr
    assert "has no address that stays" in spyx("data", "fetch", "nmnist", "x").stderr


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """An address that has both archives, with their checksums in the place of the publisher's."""
    folder, sums = tmp_path / "mirror", {}
    folder.mkdir()
    for name in shd.CHECKSUMS:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as file:
            file.writestr(name, b"spikes" * 1000)
        sums[name] = "sha256:" + hashlib.sha256((folder / f"{name}.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(shd, "CHECKSUMS", sums)
    return folder


def test_fetch_from_a_mirror_once(mirror, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for name in shd.CHECKSUMS:
        (wrong / f"{name}.zip").write_bytes(b"another file")
    arguments = ("data", "fetch", "shd", tmp_path / "shd", "--mirror", wrong.as_uri(), "--mirror", mirror.as_uri())
    first, again = spyx(*arguments), spyx(*arguments)
    assert first.exit_code == 0, first.stderr
    assert first.stdout.count("its checksum is right") == 2
    assert "MB" in first.stdout
    assert again.stdout.count("is there already") == 2
    assert (tmp_path / "shd" / "shd_test.h5").read_bytes() == b"spikes" * 1000


def test_mirrors_are_tried_in_order_and_the_last_error_is_told(tmp_path):
    content = b"spikes" * 100
    (tmp_path / "good").write_bytes(content)
    (tmp_path / "bad").write_bytes(b"x")
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    urls = [(tmp_path / name).as_uri() for name in ("missing", "bad", "good")]
    seen = []
    path = data.download(urls, tmp_path / "to", checksum, progress=lambda *at: seen.append(at))
    assert path.read_bytes() == content
    assert seen[-1] == (600, 600)
    with pytest.raises(ValueError, match="bad; got"):
        data.download(urls[:2], tmp_path / "other", checksum)
    with pytest.raises(ValueError, match="got no address"):
        data.download([], tmp_path / "other", checksum)
