"""What the reference pages need to know about this project's docstrings and decorators."""

from __future__ import annotations

import re
from typing import Any

import griffe


class House(griffe.Extension):
    """Reads the project's own conventions."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Our `Example:` is what Google style calls `Examples:`; only that name is rendered as code."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """A surrogate is called without its slope's `x`: show `superspike(k=25.0) -> Surrogate`."""
        if func.parent is not None and func.parent.path == "spyx.axn" and func.decorators and func.parameters:
            func.parameters = griffe.Parameters(*list(func.parameters)[1:])
            func.returns = griffe.ExprName("Surrogate", parent=func.parent)
