"""WAV sound files of whole-number samples."""

from __future__ import annotations

import io
import wave

import numpy as np

from spyx.data._decode.source import Source

LONGEST_S = 10
"""A spoken digit takes 2 s at most, and what a cochlea computes for a second takes up to 40 MB."""


def read_sound(content: bytes, name: str, sample_rate_hz: int) -> np.ndarray:
    """Decodes a file as one channel in [-1, 1], float64 of shape (samples,); several channels are averaged.

    Raises:
        EventFileError: if the file is damaged, empty, of another sample rate, or of a kind not known.
    """
    source = Source(name, np.frombuffer(content, np.uint8))
    try:
        with wave.open(io.BytesIO(content)) as file:
            rate, width, channels, length = (
                file.getframerate(),
                file.getsampwidth(),
                file.getnchannels(),
                file.getnframes(),
            )
            raw = file.readframes(length)
    except Exception as fault:  # the wave module promises no particular kind for a damaged file
        raise source.error(0, "a WAV file", str(fault) or type(fault).__name__) from None
    if rate != sample_rate_hz:
        raise source.error(24, f"{sample_rate_hz} samples a second", f"{rate}", "Resample, or set sample_rate_hz.")
    if width not in (1, 2, 4) or channels < 1:
        raise source.error(34, "samples of 8, 16 or 32 bits", f"{8 * width} bits in {channels} channels")
    if length > LONGEST_S * rate:
        raise source.error(40, f"a recording of at most {LONGEST_S} s", f"{length / rate:.0f} s", "Cut it first.")
    if len(raw) != length * width * channels or length == 0:
        raise source.error(len(source), f"{length} samples, at least one", f"{len(raw) // (width * channels)}")
    samples = np.frombuffer(raw, {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float64)
    samples = (samples - 128) / 128 if width == 1 else samples / 2 ** (8 * width - 1)
    return samples.reshape(-1, channels).mean(axis=1)
