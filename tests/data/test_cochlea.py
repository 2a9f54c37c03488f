"""The cochlea: each tone has its place, volume does not matter, fibres adapt, and wrong sounds are refused."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from spyx.data import Cochlea, EventFileError
from spyx.data._decode.wav import read_sound

RATE = 8000


def tone(hz: float, seconds: float = 0.3) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)


@pytest.mark.parametrize("bank", ["mel", "gammatone"])
@pytest.mark.parametrize("channel", [3, 11, 20])
def test_each_tone_has_its_place(bank, channel):
    cochlea = Cochlea(num_channels=24, bank=bank)
    drive = cochlea.drive(tone(cochlea.centres_hz()[channel]))
    assert drive[20:-20].mean(axis=0).argmax() == channel
    counts = np.bincount(cochlea(tone(cochlea.centres_hz()[channel])).unit, minlength=24)
    assert counts[channel] == counts.max()


@pytest.mark.parametrize("bank", ["mel", "gammatone"])
def test_volume_does_not_matter_and_silence_is_silent(bank):
    cochlea = Cochlea(num_channels=8, bank=bank)
    loud, quiet = cochlea(tone(500)), cochlea(tone(500) * 1e-3)
    assert np.array_equal(loud.t, quiet.t)
    assert np.array_equal(loud.unit, quiet.unit)
    assert len(cochlea(np.zeros(800))) == 0


@pytest.mark.parametrize("bank", ["_mel", "_gammatone"])
def test_a_channel_holds_power(bank):
    heard = getattr(Cochlea(num_channels=8), bank)
    np.testing.assert_allclose(heard(3 * tone(500)), 9 * heard(tone(500)), rtol=1e-9)


def test_fibres_adapt_to_a_steady_tone():
    def first_and_last_interval(**options):
        cochlea = Cochlea(num_channels=8, **options)
        events = cochlea(tone(cochlea.centres_hz()[4], 0.5))
        gaps = np.diff(events.t[events.unit == 4])
        return gaps[1], gaps[-4:].mean()

    first, last = first_and_last_interval()
    assert last > 1.2 * first
    first, last = first_and_last_interval(adaptation_ms=0.0)
    assert abs(last - first) <= 2000


def test_spikes_follow_the_sound_in_time():
    sound = np.concatenate([np.zeros(RATE // 2), tone(1000, 0.25), np.zeros(RATE // 2)])
    events = Cochlea(num_channels=16)(sound)
    assert 480_000 < events.t.min() < 510_000
    assert 740_000 < events.t.max() < 790_000
    assert set(np.unique(events.t % 2000)) == {0}


def test_spikes_equal_the_equation_of_one_fibre():
    cochlea = Cochlea(num_channels=1, low_hz=400, high_hz=600)
    drive = cochlea.drive(tone(400))[:, 0]
    v = a = 0.0
    expected = []
    for step, d in enumerate(drive):
        v = np.exp(-2 / 20) * v + 2 * d
        z = v >= 2.5 + a
        v -= (2.5 + a) * z
        a = np.exp(-2 / 60) * a + 2 * z
        expected += [step * 2000] * int(z)
    assert cochlea(tone(400)).t.tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bank": "fourier"}, "Cochlea: expected bank to be one of"),
        ({"num_channels": 0}, "Cochlea: expected num_channels > 0; got 0"),
        ({"high_hz": 4000}, "Cochlea: expected 0 < low_hz < high_hz < 4000, half the sample rate; got 60 and 4000"),
        ({"step_ms": 0.0001}, "Cochlea: expected step_ms in whole microseconds"),
        ({"adaptation_ms": -1}, "Cochlea: expected adaptation_ms >= 0; got -1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Cochlea(**options)


@pytest.mark.parametrize("sound", [np.zeros((100, 2)), np.full(100, np.nan), np.zeros(3)])
def test_impossible_sounds_are_refused(sound):
    with pytest.raises(ValueError, match=r"Cochlea: expected finite samples of shape \(samples,\)"):
        Cochlea()(sound)


def wav(samples: np.ndarray, rate: int = RATE, channels: int = 1, width: int = 2) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def test_sound_files_are_scaled_and_mixed_down():
    stereo = np.array([[-32768, 0], [16384, 16384]], "<i2")
    assert read_sound(wav(stereo, channels=2), "a.wav", RATE).tolist() == [-0.5, 0.5]
    assert read_sound(wav(np.array([0, 128, 192], "u1"), width=1), "a.wav", RATE).tolist() == [-1, 0, 0.5]


def test_wrong_sound_files_are_refused():
    whole = wav(np.zeros(50, "<i2"))
    with pytest.raises(EventFileError, match=r"expected 8000 samples a second; got 16000 at byte 24 of a.wav"):
        read_sound(wav(np.zeros(50, "<i2"), rate=16000), "a.wav", RATE)
    for content in (b"", b"RIFF", whole[:-7], wav(np.zeros(0, "<i2")), whole[:30]):
        with pytest.raises(EventFileError, match=r"at byte \d+ of a.wav"):
            read_sound(content, "a.wav", RATE)


def test_long_sounds_are_refused_before_a_cochlea_hears_them():
    with pytest.raises(EventFileError, match=r"expected a recording of at most 10 s; got 11 s at byte 40 of a.wav"):
        read_sound(wav(np.zeros(11 * RATE, "<i2")), "a.wav", RATE)


def test_a_click_is_heard_through_the_window_that_is_centred_on_each_step():
    """A click has the same energy at every frequency: what is left is the squared Hann window, at the click's place."""
    click = np.zeros(1600)
    click[801] = 1.0
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 199)  # 25 ms at 8 kHz
    place = 801 - 16 * np.arange(100) + 100  # of the click in the window around each step of 2 ms
    heard = np.where((place >= 0) & (place < 200), window[np.clip(place, 0, 199)], 0.0) ** 2
    with np.errstate(divide="ignore"):
        expected = np.clip(1 + 10 * np.log10(heard / heard.max()) / 60, 0, 1)
    np.testing.assert_allclose(Cochlea(num_channels=4).drive(click), expected[:, None].repeat(4, 1), atol=1e-9)


def test_a_fibre_that_reaches_its_threshold_exactly_fires():
    click = np.zeros(1600)
    click[801] = 1.0
    sharp = {"num_channels": 1, "low_hz": 400, "high_hz": 600, "range_db": 1e-6}  # the loudest step drives, no other
    assert Cochlea(**sharp, threshold_ms=2.0)(click).t.tolist() == [100_000]
    assert len(Cochlea(**sharp, threshold_ms=np.nextafter(2.0, 3.0))(click)) == 0
