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

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """`spyx.nn.run` is a function and the file it is in; readers want the function."""
        for module in [pkg, *pkg.modules.values()]:
            for name, file in list(module.modules.items()):
                if name in (module.exports or ()) and name in file.members:
                    for alias in [member for member in module.members.values() if member.is_alias]:
                        if alias.target_path.startswith(f"{file.path}."):
                            _adopt(module, file.members[alias.target_path.rpartition(".")[2]])
                    _adopt(module, file.members[name])

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """A surrogate is called without its slope's `x`: show `superspike(k=25.0) -> Surrogate`."""
        if func.parent is not None and func.parent.path.startswith("spyx.axn") and func.decorators and func.parameters:
            func.parameters = griffe.Parameters(*list(func.parameters)[1:])
            func.returns = griffe.ExprName("Surrogate", parent=func.parent)


def _adopt(module: griffe.Module, member: griffe.Object) -> None:
    member.parent = module
    module.members[member.name] = member
