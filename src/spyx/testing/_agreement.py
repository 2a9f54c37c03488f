"""How the checks compare: one message per broken promise."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from spyx.engine.types import Tree


def require(holds: bool, subject: object, promise: str) -> None:
    """Raise AssertionError naming the subject and the promise, unless it holds."""
    if not holds:
        raise AssertionError(f"{subject}: {promise}")


def require_close(got: Tree, expected: Tree, subject: object, promise: str, tolerance: float = 1e-4) -> None:
    """Same structure, shapes, dtypes, and values within `tolerance` relative to the largest expected value."""
    got_leaves, expected_leaves = jax.tree.leaves(got), jax.tree.leaves(expected)
    same = len(got_leaves) == len(expected_leaves)
    require(same, subject, f"{promise}: expected {len(expected_leaves)} arrays; got {len(got_leaves)}")
    for a, b in zip(got_leaves, expected_leaves, strict=True):
        require(a.shape == b.shape, subject, f"{promise}: expected shape {b.shape}; got {a.shape}")
        require(a.dtype == b.dtype, subject, f"{promise}: expected dtype {b.dtype}; got {a.dtype}")
        if not b.size:
            continue
        if not jnp.issubdtype(b.dtype, jnp.floating):
            require(bool((a == b).all()), subject, f"{promise}: an integer array differs")
            continue
        a64, b64 = np.asarray(a, np.float64), np.asarray(b, np.float64)
        worst = float(np.max(np.abs(a64 - b64)) / (1 + np.max(np.abs(b64))))
        require(worst <= tolerance, subject, f"{promise}: differs by {worst:.1e} (tolerance {tolerance:.0e})")


def require_docstring(cls: type, sections: tuple[str, ...]) -> None:
    """The docstring has a first line, an equation and every named section; each constructor argument is described."""
    text = inspect.getdoc(cls) or ""
    missing = [section for section in sections if f"\n{section}:" not in text]
    require(not missing, cls.__name__, f"docstring lacks {', '.join(missing)}")
    require("`" in text.split("\nArgs:")[0], cls.__name__, "the docstring gives the equation before its Args")
    names = [name for name in inspect.signature(cls).parameters if name not in ("self", "args", "kwargs")]
    undescribed = [name for name in names if f"{name}: " not in text and f"`{name}=`" not in text]
    require(not undescribed, cls.__name__, f"docstring does not describe {', '.join(undescribed)}")
