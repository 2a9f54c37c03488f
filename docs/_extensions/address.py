"""A hook of MkDocs: pages say `<repository address>`, and the site shows the one of `pyproject.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
PLACEHOLDER = "<repository address>"


def address() -> str:
    """The address of the repository."""
    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text of a page with the address in it."""
    return markdown.replace(PLACEHOLDER, address())
