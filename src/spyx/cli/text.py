"""Text from files, names and settings on its way to the terminal: no markup, no control characters."""

from __future__ import annotations

import unicodedata

LONGEST = 2000
UNSAFE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories that steer a terminal, reverse the direction of text or cannot be encoded."""


def plain(text: object) -> str:
    r"""The text with every unsafe character written as its code, such as `\x1b`, cut where it is very long.

    Example:
        >>> plain("a" + chr(27) + "[2Jb")
        'a\\x1b[2Jb'
    """
    whole = str(text)
    short = whole if len(whole) <= LONGEST else f"{whole[: LONGEST // 2]} ... {whole[-LONGEST // 2 :]}"
    return "".join(_written(letter) if unicodedata.category(letter) in UNSAFE else letter for letter in short)


def safe(text: object) -> str:
    """As `plain`, for a place where markup is read."""
    from rich.markup import escape

    return escape(plain(text))


def lines(text: str) -> str:
    """As `plain`, for several lines."""
    return "\n".join(map(plain, text.split("\n")))


def is_plain(text: str) -> bool:
    """Whether a setting holds nothing that `plain` would change."""
    return not any(unicodedata.category(letter) in UNSAFE for letter in text)


def _written(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
