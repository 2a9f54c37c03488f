"""`python -m spyx` is the `spyx` command."""

from __future__ import annotations

from spyx.cli import main

if __name__ == "__main__":
    main()
