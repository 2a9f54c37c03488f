"""NIR's neuron equations under forward Euler or exact decay, one unit vector at a time, typed from the paper.

Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9. The membrane starts at 0 and spikes above its threshold.
"""

from __future__ import annotations

import numpy as np


def run(kind, x, dt, *, integration="euler", reset="nir", spike="post", after_leak=False, weight=None, **p):
    """Spikes (or the membrane of a neuron that has no threshold) for input x (time, units).

    `weight` (to, from) leads the spikes of a step back into the input of the next.
    """
    p = {name: np.asarray(value, np.float64) for name, value in p.items()}
    units = np.zeros(x.shape[1])
    v, i, owed, out = units, units, units, []
    for now in x.astype(np.float64):
        now = now + weight @ out[-1] if weight is not None and out else now
        if kind.startswith("Cuba"):
            lost = dt / p["tau_syn"] if integration == "euler" else 1 - np.exp(-dt / p["tau_syn"])
            i = i - lost * i + dt / p["tau_syn"] * p["w_in"] * now
            now = i
        if kind in ("I", "IF"):
            v = v + dt * p["r"] * now
        else:
            tau = p["tau_mem"] if kind.startswith("Cuba") else p["tau"]
            lost = dt / tau if integration == "euler" else 1 - np.exp(-dt / tau)
            v = v + lost * (p["v_leak"] - v) + dt / tau * p["r"] * now - owed
        if "v_threshold" not in p:
            out.append(v)
            continue
        z = (v > p["v_threshold"]).astype(float)
        out.append(z)
        if after_leak:
            owed = z * p["v_threshold"]
        elif reset == "nir":
            v = np.where(z > 0, p["v_reset"], v)
        elif reset == "zero":
            v = np.where(z > 0, 0.0, v)
        else:
            v = v - z * (p["v_threshold"] - p["v_reset"])
    out = np.stack(out)
    late = spike == "pre" and "v_threshold" in p
    return np.concatenate([np.zeros_like(out[:1]), out[:-1]]) if late else out
