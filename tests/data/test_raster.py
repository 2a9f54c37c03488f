"""Rasters: exact edges, every event in one bin or counted as cut, and two mistakes that others have made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import raster_oracle

from spyx.data import Events, Raster, voxel_grid

SIZE = (6, 4)


def camera(count: int = 300, seed: int = 0, last_us: int = 9_999) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        t=np.sort(rng.integers(0, last_us, count)),
        x=rng.integers(0, SIZE[0], count),
        y=rng.integers(0, SIZE[1], count),
        p=rng.integers(0, 2, count),
        sensor_size=SIZE,
    )


def addresses(events: Events) -> list[tuple[int, ...]]:
    return [(int(y), int(x), int(p)) for x, y, p in zip(events.x, events.y, events.p, strict=True)]


@pytest.mark.parametrize("num_bins", [1, 3, 7, 100, 20_000])
def test_bins_by_number_equal_exact_fractions(num_bins):
    events = camera()
    frames = Raster(num_bins=num_bins)(events)
    start, stop = int(events.t[0]), int(events.t[-1]) + 1
    bins = raster_oracle.bins_by_number(events.t.tolist(), num_bins, start, stop)
    assert np.array_equal(frames.x, raster_oracle.frames(bins, addresses(events), num_bins, (4, 6, 2)))
    assert (int(frames.x.sum()), frames.cut) == (len(events), 0)
    assert np.array_equal(np.searchsorted(frames.edges_us, events.t, side="right") - 1, bins)
    assert (frames.edges_us[0], frames.edges_us[-1]) == (start, stop)


@pytest.mark.parametrize(("bin_ms", "start"), [(1, "zero"), (0.25, "zero"), (3, "first"), (50, "first")])
def test_bins_by_width_equal_exact_division(bin_ms, start):
    events = camera()
    frames = Raster(bin_ms=bin_ms, start=start)(events)
    first = 0 if start == "zero" else int(events.t[0])
    bins = raster_oracle.bins_by_width(events.t.tolist(), round(bin_ms * 1000), first)
    assert np.array_equal(frames.x, raster_oracle.frames(bins, addresses(events), max(bins) + 1, (4, 6, 2)))
    assert np.array_equal(np.searchsorted(frames.edges_us, events.t, side="right") - 1, bins)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    times=st.lists(st.integers(0, 5000), min_size=1, max_size=40).map(sorted),
    way=st.sampled_from([{"num_bins": 1}, {"num_bins": 13}, {"bin_ms": 0.1}, {"bin_ms": 7}, {"events_per_bin": 4}]),
    duration=st.sampled_from([None, 0.5, 1, 4]),
    start=st.sampled_from(["zero", "first"]),
)
def test_every_event_is_in_one_bin_or_cut(times, way, duration, start):
    events = Events(t=times, unit=[0] * len(times), sensor_size=(1,))
    frames = Raster(**way, duration_ms=duration, start=start)(events)
    assert int(frames.x.sum()) + frames.cut == len(events)
    assert (np.diff(frames.edges_us) >= 0).all()
    assert len(frames.edges_us) == len(frames.x) + 1
    if duration is None:
        assert frames.cut == 0
    inside = (events.t >= frames.edges_us[0]) & (events.t < frames.edges_us[-1])
    if "events_per_bin" not in way:
        per_bin = np.diff(np.searchsorted(events.t, frames.edges_us, side="left"))
        assert np.array_equal(frames.x[:, 0], per_bin)
        if duration is not None and "num_bins" in way:
            assert frames.cut == np.count_nonzero(~inside)


def test_a_recipe_from_numpy_integers_is_the_same_recipe():
    few = Raster(num_bins=np.uint8(255), downsample=np.int64(2))
    assert repr(few) == repr(Raster(num_bins=255, downsample=2))  # a cache is found again by this text
    assert np.array_equal(few(camera()).x, Raster(num_bins=255, downsample=2)(camera()).x)


def test_fixed_width_bins_follow_without_gaps():
    """The value of SpikingJelly issue 507: frames start where the last one ended, not at the next event."""
    times = [0, 1, 11, 12, 29, 30]
    frames = Raster(bin_ms=0.010)(Events(t=times, unit=[0] * 6, sensor_size=(1,)))
    assert frames.x[:, 0].tolist() == [2, 2, 1, 1]
    assert len(frames.x) == 30 // 10 + 1
    assert frames.edges_us.tolist() == [0, 10, 20, 30, 40]


def test_a_single_event_is_in_a_single_frame():
    """The value of tonic issue 313: one event and one time bin give a frame that holds the event."""
    frames = Raster(num_bins=1)(Events(t=[937], x=[2], y=[1], p=[1], sensor_size=SIZE))
    assert np.argwhere(frames.x).tolist() == [[0, 1, 2, 1]]
    assert frames.edges_us.tolist() == [937, 938]


def test_events_per_bin_keeps_the_rest():
    frames = Raster(events_per_bin=4)(Events(t=[1, 2, 2, 2, 2, 9, 9], unit=[0] * 7, sensor_size=(1,)))
    assert frames.x[:, 0].tolist() == [4, 3]
    assert frames.edges_us.tolist() == [1, 2, 10]


def test_a_window_gives_all_recordings_equally_many_frames():
    raster = Raster(bin_ms=1, duration_ms=5, start="zero")
    assert raster.num_frames() == 5
    assert Raster(bin_ms=2, duration_ms=5).num_frames() == 3
    assert Raster(bin_ms=2).num_frames() is None
    for last in (900, 4_999, 9_999):
        frames = raster(camera(last_us=last))
        assert len(frames.x) == 5
        assert frames.cut == np.count_nonzero(camera(last_us=last).t >= 5000)


def test_window_that_is_no_multiple_of_the_bin_cuts_at_the_window():
    frames = Raster(bin_ms=2, duration_ms=3)(Events(t=[0, 2999, 3000, 3500], unit=[0] * 4, sensor_size=(1,)))
    assert (frames.x[:, 0].tolist(), frames.cut) == ([1, 1], 2)


def test_polarity_and_downsampling():
    events = camera()
    whole = Raster(num_bins=5)(events).x.astype(np.int64)
    merged = Raster(num_bins=5, polarity="merge")(events).x
    signed = Raster(num_bins=5, polarity="signed")(events).x
    assert np.array_equal(merged, whole.sum(-1))
    assert np.array_equal(signed, whole[..., 1] - whole[..., 0])
    assert signed.dtype == np.int16
    binary = Raster(num_bins=5, binary=True)(events).x
    assert np.array_equal(binary, whole > 0)
    assert binary.dtype == np.uint8
    small = Raster(num_bins=5, downsample=4)(events).x
    assert small.shape == (5, 1, 2, 2)
    padded = np.pad(whole, ((0, 0), (0, 0), (0, 2), (0, 0)))
    assert np.array_equal(small[:, 0], padded.reshape(5, 4, 2, 4, 2).sum((1, 3)))
    units = Raster(num_bins=1, downsample=3)(Events(t=[0, 0, 0, 1], unit=[0, 2, 3, 6], sensor_size=(7,))).x
    assert units.tolist() == [[2, 1, 1]]


def test_voxel_grid_equals_its_equation_and_keeps_the_sum():
    events = camera(80)
    grid = voxel_grid(events, 5)
    expected = np.zeros((5, *SIZE[::-1]))
    tau = 4 * (events.t - events.t[0]) / (events.t[-1] - events.t[0])
    for i in range(len(events)):
        for b in range(5):
            expected[b, events.y[i], events.x[i]] += (2.0 * events.p[i] - 1) * max(0, 1 - abs(b - tau[i]))
    assert np.allclose(grid, expected, atol=1e-5)
    assert grid.sum() == pytest.approx(float((2.0 * events.p - 1).sum()), abs=1e-3)
    assert voxel_grid(events[:1], 3).sum() == 2.0 * events.p[0] - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Raster: expected exactly one of num_bins, bin_ms, events_per_bin; got none"),
        ({"num_bins": 2, "bin_ms": 1}, r"got \{'num_bins': 2, 'bin_ms': 1\}"),
        ({"num_bins": 0}, "Raster: expected num_bins to be a whole number >= 1; got 0"),
        ({"bin_ms": 0.0001}, "Raster: expected bin_ms to be a whole number of microseconds > 0; got 0.0001 ms"),
        ({"bin_ms": 1, "duration_ms": -1}, "expected duration_ms to be a whole number of microseconds > 0; got -1"),
        ({"num_bins": 1, "polarity": "both"}, "expected polarity to be one of"),
        ({"num_bins": 1, "binary": True, "polarity": "signed"}, "expected counts where polarity='signed'"),
    ],
)
def test_impossible_recipes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Raster(**options)


def test_recordings_that_cannot_be_rasterised_are_refused():
    events = Events(t=[1], unit=[5])
    with pytest.raises(ValueError, match="Raster: expected the sensor size; got events without one"):
        Raster(num_bins=1)(events)
    with pytest.raises(ValueError, match=r"Raster: expected unit in 0\.\.3; got 5"):
        Raster(num_bins=1)(events, (4,))
    with pytest.raises(ValueError, match="Raster: expected at least one event; got none"):
        Raster(num_bins=1)(events[:0], (8,))
    many = Events(t=np.zeros(70_000, np.int64), unit=np.zeros(70_000, np.int32), sensor_size=(1,))
    with pytest.raises(ValueError, match="expected at most 65535 events in one place and bin; got 70000"):
        Raster(num_bins=1)(many)


@pytest.mark.parametrize("name", ["unit", "x", "y", "p"])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_a_negative_address_is_refused_in_every_integer_dtype(name, dtype):
    columns = {"unit": [0, 1, 2]} if name == "unit" else {"x": [0, 1, 2], "y": [0, 1, 2], "p": [0, 1, 0]}
    columns = {key: np.array(values, dtype) for key, values in columns.items()}
    assert len(Events(t=[0, 1, 2], **columns)) == 3
    columns[name][1] = -1
    with pytest.raises(ValueError, match=rf"Events: expected {name} in 0\.\.\d+; got -1\.\.\d"):
        Events(t=[0, 1, 2], **columns)


def test_a_part_of_a_recording_holds_its_start_and_not_its_stop():
    events = Events(t=[1, 5, 5, 8, 9], unit=[0, 1, 2, 3, 4], sensor_size=(5,))
    for start, stop, units in (
        (5, 8, [1, 2]),
        (1, 5, [0]),
        (2, 9, [1, 2, 3]),
        (9, 10, [4]),
        (5, 5, []),
        (-3, 99, range(5)),
    ):
        part = events.between(start, stop)
        assert part.unit.tolist() == list(units)
        assert part.sensor_size == (5,)
    assert events[np.array([True, False, False, True, False])].t.tolist() == [1, 8]
    with pytest.raises(ValueError, match="times in ascending order; got t = 1 after 9 at event 1"):
        events[np.array([4, 0])]


def test_the_first_fault_is_told():
    for t, x, message in (
        ([3, 2, 5], [0, 0, 9], "t = 2 after 3 at event 1"),
        ([1, 2, 0], [0, 9, 0], "x = 9 at event 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Events(t=t, x=x, y=[0, 0, 0], p=[0, 0, 0], sensor_size=(4, 4))


def test_columns_have_their_documented_dtypes_and_limits():
    events = Events(t=np.array([1, 2], np.uint32), x=[0, 65_535], y=[65_535, 0], p=[True, False])
    assert [getattr(events, name).dtype for name in "txyp"] == [np.int64, np.uint16, np.uint16, np.uint8]
    units = Events(t=[1], unit=np.array([2**31 - 1], np.uint32))
    assert (units.unit.dtype, units.unit.tolist()) == (np.int32, [2**31 - 1])
    for columns in ({"x": [65_536], "y": [0], "p": [0]}, {"unit": [2**31]}):
        with pytest.raises(ValueError, match="Events: expected"):
            Events(t=[1], **columns)
    with pytest.raises(ValueError, match="Events: expected t in"):
        Events(t=np.array([2**63], np.uint64), unit=[0])
    with pytest.raises(ValueError, match=r"expected unit in 0\.\.3; got unit = 4 at event 1"):
        Events(t=[1, 2, 3], unit=[3, 4, 9], sensor_size=(4,))
    assert units.sensor_size is None


@pytest.mark.parametrize("make", [Raster(num_bins=2), lambda events, size: voxel_grid(events, 2, size)])
def test_addresses_and_rank_of_the_sensor_are_checked(make):
    events = Events(t=[0, 10], x=[3, 0], y=[0, 1], p=[1, 1])
    assert make(events, (4, 2)) is not None
    for size, message in (
        ((3, 2), r"expected x in 0\.\.2; got 3"),
        ((4, 1), r"expected y in 0\.\.0; got 1"),
        ((8,), r"expected a sensor size \(width, height\) for a camera; got \(8,\)"),
        ((4, 2, 2), r"expected a sensor size \(width, height\) for a camera; got \(4, 2, 2\)"),
    ):
        with pytest.raises(ValueError, match=f"^(Raster|voxel_grid): {message}"):
            make(events, size)


def test_the_rank_of_spiking_units_is_checked():
    events = Events(t=[0], unit=[1], sensor_size=(4, 2))
    with pytest.raises(ValueError, match=r"Raster: expected a sensor size \(units,\) for spiking units; got \(4, 2\)"):
        Raster(num_bins=1)(events)


@pytest.mark.parametrize("start", ["zero", "first"])
@pytest.mark.parametrize("num_bins", [1, 7, 1000])
@pytest.mark.parametrize("offset", [10**18, 2**60])
def test_times_near_10_to_the_18_are_binned_exactly(offset, num_bins, start):
    times = [offset, offset + 3, offset + 10**17, offset + 10**17 + 1, 2 * offset]
    events = Events(t=times, unit=[0] * 5, sensor_size=(1,))
    frames = Raster(num_bins=num_bins, start=start)(events)
    first = times[0] if start == "first" else 0
    bins = raster_oracle.bins_by_number(times, num_bins, first, times[-1] + 1)
    assert frames.x[:, 0].tolist() == np.bincount(bins, minlength=num_bins).tolist()
    length = times[-1] + 1 - first
    assert frames.edges_us.tolist() == [first - (-k * length // num_bins) for k in range(num_bins + 1)]


def test_a_voxel_grid_of_times_near_10_to_the_18():
    times = [10**18, 10**18 + 25 * 10**16, 2 * 10**18]
    grid = voxel_grid(Events(t=times, x=[0, 0, 0], y=[0, 0, 0], p=[1, 1, 0], sensor_size=(1, 1)), 101)
    assert np.argwhere(grid).tolist() == [[0, 0, 0], [25, 0, 0], [100, 0, 0]]
    np.testing.assert_allclose(grid[[0, 25, 100], 0, 0], [1, 1, -1], rtol=1e-6)


@pytest.mark.parametrize("way", [{"num_bins": 2}, {"bin_ms": 1}, {"events_per_bin": 2}])
def test_times_beyond_what_can_be_subtracted_are_refused(way):
    for times in ([0, 2**62], [-(2**62), 0]):
        events = Events(t=times, unit=[0, 0], sensor_size=(1,))
        with pytest.raises(
            ValueError, match=r"Raster: expected times and windows of at most 2\*\*61 micro.*got 46116860"
        ):
            Raster(**way)(events)
    camera_events = Events(t=[0, 2**63 - 1], x=[0, 0], y=[0, 0], p=[0, 0], sensor_size=(1, 1))
    with pytest.raises(ValueError, match="voxel_grid: expected times and windows"):
        voxel_grid(camera_events, 2)


def test_the_sign_of_each_event_stays_with_it_where_the_window_cuts():
    """The first events are outside: those inside keep their own signs."""
    events = Events(t=[0, 1, 1000, 1001, 9000], x=[0] * 5, y=[0] * 5, p=[0, 0, 1, 1, 0], sensor_size=(1, 1))
    whole = Raster(bin_ms=1, duration_ms=2, polarity="signed")(events)
    assert (whole.x.ravel().tolist(), whole.cut) == ([-2, 2], 1)
    late = Events(t=[-5, -4, 3, 4, 5, 9000], x=[0] * 6, y=[0] * 6, p=[0, 0, 1, 1, 0, 0], sensor_size=(1, 1))
    frames = Raster(bin_ms=1, duration_ms=2, start="zero", polarity="signed")(late)
    assert (frames.x.ravel().tolist(), frames.cut) == ([1, 0], 3)


@pytest.mark.parametrize(("count", "fits"), [(65_535, True), (65_536, False)])
def test_a_count_up_to_the_largest_uint16_fits(count, fits):
    events = Events(t=np.zeros(count, np.int64), unit=np.zeros(count, np.int32), sensor_size=(1,))
    if fits:
        assert Raster(num_bins=1)(events).x.tolist() == [[count]]
    else:
        with pytest.raises(ValueError, match="at most 65535 events in one place and bin; got 65536"):
            Raster(num_bins=1)(events)


def test_signed_counts_up_to_the_largest_int16_fit():
    def frames(count, p):
        zeros = np.zeros(count, np.int64)
        return Raster(num_bins=1, polarity="signed")(Events(zeros, zeros, zeros, zeros + p, sensor_size=(1, 1))).x

    assert frames(32_767, 1).tolist() == [[[32_767]]]
    assert frames(32_767, 0).tolist() == [[[-32_767]]]
    for p in (0, 1):
        with pytest.raises(ValueError, match="at most 32767 events in one place and bin; got 32768"):
            frames(32_768, p)


def test_events_are_validated():
    with pytest.raises(ValueError, match="Events: expected times in ascending order; got t = 1 after 2 at event 1"):
        Events(t=[2, 1], unit=[0, 0])
    with pytest.raises(ValueError, match=r"Events: expected x in 0\.\.3; got x = 4 at event 1"):
        Events(t=[1, 2], x=[0, 4], y=[0, 0], p=[0, 1], sensor_size=(4, 4))
    with pytest.raises(ValueError, match=r"Events: expected p in 0\.\.1; got 0\.\.2"):
        Events(t=[1, 2], x=[0, 4], y=[0, 0], p=[0, 2])
    with pytest.raises(ValueError, match=r"Events: expected unit of shape \(2,\)"):
        Events(t=[1, 2], unit=[0])
    with pytest.raises(TypeError, match="Events: expected either x, y and p, or unit; got \\['x', 'unit'\\]"):
        Events(t=[1], x=[0], unit=[0])
    with pytest.raises(TypeError, match="Events: expected whole numbers in t; got float64"):
        Events(t=[0.5], unit=[0])
