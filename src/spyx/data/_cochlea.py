"""From sound to spikes: a filter bank like the ear's, and a nerve fibre for each channel that adapts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spyx.data._events import Events

BANKS = ("mel", "gammatone")
US_PER_MS = 1000


@dataclass(frozen=True)
class Cochlea:
    """Turns a sound into the spike trains of `num_channels` fibres, ordered from low to high frequency.

    E_c(t): energy of channel c in a window around t; d_c(t) = clip(1 + 10 log10(E_c(t) / max E) / range_db, 0, 1);
    v <- exp(-step / tau) v + step d; a spike where v >= threshold + a; then v <- v - threshold - a and
    a <- exp(-step / tau_a) a + adaptation (spike).

    Loudness is measured against the loudest moment of the recording, so the volume does not matter. A spike at time t
    belongs to the window that is centred on t.

    Args:
        num_channels: number of fibres, >= 1. Default 64.
        sample_rate_hz: samples a second of the sounds it will be given. Default 8,000.
        bank: "mel" (triangles on the mel scale) or "gammatone" (fourth order, on the ERB scale). Default "mel".
        low_hz: centre of the lowest channel, > 0. Default 60.
        high_hz: centre of the highest channel, below half the sample rate. Default 3,800.
        step_ms: time step, a whole number of microseconds; at most one spike per fibre and step. Default 2.
        window_ms: length of the window, >= `step_ms`. Default 25.
        range_db: this far below the loudest moment a channel is silent, > 0. Default 60.
        tau_ms: membrane time constant, > 0. Default 20.
        threshold_ms: milliseconds of full drive that make a spike, > 0. Default 2.5.
        adaptation_ms: rise of the threshold with each spike, >= 0. Default 2.
        tau_adaptation_ms: time constant of its return, > 0. Default 60.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(800) / 8000)
        >>> events = Cochlea(num_channels=8)(tone)
        >>> int(np.bincount(events.unit, minlength=8).argmax())
        3

    Reference:
        B. R. Glasberg and B. C. J. Moore (1990), doi:10.1016/0378-5955(90)90170-T, for the ERB scale;
        B. Cramer et al. (2022), doi:10.1109/TNNLS.2020.3044364, for spikes from a cochlea model.
    """

    num_channels: int = 64
    sample_rate_hz: int = 8000
    bank: str = "mel"
    low_hz: float = 60.0
    high_hz: float = 3800.0
    step_ms: float = 2.0
    window_ms: float = 25.0
    range_db: float = 60.0
    tau_ms: float = 20.0
    threshold_ms: float = 2.5
    adaptation_ms: float = 2.0
    tau_adaptation_ms: float = 60.0

    def __post_init__(self) -> None:
        if self.bank not in BANKS:
            raise ValueError(f"Cochlea: expected bank to be one of {BANKS}; got {self.bank!r}.")
        for name in ("num_channels", "sample_rate_hz", "range_db", "tau_ms", "threshold_ms", "tau_adaptation_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"Cochlea: expected {name} > 0; got {getattr(self, name)}.")
        if not 0 < self.low_hz < self.high_hz < self.sample_rate_hz / 2:
            raise ValueError(
                f"Cochlea: expected 0 < low_hz < high_hz < {self.sample_rate_hz / 2:g}, half the sample rate; "
                f"got {self.low_hz:g} and {self.high_hz:g}."
            )
        step_us = self.step_ms * US_PER_MS
        if step_us < 1 or abs(step_us - round(step_us)) > 1e-6 or self.window_ms < self.step_ms:
            raise ValueError(
                f"Cochlea: expected step_ms in whole microseconds and window_ms >= step_ms; "
                f"got {self.step_ms} and {self.window_ms}."
            )
        if self.adaptation_ms < 0:
            raise ValueError(f"Cochlea: expected adaptation_ms >= 0; got {self.adaptation_ms}.")

    def __call__(self, sound: np.ndarray) -> Events:
        """Turns samples of shape (samples,) into spikes; a silent sound gives none.

        Raises:
            ValueError: if the sound is not one channel of finite samples, or shorter than one step.
        """
        sound = np.asarray(sound, np.float64)
        if sound.ndim != 1 or not np.isfinite(sound).all() or len(sound) < self.sample_rate_hz * self.step_ms / 1000:
            raise ValueError(
                f"Cochlea: expected finite samples of shape (samples,), at least {self.step_ms} ms of them; "
                f"got shape {sound.shape}. Mix channels down, and cut silence."
            )
        step, unit = np.nonzero(self._spikes(self.drive(sound)))
        return Events(
            step.astype(np.int64) * round(self.step_ms * US_PER_MS), unit=unit, sensor_size=(self.num_channels,)
        )

    def drive(self, sound: np.ndarray) -> np.ndarray:
        """What each fibre hears, shape (time, channels), float64 in [0, 1]."""
        energy = self._mel(sound) if self.bank == "mel" else self._gammatone(sound)
        loudest = energy.max()
        if loudest <= 0:
            return np.zeros_like(energy)
        decibels = 10 * np.log10(np.maximum(energy / loudest, np.finfo(float).tiny))
        return np.clip(1 + decibels / self.range_db, 0, 1)

    def centres_hz(self) -> np.ndarray:
        """Centre frequency of each channel."""
        scale, back = _SCALES[self.bank]
        return back(np.linspace(scale(self.low_hz), scale(self.high_hz), self.num_channels))

    def _windows(self, sound: np.ndarray) -> np.ndarray:
        """Stretches of `window_ms` around each step, shape (time, window)."""
        width = max(round(self.window_ms / 1000 * self.sample_rate_hz), 1)
        steps = int(len(sound) / self.sample_rate_hz * 1000 // self.step_ms)
        first = np.round(np.arange(steps) * self.step_ms / 1000 * self.sample_rate_hz).astype(int)
        padded = np.pad(sound, (width // 2, width))
        return np.lib.stride_tricks.sliding_window_view(padded, width)[first]

    def _mel(self, sound: np.ndarray) -> np.ndarray:
        windows = self._windows(sound)
        # Zero padding makes the frequency grid finer than the narrowest triangle.
        size = 1 << int(np.ceil(np.log2(windows.shape[1] * 4)))
        spectrum = np.fft.rfft(windows * np.hanning(windows.shape[1]), size)
        return (spectrum.real**2 + spectrum.imag**2) @ _triangles(self, size)

    def _gammatone(self, sound: np.ndarray) -> np.ndarray:
        response = _responses(self)
        size = 1 << int(np.ceil(np.log2(len(sound) + response.shape[1])))
        heard = np.fft.ifft(np.fft.fft(sound, size) * np.fft.fft(response, size))[:, : len(sound)]
        return np.stack([self._windows(channel).mean(axis=1) for channel in np.abs(heard) ** 2], axis=1)

    def _spikes(self, drive: np.ndarray) -> np.ndarray:
        keep, keep_adaptation = np.exp(-self.step_ms / np.array([self.tau_ms, self.tau_adaptation_ms]))
        membrane, adaptation = np.zeros(self.num_channels), np.zeros(self.num_channels)
        spikes = np.zeros(drive.shape, bool)
        for step, now in enumerate(drive):
            membrane = keep * membrane + self.step_ms * now
            spikes[step] = membrane >= self.threshold_ms + adaptation
            membrane -= spikes[step] * (self.threshold_ms + adaptation)
            adaptation = keep_adaptation * adaptation + self.adaptation_ms * spikes[step]
        return spikes


@lru_cache(maxsize=4)
def _triangles(cochlea: Cochlea, size: int) -> np.ndarray:
    """Weight of each frequency in each mel channel, shape (frequencies, channels)."""
    scale, _ = _SCALES["mel"]
    centres = cochlea.centres_hz()
    gap = (scale(cochlea.high_hz) - scale(cochlea.low_hz)) / max(cochlea.num_channels - 1, 1)
    grid = np.fft.rfftfreq(size, 1 / cochlea.sample_rate_hz)
    triangles = np.clip(1 - np.abs(scale(grid)[:, None] - scale(centres)) / gap, 0, None)
    nearest = np.abs(grid[:, None] - centres).argmin(axis=0)
    triangles[nearest, np.arange(cochlea.num_channels)] += 1e-3
    return triangles / triangles.sum(axis=0)


@lru_cache(maxsize=4)
def _responses(cochlea: Cochlea) -> np.ndarray:
    """Complex impulse response of each gammatone channel, shape (channels, samples)."""
    centres = cochlea.centres_hz()[:, None]
    time = np.arange(int(0.128 * cochlea.sample_rate_hz)) / cochlea.sample_rate_hz
    bandwidth = 1.019 * 24.7 * (4.37e-3 * centres + 1)
    response = time**3 * np.exp(2 * np.pi * (1j * centres - bandwidth) * time)
    return response / np.abs(response).sum(axis=1, keepdims=True)


def _mel(hz):
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def _mel_back(mel):
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def _erb(hz):
    return 21.4 * np.log10(1 + 4.37e-3 * np.asarray(hz))


def _erb_back(erb):
    return (10 ** (np.asarray(erb) / 21.4) - 1) / 4.37e-3


_SCALES = {"mel": (_mel, _mel_back), "gammatone": (_erb, _erb_back)}
