"""The `mellea` command.

What lives here imports any room, and no room imports it. Read `command.py` first: each command is one
function there.
"""

from mellea.cli.command import main

__all__ = ["main"]
