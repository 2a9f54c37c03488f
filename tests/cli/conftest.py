"""The command line in this process, and one complete run with nothing but defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spyx.cli.app import app


def spyx(*arguments: Any):
    """Run a command; the result has exit_code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and printed text of `spyx train`."""
    folder = tmp_path_factory.mktemp("runs") / "default"
    result = spyx("train", "--output", folder)
    assert result.exit_code == 0, result.stderr
    return folder, result.stdout
