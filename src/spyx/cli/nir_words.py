"""What `spyx nir` says: messages of the library in the words of the command line, and results as one JSON object."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from spyx.cli.errors import UserError
from spyx.cli.text import plain

if TYPE_CHECKING:
    from spyx.data._json import JSON, Object

Result = TypeVar("Result")

WORDS = (
    (r"spyx\.nir(?:\.\w+)?\((\w+)=\)", lambda found: "--" + found[1].replace("_", "-")),
    (r"; spyx\.nir\.suggest_dt\(graph\) proposes one", "; spyx nir check proposes one"),
    (r"Pass (?:the )?dt\b", "Give --dt"),
    (r"steps of dt = ", "steps of --dt "),
    (r"expected a Target, or one of", "expected one of"),
    (r"Make a Target\.", "Choose one."),
    (r"quantise\(weights='(\w+)'\) first", r"run spyx nir quantise --weights \1 first"),
    (r"Pass written_by='nir' to take r as it stands\.", "In Python, written_by of from_nir takes r as it stands."),
    (r", or pass verify=False if the change is yours", ", or read it in Python without verify if the change is yours"),
    (r"Raise max_\w+, max_\w+ or max_\w+ if you trust the file", "In Python, spyx.nir.read takes other limits"),
    (r"; raise max_nodes if you trust the file", "; in Python, spyx.nir.read takes other limits"),
)
"""What the library says, and what a user of the command line can do."""


def in_options(message: str, file: Path) -> str:
    """A message of `spyx.nir` in the words of the command line."""
    for pattern, words in WORDS:
        message = re.sub(pattern, words, message)
    return re.sub(r"spyx\.nir\.\w+(?:\('[^']*'\))?:", lambda _: f"{file}:", message)


def worded(file: Path, action: Callable[[], Result]) -> Result:
    """The result, or the reason why there is none, in the words of the command line. Warnings are lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            result = action()
        except (ValueError, TypeError, OSError, ImportError) as error:
            raise UserError(in_options(str(error), file)) from error
        except (MemoryError, UserError):
            raise
        except Exception as error:  # a graph of a stranger can break a promise that no check knows
            raise UserError(f"{file}: this graph cannot be used: {type(error).__name__}: {error}") from error
    for one in caught:
        if issubclass(one.category, UserWarning):
            warn(in_options(str(one.message), file))
    return result


def warn(message: str) -> None:
    """One line on standard error."""
    print(f"spyx: {plain(' '.join(message.split()))}", file=sys.stderr)


def refuse(message: str, force: bool) -> None:
    """An error, or with `--force` a warning.

    Raises:
        UserError: without `force`.
    """
    if not force:
        raise UserError(f"{message} --force goes on all the same.")
    warn(message)


def print_json(content: Object) -> None:
    """One JSON object on standard output; what is not finite is null."""
    print(json.dumps(_finite(content), indent=2, ensure_ascii=True))


def _finite(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
