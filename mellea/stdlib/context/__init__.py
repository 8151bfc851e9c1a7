"""Contexts: what a call knows of the calls before it.

May import: core. Read `chat.py` first.
"""

from mellea.core.context import Context, Turn
from mellea.stdlib.context.chat import ChatContext
from mellea.stdlib.context.simple import SimpleContext

__all__ = ["ChatContext", "Context", "SimpleContext", "Turn"]
