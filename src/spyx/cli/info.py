"""`spyx info`: versions, devices and which extras are installed."""

from __future__ import annotations

import platform
import re
from importlib import metadata

import jax
from rich.console import Console
from rich.table import Table

import spyx

DISTRIBUTION = "spyx-jax"
CORE = ("jax", "jaxlib", "flax", "optax", "numpy")


def info(console: Console) -> None:
    """Print what a bug report needs."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("[bold]spyx[/]", spyx.__version__)
    table.add_row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in CORE:
        table.add_row(name, version(name) or "not installed")
    for device in jax.devices():
        table.add_row("device", f"{device.platform}:{device.id}, {device.device_kind}")
    for extra, packages in extras().items():
        missing = [name for name in packages if version(name) is None]
        state = f"lacks {', '.join(missing)}: pip install '{DISTRIBUTION}\\[{extra}]'" if missing else "installed"
        table.add_row(f"extra {extra}", state)
    console.print(table)


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, list[str]]:
    """The packages behind every extra of the distribution, those of other extras included."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    direct: dict[str, list[str]] = {}
    for line in requirements:
        marker = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if marker:
            direct.setdefault(marker[1], []).append(line)
    return {extra: _packages(extra, direct) for extra in direct if extra != "dev"}


def _packages(extra: str, direct: dict[str, list[str]]) -> list[str]:
    found: list[str] = []
    for line in direct.get(extra, []):
        name, inner = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line).groups()  # type: ignore[union-attr]
        found += [p for other in inner.split(",") for p in _packages(other, direct)] if name == DISTRIBUTION else [name]
    return found
