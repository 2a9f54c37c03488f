"""The pictures of the page "See what a network does": `python docs/figures/see.py [FOLDER]` draws them again.

A small network learns the Randman data set, twice with the right and three times with a small learning rate, and is
recorded on its test part. Everything is made from seeds, so that the pictures come out the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from spyx import axn, data, fn, nn, optimize, report

STEP_MS = 2.0


def network(seed: int, inputs: int, classes: int) -> nn.Sequential:
    """The network of the page, its weights drawn from a seed."""
    rngs = nnx.Rngs(seed)
    spike = axn.superspike(10)
    return nn.Sequential(
        nn.Linear(inputs, 64, rngs=rngs),
        nn.LIF(64, beta=np.float32(0.9), activation=spike),
        nn.Linear(64, 64, rngs=rngs),
        nn.LIF(64, beta=np.float32(0.9), activation=spike),
        nn.Linear(64, classes, rngs=rngs),
        nn.LI(classes, beta=np.float32(0.95)),
    )


def trained(seed: int, rate: float, train: Any, held_out: Any, classes: int, epochs: int) -> tuple[Any, Any]:
    """A network after training, and its history."""
    x, y = train
    batches = (x.reshape(-1, 32, *x.shape[1:]), y.reshape(-1, 32))
    model = nn.calibrate(network(seed, x.shape[-1], classes), x[:128], rate=0.05)
    found = optimize.train(
        model,
        optax.adam(rate),
        fn.integral_crossentropy(),
        batches,
        epochs=epochs,
        eval_data=(held_out[0][None], held_out[1][None]),
        metric_fn=fn.integral_accuracy(),
        key=jax.random.key(seed),
    )
    return found.model, found.history


def moving_bar(steps: int = 40, size: int = 32) -> np.ndarray:
    """Events of a bar that turns: its front edge is on, its rear edge off, and there is noise."""
    draw = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(size) - size / 2 + 0.5, np.arange(size) - size / 2 + 0.5)
    frames = np.zeros((steps, size, size, 2), np.float32)
    for step in range(steps):
        angle = np.pi * step / steps
        distance = across * np.sin(angle) - down * np.cos(angle)
        along = across * np.cos(angle) + down * np.sin(angle)
        inside = (np.abs(along) < 0.42 * size) & (np.abs(distance) < 3)
        frames[step, ..., 1] = inside & (distance * np.sign(along) > 1) & (draw.random((size, size)) < 0.6)
        frames[step, ..., 0] = inside & (distance * np.sign(along) < -1) & (draw.random((size, size)) < 0.6)
    return np.maximum(frames, draw.random(frames.shape) < 0.003)


def part(split: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of all classes in a mixed order, in whole batches."""
    chosen = np.random.default_rng(0).permutation(len(split))[: min(most, 32 * (len(split) // 32))]
    return np.asarray(split.x, np.float32)[chosen], np.asarray(split.y)[chosen]


def main(folder: Path) -> None:
    """Draw all pictures into a folder, on light and on dark paper."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = data.load("randman", num_steps=50)
    train, test = part(sets.train, 1280), part(sets.test, 256)
    classes = sets.num_classes
    runs = {
        "learning rate 0.005": [trained(seed, 5e-3, train, test, classes, 15) for seed in range(3)],
        "learning rate 0.0005": [trained(seed, 5e-4, train, test, classes, 15) for seed in range(3)],
    }
    model, history = runs["learning rate 0.005"][0]
    x, y = test
    seen = report.record(model, x, what=("spikes", "membrane"))
    rates = report.record(model, x, what="rates")
    predictions = seen["5"]["spikes"].sum(1).argmax(-1)
    chosen = report.choose_samples(y, predictions, seen["1"]["spikes"])
    spiking = {layer.name: layer for layer in rates.values() if layer.name.endswith(" LIF")}

    def save(made: Any, name: str) -> None:
        made.savefig(folder / f"{name}.png", dpi=110)

    for dark in (False, True):
        tone = "-dark" if dark else ""
        for word in ("right", "wrong"):
            index = getattr(chosen, word)
            if index is not None:
                title = f"A sample that was predicted {word}"
                made = report.plot_sample(
                    x, seen, sample=index, label_of=int(y[index]), step_ms=STEP_MS, title=title, dark=dark
                )
                save(made, f"sample-{word}{tone}")
        spikes = seen["3"]["spikes"]
        axes = report.plot_raster(
            spikes[chosen.right or 0], classes=report.preferred_classes(spikes, y), sort="first", step_ms=STEP_MS,
            title="Layer 3, neurons by the class they prefer", dark=dark,
        )  # fmt: skip
        save(axes.figure, f"raster{tone}")
        busy = np.argsort(seen["1"]["spikes"][chosen.right or 0].sum(0))[-2:]
        axes = report.plot_membrane(
            seen["1"]["membrane"][chosen.right or 0][:, busy], spikes=seen["1"]["spikes"][chosen.right or 0][:, busy],
            threshold=1.0, names=[f"neuron {n}" for n in busy], step_ms=STEP_MS, dark=dark,
        )  # fmt: skip
        save(axes.figure, f"membrane{tone}")
        per_unit = {name: layer["rates"].mean(0) for name, layer in spiking.items()}
        save(report.plot_rates(per_unit, step_ms=STEP_MS, title="Rates", dark=dark).figure, f"rates{tone}")
        over_time = {name: layer["rates"] for name, layer in spiking.items()}
        axes = report.plot_rate_over_time(over_time, step_ms=STEP_MS, title="Rate over time", dark=dark)
        save(axes.figure, f"rate-over-time{tone}")
        axes = report.plot_slope(
            seen["3"]["membrane"], model.layers[3].activation, title="Membranes and slope", dark=dark
        )
        save(axes.figure, f"slope{tone}")
        save(report.plot_confusion(y, predictions, title="Confusion", dark=dark).figure, f"confusion{tone}")
        save(report.plot_weights(model.layers[2].kernel[...], title="Layer 2", dark=dark).figure, f"weights{tone}")
        kernels = nnx.Conv(2, 8, (5, 5), rngs=nnx.Rngs(0)).kernel[...]
        save(report.plot_weights(kernels, title="Kernels", dark=dark).figure, f"kernels{tone}")
        delays = np.abs(np.random.default_rng(0).normal(0, 12, (64, 64)))
        save(report.plot_delays(delays, step_ms=STEP_MS, title="Delays", dark=dark).figure, f"delays{tone}")
        bar = moving_bar()
        save(report.plot_frames(bar, step_ms=STEP_MS, title="A bar that turns", dark=dark).figure, f"frames{tone}")
        report.animate(bar, folder / f"frames{tone}.gif", step_ms=STEP_MS, size=192, dark=dark)
        curves = {
            name: [[100 * epoch["eval_metric"] for epoch in past] for _, past in group] for name, group in runs.items()
        }
        axes = report.plot_runs(curves, quantity="test accuracy (%)", title="Three runs each", dark=dark)
        save(axes.figure, f"runs{tone}")
        losses = {name: [[epoch["train_loss"] for epoch in past] for _, past in group] for name, group in runs.items()}
        axes = report.plot_runs(losses, quantity="training loss (nats)", title="Loss", dark=dark)
        save(axes.figure, f"losses{tone}")
        one = [{"train_loss": row["train_loss"], "eval_acc": row["eval_metric"]} for row in history]
        save(report.plot_history(one, title="Training", dark=dark), f"history{tone}")
        save(report.plot_history(one[:1], title="A single epoch", dark=dark), f"history-one{tone}")
    report.plot_network(model, folder / "network.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
