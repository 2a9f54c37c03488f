"""From content to one HTML file that needs nothing else, and back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from spyx.report._page.content import FORMAT

if TYPE_CHECKING:
    from spyx.data._json import Object

LARGEST = 2_900_000
"""Bytes of a page."""
SCRIPTS = ("dom.js", "chart.js", "raster.js", "sections.js", "energy.js", "compare.js", "page.js")
OPENING = '<script type="application/json" id="content">'
CLOSING = "</script>"
READABLE = 16_000_000


def render(content: Object, *, live: bool = False) -> str:
    """The page of a content; live, it asks the server that it came from for news.

    Every text of the content is data inside a JSON block in which no `<` occurs, and the page's script puts it into
    text nodes alone. The page's policy allows its own script and style by their digests, and no address at all.
    """
    data = _embedded({**content, "live": live})
    if len(data) > LARGEST - len(_shell(live)[0]) - len(_shell(live)[1]):
        data = _embedded({**_without_weight(content), "live": live})
    before, after = _shell(live)
    return f"{before}{OPENING}{data}{CLOSING}{after}"


def read_content(page: str) -> Object | None:
    """The content of a page that `render` made; None where it is another file or another format."""
    _, found, rest = page.partition(OPENING)
    data, end, _ = rest.partition(CLOSING)
    if not found or not end or len(data) > READABLE:
        return None
    try:
        content = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(content, dict) and content.get("format") == FORMAT
    return content if sound and isinstance(content.get("missing", {}), dict) else None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def policy(live: bool) -> str:
    """The content security policy of a page."""
    style, script = _sources()
    connect = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def as_json(content: Object) -> str:
    """Strict JSON in ASCII."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _embedded(content: Object) -> str:
    data = as_json(content)
    for letter in "<>&":
        data = data.replace(letter, f"\\u{ord(letter):04x}")
    return data


def _without_weight(content: Object) -> Object:
    """Without what takes most room."""
    reason = "left out: with it the page would be larger than 3 MB"
    known = content.get("missing")
    missing = {**(known if isinstance(known, Mapping) else {}), "samples": reason}
    light = {**content, "samples": None, "missing": missing}
    if len(_embedded(light)) > LARGEST - 200_000:
        light |= {"settings": [], "config": "", "missing": {**missing, "settings": reason}}
    return light


@cache
def _sources() -> tuple[str, str]:
    """The page's style and script."""
    here = resources.files("spyx.report._page")
    scripts = "\n".join((here / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return (here / "page.css").read_text(encoding="utf-8"), f'(() => {{\n"use strict";\n{scripts}\n}})();\n'


@cache
def _shell(live: bool) -> tuple[str, str]:
    """What comes before and after the content."""
    style, script = _sources()
    template = (resources.files("spyx.report._page") / "page.html").read_text(encoding="utf-8")
    before, _, after = template.partition("<!--content-->")
    before = before.replace("<!--policy-->", policy(live)).replace("/*style*/", style)
    return before, after.replace("/*script*/", script)


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
