"""`spyx train --resume`: what a run was stopped by, in words, and how it goes on."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from spyx import optimize
from spyx.cli.config import OWN, Config
from spyx.cli.errors import Interrupted, UserError
from spyx.cli.own import is_own
from spyx.cli.runs import is_finished, open_run

if TYPE_CHECKING:
    from spyx.cli.config import Settings
    from spyx.data._json import Object

CHECKPOINTS = "checkpoints"
SEEDS = "seeds.json"
"""In the folder above those of several seeds: the seeds, in the order in which they are trained."""
NO_MATTER = ("data", "cache")
"""Settings that say where something is: folders may be moved between two parts of a run."""


def resumed(folder: Path, given: Settings) -> Config:
    """The settings of a run that is to go on.

    Raises:
        UserError: it is no run, it is finished, or other settings were given too.
    """
    own = {name: None if given.get(name) is None else str(given[name]) for name in OWN}
    others = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None and name not in OWN]
    others += [f"--{name}" for name, value in own.items() if value is not None and not is_own(value)]
    if others:
        raise UserError(f"--resume: expected no other option, for a run keeps its settings; got {', '.join(others)}.")
    config = open_run(folder, needs=OWN, **own)
    check_checkpoints(folder)
    if is_finished(folder):
        raise UserError(f"--resume: {folder} is finished. Look at it with: spyx eval {shlex.quote(str(folder))}")
    return config


def check_checkpoints(folder: Path) -> None:
    """Refuse checkpoints behind a link: old ones are removed, and that is not done elsewhere.

    Raises:
        UserError: they are one.
    """
    if (folder / CHECKPOINTS).is_symlink():
        raise UserError(f"--resume: {folder / CHECKPOINTS} is a link. Put the folder in its place.")


def are_seeds(folder: Path) -> bool:
    """Whether a folder is that of several seeds."""
    return (folder / SEEDS).is_file()


def acknowledge(number: int, finishing: str = "step") -> None:
    """Says at once that a signal was noticed; called by the handler of the signal."""
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    with contextlib.suppress(RuntimeError):  # the signal came in the middle of another print
        print(f"spyx: {word}: finishing this {finishing} and saving. Ctrl-C again stops at once.", file=sys.stderr)


def settings_of(config: Config) -> Object:
    """What must be the same in all parts of a run."""
    whole = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in whole.items() if name not in NO_MATTER}


def go_on(folder: Path) -> str:
    """The command that resumes."""
    return f"spyx train --resume {shlex.quote(str(folder))}"


def stopped(error: optimize.Stopped, folder: Path, epochs: int) -> Interrupted:
    """The line for a run that a signal has ended after a step."""
    word = "terminated" if error.signal == signal.SIGTERM else "interrupted"
    where = f"{word} after epoch {error.epoch} of {epochs}"
    if error.step:
        where = f"{word} in epoch {error.epoch + 1} of {epochs}, after step {error.step}"
    if error.fault is not None:
        reason = error.fault.strerror or error.fault
        return _interrupted(f"{where}; it could not be saved: {reason}. {_newest(folder)}", error.signal)
    return _interrupted(f"{where}, and saved. Go on with: {go_on(folder)}", error.signal)


def at_once(folder: Path) -> Interrupted:
    """The line for a run that a second Ctrl-C has ended."""
    return _interrupted(f"interrupted at once. {_newest(folder)}", signal.SIGINT)


def in_words_of_options(error: optimize.CheckpointError) -> UserError:
    """A message of the library about checkpoints, for the command line."""
    return UserError(
        re.sub(r"spyx\.optimize\.(train|population)(\((resume=True|folder=)\))?: ", "--resume: ", str(error))
    )


def _newest(folder: Path) -> str:
    if any(path.name.isdigit() for path in (folder / CHECKPOINTS).glob("*")):
        return f"Go on from the checkpoint before with: {go_on(folder)}"
    return f"There is no checkpoint yet; start again with: {go_on(folder)}"


def _interrupted(text: str, number: int) -> Interrupted:
    error = Interrupted(text)
    error.code = 128 + number
    return error
