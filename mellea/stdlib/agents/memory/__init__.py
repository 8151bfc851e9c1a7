"""What agents remember between conversations: notes about one user, kept in an SQLite file, and the tools for them."""

# May import: core, `stdlib.tools`, `stdlib.functional`. Read `memory.py` first.

from mellea.stdlib.agents.memory.memory import Memory
from mellea.stdlib.agents.memory.note import Note

__all__ = ["Memory", "Note"]
