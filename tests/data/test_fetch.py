"""Downloads that break, lie or resume, and archives that try to leave their folder."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import stat
import tarfile
import threading
import zipfile

import pytest

from spyx.data import download, extract

CONTENT = bytes(range(256)) * 40
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Serves CONTENT on this machine alone, honours ranges, and remembers what was asked for."""
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            first = int(re.match(r"bytes=(\d+)-", asked[-1])[1]) if asked[-1] else 0
            if first >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if asked[-1] else 200)
            self.send_header("Content-Length", str(len(CONTENT) - first))
            self.end_headers()
            self.wfile.write(CONTENT[first:])

        def log_message(self, *_):
            pass

    running = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/data", asked
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_file_is_fetched_once(server, tmp_path):
    url, asked = server
    path = tmp_path / "deep" / "data"
    assert download(url, path, CHECKSUM).read_bytes() == CONTENT
    download(url, path, CHECKSUM)
    assert asked == [None]
    assert [p.name for p in path.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("have", [1, 5000, len(CONTENT)])
def test_a_broken_transfer_continues(server, tmp_path, have):
    url, asked = server
    (tmp_path / "data.part").write_bytes(CONTENT[:have])
    assert download(url, tmp_path / "data", CHECKSUM).read_bytes() == CONTENT
    assert asked == [f"bytes={have}-"]


def test_a_server_that_does_not_continue_is_read_from_the_start(tmp_path):
    (tmp_path / "from").write_bytes(CONTENT)
    (tmp_path / "to.part").write_bytes(CONTENT[:5000])  # a file's address always gives the whole
    assert download((tmp_path / "from").as_uri(), tmp_path / "to", CHECKSUM).read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(server, tmp_path):
    url, _ = server
    (tmp_path / "data.part").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"download: expected sha256 .* got .* Nothing was stored"):
        download(url, tmp_path / "data", CHECKSUM)
    assert list(tmp_path.iterdir()) == []
    assert download(url, tmp_path / "data", CHECKSUM).read_bytes() == CONTENT


def test_md5_is_known_and_other_kinds_are_not(server, tmp_path):
    url, _ = server
    assert download(url, tmp_path / "a", "md5:" + hashlib.md5(CONTENT).hexdigest()).exists()
    for address, checksum in ((url, "crc:1"), (url, "abc"), ("ftp://x/y", CHECKSUM)):
        with pytest.raises(ValueError, match=r"download: expected an http\(s\) or file address and a sha256: or md5:"):
            download(address, tmp_path / "b", checksum)


def make_zip(path, names, mode=0):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fine.txt", "fine")
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd" if mode else "evil")


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for info in [tarfile.TarInfo("fine.txt"), *members]:
            info.size = 4 if info.isreg() else 0
            archive.addfile(info, io.BytesIO(b"evil"))


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_outside_the_folder_are_refused_before_anything_is_written(tmp_path, name, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        make_zip(path, [name])
    else:
        make_tar(path, [tar_member(name)])
    with pytest.raises(ValueError, match=r"extract: expected plain files inside .*; got member '.*evil' in .*a\."):
        extract(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    make_tar(tmp_path / "a.tar", [tar_member("link", kind, "/etc/passwd"), tar_member("link/evil")])
    with pytest.raises(ValueError, match="extract: expected plain files"):
        extract(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_zip_archives_are_refused(tmp_path):
    make_zip(tmp_path / "a.zip", ["link"], stat.S_IFLNK | 0o777)
    with pytest.raises(ValueError, match="extract: expected plain files"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_a_link_that_was_there_before_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    make_zip(tmp_path / "a.zip", ["sub/evil"])
    with pytest.raises(ValueError, match="a link on the way to 'sub/evil'"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_archives_that_unpack_to_too_much_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    with pytest.raises(ValueError, match="extract: expected at most 1000000 bytes; got 10000000"):
        extract(tmp_path / "a.zip", tmp_path / "out", largest_bytes=1_000_000)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("a", bytes(70))
        file.writestr("b", bytes(30))
    with pytest.raises(ValueError, match="expected at most 99 bytes; got 100 in"):
        extract(tmp_path / "b.zip", tmp_path / "small", largest_bytes=99)
    assert len(extract(tmp_path / "b.zip", tmp_path / "small", largest_bytes=100)) == 2


def test_damaged_archives_are_refused(tmp_path):
    make_tar(tmp_path / "a.tar.gz", [tar_member(f"{i}") for i in range(200)])
    content = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="extract: expected an intact zip or tar archive; got"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out")
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match="extract: expected an intact zip or tar archive; got"):
        extract(tmp_path / "b.zip", tmp_path / "out")


def test_good_archives_keep_their_folders(tmp_path):
    make_tar(tmp_path / "a.tar.gz", [tar_member("x/y.txt")])
    files = extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert [f.relative_to(tmp_path / "out").as_posix() for f in files] == ["fine.txt", "x/y.txt"]
    assert files[1].read_bytes() == b"evil"
