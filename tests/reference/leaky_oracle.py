"""Leaky traces without reset, in float64, written from their equations; spyx is not imported. Time is axis 1."""

from __future__ import annotations

import numpy as np


def leak(x, beta, start=0.0, gain=1.0):
    """`v_t = beta v_{t-1} + gain x_t`."""
    x = np.asarray(x, np.float64)
    v = np.zeros_like(x[:, 0]) + start
    trace = np.zeros_like(x)
    for t in range(x.shape[1]):
        v = beta * v + gain * x[:, t]
        trace[:, t] = v
    return trace


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def rotation(u, omega, beta, threshold, reset):
    """A damped rotation driven on its real axis: spikes, and the state (x + jy) after every step."""
    z = np.zeros(u[:, 0].shape, complex)
    spikes, states = np.zeros(u.shape), np.zeros(u.shape, complex)
    for t in range(u.shape[1]):
        z = beta * np.exp(1j * omega) * z + u[:, t]
        spikes[:, t] = z.imag > threshold
        if reset:
            z = np.where(spikes[:, t] > 0, 1j * threshold, z)
        states[:, t] = z
    return spikes, states
