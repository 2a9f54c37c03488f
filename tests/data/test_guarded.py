"""Files that leak, crash, hang or cost gigabytes: refused, by name, and the process that reads them is replaced."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
from data import event_files  # noqa: E402
from spyx.data import EventFileError, _guarded, read_events  # noqa: E402
from spyx.data._decode import decode_bytes  # noqa: E402

MIB = 2**20


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left():
    yield
    _guarded.end()


def camera(path, **replaced):
    """A camera recording in which some columns are made by functions of the open group."""
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        for name in ("t", "x", "y", "p"):
            if name in replaced:
                replaced[name](group)
            else:
                group[name] = np.arange(4) % 2 if name == "p" else np.arange(4)
    return path


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"a password, 32 bytes of it......")
    return path


def external_storage(group, secret):
    group.create_dataset("x", (4,), "u1", external=[(str(secret), 0, 4)])


def external_link(group, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file["x"] = np.arange(4)
    group["x"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/x")


def soft_link(group, secret):
    group.file["other"] = np.arange(4)
    group["x"] = h5py.SoftLink("/other")


def virtual(group, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file["x"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "x", (4,))
    group.create_virtual_dataset("x", layout)


def reference(group, secret):
    group.create_dataset("x", (4,), h5py.ref_dtype)


def compound(group, secret):
    group["x"] = np.zeros(4, [("a", "i4")])


WAYS_OUT = [external_storage, external_link, soft_link, virtual, reference, compound]


@pytest.mark.parametrize("way", WAYS_OUT, ids=lambda way: way.__name__)
def test_nothing_but_plain_numbers_inside_the_file_is_read(tmp_path, secret, way):
    path = camera(tmp_path / "a.h5", x=lambda group: way(group, secret))
    with pytest.raises(EventFileError, match=r"expected an HDF5 file of plain data; got /events/x, which .*a\.h5"):
        read_events(path)


def test_spikes_that_lie_outside_the_file_are_refused(tmp_path, secret):
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["spikes/times"] = h5py.ExternalLink(str(secret), "/x")
    with pytest.raises(EventFileError, match="/spikes/times, which is a link to somewhere else"):
        read_events(tmp_path / "out.h5", index=0)


def test_what_would_unpack_to_too_much_is_refused_before_it_is_read(tmp_path):
    def huge(group):
        group.create_dataset("x", (10**9,), "u2", chunks=(1024,), compression="gzip")

    path = camera(tmp_path / "a.h5", x=huge)
    with pytest.raises(EventFileError, match=r"/events/x, which takes 2000000000 bytes, over the limit.*max_bytes="):
        read_events(path)
    small = camera(tmp_path / "b.h5")
    with pytest.raises(EventFileError, match="over the limit"):
        read_events(small, max_bytes=40)
    assert len(read_events(small, max_bytes=10_000)) == 4


def test_pieces_that_are_larger_than_the_data_are_refused(tmp_path):
    def wide(group):
        group.create_dataset("x", (4,), "u2", maxshape=(None,), chunks=(2**30,), compression="gzip")

    with pytest.raises(EventFileError, match=r"/events/x, which is stored in pieces of 2147483648 bytes"):
        read_events(camera(tmp_path / "a.h5", x=wide))


def test_one_heap_object_for_many_rows_costs_what_it_unpacks_to(tmp_path):
    """The rows of a ragged dataset may all be one object of the file."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, kind in (("times", np.float32), ("units", np.uint16)):
            data = file.create_dataset(f"spikes/{name}", (4,), h5py.vlen_dtype(kind))
            data[0] = np.zeros(MIB, kind)
    with pytest.raises(EventFileError, match="/spikes/times, which takes 4194304 bytes, over the limit"):
        read_events(tmp_path / "a.h5", index=0, max_bytes=MIB)
    assert len(read_events(tmp_path / "a.h5", index=0)) == MIB


@pytest.mark.parametrize("offset", [2**62, -(2**62), 1.5, [1, 2]])
def test_an_offset_of_time_never_wraps_around(tmp_path, offset):
    path = camera(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["t_offset"] = offset
    with pytest.raises(EventFileError, match="t_offset"):
        read_events(path)


def act(monkeypatch, tmp_path, code):
    """A reader that does what `code` says when it is asked for a file."""
    worker = tmp_path / "worker.py"
    text = _guarded.WORKER.read_text().replace(
        "def columns(", f"def columns(*given):\n    {code}\n\n\ndef _columns(", 1
    )
    worker.write_text(text)
    monkeypatch.setattr(_guarded, "WORKER", worker)
    _guarded.end()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashes the library"),
        ("while True: pass", "does not come to an end"),
        ("bytearray(2**31)", "MemoryError"),
    ],
)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits are those of Linux")
def test_a_process_that_hangs_crashes_or_bloats_is_replaced(monkeypatch, tmp_path, code, said):
    path = camera(tmp_path / "a.h5")
    with monkeypatch.context() as changed:
        act(changed, tmp_path, code)
        changed.setattr(_guarded, "PATIENCE_S", 0.2)
        with pytest.raises(EventFileError, match=f"an HDF5 file that can be read; got a fault .*{said}.*a.h5"):
            read_events(path)
        _guarded.end()
    assert len(read_events(path)) == 4


def test_a_process_that_stands_still_is_ended_by_the_clock(monkeypatch, tmp_path):
    path = camera(tmp_path / "a.h5")
    with monkeypatch.context() as changed:
        act(changed, tmp_path, "import time; time.sleep(60)")
        changed.setattr(_guarded, "PATIENCE_S", 0.02)
        with pytest.raises(EventFileError, match="does not come to an end"):
            read_events(path)
        _guarded.end()


def test_ctrl_c_while_a_file_is_read_leaves_no_half_of_it(monkeypatch, tmp_path):
    """What the process had written of one file is never taken for the next."""
    path = camera(tmp_path / "a.h5")
    read_events(path)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(_guarded._Reader, "_unpacked", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_events(path)
    assert read_events(path).t.tolist() == [0, 1, 2, 3]


def test_threads_share_one_process(tmp_path):
    paths = [tmp_path / f"{k}.h5" for k in range(4)]
    for k, path in enumerate(paths):
        camera(path, t=lambda group, k=k: group.create_dataset("t", data=np.arange(4) + 100 * k))
    found = []
    threads = [threading.Thread(target=lambda p=p: found.append((p.stem, int(read_events(p).t[0])))) for p in paths * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted((str(k), 100 * k) for k in range(4) for _ in range(8))


def test_a_matlab_file_that_unpacks_to_too_much_is_refused(tmp_path):
    io_module = pytest.importorskip("scipy.io")
    stream = io.BytesIO()
    io_module.savemat(stream, {"x": np.zeros((400, 400, 100)), "y": np.zeros(3)}, do_compression=True)
    path = tmp_path / "bomb.mat"
    path.write_bytes(stream.getvalue())
    with pytest.raises((_guarded.Refused, _guarded.Damaged)):
        _guarded.matrices(str(path), ["x"], _guarded.limits_for(path.stat().st_size))
    assert _guarded.matrices(str(path), ["y"], _guarded.limits_for(path.stat().st_size))["y"].shape == (1, 3)


def test_a_file_that_changes_is_opened_again(tmp_path):
    path = tmp_path / "a.h5"
    for first in (1.0, 2.0):
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            file.create_dataset("a", (1,), h5py.vlen_dtype(np.float32))[0] = [first]
        assert _guarded.rows(str(path), ("a",), 0, 1, _guarded.limits_for(10_000))[0][0].tolist() == [first]


def test_files_as_other_writers_make_them(tmp_path):
    """A chunked, compressed recording with an offset reads as one that is stored plainly."""
    columns = event_files.columns(60)
    plain = decode_bytes(event_files.hdf5(columns), "plain.h5")
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        for name, values in columns.items():
            file.create_dataset(f"events/{name}", data=values, chunks=(16,), compression="gzip", shuffle=True)
        file["t_offset"] = 1000
    packed = read_events(tmp_path / "packed.h5")
    assert (packed.t == plain.t + 1000).all()
    assert (packed.x == plain.x).all()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process is started again")
def test_a_damaged_file_costs_a_copy_and_no_new_process(tmp_path):
    """What the library is left in after one damaged file reaches no other file, and nothing is left behind."""
    good = camera(tmp_path / "good.h5")
    bad = camera(tmp_path / "bad.h5", x=lambda group: group.create_dataset("x", (4,), "u1", chunks=(4,), compression=1))
    with h5py.File(bad, "r+") as file:
        file["events/x"][:] = np.arange(4)
        place = file["events/x"].id.get_chunk_info(0).byte_offset
    content = bytearray(bad.read_bytes())
    content[place : place + 4] = b"\xff" * 4
    bad.write_bytes(content)
    assert len(read_events(good)) == 4
    process = _guarded._readers[-1].process
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    first = Path(children).read_text()
    for _ in range(3):
        with pytest.raises(EventFileError, match=r"bad\.h5"):
            read_events(bad)
        assert len(read_events(good)) == 4
    assert _guarded._readers[-1].process is process
    second = Path(children).read_text()
    assert len(second.split()) == 1
    assert second != first
    _guarded.end()
    assert not Path(f"/proc/{second.split()[0]}").exists(), "not even as one that nobody waited for"
