"""Where things are in the structs of XLA's foreign function interface, read off the header that jaxlib ships.

A handler is native code that reads these structs itself, and a field at another place would be read wrongly. So nothing
is assumed: each offset is computed from the header's own declarations, and a header that declares one in a way that is
not understood is refused.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import jax

FIELDS = {
    "CallFrame": ("extension_start", "api", "ctx", "args.size", "args.args", "rets.size", "rets.rets"),
    "Buffer": ("data", "dims"),
    "Extension_Base": ("type",),
    "Metadata_Extension": ("metadata",),
    "Metadata": ("api_version.major_version",),
    "Api": (
        "api_version.major_version",
        "ThreadPool_Schedule",
        "ThreadPool_NumThreads",
        "Error_Create",
        "Error_Destroy",
    ),
    "Error_Create_Args": ("struct_size", "extension_start", "message", "errc"),
    "Error_Destroy_Args": ("struct_size", "extension_start", "error"),
    "ThreadPool_NumThreads_Args": ("struct_size", "extension_start", "ctx", "num_threads"),
    "ThreadPool_Schedule_Args": ("struct_size", "extension_start", "ctx", "task", "data"),
}
"""What handlers read and write, by struct. They do so in words of 64 bits."""

_SIZES = {"size_t": 8, "int64_t": 8, "uint64_t": 8, "int32_t": 4, "uint32_t": 4, "int": 4}


class UnknownLayout(Exception):
    """The header of this jaxlib declares a struct in a way that is not understood."""


@functools.cache
def words() -> dict[str, int]:
    """Number of the word where a field begins, such as `CallFrame_args_size`, and words of a struct, `Buffer_WORDS`.

    Raises:
        UnknownLayout: the header lacks a field, or declares it in another way.
    """
    try:
        return parse(Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8"))
    except (OSError, AttributeError) as error:
        raise UnknownLayout(f"this jaxlib has no header of XLA's functions ({error})") from error


def parse(header: str) -> dict[str, int]:
    """`words` of the text of a header."""
    structs, found = _Structs(header), {}
    for struct, fields in FIELDS.items():
        size, _, _ = structs.layout(f"XLA_FFI_{struct}")
        found[f"{struct}_WORDS"] = -(-size // 8)
        for field in fields:
            place, kind = 0, f"XLA_FFI_{struct}"
            for part in field.split("."):
                declared = structs.layout(kind)[2]
                if part not in declared:
                    raise UnknownLayout(f"its header declares no field {part} of {kind}")
                offset, kind = declared[part]
                place += offset
            if place % 8:
                raise UnknownLayout(f"in its header {struct}.{field} does not begin a word")
            found[f"{struct}_{field.replace('.', '_')}"] = place // 8
    return found


class _Structs:
    """The structs that a header declares."""

    def __init__(self, header: str) -> None:
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
        text = re.sub(r"_XLA_FFI_API_STRUCT_FIELD\(XLA_FFI_(\w+)\)", r"void* \1", text)
        self.bodies = dict(re.findall(r"struct (\w+) \{(.*?)\n\}", text, re.DOTALL))
        self.sizes = dict(_SIZES)
        self.sizes |= dict.fromkeys(re.findall(r"typedef enum \{[^}]*\} (\w+);", text), 4)
        self.sizes |= {new: _SIZES[old] for old, new in re.findall(r"typedef (\w+) (\w+);", text) if old in _SIZES}

    def layout(self, kind: str) -> tuple[int, int, dict[str, tuple[int, str]]]:
        """Size, alignment, and the offset and type of each field: C's rules for 64 bits."""
        if "*" in kind:
            return 8, 8, {}
        if kind in self.sizes:
            return self.sizes[kind], self.sizes[kind], {}
        if kind not in self.bodies:
            raise UnknownLayout(f"its header declares no type {kind}")
        end, widest, fields = 0, 1, {}
        for line in filter(str.strip, self.bodies[kind].split(";")):
            declared = re.fullmatch(r"\s*(?:const )?(?:struct )?(\w+[ *]*?)\s*(\w+)\s*", line)
            if declared is None:
                raise UnknownLayout(f"its header declares in {kind} what is not understood: {' '.join(line.split())}")
            size, align, _ = self.layout(declared[1])
            end = -(-end // align) * align
            fields[declared[2]] = end, declared[1]
            end, widest = end + size, max(widest, align)
        return -(-end // widest) * widest, widest, fields
