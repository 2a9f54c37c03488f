"""`spyx train --devices` and `--coordinator`: the devices and processes that share a run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax

from spyx import optimize
from spyx.cli.errors import Interrupted, UserError
from spyx.cli.resume import go_on
from spyx.optimize._processes import PATIENCE_S


@dataclass(frozen=True)
class Spread:
    """Over what a run is spread.

    Args:
        mesh: of `optimize.device_mesh`; None for one device.
        job: of several processes, or None.
    """

    mesh: jax.sharding.Mesh | None = None
    job: optimize.Job | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.job is None or self.job.index == 0

    @property
    def parts(self) -> int:
        """Into how many a batch is split."""
        return 1 if self.mesh is None else self.mesh.shape["batch"]

    @property
    def devices(self) -> int:
        return 1 if self.mesh is None else self.mesh.devices.size

    @property
    def processes(self) -> int:
        return 1 if self.job is None else self.job.count

    def losses_named(self) -> contextlib.AbstractContextManager[None]:
        """While inside, an error of the connection to another process names that process."""
        return contextlib.nullcontext() if self.job is None else self.job.losses_named()

    def __str__(self) -> str:
        kind = jax.devices()[0].device_kind
        if self.mesh is None:
            return kind
        of = f" of {self.processes} processes" if self.job is not None else ""
        return f"{self.devices} x {kind}{of}"


ALONE = Spread()


@contextlib.contextmanager
def spread_over(
    devices: str | None,
    coordinator: str | None,
    processes: int | None,
    process_id: int | None,
    patience: float | None,
    run: Path | None,
) -> Iterator[Spread]:
    """The devices of the options; the job that they join is left in order.

    Raises:
        UserError: options that do not fit one another, or this machine.
    """
    count, units = _numbers(devices)
    if coordinator is None:
        alone = {"--processes": processes, "--process-id": process_id, "--patience": patience}
        for name, value in alone.items():
            if value is not None:
                raise UserError(
                    f"{name}: expected --coordinator with it; got none. Give HOST:PORT of process 0, or auto."
                )
        yield ALONE if devices is None else Spread(_mesh(count, units))
        return
    job = _joined(coordinator, processes, process_id, patience, run)
    ended: Interrupted | None = None
    with job:
        try:
            yield Spread(_mesh(count, units), job)
        except Interrupted as error:
            if not isinstance(error.__cause__, optimize.Stopped):
                raise
            ended = error  # all of them stop at this step, the first saves, and they leave together
    if ended is not None:
        raise ended


def _joined(
    coordinator: str, processes: int | None, process_id: int | None, patience: float | None, run: Path | None
) -> optimize.Job:
    where = None if coordinator == "auto" else coordinator
    if where is not None and (processes is None or process_id is None):
        raise UserError(
            "--coordinator: expected --processes and --process-id with it. In SLURM, use --coordinator auto."
        )
    advice = f"Go on, with any number of processes, with: {go_on(run or Path('RUN'))}"
    seconds = PATIENCE_S if patience is None else patience
    try:
        return optimize.join_processes(where, processes, process_id, patience_s=seconds, advice=advice)
    except (ValueError, RuntimeError) as error:
        text = str(error).removeprefix("spyx.optimize.join_processes")
        for name in ("processes", "process_id", "coordinator", "patience_s"):
            text = text.replace(f"({name}=)", f"--{name.removesuffix('_s').replace('_', '-')}", 1)
        raise UserError(text.removeprefix(": ")) from error


def _numbers(devices: str | None) -> tuple[int | None, int]:
    if devices is None:
        return None, 1
    found = re.fullmatch(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", devices)
    if found is None:
        raise UserError(f"--devices: expected a number such as 4, or samples x units such as 2x2; got {devices!r}.")
    units = int(found[2] or 1)
    return int(found[1]) * units, units


def _mesh(count: int | None, units: int) -> jax.sharding.Mesh:
    try:
        return optimize.device_mesh(count, units=units)
    except ValueError as error:
        raise UserError(str(error).replace("spyx.optimize.device_mesh(devices=)", "--devices")) from error
