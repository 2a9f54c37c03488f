"""Callbacks that show the numbers of every epoch in TensorBoard and in Weights & Biases."""

from __future__ import annotations

import importlib
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from spyx.optimize.types import JSON, Numbers, OnEpochEnd


class _EventsWriter(Protocol):
    """Of tensorboardX: appends events to a file."""

    def write_event(self, event: object) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class _WandbRun(Protocol):
    """Of wandb: a run that goes on."""

    def log(self, data: Numbers, step: int, commit: bool) -> None: ...


def tensorboard(folder: str | Path, tag: str = "") -> OnEpochEnd:
    """For `on_epoch_end` of `train` and `fit`: every number of an epoch as a curve in TensorBoard.

    The files are complete after every epoch. A run that is resumed, with the same folder, replaces what it does again.
    Needs `pip install 'spyx-jax[tensorboard]'`; it is shown with `tensorboard --logdir FOLDER`.

    Args:
        folder: where the event files go; made if it is not there.
        tag: written before each name, as in `tag/eval_acc`. Default: nothing.

    Raises:
        ImportError: without tensorboardX.

    Example:
        >>> show = tensorboard("runs/board")  # doctest: +SKIP
        >>> trained = optimize.train(model, solver, loss_fn, data, epochs=10, on_epoch_end=show)  # doctest: +SKIP
    """
    files, events, summaries = (
        _needed(f"tensorboardX.{part}", "tensorboard") for part in ("event_file_writer", "proto.event_pb2", "summary")
    )

    began: list[_EventsWriter] = []

    def note(epoch: int, numbers: Numbers) -> None:
        # Its SummaryWriter hands events to a thread, and its flush does not wait for that.
        if not began:
            Path(folder).mkdir(parents=True, exist_ok=True)
            began.append(files.EventsWriter(str(Path(folder) / "events")))
            weakref.finalize(note, began[0].close)
            if epoch:  # what an earlier part of the run wrote for this epoch and later ones is not shown
                start = events.SessionLog(status=events.SessionLog.START)
                began[0].write_event(events.Event(wall_time=time.time(), step=epoch, session_log=start))
        for name, value in numbers.items():
            summary = summaries.scalar(f"{tag}/{name}" if tag else name, value)
            began[0].write_event(events.Event(wall_time=time.time(), step=epoch, summary=summary))
        began[0].flush()

    return note


def wandb(project: str, *, settings: Mapping[str, JSON] | None = None, **options: Any) -> OnEpochEnd:
    """For `on_epoch_end` of `train` and `fit`: every number of an epoch in Weights & Biases.

    The run is started by the first epoch. With `mode="offline"` nothing leaves the machine: `wandb sync` sends it
    later. Needs `pip install 'spyx-jax[wandb]'`.

    Args:
        project: its name there.
        settings: shown beside the run, such as learning rate and seed.
        **options: of `wandb.init`, such as `name=`, `dir=`, `mode="offline"`; `id=` and `resume="allow"` go on with a
            run.

    Raises:
        ImportError: without wandb.

    Example:
        >>> show = wandb("spikes", settings={"seed": 0}, mode="offline")  # doctest: +SKIP
        >>> trained = optimize.train(model, solver, loss_fn, data, epochs=10, on_epoch_end=show)  # doctest: +SKIP
    """
    module = _needed("wandb", "wandb")
    began: list[_WandbRun] = []

    def note(epoch: int, numbers: Numbers) -> None:
        if not began:
            began.append(module.init(project=project, config=dict(settings or {}), **options))
        began[0].log(dict(numbers), step=epoch, commit=True)

    return note


def _needed(package: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as missing:
        package = package.partition(".")[0]
        if missing.name != package:
            raise
        raise ImportError(
            f"spyx.optimize.{extra}: expected {package}; got no such package. Run pip install 'spyx-jax[{extra}]'."
        ) from missing
