"""Encoders in plain NumPy, value by value, written from their definitions; spyx is not imported."""

from __future__ import annotations

import numpy as np


def angle_index(x, neuron_count, min_val, max_val):
    """The interval of each value: how many edges it has reached, less one, kept within the neurons."""
    edges = np.linspace(min_val, max_val, neuron_count, dtype=np.float32)
    reached = (np.asarray(x, np.float32)[..., None] >= edges).sum(-1)
    return np.clip(reached - 1, 0, neuron_count - 1)


def latency_times(x, num_steps, threshold):
    """Spike time of each value, -1 where it stays silent."""
    x = np.clip(np.asarray(x, np.float32), 0, 1)
    times = np.round((np.float32(1) - x) * np.float32(num_steps - 1)).astype(int)
    return np.where(x > np.float32(threshold), times, -1)


def phase_digits(x, num_steps, num_phases):
    """Binary digits of one value through string formatting."""
    whole = int(np.round(np.clip(np.float32(x), 0, 1) * np.float32(2**num_phases - 1)))
    digits = [int(digit) for digit in format(whole, f"0{num_phases}b")]
    return [digits[step % num_phases] for step in range(num_steps)]


def delta_spikes(signal, threshold):
    """Step-forward encoding of one signal: rows of (up, down)."""
    base, spikes = np.float32(signal[0]), []
    for value in np.asarray(signal, np.float32):
        up, down = value > base + np.float32(threshold), value < base - np.float32(threshold)
        base = base + np.float32(threshold) * (np.float32(up) - np.float32(down))
        spikes.append((int(up), int(down)))
    return np.array(spikes)


def rolls(x, max_shift, axes):
    """Every array that a shift of at most max_shift along each axis can make."""
    made = [np.asarray(x)]
    for axis in axes:
        made = [np.roll(array, shift, axis) for array in made for shift in range(-max_shift, max_shift + 1)]
    return made
