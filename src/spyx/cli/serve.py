"""`spyx serve`: the page of a run, live while it trains, for this machine alone."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console

from spyx.cli import page
from spyx.cli.config import Config
from spyx.cli.errors import UserError
from spyx.cli.resume import CHECKPOINTS
from spyx.cli.text import safe
from spyx.data._disk import opened
from spyx.optimize._checkpoint import LOCK
from spyx.report._page.document import as_json, policy, render

if TYPE_CHECKING:
    from spyx.data._json import Object

LOOPBACK = "127.0.0.1"
LARGEST_LOCK = 1 << 10
PATIENCE_S = 10.0
"""How long a connection may say nothing."""


class Server(ThreadingHTTPServer):
    """Serves two addresses, the page and its content, and nothing else, on loopback.

    A request must name the host as this server is called: a page of another site whose name was made to resolve to this
    machine (DNS rebinding) does not.

    Args:
        port: 0 for a free one.
        content: what the page shows now.

    Example:
        >>> with Server(0, lambda: {"format": 1, "kind": "run"}) as server:
        ...     server.address
        'http://127.0.0.1:...'
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, content: Callable[[], Object]) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.content = content
        self.hosts = {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}
        if self.server_port == 80:
            self.hosts |= {LOOPBACK, "localhost"}

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle of a response is no event."""


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "spyx", ""

    @property
    def _served(self) -> Server:
        return cast("Server", self.server)

    def do_GET(self) -> None:
        """The page or its content."""
        if self.headers.get_all("Host", []) not in [[host] for host in self._served.hosts]:
            self._say(421, "text/plain", b"This server responds to its own name alone.\n")
            return
        if self.path == "/":
            self._say(200, "text/html", render(self._served.content(), live=True).encode())
        elif self.path == "/content.json":
            body = as_json(self._served.content()).encode()
            mark = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            if self.headers.get("If-None-Match") == mark:
                self._say(304, "application/json", b"", mark)
            else:
                self._say(200, "application/json", body, mark)
        else:
            self._say(404, "text/plain", b"There is the page, /, and nothing else.\n")

    do_HEAD = do_GET

    def _say(self, code: int, kind: str, body: bytes, mark: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", f"{policy(live=True)}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        if mark:
            self.send_header("ETag", mark)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed for a request."""


def serve(folder: Path, port: int, console: Console) -> None:
    """Serve the page of the run in `folder` until Ctrl-C.

    Raises:
        UserError: `folder` is no run, or the port is taken.
    """
    config = page.settings_of(folder)
    if not 0 <= port <= 65535:
        raise UserError(f"--port: expected a number from 0 to 65535; got {port}. Leave it out for a free one.")
    try:
        server = Server(port, lambda: now(folder, config))
    except OSError as error:
        why = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(f"--port: cannot listen on {LOOPBACK}:{port}: {why}. Leave it out for a free one.") from error
    with server:
        console.print(f"{safe(folder)}: {server.address}  (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            console.print("ended.")


def now(folder: Path, config: Config) -> Object:
    """The content of a run's page now; of one that nobody trains any more, as stopped."""
    content = page.current(folder, config)
    if content.get("status") == "training" and not _is_trained(folder / CHECKPOINTS / LOCK):
        return {**content, "status": "stopped"}
    return content


def _is_trained(lock: Path) -> bool:
    """Does the process that has written its number into the lock live? True where that cannot be found out.

    The lock itself is left alone: to try it, even for a moment, could refuse it to a run that starts.
    """
    try:
        with opened(lock, "spyx", LARGEST_LOCK) as file:
            number = file.read(20).decode("ascii", "replace").strip()
        if os.name != "posix" or not number.isdigit():
            return True
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, ValueError):
        return True
    return True
