"""Neurons of papers, each a loop in NumPy float64 written from its equations. Never imports spyx.

`fire` is the spike function; `held` are the spikes of a detached reset, given: what it is to a finite difference.
"""

from __future__ import annotations

import numpy as np


def heaviside(u):
    return (u > 0).astype(np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def simulate(kind, x, p, fire=heaviside, held=None):
    """Outputs (batch, time, units), the last state by name, and the spikes of the resets."""
    run = RULES[kind]
    x = np.asarray(x, np.float64)
    p = {name: np.asarray(value, np.float64) for name, value in p.items()}
    state = {name: np.full(x[:, 0].shape, rest) for name, rest in REST[kind].items()}
    outs, resets = np.zeros_like(x), np.zeros_like(x)
    for t in range(x.shape[1]):
        outs[:, t], state, resets[:, t] = run(p, x[:, t], state, fire, None if held is None else held[:, t])
    return outs, state, resets


def ad_lif(p, x, s, fire, held):
    alpha, beta = np.exp(-1 / p["tau_u"]), np.exp(-1 / p["tau_w"])
    u = alpha * s["u"] + (1 - alpha) * (x - s["w"])
    z = fire(u - 1)
    r = z if held is None else held
    u = u * (1 - r)
    w = beta * s["w"] + (1 - beta) * 120 * (p["a"] * u + p["b"] * z)
    return z, {"u": u, "w": w}, r


def ef_ad_lif(p, x, s, fire, held):
    """The paper's order: the membrane is stored as it fired and reset at the start of the next step."""
    alpha, beta = np.exp(-1 / p["tau_u"]), np.exp(-1 / p["tau_w"])
    u = alpha * s["u"] + (1 - alpha) * (x - s["w"])
    w = beta * s["w"] + (1 - beta) * 60 * (p["a"] * s["u"] + p["b"] * s["z"])
    z = fire(u - 1)
    r = z if held is None else held
    return z, {"u": u * (1 - r), "w": w, "z": z}, r


def c_ad_lif(p, x, s, fire, held, alpha=None, beta=None):
    alpha, beta = p.get("alpha", alpha), p.get("beta", beta)
    w = beta * s["w"] + p["a"] * s["u"] + p["b"] * s["z"]
    u = alpha * (s["u"] - s["z"]) + (1 - alpha) * (x - w)
    z = fire(u - 1)
    return z, {"u": u, "w": w, "z": z}, z


def si_lif(p, x, s, fire, held):
    dt = np.exp(p["log_dt"])
    alpha, beta = np.exp(-np.exp(p["log_rate_u"]) * dt), np.exp(-np.exp(p["log_rate_w"]) * dt)
    return c_ad_lif(p, x, s, fire, held, alpha, beta)


def c_si_lif(p, x, s, fire, held):
    """With complex numbers, as in the paper."""
    alpha = np.exp(np.exp(p["log_dt"]) * (-np.exp(p["log_rate"]) + 1j * p["omega"]))
    u = alpha * (s["x"] + 1j * s["y"] - 0.5 * s["z"]) + p["b"] * x
    z = fire(2 * u.real - 1)
    return z, {"x": u.real, "y": u.imag, "z": z}, z


def brf(p, x, s, fire, held):
    dt, omega = 0.01, np.abs(p["omega"])
    b = (np.sqrt(1 - (dt * omega) ** 2) - 1) / dt - np.abs(p["b_offset"]) - s["q"]
    u = s["u"] + dt * (b * s["u"] - omega * s["v"] + x)
    v = s["v"] + dt * (omega * s["u"] + b * s["v"])
    z = fire(u - 1 - s["q"])
    return z, {"u": u, "v": v, "q": 0.9 * s["q"] + z}, z


def plif(p, x, s, fire, held):
    tau = 1 / sigmoid(-p["beta"])  # 1 / tau is the sigmoid of the paper's parameter
    u = s["v"] + (x - s["v"]) / tau
    z = fire(u - 1)
    return z, {"v": u * (1 - z)}, z


def glif(p, x, s, fire, held):
    g = {name: sigmoid(value) for name, value in p.items()}
    z = fire(s["v"] - g["threshold"])
    exponential = 1 - g["alpha"] * (1 - g["tau"])
    current = x * (1 - g["beta"] * (1 - g["conduct"]))
    v = exponential * s["v"] - (1 - g["alpha"]) * g["leak"] + current
    v = v - exponential * s["v"] * g["gamma"] * z - (1 - g["gamma"]) * g["reset"] * z
    return fire(v - g["threshold"]), {"v": v}, z


def tc_lif(p, x, s, fire, held):
    d = s["d"] - sigmoid(p["beta_d"]) * s["v"] + x
    v = s["v"] + sigmoid(p["beta_v"]) * d
    z = fire(v - 1)
    return z, {"d": d - 0.5 * z, "v": v - z}, z


def izhikevich(p, x, s, fire, held):
    v, u = s["v"], s["u"]
    v2 = v + 0.5 * (0.04 * v * v + 5 * v + 140 - u + x)
    u2 = u + 0.5 * 0.02 * (0.2 * v - u)
    z = fire(v2 - 30)
    return z, {"v": v2 + z * (-65 - v2), "u": u2 + 8 * z}, z


def ad_ex(p, x, s, fire, held):
    v, w = s["v"], s["w"]
    current = -30 * (v + 70.6) + 30 * 2 * np.exp((np.minimum(v, 20) + 50.4) / 2) - w + x
    v2, w2 = v + 0.1 * current / 281, w + 0.1 * (4 * (v + 70.6) - w) / 144
    z = fire(v2 - 20)
    return z, {"v": v2 + z * (-70.6 - v2), "w": w2 + 80.5 * z}, z


def sigma_delta(p, x, s, fire, held):
    total = s["s"] + x
    change = np.maximum(total + p["bias"], 0) - s["r"]
    sent = change * fire(np.abs(change) - 0.1)
    return sent, {"s": total, "r": s["r"] + sent}, sent


RULES = {
    "adLIF": ad_lif,
    "EFadLIF": ef_ad_lif,
    "cAdLIF": c_ad_lif,
    "SiLIF": si_lif,
    "CSiLIF": c_si_lif,
    "BRF": brf,
    "PLIF": plif,
    "GLIF": glif,
    "TCLIF": tc_lif,
    "Izhikevich": izhikevich,
    "AdEx": ad_ex,
    "SigmaDelta": sigma_delta,
}
REST = {
    "adLIF": {"u": 0, "w": 0},
    **dict.fromkeys(("EFadLIF", "cAdLIF", "SiLIF"), {"u": 0, "w": 0, "z": 0}),
    "CSiLIF": {"x": 0, "y": 0, "z": 0},
    "BRF": {"u": 0, "v": 0, "q": 0},
    **dict.fromkeys(("PLIF", "GLIF"), {"v": 0}),
    "TCLIF": {"d": 0, "v": 0},
    "Izhikevich": {"v": -65, "u": -13},
    "AdEx": {"v": -70.6, "w": 0},
    "SigmaDelta": {"s": 0, "r": 0},
}
REST = {kind: {name: float(value) for name, value in rest.items()} for kind, rest in REST.items()}
