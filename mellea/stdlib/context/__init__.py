"""Contexts: what a call knows of earlier calls.

May import: core. Read `chat.py` first, then `window.py`.
"""

from mellea.core.context import Context, Turn
from mellea.stdlib.context.chat import ChatContext
from mellea.stdlib.context.compactors import SummaryCompactor, ThresholdCompactor, WindowCompactor
from mellea.stdlib.context.simple import SimpleContext
from mellea.stdlib.context.tokens import estimate_tokens, get_turn_texts

__all__ = [
    "ChatContext",
    "Context",
    "SimpleContext",
    "SummaryCompactor",
    "ThresholdCompactor",
    "Turn",
    "WindowCompactor",
    "estimate_tokens",
    "get_turn_texts",
]
