"""Pages for tests: an ordinary run, and one in which every text is hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flax import nnx

from spyx import fn, nn, report

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "\u202egnp.exe",
    "a\x1b[2J\x00b",
    "x" * 10_000,
    "\u0645\u0631\u062d\u0628\u0627",
    "\"'`${alert(3)}",
    "\ud800 half",
    "\u2028line",
    "&lt;b&gt;",
    "__proto__",
]
HISTORY = [{"train_loss": 1.0 / n, "eval_loss": 1.1 / n, "eval_acc": 1 - 0.6 / n} for n in range(1, 13)]


def data() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return (draw.random((30, 9, 5)) < 0.4).astype(np.float32), np.arange(30) % 3


def network() -> nn.Sequential:
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nnx.Linear(5, 7, rngs=rngs), nn.LIF(7, beta=0.9, threshold=0.2), nnx.Linear(7, 3, rngs=rngs), nn.LI(3)
    )


def watched(model: nn.Sequential) -> report.LayerHistory:
    x, y = data()
    watch = report.LayerHistory(fn.integral_crossentropy(), (x[:4], y[:4]))
    watch(0, model)
    watch(1, model)
    return watch


def write_ordinary(folder: Path) -> Path:
    model = network()
    return report.write_page(
        folder,
        HISTORY,
        model=model,
        data=data(),
        train_data=data(),
        layers=watched(model),
        results={"test accuracy": 0.9},
        settings={"hidden": (7,), "raster": {"bin_ms": 2.0}},
        command="python train.py --seed 0",
        title="ordinary",
    )


def write_hostile(folder: Path) -> Path:
    """Every text is one of `HOSTILE`, and every kind of number that is none."""
    model, nan = network(), float("nan")
    watch = report.LayerHistory(fn.integral_crossentropy(), data())
    for epoch, text in ((1, HOSTILE[0]), (1, HOSTILE[5]), (2, HOSTILE[1])):
        watch.rows.append({"epoch": epoch, "layer": text, "rate": nan, "silent": 0.5, "gradient": float("inf")})
    history = [
        {"train_loss": 1.0, "eval_loss": nan, "eval_acc": 0.3, HOSTILE[0]: 1.0},
        {"train_loss": float("inf"), "eval_loss": -float("inf"), "eval_acc": nan},
        {"train_loss": 0.5, "eval_loss": 1e300, "eval_acc": 0.5, HOSTILE[0]: 2.0},
    ]
    return report.write_page(
        folder,
        history,
        model=model,
        data=data(),
        layers=watch,
        title=HOSTILE[1],
        part=HOSTILE[0],
        loss_name=HOSTILE[1],
        class_names=HOSTILE[:3],
        command=" ".join(HOSTILE),
        results=dict.fromkeys(HOSTILE, nan) | {"word": HOSTILE[0]},
        settings=dict(enumerate(HOSTILE))
        | {text: text for text in HOSTILE}
        | {"n": nan, "big": 10**400, "no": object()},
    )
