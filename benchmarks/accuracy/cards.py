"""A finished run as a network of the zoo: `python -m benchmarks.accuracy.cards ROW FOLDER --data FOLDER`."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx

import spyx
from benchmarks.accuracy import page, rows
from spyx import data, nn, report, zoo
from spyx.cli import inputs, make_network
from spyx.cli.runs import BEST, load_weights, open_run
from spyx.cli.score import score
from spyx.cli.zoo import DIGITS
from spyx.zoo._shelf import SHELF

LABELS = {
    "braille": [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "space"],
    "yinyang": ["yin", "yang", "dot"],
    "qtdb_ecg": ["P", "PQ", "QR", "RS", "ST", "TP"],
}
USE = (
    "To try the library, to compare with and to start from. Trained on one small data set; not tested on anything "
    "else, and not fit for decisions about people or health."
)


def make(row: rows.Row, folder: Path, root: Path | None, cache: str, results: Path, shelf: Path = SHELF) -> Path:
    """Write weights and card of a run; returns the card's path.

    Args:
        row: of the study.
        folder: of the run, whose epoch that validation chose is taken.
        root: the files of the data set.
        cache: for frames.
        results: collected results, for the scores of all seeds.
        shelf: where to write.
    """
    config = replace(open_run(folder, row.neuron or None), data=str(root) if root else "", cache=cache)
    inputs.check_names(config)
    samples = inputs.load_inputs(config)
    model = make_network.make_network(config, samples.x["test"].shape[-1], samples.classes, samples.frame)
    load_weights(folder, model, BEST)
    model = folded(nn.rounded(model))
    shelf.mkdir(parents=True, exist_ok=True)
    weights = shelf / f"{row.name}.safetensors"
    spyx.save(weights, model)
    model = spyx.load(weights)
    model.eval()
    x, _, lengths = samples.part("test")
    cost = report.cost(model, x[:64], lengths=None if lengths is None else lengths[:64])
    found = score(config, model, *samples.part("test"))
    runs = page.read(results, row.name)
    source = data.load(config.dataset, **({"root": config.data} if config.data else {}))
    counts = {key: value for key, value in cost.as_dict().items() if key != "Layers"}
    card: dict[str, Any] = {
        "name": row.name,
        "model": row.model,
        "data": {"name": source.name, "citation": source.citation, "licence": source.licence, "split": samples.note},
        "labels": LABELS.get(config.dataset, [str(number) for number in range(samples.classes)]),
        "label_per_step": samples.per_step,
        "encoder": encoder(config, samples, source),
        "settings": replace(config, data="", cache="~/.cache/spyx").to_toml(),
        "seed": config.seed,
        "score": {"test_accuracy": round(found["acc"], DIGITS), "test_samples": len(samples.y["test"])},
        "all_seeds": {"seeds": sorted({run["seed"] for run in runs}), "test_accuracy": page.by_seed(runs, "test_best")},
        "cost": counts,
        "energy_estimates": [report.energy(cost, name).as_dict() for name in report.MODELS],
        "intended_use": USE,
        "weights": {
            "file": weights.name,
            "bytes": weights.stat().st_size,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "licence": source.licence,
        },
    }
    path = shelf / f"{row.name}.json"
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def folded(model: nn.Sequential) -> nn.Sequential:
    """A chain of the same function in evaluation: BatchNorm is in the weights before it, Dropout is gone.

    `y = s (x W + b - m) + c` with `s = scale / sqrt(var + eps)` is `x (W s) + (s (b - m) + c)`.
    """
    layers: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, nnx.BatchNorm):
            before = layers[-1].connection if isinstance(layers[-1], nn.Delayed) else layers[-1]
            s = layer.scale[...] / jnp.sqrt(layer.var[...] + layer.epsilon)
            before.kernel[...] = before.kernel[...] * s
            before.bias[...] = s * (before.bias[...] - layer.mean[...]) + layer.bias[...]
        elif not isinstance(layer, nnx.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers)


def encoder(config: Any, samples: inputs.Inputs, source: data.Dataset) -> dict[str, Any]:
    """What `zoo.load` makes the encoder of."""
    if isinstance(source.train.x, data.Recordings):
        return {"raster": inputs.raster_options(config), "sensor_size": list(source.train.x.sensor_size)}
    return {"name": samples.encoder, "steps": config.steps, "series": source.train.x[0].ndim > 1}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy.cards", description=__doc__)
    parser.add_argument("row", choices=list(rows.read()))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", default="~/.cache/spyx")
    arguments = parser.parse_args()
    row = rows.read()[arguments.row]
    root = arguments.data / row.data.file if arguments.data and row.data.file else None
    path = make(row, arguments.folder, root, arguments.cache, page.RESULTS)
    print(path, zoo.card(row.name)["score"])


if __name__ == "__main__":
    main()
