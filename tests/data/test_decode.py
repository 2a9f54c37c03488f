"""Event files: what was written is read back, real files are read to the event, broken files are refused by name."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from tests.data import event_files
from tests.data.event_files import SUFFIX, WRITERS, columns
from tests.reference.evt3_oracle import decode_words

from spyx.data import EventFileError, read_events
from spyx.data._decode import decode_bytes, evt3_loop

NEEDS = {"hdf5": "h5py"}
FORMAT_OF = {"evt2": "evt", "evt3": "evt"}


def read(content: bytes, writer: str, **options):
    return decode_bytes(content, f"test.{SUFFIX.get(writer, writer)}", FORMAT_OF.get(writer, writer), **options)


def assert_same(events, expected: dict) -> None:
    for name, column in expected.items():
        assert np.array_equal(getattr(events, name), column), name


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_written_is_read_back(writer, tmp_path):
    pytest.importorskip(NEEDS.get(writer, "numpy"))
    path = tmp_path / f"recording.{SUFFIX.get(writer, writer)}"
    c = columns()
    path.write_bytes(WRITERS[writer](c))
    events = read_events(path, "aedat3" if writer == "aedat3" else None)
    assert_same(events, c)
    assert [events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype] == [
        np.int64,
        np.uint16,
        np.uint16,
        np.uint8,
    ]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_aedat4_packets_are_unpacked(codec):
    if codec == "lz4":
        pack, number = pytest.importorskip("lz4.frame").compress, 1
    else:
        pack, number = pytest.importorskip("zstandard").ZstdCompressor().compress, 3
    c = columns()
    content = event_files.aedat4(c, pack, number)
    assert_same(read(content, "aedat4"), c)
    with pytest.raises(EventFileError, match="a packet that"):
        read(content[:-40] + bytes(40), "aedat4")


def test_sensor_size_is_read_from_headers():
    c = columns()
    assert read(event_files.dat(c), "dat").sensor_size == (34, 34)
    assert read(event_files.aedat4(c), "aedat4").sensor_size == (34, 34)
    assert read(event_files.evt3(c), "evt3").sensor_size == (640, 480)
    assert read(event_files.nmnist_bin(c), "nmnist_bin").sensor_size is None


# Each clock wraps while the recording goes on.
@pytest.mark.parametrize(("writer", "period"), [("evt3", 2**24), ("evt2", 2**34), ("dat", 2**32)])
def test_clocks_that_wrap_keep_running(writer, period):
    c = columns(200, last_us=3000)
    c["t"] = c["t"] + period - 1500
    got = read(WRITERS[writer](c), writer)
    assert np.array_equal(got.t - got.t[0], c["t"] - c["t"][0])


def test_nmnist_overflow_rows_advance_the_clock():
    content = bytes([1, 2, 0, 0, 9, 0, 240, 0, 0, 0, 3, 4, 128, 0, 7])
    events = read(content, "nmnist_bin")
    assert events.t.tolist() == [9, 7 + 2**13]
    assert events.x.tolist() == [1, 3]


def test_evt3_vectors_equal_the_plain_loop():
    rng = np.random.default_rng(5)
    t = np.sort(rng.integers(0, 60, 3000)) * 997
    c = {"t": t, "x": rng.integers(0, 60, 3000), "y": rng.integers(0, 4, 3000), "p": rng.integers(0, 2, 3000)}
    order = np.lexsort((c["x"], c["p"], c["y"], c["t"]))
    c = {name: column[order] for name, column in c.items()}
    dense = event_files.evt3(c)
    assert dense != event_files.evt3(c, vectors=False)
    assert_same(read(dense, "evt3"), c)
    words = np.frombuffer(dense[dense.rindex(b"\n", 0, 40) + 1 :], "<u2")
    assert np.array_equal(np.stack([c[name] for name in "txyp"], 1), decode_words(words))


@pytest.mark.parametrize("clock", ["prophesee", "expelliarmus"])
def test_evt3_compiled_loop_equals_the_arrays(shared, monkeypatch, clock):
    pytest.importorskip("numba")
    path = shared / "data" / "events" / "evt3_sample.raw"
    compiled = read_events(path, clock=clock)
    monkeypatch.setattr(evt3_loop, "FEWEST_WORDS", 10**9)
    assert_same(compiled, {name: getattr(read_events(path, clock=clock), name) for name in "txyp"})


@pytest.mark.parametrize("seed", range(20))
def test_evt3_compiled_loop_gives_up_where_the_arrays_complain(monkeypatch, seed):
    numba = pytest.importorskip("numba")
    assert numba
    rng = np.random.default_rng(seed)
    kinds = rng.choice([0, 2, 3, 4, 5, 6, 8, 10, 15] + [9] * (seed % 2), 200).astype(np.uint16)
    words = kinds << 12 | rng.integers(0, 4096, 200).astype(np.uint16)
    words = np.concatenate([np.array([0x8001, 0x6001, 0x0001, 0x3001][: int(rng.integers(0, 5))], np.uint16), words])
    content = b"% evt 3.0\n" + words.tobytes()
    outcome = []
    for fewest in (0, 10**9):
        monkeypatch.setattr(evt3_loop, "FEWEST_WORDS", fewest)
        try:
            events = read(content, "evt3", sort=True)
            outcome.append([getattr(events, name).tolist() for name in "txyp"])
        except EventFileError as error:
            outcome.append(str(error))
    assert outcome[0] == outcome[1]


def test_evt3_base_moves_on_after_each_vector():
    words = [0x8001, 0x6000, 0x0005, 0x3000 | 100, 0x4001, 0x5001, 0x4002, 0x3800 | 7, 0x5003]
    events = read(b"% evt 3.0\n" + struct.pack("<9H", *words), "evt3")
    assert events.x.tolist() == [100, 112, 121, 7, 8]
    assert events.p.tolist() == [0, 0, 0, 1, 1]


def test_evt3_clocks_differ_only_where_low_bits_fall():
    words = [0x8001, 0x6FFE, 0x0005, 0x2003, 0x8002, 0x6000, 0x2003, 0x8002, 0x6005, 0x2003]
    content = b"% evt 3.0\n" + struct.pack("<10H", *words)
    assert read(content, "evt3").t.tolist() == [8190, 8192, 8197]
    assert read(content, "evt3", clock="expelliarmus").t.tolist() == [8190, 12288, 12293]
    with pytest.raises(ValueError, match="expected clock to be one of"):
        read(content, "evt3", clock="sundial")


def test_evt3_sample_equals_its_reference(shared):
    """The recorded reference was decoded with expelliarmus, whose clock counts laps twice: same events, its times."""
    folder = shared / "data" / "events"
    with np.load(folder / "evt3_sample_decoded.npz", allow_pickle=False) as reference:
        expected = {name: reference[name] for name in "txyp"}
    events = read_events(folder / "evt3_sample.raw", clock="expelliarmus")
    assert len(events) == 219_596
    assert_same(events, expected)
    ours = read_events(folder / "evt3_sample.raw")
    assert_same(ours, {name: expected[name] for name in "xyp"})
    # Each time word of the file is within one lap of the others: the camera ran for 8.8 ms, not for 53.9.
    assert ours.t[-1] - ours.t[0] == 8801
    assert expected["t"][-1] - expected["t"][0] == 8801 + 11 * 4096


def test_real_aedat4_dat_and_bin(shared):
    folder = shared / "data" / "events"
    pytest.importorskip("lz4.frame")
    events = read_events(folder / "sample.aedat4")
    # The file's own table of packets says 111,954 as well.
    assert (len(events), events.sensor_size) == (111_954, (320, 240))
    cars = read_events(folder / "sample_ncars.dat")
    assert (len(cars), int(cars.x.max()), int(cars.y.max()), int(cars.t[-1])) == (2009, 77, 41, 99_952)
    assert len(read_events(folder / "sample_nmnist.bin", sensor_size=(34, 34))) == 4325


@pytest.mark.parametrize("writer", WRITERS)
def test_truncated_empty_and_unsorted_files_are_refused(writer):
    pytest.importorskip(NEEDS.get(writer, "numpy"))
    whole = WRITERS[writer](columns())
    with pytest.raises(EventFileError, match=rf"got an empty file at byte 0 of test\.{SUFFIX.get(writer, writer)}"):
        read(b"", writer)
    with pytest.raises(EventFileError, match=r"read_events: expected .*; got .* at byte \d+ of test"):
        read(whole[:-1], writer)
    with pytest.raises(EventFileError):
        read(b"nonsense", writer)


@pytest.mark.parametrize("writer", ["nmnist_bin", "dat", "aedat2", "aedat3", "aedat4", "npz", "npy", "hdf5"])
def test_a_step_back_in_time_is_refused_unless_sorting_is_asked_for(writer):
    pytest.importorskip(NEEDS.get(writer, "numpy"))
    c = columns(50)
    swapped = {name: column.copy() for name, column in c.items()}
    for column in swapped.values():
        column[[20, 21]] = column[[21, 20]]
    content = WRITERS[writer](swapped)
    with pytest.raises(EventFileError, match="times in ascending order; got t = .* Pass sort=True") as caught:
        read(content, writer)
    if writer == "nmnist_bin":
        assert caught.value.offset == 21 * 5
    assert_same(read(content, writer, sort=True), {"t": c["t"]})


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"% format EVT2;height=36;width=35\n", (35, 36)),
        (b"% evt 2.0\n% geometry 40x41\n", (40, 41)),
        (b"% evt 2.0\n% height=36\n", None),
    ],
)
def test_the_header_of_a_raw_file_names_its_sensor(header, size):
    content = event_files.evt2(columns()).replace(b"% evt 2.0\n", header)
    events = read(content, "evt2")
    assert events.sensor_size == size
    assert_same(events, columns())


def test_sorting_keeps_the_order_of_events_at_one_time():
    c = columns(50)
    c["t"][:] = np.tile([7, 3], 25)
    events = read(event_files.npz(c), "npz", sort=True)
    order = [*range(1, 50, 2), *range(0, 50, 2)]
    assert_same(events, {name: column[order] for name, column in c.items()})


@pytest.mark.parametrize(("t", "fits"), [(2**53, True), (2**53 + 1, False), (-(2**53), True), (-(2**53) - 1, False)])
def test_times_within_285_years_are_read(t, fits):
    c = columns(2)
    c["t"][:] = sorted([t, 0])
    if fits:
        assert_same(read(event_files.npz(c), "npz"), {"t": c["t"]})
    else:
        with pytest.raises(EventFileError, match=f"expected a time within 285 years; got t = {t}"):
            read(event_files.npz(c), "npz")


def test_an_event_outside_the_sensor_is_named_with_its_byte():
    c = columns(50)
    c["x"][30] = 60
    with pytest.raises(EventFileError, match=r"expected x in 0\.\.33; got x = 60 at byte 150 of test\.bin") as caught:
        read(event_files.nmnist_bin(c), "nmnist_bin", sensor_size=(34, 34))
    assert caught.value.offset == 150
    assert caught.value.found == "x = 60"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([0x8001, 0x6000, 0x1000], "an EVT3 word; got a word of kind 1 at byte 14"),
        ([0x0005, 0x2003], "a time word before the first event; got an event at byte 12"),
        ([0x8001, 0x2003], "a row word before the first event"),
        ([0x8001, 0x0001, 0x4003], "a base column word before the first vector"),
        ([0x8001, 0x0001, 0x37FF, 0x4003], r"a column in 0\.\.2047; got x = 2048 at byte 16"),
        ([0x8001], "at least one event; got none"),
    ],
)
def test_evt3_words_that_make_no_sense(words, message):
    with pytest.raises(EventFileError, match=message):
        read(b"% evt 3.0\n" + struct.pack(f"<{len(words)}H", *words), "evt3")


def test_unknown_formats_and_options_are_refused():
    with pytest.raises(ValueError, match="expected a format of nmnist_bin, dat"):
        decode_bytes(b"x", "a.bin", "gif")
    with pytest.raises(EventFileError, match="a format known by its first bytes or suffix"):
        decode_bytes(b"what is this", "a.xyz")
    with pytest.raises(TypeError, match="expected options of the format dat; got clock"):
        read(event_files.dat(columns()), "dat", clock="prophesee")
    with pytest.raises(EventFileError, match="Pass the chip= that recorded"):
        decode_bytes(b"#!AER-DAT2.0\n" + struct.pack(">II", 1000 << 12, 5), "a.aedat", chip="davis240")


def test_version_1_dat_has_its_own_bit_layout():
    body = struct.pack("<II", 77, 300 | 200 << 9 | 1 << 17)
    events = read(b"% Version 1\n" + bytes([0, 8]) + body, "dat")
    assert (events.x[0], events.y[0], events.p[0], events.t[0]) == (300, 200, 1, 77)


def test_dsec_times_get_their_offset():
    pytest.importorskip("h5py")
    c = columns(20)
    assert_same(read(event_files.hdf5(c, offset=1_000_000), "hdf5"), {"t": c["t"] + 1_000_000})


def test_numpy_headers_cannot_ask_for_more_than_the_file_holds():
    content = event_files.npy(columns(3)).replace(b"'shape': (3,), }", b"'shape': (9999999999999,), }", 1)
    with pytest.raises(EventFileError):
        read(content, "npy")


def test_pickled_arrays_are_refused(tmp_path):
    table = np.empty(1, object)
    np.save(tmp_path / "evil.npy", table, allow_pickle=True)
    with pytest.raises(EventFileError, match="numbers"):
        read_events(tmp_path / "evil.npy")


def test_the_header_of_aedat4_takes_linear_time():
    whole = event_files.aedat4(columns())
    size = int.from_bytes(whole[14:18], "little")
    for text in (b'path="/mainloop/' * 40_000, b'path="/mainloop/x/outInfo/0/info/">' * 20_000, b'"/info/' * 90_000):
        header = whole[18 : 18 + size].replace(b'<node path="/main', text + b'<node path="/main', 1)
        content = whole[:14] + struct.pack("<I", len(header)) + header + whole[18 + size :]
        began = time.process_time()
        assert read(content, "aedat4").sensor_size in ((34, 34), None)
        assert time.process_time() - began < 5  # minutes, with an expression that starts again at each


def test_packets_of_zstandard_stop_at_the_budget():
    zstandard = pytest.importorskip("zstandard")
    c = columns()
    bomb = zstandard.ZstdCompressor().compress(bytes(30_000_000))
    content = event_files.aedat4(c, zstandard.ZstdCompressor().compress, 3) + struct.pack("<ii", 0, len(bomb)) + bomb
    with pytest.raises(EventFileError, match=r"got a packet of more than \d+ bytes at byte"):
        read(content, "aedat4", max_bytes=1_000_000)
    many = event_files.aedat4(c, lambda packet: bomb if packet[8:12] == b"IMUS" else packet, 3)
    with pytest.raises(EventFileError, match="a packet"):
        read(many, "aedat4", max_bytes=1_000_000)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_damaged_packet_is_noticed_by_its_checksum(codec):
    if codec == "lz4":
        number, frame = 1, pytest.importorskip("lz4.frame")

        def pack(packet):
            return frame.compress(packet, content_checksum=True)
    else:
        number, zstandard = 3, pytest.importorskip("zstandard")
        pack = zstandard.ZstdCompressor(write_checksum=True, level=1).compress
    content = bytearray(event_files.aedat4(columns(), pack, number))
    content[-1] ^= 1  # the checksum of the last packet
    with pytest.raises(EventFileError, match="a packet that unpacks"):
        read(bytes(content), "aedat4")
