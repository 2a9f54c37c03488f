"""The command line in this process, and one complete run with nothing but defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spyx import report
from spyx.cli import page, train
from spyx.cli.app import app

LOOK_AT_THE_END = ("test_page", "test_resume")
"""Modules about what stands at the end of a run: its page, and what the doctor says."""


def spyx(*arguments: Any):
    """Run a command; the result has exit_code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _short_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere, runs end without a page and without the doctor, which compile more than a short training does."""
    if request.path.stem not in LOOK_AT_THE_END:
        monkeypatch.setattr(page, "finish", lambda *arguments: None)
        monkeypatch.setattr(page.LayerLog, "due", lambda log, epoch: False)
        monkeypatch.setattr(train, "diagnose", lambda *arguments: (report.Diagnosis([]), None))


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and printed text of `spyx train`."""
    folder = tmp_path_factory.mktemp("runs") / "default"
    result = spyx("train", "--output", folder)
    assert result.exit_code == 0, result.stderr
    return folder, result.stdout
