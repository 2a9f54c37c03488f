"""The command line: `spyx train`, `spyx eval`, `spyx info`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `spyx` command."""
    from spyx.cli.interrupt import EXIT_CODE, TERMINATED, Interrupts

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
            _leave(EXIT_CODE)
        except SystemExit as end:
            if end.code in (EXIT_CODE, TERMINATED):
                _leave(int(end.code))
            raise


def _leave(code: int) -> None:
    """End an interrupted process at once: compilers that still run on threads would be torn down under it."""
    import os

    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
