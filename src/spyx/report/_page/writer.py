"""`write_page`: a run as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyx import nn
from spyx.nn._layer import as_layer
from spyx.report._doctor import doctor
from spyx.report._energy import MODELS, energy
from spyx.report._operations import cost
from spyx.report._page import content as of
from spyx.report._page.document import render
from spyx.report._page.jsonable import plain, text
from spyx.report._page.layer_history import LayerHistory

if TYPE_CHECKING:
    from flax import nnx

    from spyx.data._json import JSON, Object
    from spyx.report.types import History, Labels, Lengths, Loss, Samples

PAGE = "report.html"
EXAMINED, PRICED, PREDICTED = 256, 64, 4096
"""Samples that the doctor, the count of operations and the confusion matrix look at."""


def write_page(
    folder: str | Path,
    history: History,
    *,
    model: nnx.Module | None = None,
    data: tuple[Samples, Labels] | None = None,
    lengths: Lengths | None = None,
    part: str = "validation",
    train_data: tuple[Samples, Labels] | None = None,
    train_lengths: Lengths | None = None,
    loss: Loss | None = None,
    layers: LayerHistory | None = None,
    results: Mapping[str, object] | None = None,
    settings: Mapping[str, object] | None = None,
    command: str = "",
    title: str = "",
    loss_name: str = "cross-entropy (nats)",
    class_names: Sequence[str] | None = None,
    more: Mapping[str, JSON] | None = None,
) -> Path:
    """Write a run as one self-contained HTML file: curves, layers, samples, confusion, diagnosis, energy, settings.

    The file needs no network and no server, is smaller than 3 MB, and shows every text as text: a name or a setting
    cannot become markup. What is not given is left out; a section that cannot be made says why, and the others are
    there. `spyx train` writes such a page for every run.

    Args:
        folder: where `report.html` is written, made if it is not there; or a file whose name ends in .html.
        history: one mapping per epoch with `train_loss` and, where measured, `eval_loss`, `eval_acc` (in [0, 1]) and
            other `eval_` numbers, as `fit`, `compile_fit` (as rows) and `train` of `spyx.optimize` return it.
        model: the trained network, in which samples, confusion, diagnosis and energy are looked at.
        data: `(x, y)` held-out samples for those: x (samples, time, *features), y (samples,) or per step (samples,
            time), -1 for a step without a label. At most 4096 of them are run.
        lengths: steps of each of these samples that count, as for `spyx.nn.run`.
        part: what `data` is called. Default "validation".
        train_data: `(x, y)` for the doctor, who looks at its first 256 samples; None leaves the diagnosis out.
        train_lengths: as `lengths`, of `train_data`.
        loss: for the doctor, as in `spyx.report.doctor`.
        layers: a `LayerHistory` that was called after every epoch.
        results: names and values for the top of the page, such as `{"test accuracy": 0.97}`.
        settings: names and values; a mapping inside is made flat.
        command: what runs it again.
        title: heading of the page.
        loss_name: what the loss is, with its unit.
        class_names: one for each class; None numbers them.
        more: entries of the content that replace those made here, such as `status`; for programs.

    Returns:
        The path of the file.

    Raises:
        TypeError: a model that is no network.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_page(folder, [{"train_loss": 1.0}, {"train_loss": 0.5}], title="a run")
        ...     path.name, "<script>" in path.read_text(encoding="utf-8")
        ('report.html', True)
    """
    page: Object = {
        "format": of.FORMAT,
        "kind": "run",
        "title": text(title or "a run"),
        "subtitle": "",
        "status": "finished",
        "epochs": len(history),
        "written": of.now(),
        "results": [{"name": text(name), "value": plain(value)} for name, value in (results or {}).items()],
        "settings": of.settings_of(settings or {}, {}),
        "versions": of.versions(),
        "command": text(command),
        "config": "",
    }
    missing: dict[str, str] = {}
    page["curves"] = of.attempted(missing, "curves", lambda: of.curves(history, loss_name=loss_name, reference={}))
    if layers is not None:
        how = "after every epoch" if layers.every == 1 else f"after every {layers.every} epochs"
        page["layers"] = of.layers_over_time(layers.rows, layers.samples, how)
    if model is not None:
        page |= _of_model(missing, model, data, lengths, part, train_data, train_lengths, loss, class_names)
    return save_page(folder, {**page, "missing": missing, **(more or {})})


def save_page(folder: str | Path, content: Object) -> Path:
    """The page of a content, whole or not at all."""
    path = Path(folder)
    path = path if path.suffix.lower() in (".html", ".htm") else path / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name[:64]}.{os.getpid()}.part")
    try:
        part.write_text(render(content), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _of_model(
    missing: dict[str, str],
    model: nnx.Module,
    data: tuple[Samples, Labels] | None,
    lengths: Lengths | None,
    part: str,
    train_data: tuple[Samples, Labels] | None,
    train_lengths: Lengths | None,
    loss: Loss | None,
    class_names: Sequence[str] | None,
) -> Object:
    """The sections that need the network."""
    layer = as_layer("spyx.report.write_page", nn.rounded(model))
    layer = layer if layer.container else nn.Sequential(layer)
    found: Object = {}
    if data is not None:
        x, y = (np.asarray(a)[:PREDICTED] for a in data)
        ends = None if lengths is None else np.asarray(lengths)[:PREDICTED]

        def samples() -> tuple[Object, Object]:
            return of.of_samples(layer, x, y, ends, part=part, names=class_names)

        found["samples"], found["confusion"] = of.attempted(missing, "samples", samples) or (None, None)

        def priced() -> Object:
            counted = cost(layer, np.asarray(x[:PRICED], np.float32), lengths=None if ends is None else ends[:PRICED])
            about = f"Counted on {counted.samples} {part} samples of {counted.steps:g} time steps; numbers per sample."
            return of.energies(counted, [energy(counted, name) for name in MODELS], about)

        found["energy"] = of.attempted(missing, "energy", priced)
    if train_data is not None:
        x_train, y_train = (np.asarray(a)[:EXAMINED] for a in train_data)
        train_ends = None if train_lengths is None else np.asarray(train_lengths)[:EXAMINED]

        def examined() -> Object:
            about = f"The trained network on {len(x_train)} training samples, forward and backward."
            return of.findings(doctor(model, (x_train, y_train), loss=loss, lengths=train_ends), about)

        found["findings"] = of.attempted(missing, "findings", examined)
    return found
