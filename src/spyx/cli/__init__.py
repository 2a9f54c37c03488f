"""The command line: `spyx train`, `spyx eval`, `spyx info`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `spyx` command."""
    from spyx.cli.interrupt import EXIT_CODE, Interrupts

    interrupts = Interrupts()
    with interrupts.guard():
        try:
            from spyx.cli.app import app

            app()
        except ImportError as missing:
            if missing.name not in ("typer", "rich"):
                raise
            sys.exit(f"spyx: expected {missing.name}; got no such package. Run pip install 'spyx-jax[cli]'.")
        except KeyboardInterrupt:
            interrupts.caught()
            print("spyx: interrupted.", file=sys.stderr)
            _leave()
        except SystemExit as end:
            if end.code == EXIT_CODE:
                _leave()
            raise


def _leave() -> None:
    """End an interrupted process at once: compilers that still run on threads would be torn down under it."""
    import os

    from spyx.cli.interrupt import EXIT_CODE

    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)
