"""The `mellea` command: one file per command; `app.py` assembles them, and `output.py` is how they print."""

# What lives here imports any room, and no room imports it; typer and rich, the extra `cli`, are imported by the files
# next to this one. Read `app.py` first.

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a failure, 2 for wrong arguments, 130 for Ctrl-C.

    Args:
        argv: the arguments, by default those of this process.
    """
    try:
        from mellea.cli.app import run  # lazy: an extra
    except ImportError as error:
        if error.name not in ("rich", "typer"):
            raise
        pages = Path(__file__).parents[1] / "docs"
        read = f"; the documentation is in {str(pages)!r}" if pages.exists() else ""  # not in a checkout
        print(f"mellea: the command needs {error.name}: pip install 'mellea[cli]'{read}", file=sys.stderr)
        return 1
    return run(argv)
