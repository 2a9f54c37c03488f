"""Losses, metrics and regularisers in plain NumPy, float64, written from their equations; spyx is not imported."""

from __future__ import annotations

import numpy as np


def one_hot(targets, classes):
    return (np.asarray(targets)[..., None] == np.arange(classes)).astype(np.float64)


def smooth(labels, smoothing):
    return (1.0 - smoothing) * labels + smoothing / labels.shape[-1]


def crossentropy(logits, labels):
    shifted = logits - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return float(np.mean(-(labels * log_probability).sum(-1)))


def integral_crossentropy(traces, targets, smoothing=0.3, time_axis=1):
    logits = np.asarray(traces, np.float64).sum(time_axis)
    return crossentropy(logits, smooth(one_hot(targets, logits.shape[-1]), smoothing))


def rate_crossentropy(traces, targets, smoothing=0.0, time_axis=1, logits="count"):
    spikes = np.moveaxis(np.asarray(traces, np.float64), time_axis, 0)
    labels = smooth(one_hot(targets, spikes.shape[-1]), smoothing)
    if logits == "step":
        return float(np.mean([crossentropy(step, labels) for step in spikes]))
    counts = spikes.sum(0)
    return crossentropy(counts if logits == "count" else counts / len(spikes), labels)


def max_crossentropy(traces, targets, smoothing=0.0, time_axis=1):
    logits = np.asarray(traces, np.float64).max(time_axis)
    return crossentropy(logits, smooth(one_hot(targets, logits.shape[-1]), smoothing))


def mse_spikerate(traces, targets, sparsity=0.25, smoothing=0.0, time_axis=1, scale_by_time=True):
    rate = np.asarray(traces, np.float64).mean(time_axis)
    scale = sparsity * (np.shape(traces)[time_axis] if scale_by_time else 1)
    return float(np.mean((rate - smooth(one_hot(targets, rate.shape[-1]), smoothing) * scale) ** 2))


def first_spike_time(spikes):
    """Index of the first spike of each train, its length when there is none; spikes is (time, ...)."""
    fired = np.asarray(spikes) > 0
    return np.where(fired.any(0), fired.argmax(0), len(fired)).astype(np.float64)


def first_spike_time_gradient(train):
    """d t / d s of one train, t = sum over t of the product of (1 - s_u) over u <= t, factor by factor."""
    survive = 1.0 - np.asarray(train, np.float64)
    steps = len(survive)
    return np.array([-sum(np.prod(np.delete(survive[: t + 1], k)) for t in range(k, steps)) for k in range(steps)])


def first_spike_loss(traces, targets, tau_steps=5.0, time_axis=1):
    times = first_spike_time(np.moveaxis(np.asarray(traces), time_axis, 0))
    right = np.take_along_axis(times, np.asarray(targets)[..., None], -1)
    return float(np.mean(np.log(np.exp((right - times) / tau_steps).sum(-1))))


def silence_reg(counts, min_spikes):
    return float(sum((np.maximum(0, min_spikes - np.asarray(c, np.float64).mean(0)) ** 2).sum() for c in counts))


def sparsity_reg(counts, max_spikes, norm):
    layers = [np.asarray(c, np.float64).reshape(len(c), -1).mean(-1) for c in counts]
    return float(sum(norm(np.maximum(0, layer - max_spikes)).sum() for layer in layers))


def huber(x):
    return np.where(np.abs(x) <= 1, 0.5 * x**2, np.abs(x) - 0.5)


def van_rossum(ones, others, tau):
    """D**2 of two lists of spike times: half the sum over all pairs of exp(-|t_i - t_j| / tau), signed by train."""
    times = np.concatenate([ones, others]).astype(np.float64)
    signs = np.concatenate([np.ones(len(ones)), -np.ones(len(others))])
    return float((signs[:, None] * signs * np.exp(-np.abs(times[:, None] - times) / tau)).sum() / 2)
