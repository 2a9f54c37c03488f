"""What the reference pages need to know about this project's docstrings and decorators."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe


class House(griffe.Extension):
    """Reads the project's own conventions."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Our `Example:` is what Google style calls `Examples:`; only that name is rendered as code."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Constructor and `Args` of a neuron are made of its fields when it is imported: show those."""
        if cls.path.startswith("spyx.") and "__init__" not in cls.members:
            found = getattr(importlib.import_module(cls.module.path), cls.name, None)
            if getattr(getattr(found, "__init__", None), "derived", False) and cls.docstring is not None:
                cls.docstring.value = re.sub(r"^Example:$", "Examples:", found.__doc__, flags=re.MULTILINE)
                cls.set_member("__init__", _constructor(found))

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """`spyx.engine.fixed_point` is a function and the file it is in; readers want the function."""
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


def _constructor(cls: Any) -> griffe.Function:
    def parameter(p: inspect.Parameter) -> griffe.Parameter:
        kind = griffe.ParameterKind[p.kind.name.lower()]
        default = None if p.default is inspect.Parameter.empty else repr(p.default)
        return griffe.Parameter(p.name, kind=kind, default=default)

    parameters = [parameter(p) for p in inspect.signature(cls.__init__).parameters.values()]
    return griffe.Function("__init__", parameters=griffe.Parameters(*parameters))


def _adopt(module: griffe.Module, member: griffe.Object) -> None:
    member.parent = module
    module.members[member.name] = member
