"""The `mellea` command.

What lives here may import everything. Read `main` first: each command is one function.
"""

from mellea.cli.command import main

__all__ = ["main"]
