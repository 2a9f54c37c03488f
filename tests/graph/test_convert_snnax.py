"""The example that brings an SNNAX network over runs, and its LIF is the equation that it claims to be."""

from __future__ import annotations

import runpy
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from spyx import nn

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "convert_snnax.py"


def test_the_example_runs_and_says_what_differs():
    words = runpy.run_path(str(SCRIPT))["main"]()
    assert "lif1    SnnaxLIF(16)  <- fc1 (+1)" in words
    straight, delayed = (int(line.split()[-1]) for line in words.splitlines()[-2:])
    assert delayed == straight + 3


def test_the_lif_of_the_example_is_snnax_s_equation():
    neuron = runpy.run_path(str(SCRIPT))["SnnaxLIF"]
    x = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32) * 8
    out, state = nn.run(neuron(3, alpha=0.8, beta=0.3), jnp.asarray(x))
    mem, syn, spk = (np.zeros((2, 3)) for _ in range(3))
    spikes = []
    for t in range(30):
        mem = 0.8 * (mem - mem * spk) + 0.2 * syn
        syn = 0.5 * syn + 0.5 * x[:, t]  # 0.3 is clamped to 0.5
        spk = (mem - 1 >= 0).astype(float)
        spikes.append(spk)
    assert sum(s.sum() for s in spikes) > 5
    np.testing.assert_array_equal(out, np.stack(spikes, 1))
    np.testing.assert_allclose(state.mem, mem, rtol=1e-4, atol=1e-5)
